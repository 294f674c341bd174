"""The measuring protocol on a machine whose time, speed and clocks the test decides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hwnas.agent.arrays import Array
from hwnas.agent.judging import FastState
from hwnas.agent.knobs import MeasuringProtocol
from hwnas.agent.measuring import Canary, Measurement, seeded_inputs, warm_up
from hwnas.agent.protocol import AgentError
from hwnas.agent.runtimes import Engine, TensorInfo
from hwnas.agent.sensors import Clocks
from hwnas.devices.measurement import Measurement as Judged

CANARY_NS = 100_000
ENGINE_NS = 40_000


class Machine:
    """Virtual time that passes only while engines run; ``slowness(seconds)`` is the machine's state."""

    def __init__(self, slowness: Callable[[float], float] = lambda _: 1.0) -> None:
        self.now = 0.0
        self.slowness = slowness
        self.clocks_mhz: Callable[[float], float | None] = lambda _: None
        self.throttled_by: Callable[[float], tuple[str, ...]] = lambda _: ()
        self.throttle_events: Callable[[float], int | None] = lambda _: None
        self.time_slices: Callable[[float], int] = lambda _: 0

    def clock(self) -> float:
        return self.now

    def read_clocks(self) -> Clocks:
        throttling = {"throttle_events": self.throttle_events(self.now), "throttled": self.throttled_by(self.now)}
        return Clocks(self.clocks_mhz(self.now), None, **throttling)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def preemptions(self) -> int:
        return self.time_slices(self.now)


class VirtualEngine(Engine):
    """Takes ``duration_ns`` in the fast state, and three times that in the first run after another engine's."""

    last: VirtualEngine | None = None

    def __init__(self, machine: Machine, duration_ns: int) -> None:
        self.machine, self.duration_ns = machine, duration_ns

    @property
    def inputs(self) -> list[TensorInfo]:
        return [TensorInfo("image", "float32", (1, 3, 4, 4))]

    @property
    def outputs(self) -> list[TensorInfo]:
        return [TensorInfo("logits", "float32", (1, 2))]

    def upload(self, arrays: Sequence[Array]) -> None:
        assert all(np.isfinite(array).all() for array in arrays)

    def download(self) -> list[Array]:
        return [np.zeros((1, 2), np.float32)]

    def run(self) -> None:
        self.timed_runs(1)

    def timed_runs(self, count: int) -> list[int]:
        durations = []
        for _ in range(count):
            cold = 3.0 if VirtualEngine.last is not self else 1.0
            VirtualEngine.last = self
            durations.append(round(self.duration_ns * cold * self.machine.slowness(self.machine.now)))
            self.machine.now += durations[-1] / 1e9
        return durations


def measure(
    machine: Machine, protocol: MeasuringProtocol, state: FastState | None = None, engine_ns: int = ENGINE_NS
) -> Judged:
    canary = Canary(VirtualEngine(machine, CANARY_NS), state or FastState())
    engine = VirtualEngine(machine, engine_ns)
    sensors = (machine.clock, machine.read_clocks, machine.preemptions, machine.sleep)
    reply = Measurement(engine, canary, protocol, *sensors).run()
    return Judged.model_validate({**reply, "timer_overhead_ns": 0, "canary_sha256": ""})


def test_a_still_machine_gives_its_time_and_no_more_samples_than_asked() -> None:
    found = measure(Machine(), MeasuringProtocol(min_samples=64))
    assert found.complete
    assert found.gated.n == 64
    assert (found.gated.p50_ms, found.gated.p90_ms) == (0.04, 0.04)
    assert found.fast_state_ms == 0.1
    assert found.clocks[0].fastest_mhz is None


def test_caches_left_by_the_other_engine_do_not_reach_a_timed_run() -> None:
    found = measure(Machine(), MeasuringProtocol(min_samples=8))
    assert {canary for pair in found.canary_ns for canary in pair or ()} == {CANARY_NS}
    assert {sample for batch in found.samples_ns for sample in batch} == {ENGINE_NS}


def test_a_machine_that_jumps_between_speeds_is_measured_in_its_fast_state() -> None:
    machine = Machine(lambda seconds: 1.8 if math.floor(seconds / 0.005) % 3 else 1.0)
    found = measure(machine, MeasuringProtocol(min_samples=200))
    assert found.complete
    assert found.gated.n >= 200
    assert found.gated.p50_ms == pytest.approx(0.04)
    assert found.ungated.n > 2 * found.gated.n
    assert found.ungated.p50_ms == pytest.approx(0.072)


