"""Energy from every source, on kernels and drivers that the test writes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent.power import EnergyMeter, Source, find_sources

HWMON = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
IIO = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
RAPL = "sys/class/powercap"


def write(root: Path, folder: str, **files: object) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / folder / name).write_text(f"{content}\n")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Told(Source):
    """A source whose values the test sets."""

    told_by = "a test"
    whole = True

    def __init__(self, name: str, cumulative: bool) -> None:
        self.name, self.cumulative = name, cumulative
        self.value: float | None = 0.0

    def read(self) -> float | None:
        return self.value


def metered(source: Source, readings: list[tuple[float, float]], begin: float, end: float) -> Any:
    clock = Clock()
    meter = EnergyMeter([source], clock=clock)
    for clock.now, source.value in readings:  # type: ignore[attr-defined]
        meter.take()
    return meter.energy(begin, end)


def test_watts_are_integrated_between_readings_and_to_the_ends() -> None:
    # 10 W for a second, then up to 20 W within another.
    found = metered(Told("board", False), [(0.0, 10.0), (1.0, 10.0), (2.0, 20.0)], 0.0, 2.0)
    assert found.joules == pytest.approx(25.0)
    part = metered(Told("board", False), [(0.0, 10.0), (1.0, 10.0), (2.0, 20.0)], 0.5, 1.5)
    assert part.joules == pytest.approx(5.0 + (10 + 15) / 2 * 0.5)


def test_a_counter_is_read_at_the_ends() -> None:
    found = metered(Told("GPU", True), [(0.0, 100.0), (1.0, 130.0), (3.0, 150.0)], 0.5, 2.0)
    assert found.joules == pytest.approx(140.0 - 115.0)
    assert (found.of, found.reason) == (("GPU",), None)


@given(st.floats(0.1, 500), st.floats(0.01, 100), st.integers(2, 50))
def test_steady_power_is_power_times_time(watts: float, seconds: float, readings: int) -> None:
    times = [seconds * number / (readings - 1) for number in range(readings)]
    gauge = metered(Told("g", False), [(time, watts) for time in times], 0.0, seconds)
    counter = metered(Told("c", True), [(time, watts * time) for time in times], 0.0, seconds)
    assert gauge.joules == pytest.approx(watts * seconds)
    assert counter.joules == pytest.approx(watts * seconds)


def test_one_reading_is_no_energy() -> None:
    found = metered(Told("board", False), [(0.0, 10.0)], 0.0, 1.0)
    assert found.joules is None and found.reason


def test_the_thread_reads_while_it_is_entered() -> None:
    source = Told("board", False)
    source.value = 7.0
    with EnergyMeter([source], interval_s=0.001) as meter:
        begin = meter._clock()
        while len(meter._series[0][1]) < 5:
            pass
        end = meter._clock()
    found = meter.energy(begin, end)
    assert found.joules == pytest.approx(7.0 * (end - begin))
    assert found.rails[0].readings >= 5


def test_a_jetson_tells_its_rails_and_the_input_is_the_whole(tmp_path: Path) -> None:
    write(tmp_path, HWMON, in1_label="VDD_IN", in1_input=5000, curr1_input=2000)
    write(tmp_path, HWMON, in2_label="VDD_CPU_GPU_CV", in2_input=5000, curr2_input=800, in3_label="NC", in7_label="sum")
    sources, reasons = find_sources(tmp_path)
    assert reasons == []
    assert [(source.name, source.whole, source.read()) for source in sources] == [
        ("VDD_IN", True, 10.0),
        ("VDD_CPU_GPU_CV", False, 4.0),
    ]
    found = EnergyMeter(sources)
    with found:
        pass
    energy = found.energy(*(found._series[0][1][index][0] for index in (0, -1)))
    assert energy.of == ("VDD_IN",)
    assert {rail.name for rail in energy.rails} == {"VDD_IN", "VDD_CPU_GPU_CV"}


def test_rails_without_the_input_are_told_but_not_summed(tmp_path: Path) -> None:
    write(tmp_path, HWMON, in1_label="VDD_GPU_SOC", in1_input=5000, curr1_input=2000)
    sources, reasons = find_sources(tmp_path)
    with EnergyMeter(sources, reasons) as meter:
        pass
    energy = meter.energy(meter._series[0][1][0][0], meter._series[0][1][-1][0])
    assert energy.joules is None
    assert energy.reason == "only parts of the device tell their power"
    assert energy.rails[0].name == "VDD_GPU_SOC"


def test_an_older_jetson_tells_milliwatts(tmp_path: Path) -> None:
    write(tmp_path, IIO, rail_name_0="POM_5V_IN", in_power0_input=3512)
    (source,), _ = find_sources(tmp_path, gpu=True)
    assert (source.name, source.whole, source.read()) == ("POM_5V_IN", True, 3.512)


def test_processors_are_counted_package_by_package_over_the_counters_end(tmp_path: Path) -> None:
    for zone, name, joules in (("0", "package-0", 9), ("1", "package-1", 3), ("0:0", "core", 1)):
        write(tmp_path, f"{RAPL}/intel-rapl:{zone}", name=name, energy_uj=joules * 10**6, max_energy_range_uj=10**7)
    sources, _ = find_sources(tmp_path)
    assert [source.name for source in sources] == ["package-0", "package-1"]
    assert [source.read() for source in sources] == [9.0, 3.0]
    write(tmp_path, f"{RAPL}/intel-rapl:0", energy_uj=1_000_000)
    assert sources[0].read() == 11.0, "it went over its end, 10 J, once"
    write(tmp_path, f"{RAPL}/intel-rapl:0", energy_uj=500_000)
    assert sources[0].read() == 20.5


def test_rapl_that_root_alone_may_read_is_a_reason(tmp_path: Path) -> None:
    write(tmp_path, f"{RAPL}/intel-rapl:0", name="package-0")
    assert find_sources(tmp_path) == ([], ["RAPL's energy_uj may be read by root alone"])


def test_where_nothing_tells_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, reasons = find_sources(tmp_path)
    with EnergyMeter(sources, reasons) as meter:
        pass
    assert meter.energy(0.0, 1.0).joules is None
    assert meter.energy(0.0, 1.0).reason == reasons[0]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "no GPU answers" in find_sources(tmp_path, gpu=True)[1][0]


class FakePynvml(SimpleNamespace):
    class NVMLError(Exception):
        pass

    energy_mj: int | None = 5000
    power_mw: int | None = 70_000

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> int:  # noqa: N802
        return self._told(self.energy_mj)

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:  # noqa: N802
        return self._told(self.power_mw)

    def _told(self, value: int | None) -> int:
        if value is None:
            raise self.NVMLError("not supported")
        return value


def test_a_gpu_counts_joules_where_it_can_and_tells_watts_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    library = FakePynvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    (volta,), _ = find_sources(tmp_path, gpu=True)
    assert (volta.told_by, volta.cumulative, volta.read()) == ("NVML, energy counter", True, 5.0)
    library.energy_mj = None
    (pascal,), _ = find_sources(tmp_path, gpu=True)
    assert (pascal.told_by, pascal.cumulative, pascal.read()) == ("NVML, power", False, 70.0)
    library.power_mw = None
    assert find_sources(tmp_path, gpu=True) == ([], ["the GPU's driver tells neither energy nor power"])
