"""MLPerf's scenarios: our scheduler in virtual time, LoadGen for real, and both on the host's CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent import early_stopping
from hwnas.agent.canary import canary_onnx
from hwnas.agent.loadgen import LoadGen, find_loadgen
from hwnas.agent.mlperf import run_scenario
from hwnas.agent.protocol import AgentError
from hwnas.agent.runtimes import Engine, TensorInfo
from hwnas.agent.scenarios import OWN_NAME, ScenarioKnobs, Scheduler, SystemUnderTest, offline_samples
from hwnas.devices import Device, RefusedError, ScenarioResult, load_target, open_device, scenario_knobs
from hwnas.errors import UserError

HAS_LOADGEN = importlib.util.find_spec("mlperf_loadgen") is not None
needs_loadgen = pytest.mark.skipif(not HAS_LOADGEN, reason="mlcommons-loadgen is not installed")
MS = 1_000_000


class FakeEngine(Engine):
    """Takes as long as it is told, in virtual time; its output is the sum of its input."""

    def __init__(self, batch: int = 1, durations_ns: Callable[[int], int] = lambda _: MS) -> None:
        self.now = 0
        self.runs = 0
        self._durations = durations_ns
        self._shape = (batch, 3)
        self.seen: list[Any] = []

    def clock(self) -> int:
        return self.now

    @property
    def inputs(self) -> list[TensorInfo]:
        return [TensorInfo("x", "float32", self._shape)]

    @property
    def outputs(self) -> list[TensorInfo]:
        return [TensorInfo("y", "float32", self._shape[:1])]

    def upload(self, arrays: Sequence[Any]) -> None:
        assert arrays[0].shape == self._shape
        self.seen.append(arrays[0].copy())

    def run(self) -> None:
        self.now += self._durations(self.runs)
        self.runs += 1

    def download(self) -> list[Any]:
        return [self.seen[-1].sum(axis=1)]


def scheduled(engine: FakeEngine, knobs: ScenarioKnobs, expected_ns: float = MS) -> Any:
    return Scheduler(engine.clock).run(SystemUnderTest(engine, knobs, engine.clock), knobs, expected_ns)


def knobs(scenario: str, **others: Any) -> ScenarioKnobs:
    usual = {"min_seconds": 0.1, "max_seconds": 100.0, "distinct_samples": 4}
    samples = 8 if scenario == "multi-stream" else 1
    return ScenarioKnobs(scenario=scenario, samples_per_query=samples, **{**usual, **others})


def test_single_stream_goes_on_until_there_is_enough_of_both() -> None:
    short = scheduled(FakeEngine(), knobs("single-stream"))
    assert (short.queries, short.samples, short.reasons) == (100, 100, ())
    assert short.seconds == pytest.approx(0.1)
    slow = scheduled(FakeEngine(durations_ns=lambda _: 10 * MS), knobs("single-stream"))
    assert slow.queries == 64, "the least count, though the time was over after ten"
    assert slow.samples_per_s == pytest.approx(100)
    assert slow.generator == OWN_NAME and "not LoadGen" in slow.generator


def test_a_generator_that_takes_time_itself_does_not_make_a_run_too_short() -> None:
    engine = FakeEngine()

    def ticking() -> int:
        engine.now += 1000
        return engine.now

    wanted = knobs("single-stream")
    assert Scheduler(ticking).run(SystemUnderTest(engine, wanted, ticking), wanted, MS).reasons == ()


def test_a_run_that_takes_too_long_ends_and_is_not_valid() -> None:
    load = scheduled(FakeEngine(durations_ns=lambda _: 1000 * MS), knobs("single-stream", max_seconds=3.0))
    assert load.queries == 3
    assert load.reasons == ("3 queries of at least 64",)
    assert load.bound_ns is None, "three queries bound nothing"


def test_the_percentile_is_bounded_by_early_stopping() -> None:
    # Of 100 queries 3 are slow; at most 4 of 100 may be over for the 90th percentile.
    load = scheduled(FakeEngine(durations_ns=lambda run: 50 * MS if run in (1, 2, 3) else MS), knobs("single-stream"))
    assert load.queries == 64
    assert early_stopping.tolerated(64, 0.9) == 1
    assert load.bound_ns == 50 * MS, "of 64 queries the slowest bounds it"
    assert dict(load.percentiles_ns)[0.9] == MS


def test_multi_stream_asks_eight_samples_at_once() -> None:
    one = scheduled(FakeEngine(), knobs("multi-stream"))
    assert (one.samples, dict(one.percentiles_ns)[0.5]) == (8 * one.queries, 8 * MS)
    four = scheduled(FakeEngine(batch=4), knobs("multi-stream"))
    assert dict(four.percentiles_ns)[0.5] == 2 * MS
    three = FakeEngine(batch=3)
    assert dict(scheduled(three, knobs("multi-stream")).percentiles_ns)[0.5] == 3 * MS, "the last batch is padded"


@given(batch=st.integers(1, 9), least=st.integers(1, 50), seconds=st.floats(0.01, 2.0))
def test_offline_is_one_query_of_enough_samples(batch: int, least: int, seconds: float) -> None:
    wanted = knobs("offline", min_queries=least, min_seconds=seconds)
    engine = FakeEngine(batch)
    load = scheduled(engine, wanted, expected_ns=MS / batch)
    assert load.queries == 1
    assert load.samples == offline_samples(wanted, MS / batch) >= least
    assert engine.runs == -(-load.samples // batch)
    assert load.samples_per_s == pytest.approx(load.samples / (engine.runs * 1e-3))
    assert load.reasons == ()


def test_samples_differ_and_are_the_same_for_a_seed() -> None:
    first, second = FakeEngine(), FakeEngine()
    for engine in (first, second):
        scheduled(engine, knobs("single-stream", seed=5))
    assert all(np.array_equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))
    assert len({array.tobytes() for array in first.seen}) == 4


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream"])
def test_an_engine_that_takes_more_than_a_query_has_is_refused(scenario: str) -> None:
    with pytest.raises(AgentError, match="compile it with batch"):
        SystemUnderTest(FakeEngine(batch=9), knobs(scenario))


def test_inputs_without_a_common_batch_are_refused() -> None:
    class Two(FakeEngine):
        @property
        def inputs(self) -> list[TensorInfo]:
            return [TensorInfo("x", "float32", (1, 3)), TensorInfo("z", "float32", (2, 3))]

    with pytest.raises(AgentError, match="same batch dimension"):
        SystemUnderTest(Two(), knobs("offline"))


@pytest.mark.parametrize(
    "message",
    [
        {"scenario": "server"},
        {"generator": "mlperf"},
        {"percentile": 1.0},
        {"percentile": 0},
        {"min_queries": 0},
        {"max_seconds": 0},
        {"samples_per_query": 1.5},
    ],
)
def test_knobs_that_make_no_sense_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="must be"):
        ScenarioKnobs.from_message(message)


def test_knobs_pass_through_a_message() -> None:
    wanted = scenario_knobs("multi-stream", min_seconds=3)
    assert ScenarioKnobs.from_message(asdict(wanted)) == wanted
    assert (wanted.percentile, wanted.samples_per_query, wanted.min_queries) == (0.99, 8, 662)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scenario": "server"}, "single-stream, multi-stream, offline"),
        ({"scenario": "offline", "min_seconds": 0}, "more than 0"),
        ({"scenario": "single-stream", "percentile": 1.2}, "between 0 and 1"),
    ],
)
def test_what_is_asked_on_the_host_is_checked_there(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        scenario_knobs(**arguments)


@needs_loadgen
@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline"])
def test_loadgen_runs_each_scenario(scenario: str, tmp_path: Path) -> None:
    engine = FakeEngine(batch=2 if scenario != "single-stream" else 1)
    wanted = knobs(scenario, min_seconds=0.05, min_queries=64)
    load = LoadGen(find_loadgen()).run(SystemUnderTest(engine, wanted), wanted, 2e3, tmp_path)
    assert load.generator.startswith("LoadGen ")
    assert load.samples == load.queries * (8 if scenario == "multi-stream" else load.samples // load.queries)
    assert load.log is not None and load.log["num_errors"] == 0
    if scenario == "offline":
        assert load.queries == 1 and load.samples >= 64
    else:
        assert load.queries >= 64
        assert load.bound_ns is not None and load.bound_ns >= dict(load.percentiles_ns)[0.5]


@needs_loadgen
def test_loadgen_and_we_bound_the_same_latencies_alike(tmp_path: Path) -> None:
    wanted = knobs("single-stream", min_seconds=0.02)
    load = LoadGen(find_loadgen()).run(SystemUnderTest(FakeEngine(), wanted), wanted, 1e4, tmp_path)
    assert load.log is not None
    discarded = early_stopping.tolerated(load.queries, 0.9) - 1
    assert f"Would discard {discarded} highest latency queries" in load.log["early_stopping_result"]


@needs_loadgen
def test_what_an_engine_raises_comes_out_of_loadgen(tmp_path: Path) -> None:
    def dies(run: int) -> int:
        if run == 5:
            raise AgentError("internal", "it died")
        return MS

    wanted = knobs("single-stream", min_seconds=0.01)
    with pytest.raises(AgentError, match="it died"):
        LoadGen(find_loadgen()).run(SystemUnderTest(FakeEngine(durations_ns=dies), wanted), wanted, 1e5, tmp_path)


def test_without_loadgen_ours_is_taken_and_loadgen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.agent.mlperf.find_loadgen", lambda: None)
    wanted = knobs("single-stream", min_seconds=0.0)
    found = run_scenario(FakeEngine(), wanted, [], ["nothing tells"])
    assert found["load"]["generator"] == OWN_NAME
    assert found["energy"]["joules"] is None and found["energy"]["reason"] == "nothing tells"
    with pytest.raises(AgentError, match="install mlcommons-loadgen"):
        run_scenario(FakeEngine(), knobs("single-stream", generator="loadgen"), [], [])


@pytest.fixture(scope="module")
def device() -> Any:
    with open_device(load_target("host-cpu")) as found:
        yield found


@pytest.mark.parametrize("generator", ["hwnas", pytest.param("loadgen", marks=needs_loadgen)])
def test_scenarios_run_on_the_host(device: Device, generator: str) -> None:
    engine = device.compile(canary_onnx())
    for scenario in ("single-stream", "offline"):
        result = device.run_scenario(engine, scenario_knobs(scenario, min_seconds=0.2, generator=generator))
        assert result.load.samples_per_s > 0
        assert (result.load.generator.split()[0] == "LoadGen") == (generator == "loadgen")
        assert result.differs_from_mlperf is not None and "0.2 s in place of 600 s" in result.differs_from_mlperf
        assert (result.energy.joules is None) == (result.energy.reason is not None)
        assert 0 < result.load.answering_s <= result.load.seconds * 1.001
        assert ScenarioResult.model_validate_json(result.model_dump_json()) == result
    device.release(engine)


def test_a_wrong_scenario_is_refused_by_the_device(device: Device) -> None:
    engine = device.compile(canary_onnx())
    with pytest.raises(RefusedError, match="scenario"):
        device.run_scenario(engine, ScenarioKnobs(scenario="server"))