def test_when_the_fast_state_never_comes_nothing_is_called_gated() -> None:
    found = measure(Machine(lambda _: 1.8), MeasuringProtocol(max_seconds=0.05), FastState(CANARY_NS))
    assert not found.complete
    assert found.gated.n == 0
    assert found.gated.p50_ms is None
    assert found.ungated.p50_ms == pytest.approx(0.072)
    assert found.elapsed_s == pytest.approx(0.05, rel=0.1)


def test_batches_taken_before_the_fast_state_was_seen_are_judged_again() -> None:
    machine = Machine(lambda seconds: 1.8 if seconds < 0.03 else 1.0)
    found = measure(machine, MeasuringProtocol(min_samples=400))
    assert found.gated.p50_ms == pytest.approx(0.04)
    assert found.batches[0].canary_ns == (180_000, 180_000)
    assert not found.batches[0].counts(found.fast_state_ns or 0, 0.12)
    assert found.judged(0.18).gated.n == found.ungated.n


def test_drift_within_the_tolerance_is_divided_out() -> None:
    machine = Machine(lambda seconds: 1.0 + 0.1 * min(seconds / 0.1, 1.0))
    found = measure(machine, MeasuringProtocol(min_samples=1000), FastState(CANARY_NS))
    raw = found.model_copy(update={"protocol": dataclasses.replace(found.protocol, correct_drift=False)})
    assert found.gated.p50_ms == pytest.approx(0.04, rel=1e-3)
    assert raw.gated.p50_ms == pytest.approx(0.044, rel=1e-2)
    assert raw.samples_ns == found.samples_ns


def test_a_large_network_has_one_run_in_a_batch() -> None:
    found = measure(Machine(), MeasuringProtocol(min_samples=3), engine_ns=30_000_000)
    assert [len(batch) for batch in found.samples_ns] == [1, 1, 1]
    medium = measure(Machine(), MeasuringProtocol(min_samples=4), engine_ns=9_000_000)
    assert [len(batch) for batch in medium.samples_ns] == [2, 2]


def test_frames_that_arrive_at_a_rate_find_the_engine_idle() -> None:
    """Runs begin on the grid, none of them warmed by a discarded one: each is as slow as after another's work."""
    starts: list[float] = []
    machine = Machine()

    class Observed(VirtualEngine):
        def timed_runs(self, count: int) -> list[int]:
            starts.append(self.machine.now)
            VirtualEngine.last = None  # caches cool between frames
            return super().timed_runs(count)

    canary = Canary(VirtualEngine(machine, CANARY_NS), FastState())
    sensors = (machine.clock, machine.read_clocks, machine.preemptions, machine.sleep)
    protocol = MeasuringProtocol(min_samples=32, max_seconds=10.0, fps=30.0, warmup_min_seconds=0.0)
    reply = Measurement(Observed(machine, ENGINE_NS), canary, protocol, *sensors).run()
    found = Judged.model_validate({**reply, "timer_overhead_ns": 0, "canary_sha256": ""})
    timed = np.array(starts[-found.ungated.n :])
    assert np.allclose(timed * 30.0, np.round(timed * 30.0), atol=1e-6)
    assert np.diff(timed).min() > 0.9 / 30
    assert found.gated.p50_ms == 0.12


def test_an_engine_soaks_in_its_own_heat_before_it_is_measured() -> None:
    """Throttling to 1.5 times sets in after two seconds of work and is in every sample after the soak."""
    machine = Machine(lambda seconds: 1.5 if seconds > 2.0 else 1.0)
    found = measure(machine, MeasuringProtocol(min_samples=8, soak_seconds=3.0))
    assert found.ungated.p50_ms == pytest.approx(0.06)
    assert measure(Machine(machine.slowness), MeasuringProtocol(min_samples=8)).ungated.p50_ms == pytest.approx(0.04)


