"""What is compiled for a table of some runtime and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.agent.onnx_precision import precision_of
from hwnas.devices import (
    CompileOptions,
    Device,
    Engine,
    Measurement,
    MeasureOptions,
    RuntimeChoice,
    load_target,
    open_device,
)
from hwnas.errors import UserError
from hwnas.latency import ProfileOptions, load_table, profile
from hwnas.latency.plan import Unit
from hwnas.latency.unit_model import check_precision, unit_model
from hwnas.spaces import Network, get_space

SPACE = get_space("mobilenet_v3/small")
ARCHITECTURE = SPACE.decode(SPACE.sample(np.random.default_rng(0), 1))[0]
NETWORK = Unit("network", SPACE.network(ARCHITECTURE), ARCHITECTURE, "calibration")
BLOCK = Unit("block", Network.of_block(SPACE.distinct_blocks[3]))


@pytest.mark.parametrize("unit", [NETWORK, BLOCK], ids=lambda unit: unit.key)
@pytest.mark.parametrize(
    ("options", "precision"),
    [
        (CompileOptions(), "fp32"),
        (CompileOptions(precision="int8", provider="CPUExecutionProvider"), "int8"),
        (CompileOptions("tensorrt", "fp16"), "fp16"),
        (CompileOptions("torch", "bf16"), "fp32"),
    ],
)
def test_a_runtime_gets_the_precision_from_the_model_unless_it_converts(
    unit: Unit, options: CompileOptions, precision: str
) -> None:
    assert precision_of(unit_model(unit, 1, options)) == precision


def test_what_int8_leaves_over_suits_what_computes_it() -> None:
    on_cpu = unit_model(NETWORK, 1, CompileOptions(precision="int8", provider="CPUExecutionProvider"))
    on_gpu = unit_model(NETWORK, 1, CompileOptions("tensorrt", "int8", provider="gpu"))
    assert b".fp16" not in on_cpu and b".fp16" in on_gpu


def test_a_precision_without_graphs_is_refused() -> None:
    with pytest.raises(UserError, match="emitted in fp32, fp16, int8, not in fp8"):
        check_precision(CompileOptions("tensorrt", "fp8"))
    check_precision(CompileOptions("torch", "bf16"))


class Undisturbed:
    """A device all of whose batches count, so that the path is tested on a machine that is busy with other tests."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def measure(self, engine: Engine, options: MeasureOptions) -> Measurement:
        found = self._device.measure(engine, options)
        return found.model_copy(update={"preempted": (False,) * len(found.preempted)})


@pytest.mark.alone
def test_a_device_that_has_only_pytorch_gets_a_table(tmp_path: Path) -> None:
    target = load_target("host-cpu")
    short = MeasureOptions(
        min_samples=8, max_seconds=0.2, runs_per_batch=1, canary_warm_runs=1, tolerance=50.0, batch_seconds=0.001
    )
    options = ProfileOptions(
        minutes=1.0,
        networks_only=6,
        validation_networks=2,
        network_builds=1,
        compile=RuntimeChoice("torch").options(target),
        network_protocol=short,
    )
    with open_device(target) as device:
        table, path = profile(Undisturbed(device), SPACE, tmp_path, options)  # type: ignore[arg-type]
    assert path.name.startswith("mobilenet_v3-small.torch-cpu-fp32-b1-t1-")
    assert (table.runtime, table.mode, table.fingerprint.identity["runtime"]["layout"]) == (
        "torch",
        "cpu",
        "channels-last",
    )
    assert len(table.networks) == 8 and table.validation is not None and table.validation.n == 2
    assert load_table(path) == table
