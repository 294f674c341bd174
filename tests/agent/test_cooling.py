"""Waiting for a device to cool down, in time that the test counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwnas.agent.cooling import HYSTERESIS_C, MOST_PAUSE_S, Heat, Pause, TooHotError, cool_down
from hwnas.agent.knobs import MeasuringProtocol
from hwnas.agent.measuring import Measurement
from hwnas.agent.sensors import Clocks
from hwnas.devices.simulated import Conditions
from hwnas.devices.simulated.machine import Machine
from tests.agent.test_measuring import ENGINE_NS, VirtualEngine

LIMIT_C = 80.0
SLOW = ("cooling device cpufreq-cpu0 at 1 of 4",)
TEMPERATURES = st.one_of(st.none(), st.floats(-40, 120))


class Cooling:
    """A device whose heat follows from the time."""

    def __init__(self, heat: Callable[[float], Heat]) -> None:
        self.now_s, self.told, self._heat = 100.0, list[str](), heat

    def read(self) -> Heat:
        return self._heat(self.now_s - 100.0)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds

    def wait(self, limit_c: float | None, most_s: float = MOST_PAUSE_S) -> Pause | None:
        return cool_down(self.read, limit_c, most_s, self.told.append, self.sleep, lambda: self.now_s)


def test_a_device_at_its_limit_is_waited_for_until_it_is_well_below() -> None:
    device = Cooling(lambda s: Heat(90.0 - s))
    pause = device.wait(LIMIT_C)
    assert pause is not None
    assert (pause.from_c, pause.to_c, pause.seconds, pause.cooled) == (90.0, 74.0, 16.0, True)
    assert pause.why == "limit of 80 °C reached"
    assert device.told[0] == "paused to cool down: 90.0 °C, limit of 80 °C reached"
    assert device.told[-1] == "paused to cool down: 76.0 °C", "below the limit, and not yet cool"


@given(st.floats(-40, LIMIT_C - 0.01) | st.none(), st.sampled_from([LIMIT_C, None]))
def test_a_device_below_its_limit_is_not_waited_for(temperature_c: float | None, limit_c: float | None) -> None:
    device = Cooling(lambda _: Heat(temperature_c))
    assert device.wait(limit_c) is None
    assert device.now_s == 100.0


def test_a_device_that_slows_down_for_heat_is_waited_for_whatever_its_limit() -> None:
    device = Cooling(lambda s: Heat(None, SLOW if s < 5 else ()))
    pause = device.wait(None)
    assert pause is not None
    assert (pause.why, pause.seconds, pause.from_c, pause.cooled) == (SLOW[0], 6.0, None, True)


def test_a_device_that_stays_too_hot_is_given_up() -> None:
    device = Cooling(lambda _: Heat(91.5, SLOW))
    with pytest.raises(
        TooHotError, match=r"after a pause of 600 s it is still too hot \(91.5 °C, limit of 80 °C reached"
    ):
        device.wait(LIMIT_C)
    assert device.now_s == 100.0 + MOST_PAUSE_S


def test_a_device_that_stays_just_below_its_limit_is_measured_and_the_pause_says_so() -> None:
    device = Cooling(lambda s: Heat(LIMIT_C if s == 0 else LIMIT_C - 1))
    pause = device.wait(LIMIT_C)
    assert pause is not None and not pause.cooled and pause.seconds == MOST_PAUSE_S


def test_there_may_be_less_time_than_it_takes() -> None:
    pause = Cooling(lambda _: Heat(91.5)).wait(LIMIT_C, most_s=3.0)
    assert pause is not None and (pause.seconds, pause.cooled) == (3.0, False)


@given(st.lists(TEMPERATURES, min_size=1, max_size=30), st.sampled_from([LIMIT_C, None]), st.floats(0, 50))
@example([80.0], LIMIT_C, 1.6875)
def test_whatever_is_read_the_wait_ends_in_time(
    readings: list[float | None], limit_c: float | None, most_s: float
) -> None:
    device = Cooling(lambda s: Heat(readings[min(int(s), len(readings) - 1)]))
    pause = device.wait(limit_c, most_s)
    first = readings[0]
    assert (pause is not None) == (limit_c is not None and first is not None and first >= limit_c)
    if pause is not None:
        assert pause.seconds <= round(most_s, 3)  # as it is written down
        assert device.now_s - 100.0 == pytest.approx(pause.seconds, abs=1e-3)
        cool = pause.to_c is None or pause.to_c <= LIMIT_C - HYSTERESIS_C
        assert pause.cooled == cool


HOT = Conditions(ambient_c=40.0, loaded_c=100.0, warming_s=2.0)


def measured(limit_c: float, **knobs: float) -> tuple[dict[str, object], Machine]:
    machine = Machine(HOT, seed=0)
    protocol = MeasuringProtocol(gate=False, min_samples=10**9, max_seconds=20.0, temperature_limit_c=limit_c, **knobs)
    sensors = (machine.clock, machine.read_clocks, machine.preemptions, machine.sleep)
    return Measurement(WarmingEngine(machine), None, protocol, *sensors).run(), machine


class WarmingEngine(VirtualEngine):
    """Its runs heat the machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, ENGINE_NS)  # type: ignore[arg-type]
        self._warming = machine

    def timed_runs(self, count: int) -> list[int]:
        return [round(1e9 * self._warming.run(1e-3, 1e-3)) for _ in range(count)]


def test_a_measurement_ends_when_the_limit_is_reached() -> None:
    result, machine = measured(limit_c=80.0)
    readings = result["clocks"]
    assert isinstance(readings, list)
    assert not result["complete"]
    assert all(reading["temperature_c"] < 80.0 for reading in readings[:-1])
    assert 80.0 <= readings[-1]["temperature_c"] < 83.0
    assert machine.now_s < 10.0


def test_without_a_limit_it_goes_on() -> None:
    result, _ = measured(limit_c=0.0)
    assert result["elapsed_s"] == pytest.approx(20.0, rel=0.01)


def test_soaking_ends_at_the_limit_and_something_is_measured_all_the_same() -> None:
    result, machine = measured(limit_c=80.0, soak_seconds=1000.0)
    samples = result["samples_ns"]
    assert isinstance(samples, list)
    assert 0 < sum(map(sum, samples)) < 0.15e9, "of the time between two readings"
    assert machine.now_s < 10.0


def test_a_reading_tells_the_temperature() -> None:
    assert Clocks(None, None, temperature_c=50.0).as_record()["temperature_c"] == 50.0