def test_canaries_recover_from_a_large_network_before_they_are_timed() -> None:
    """The n-th run after another engine's is 1 + 1/n slow: with one discarded nothing would be in the fast state."""
    machine = Machine()

    class Recovering(VirtualEngine):
        since = 0

        def timed_runs(self, count: int) -> list[int]:
            durations = []
            for _ in range(count):
                self.since = 1 if VirtualEngine.last is not self else self.since + 1
                VirtualEngine.last = self
                durations.append(round(self.duration_ns * (1.0 + 0.5 / self.since)))
            return durations

    def kept(warm_runs: int) -> int:
        canary = Canary(Recovering(machine, CANARY_NS), FastState(CANARY_NS))
        protocol = MeasuringProtocol(max_seconds=0.05, canary_warm_runs=warm_runs)
        sensors = (machine.clock, machine.read_clocks, machine.preemptions, machine.sleep)
        reply = Measurement(VirtualEngine(machine, 1_000_000), canary, protocol, *sensors).run()
        return Judged.model_validate({**reply, "timer_overhead_ns": 0, "canary_sha256": ""}).gated.n

    assert kept(1) == 0
    assert kept(6) > 0


def test_batches_during_which_clocks_moved_are_rejected_and_redone() -> None:
    machine = Machine()
    machine.clocks_mhz = lambda seconds: 1500.0 if 0.02 < seconds < 0.1 else 2000.0
    machine.slowness = lambda seconds: 1.05 if 0.02 < seconds < 0.1 else 1.0
    found = measure(
        machine, MeasuringProtocol(min_samples=1000, clock_interval_seconds=0.01, correct_drift=False, tolerance=0.2)
    )
    assert found.complete
    assert any(found.clocks_moved)
    assert not all(found.clocks_moved)
    assert found.gated.n >= 1000
    moved = sum(len(batch) for batch, flag in zip(found.samples_ns, found.clocks_moved, strict=True) if flag)
    assert found.ungated.n == found.gated.n + moved
    assert {1500.0, 2000.0} == {reading.fastest_mhz for reading in found.clocks}


def test_batches_of_a_device_that_throttles_without_moving_its_clocks_are_rejected_and_redone() -> None:
    """Canary and engine slow down alike and by little, so that only the sensor tells."""
    machine = Machine(lambda seconds: 1.05 if seconds < 0.1 else 1.0)
    machine.clocks_mhz = lambda _: 2000.0
    machine.throttled_by = lambda seconds: ("cooling device cpufreq-cpu0 at 3 of 48",) if seconds < 0.1 else ()
    knobs = MeasuringProtocol(min_samples=500, clock_interval_seconds=0.01, correct_drift=False)
    found = measure(machine, knobs)
    assert found.complete
    assert any(found.clocks_moved) and not all(found.clocks_moved)
    assert set(found.gated_samples_ns()) == {ENGINE_NS}
    assert found.ungated.n > found.gated.n >= 500
    assert found.clocks[0].throttled == ("cooling device cpufreq-cpu0 at 3 of 48",)
    assert found.clocks[-1].throttled == ()
    machine = Machine(machine.slowness)
    assert set(measure(machine, knobs).gated_samples_ns()) != {ENGINE_NS}, "without the sensor they count"


def test_batches_during_which_a_throttle_counter_rose_are_rejected_and_redone() -> None:
    machine = Machine(lambda seconds: 1.05 if 0.04 < seconds < 0.1 else 1.0)
    machine.throttle_events = lambda seconds: 7 + int(min(max(0.0, seconds - 0.04), 0.06) / 0.001)
    knobs = MeasuringProtocol(min_samples=1000, clock_interval_seconds=0.01, correct_drift=False)
    found = measure(machine, knobs)
    assert found.complete and found.gated.n >= 1000
    assert set(found.gated_samples_ns()) == {ENGINE_NS}
    assert any(found.clocks_moved)


def test_a_device_that_throttles_for_ever_is_told_and_nothing_is_called_gated() -> None:
    machine = Machine()
    machine.throttled_by = lambda _: ("GPU: power cap",)
    found = measure(machine, MeasuringProtocol(max_seconds=0.1))
    assert not found.complete
    assert found.gated.n == 0 and found.ungated.n > 0
    assert {reading.throttled for reading in found.clocks} == {("GPU: power cap",)}


