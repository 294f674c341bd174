"""A real other architecture: what hwnas does with a board, it does with an emulated arm64 Debian.

Minutes, as root: ``pytest -m slow tests/devices/test_arm64.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from onnx import ModelProto
from typer.testing import CliRunner, Result

from hwnas.cli.main import app
from hwnas.devices import CompileOptions, Device, MeasureOptions, Target, load_target, open_device
from hwnas.export import PARITY_LIMIT
from hwnas.graphs import graph_in_precision, network_graph
from hwnas.latency import ProfileOptions, load_table, profile
from hwnas.spaces import Choice, Space, get_space
from tests.arm64 import HOST, Arm64Board

pytestmark = pytest.mark.slow
SMALL = get_space("mobilenet_v3/small")
EMULATOR = "qemu-aarch64"
QUICK = MeasureOptions(min_samples=16, max_seconds=4.0)
UNGATED = replace(QUICK, gate=False)  # what means nothing need not be waited for


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where targets and tables are written."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("workplace")
        patch.setenv("HWNAS_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def added(arm64_board: Arm64Board, workplace: Path) -> Result:
    """What is printed when the board becomes a target."""
    arguments = ["targets", "add", "arm64", "--ssh", HOST, "--config", str(arm64_board.config)]
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def target(added: Result) -> Target:
    assert added.exit_code == 0, added.output
    return load_target("arm64")


@pytest.fixture(scope="module")
def device(target: Target) -> Iterator[Device]:
    with open_device(target) as opened:
        yield opened


def networks(count: int) -> list[ModelProto]:
    """The smallest of the space, and random others."""
    drawn = SMALL.decode(SMALL.sample(np.random.default_rng(0), count - 1))
    return [network_graph(SMALL.blocks(a)) for a in (SMALL.smallest, *drawn)]


def images(side: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((4, 3, side, side)).astype(np.float32)


def test_it_is_added_by_one_command_and_known_to_be_emulated(added: Result, target: Target, workplace: Path) -> None:
    content = yaml.safe_load((workplace / "targets" / "arm64.yaml").read_text())
    assert target.emulated and content["extends"] == "host-cpu"
    assert content["description"].startswith(f"aarch64, emulated by {EMULATOR}")
    assert content["facts"]["python"]["value"].startswith("3.11")
    assert "cpu" not in content["facts"], "the one that /proc/cpuinfo tells is this machine's"
    assert "its times mean nothing" in " ".join(added.output.split())


def test_its_fingerprint_is_of_another_architecture(device: Device) -> None:
    identity = device.fingerprint().identity
    assert identity["machine"] == "aarch64"
    assert identity["emulator"].startswith(EMULATOR)
    assert identity["runtime"]["name"] == "onnxruntime"


def test_an_engine_is_built_measured_and_given_back(device: Device) -> None:
    engine = device.compile(networks(1)[0].SerializeToString())
    found = device.measure(engine, QUICK)
    assert found.ungated.n >= 1
    assert len(device.engine_content(engine)) == engine.size_bytes
    assert device.peak_memory(engine).engine_mib > 0
    device.release(engine)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_outputs_are_those_of_this_machine(device: Device, precision: str) -> None:
    """Of 3 networks, within what an exported model may differ from its network."""
    with open_device(load_target("host-cpu")) as here:
        for network in networks(3):
            model = graph_in_precision(network, precision).SerializeToString()
            options = CompileOptions(precision=precision)
            engines = [(each, each.compile(model, options)) for each in (here, device)]
            side = engines[0][1].inputs[0].shape[-1]
            expected, found = (each.infer(engine, images(side)) for each, engine in engines)
            assert np.abs(found - expected).max() <= PARITY_LIMIT


def few_blocks() -> Space:
    """A part of the space with 20 blocks."""

    def fewer(choice: Choice) -> Choice:
        expansions = (2, 4) if choice.label.startswith("stage1") else (2,)
        values = {"resolution": (24,), "depth": (2,), "kernel": (3, 5), "expansion": expansions}
        return replace(choice, values=values[choice.label.rpartition(".")[2]])

    space = Space(SMALL.family, SMALL.preset, SMALL.num_classes, [*map(fewer, SMALL.choices)], SMALL.slots)
    assert len(space.distinct_blocks) == 20
    return space


def test_a_profile_of_twenty_blocks_is_a_table_that_says_emulated(device: Device, workplace: Path) -> None:
    options = ProfileOptions(
        calibration_networks=6, validation_networks=4, builds=1, block_protocol=UNGATED, network_protocol=UNGATED
    )
    table, path = profile(device, few_blocks(), workplace / "latency_tables", options)
    assert len(table.blocks) == 20 and len(table.networks) == 10
    assert load_table(path).kind == "emulated"
    shown = CliRunner().invoke(app, ["tables", "show", str(path)])
    assert "The latency table is emulated" in " ".join(shown.stdout.split())
