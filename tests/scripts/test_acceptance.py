"""The acceptance scripts: each stage once, whatever ends a call, and nothing of a dry run taken for a measurement."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.trtexec import TrtexecKnobs
from hwnas.devices import CompileOptions, load_target, open_device
from hwnas.errors import DeviceError, UserError
from hwnas.files import read_json, read_model
from hwnas.graphs import network_graph
from hwnas.latency.importers import import_results
from hwnas.latency.results import AcceptanceResults
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import gpu_acceptance
import jetson_acceptance
from acceptance import Acceptance, Found, Stage, chosen
from tables import made_table


def acceptance(state: Path, **changes: Any) -> Acceptance:
    settings: dict[str, Any] = {"identity8": "0" * 8, "minutes": 9.0, "dry_run": "it is a test."}
    return Acceptance("test", "host-cpu", state, **(settings | changes))


class Counting:
    """A stage that gives ``answers`` one after the other; exceptions are raised."""

    def __init__(self, *answers: Found | Exception | None) -> None:
        self.answers, self.calls = list(answers), 0

    def __call__(self, seconds: float) -> Found | None:
        assert seconds > 0
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_stage_is_done_once_and_a_failed_or_unfinished_one_again(tmp_path: Path) -> None:
    once, flaky, long = Counting({"a": 1}), Counting(DeviceError("hung."), {"b": 2}), Counting(None, None, {"c": 3})
    stages = [Stage("once", once), Stage("flaky", flaky), Stage("long", long)]
    assert not acceptance(tmp_path).run(stages)
    assert read_json(tmp_path / "flaky.json") == {"failed": "hung."}
    assert not (tmp_path / "long.json").exists()
    assert not acceptance(tmp_path).run(stages)
    assert acceptance(tmp_path).run(stages)
    assert (once.calls, flaky.calls, long.calls) == (1, 2, 3)
    assert acceptance(tmp_path).run(stages), "what is done stays done"
    results = read_model(acceptance(tmp_path).write_results(stages), AcceptanceResults, what="results file")
    assert [found.get(key) for found, key in zip(results.stages.values(), "abc", strict=True)] == [1, 2, 3]
    with pytest.raises(UserError, match="no measurement: it is a test"):
        import_results(tmp_path / "results.json", tmp_path / "tables")


def test_a_stage_is_not_begun_without_the_time_that_it_needs(tmp_path: Path) -> None:
    never = Counting()
    assert not acceptance(tmp_path, minutes=0.5).run([Stage("never", never, least_s=60)])
    assert never.calls == 0


def test_the_stages_that_are_named_run_in_that_order_with_what_time_there_is(tmp_path: Path) -> None:
    begun: list[str] = []

    def stage(name: str) -> Stage:
        return Stage(name, lambda _: {"begun": begun.append(name)}, least_s=3600.0)

    every = [stage(name) for name in "abcd"]
    assert chosen(every, None) == every
    assert acceptance(tmp_path).run(chosen(every, ["d", "b", "d"]))
    assert begun == ["d", "b"]
    assert set(acceptance(tmp_path).found(every)) == {"b", "d"}, "results hold what was done, whoever asked for it"
    assert not acceptance(tmp_path, minutes=0.0).run(chosen(every, ["a"])), "there is no time at all"
    with pytest.raises(UserError, match="There is no stage 'e'; --stages takes a, b, c, d"):
        chosen(every, ["a", "e"])


def test_a_table_for_one_call_is_what_there_was_time_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def profile(device: Any, space: Any, root: Path, options: Any, progress: Any) -> Any:
        given.append(options.minutes)
        return made_table(), root / "table.json"

    monkeypatch.setattr(gpu_acceptance, "profile", profile)
    with open_device(load_target("host-cpu")) as device:
        stages = gpu_acceptance.Stages(device, "cpu", tmp_path, without_compile=True)
        assert stages.table("small", 4.0, 130.0) is None, "another call measures the rest"
        stages.one_call = True
        found = stages.table("small", 4.0, 130.0)
        assert found is not None and found["blocks"] == len(made_table().blocks)
        assert stages.table("small", 1.0, 130.0) is not None
        assert stages.table("small", 4.0, 5.0) is None, "no time to write it"
    assert given == [2.0, 2.0, 1.0]


def test_a_dry_run_of_one_stage_says_what_it_found_and_what_it_is(tmp_path: Path) -> None:
    given = argparse.Namespace(
        device="cpu",
        state=tmp_path,
        tables=None,
        minutes=9.0,
        small_minutes=1.0,
        imagenet_minutes=1.0,
        without_compile=True,
        stages=["device"],
    )
    assert gpu_acceptance.accept(given)
    results = read_model(tmp_path / "results.json", AcceptanceResults, what="results file")
    assert list(results.stages) == ["device"] and results.dry_run is not None and results.tables == ()


def test_a_stage_of_a_jetson_names_the_one_that_it_lacks(tmp_path: Path) -> None:
    steps = jetson_acceptance.Steps(None, tmp_path, argparse.Namespace())
    with pytest.raises(UserError, match="Stage 'search' is needed and not done"):
        steps.compare(60.0)
    (tmp_path / "search.json").write_text('{"failed": "hung."}')
    with pytest.raises(UserError, match="Stage 'search' is needed and not done"):
        steps.compare(60.0)


def test_what_is_done_belongs_to_one_device(tmp_path: Path) -> None:
    acceptance(tmp_path)
    with pytest.raises(UserError, match="is of another device"):
        acceptance(tmp_path, identity8="1" * 8)


def test_a_dry_run_writes_no_table_among_those_of_devices() -> None:
    given = argparse.Namespace(device="cpu", state=None, tables=Path("latency_tables"))
    with pytest.raises(UserError, match="writes no table into latency_tables"):
        gpu_acceptance.accept(given)


def test_every_stage_of_a_gpu_is_there_and_the_quick_ones_run_on_the_cpu(tmp_path: Path) -> None:
    with open_device(load_target("host-cpu")) as device:
        stages = gpu_acceptance.Stages(device, "cpu", tmp_path, without_compile=True)
        names = [stage.name for stage in stages.all({"small": 1.0, "imagenet-w1.0": 1.0})]
        assert len(set(names)) == len(names)
        assert {"device", "agent", "numbers", "torch-cpu", "load", "table-small", "tensorrt-gpu"} <= set(names)
        described = stages.describe(60.0)
        assert described["fingerprints"]["torch-cpu"]["identity"]["runtime"]["name"] == "torch"
        errors = stages.compare(60.0)["largest_relative_error"]
        assert errors["fp32"] < 1e-5 < errors["bf16"] < 0.1
        refused = stages.other("onnxruntime", "CUDAExecutionProvider", 60.0)["networks"]["fp32"]["refused"]
        assert "CUDAExecutionProvider is not in this build" in refused
    with_gpu = gpu_acceptance.Stages(device, "cuda", tmp_path, without_compile=False)
    names = [stage.name for stage in with_gpu.all({})]
    assert {"torch-cuda", "torch-cudagraph", "torch-cudacompile"} <= set(names)


def test_an_engine_is_built_and_timed_as_trtexec_is_told_to(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    space = get_space("mobilenet_v3/small")
    model.write_bytes(network_graph(space.blocks(space.smallest)).SerializeToString())
    with open_device(load_target("host-cpu")) as device:
        options = device.default_options()
    path, engine = jetson_acceptance.build(model, options, tmp_path / "model.engine")
    assert path.stat().st_size > 0 and not jetson_acceptance.newer(options)
    knobs = TrtexecKnobs.like("trtexec-10", {"duration": 0.05, "warmUp": 1.0, "noDataTransfers": True})
    assert jetson_acceptance.our_p50_ms(engine, knobs) > 0


def test_a_runtime_that_refuses_the_engine_is_named(tmp_path: Path) -> None:
    space = get_space("mobilenet_v3/small")
    (tmp_path / "model.onnx").write_bytes(network_graph(space.blocks(space.smallest)).SerializeToString())
    with pytest.raises(DeviceError, match=r"could not be built: .*NoSuchProvider"):
        jetson_acceptance.build(
            tmp_path / "model.onnx", CompileOptions(provider="NoSuchProvider"), tmp_path / "model.engine"
        )


def test_a_cross_check_that_disagrees_ends_the_script_with_the_difference() -> None:
    jetson_acceptance.require_agreement({"a": 0.02, "b": -0.02})
    with pytest.raises(DeviceError, match=r"differs from trtexec's \(b by -3\.0 %\)"):
        jetson_acceptance.require_agreement({"a": 0.02, "b": -0.03})