def test_a_run_that_waited_for_its_processor_does_not_count_between_two_fast_canaries() -> None:
    """A network of 3 ms of which every other run loses a time slice of 4 ms, as on two cores with three processes."""
    machine = Machine()
    lost = []

    class Large(VirtualEngine):
        calls = 0

        def timed_runs(self, count: int) -> list[int]:
            durations = super().timed_runs(count)
            self.calls += 1
            if self.calls % 2:
                lost.append(self.calls)
                machine.now += 0.004
                durations[-1] += 4_000_000
            return durations

    machine.time_slices = lambda _: len(lost)
    canary = Canary(VirtualEngine(machine, CANARY_NS), FastState())
    sensors = (machine.clock, machine.read_clocks, machine.preemptions)
    reply = Measurement(Large(machine, 3_000_000), canary, MeasuringProtocol(min_samples=10), *sensors).run()
    found = Judged.model_validate({**reply, "timer_overhead_ns": 0, "canary_sha256": ""})
    assert any(found.preempted)
    assert found.gated.n >= 10
    assert found.gated.p50_ms == found.gated_samples_ns()[0] / 1e6 == 3.0
    assert max(max(samples) for samples in found.samples_ns) == 7_000_000


def test_clocks_that_never_rest_end_with_the_time_and_are_told() -> None:
    machine = Machine()
    machine.clocks_mhz = lambda seconds: 1000.0 + 500.0 * (math.floor(seconds / 0.01) % 2)
    found = measure(machine, MeasuringProtocol(max_seconds=0.2, clock_interval_seconds=0.01, min_samples=2000))
    assert not found.complete
    assert sum(found.clocks_moved) > len(found.clocks_moved) / 2


def test_warming_up_lasts_until_two_windows_agree() -> None:
    machine = Machine(lambda seconds: 1.0 + 2.0 * math.exp(-seconds / 0.02))
    warm = warm_up(VirtualEngine(machine, 1_000_000), MeasuringProtocol(warmup_min_seconds=0.0), machine.clock)
    assert warm.stable
    assert warm.last_median_ns == pytest.approx(1_000_000, rel=0.25)
    assert warm.seconds > 0.04


def test_an_engine_that_never_settles_is_measured_after_a_while_and_marked() -> None:
    machine = Machine(lambda seconds: 1.0 + 50.0 * seconds)
    warm = warm_up(VirtualEngine(machine, 1_000_000), MeasuringProtocol(warmup_max_seconds=0.2), machine.clock)
    assert not warm.stable
    assert warm.seconds >= 0.2


def test_enough_means_samples_and_seconds() -> None:
    found = measure(Machine(), MeasuringProtocol(min_samples=4, min_seconds=0.01))
    assert sum(map(sum, found.samples_ns)) >= 0.01 * 1e9


def test_without_gating_there_is_no_canary_and_no_gated_figure() -> None:
    machine = Machine()
    reply = Measurement(
        VirtualEngine(machine, ENGINE_NS), None, MeasuringProtocol(gate=False), machine.clock, machine.read_clocks
    ).run()
    found = Judged.model_validate({**reply, "timer_overhead_ns": 0, "canary_sha256": ""})
    assert found.complete
    assert found.gated.n == 0
    assert found.ungated.n == 64
    with pytest.raises(ValueError, match="canary"):
        Measurement(VirtualEngine(machine, 1), None, MeasuringProtocol())


def test_inputs_are_reproducible_and_without_zeros_and_denormals() -> None:
    tensors = [TensorInfo("a", "float32", (1, 3, 8, 8)), TensorInfo("b", "int64", (4,))]
    first, again, other = (seeded_inputs(tensors, seed) for seed in (1, 1, 2))
    assert all((x == y).all() for x, y in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()
    assert (np.abs(first[0]) >= 0.0999).all()
    assert (first[1] > 0).all()
    assert [array.dtype.name for array in first] == ["float32", "int64"]


@pytest.mark.parametrize(
    "knobs",
    [
        {"min_samples": 0},
        {"min_samples": 1.5},
        {"max_seconds": -1},
        {"max_seconds": "2"},
        {"gate": 1},
        {"tolerance": float("nan")},
        {"runs_per_batch": True},
        {"canary": "huge"},
        {"canary": 1},
        {"fps": -1},
    ],
)
def test_a_bad_knob_is_refused(knobs: dict[str, object]) -> None:
    with pytest.raises(AgentError, match=next(iter(knobs))):
        MeasuringProtocol.from_message(knobs)


def test_knobs_not_named_have_their_defaults() -> None:
    assert MeasuringProtocol.from_message({}) == MeasuringProtocol()
    assert MeasuringProtocol.from_message({"seed": 0, "min_samples": 5}).min_samples == 5
