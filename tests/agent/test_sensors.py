"""What is read of clocks, throttling and memory, on kernels and drivers that the test writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hwnas.agent import sensors, thermal
from hwnas.agent.cooling import Heat
from hwnas.agent.sensors import Clocks, Sensors, read_clocks

CPU = "sys/devices/system/cpu"
THERMAL = "sys/class/thermal"
GPU = "sys/class/devfreq/17000000.gpu"


class Kernel:
    """A directory with a kernel's files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, folder: str, **files: object) -> None:
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.root / folder / name).write_text(f"{content}\n")

    def read(self, gpu: bool = False) -> Clocks:
        with Sensors(self.root, gpu, tegrastats="no such program") as found:
            return found.read()


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Two cores, the second of which works."""
    made = Kernel(tmp_path)
    for core, live in enumerate((600_000, 1_900_000)):
        limits = {"scaling_min_freq": 600_000, "scaling_max_freq": 2_000_000, "cpuinfo_max_freq": 2_400_000}
        made.write(f"{CPU}/cpu{core}/cpufreq", scaling_cur_freq=live, scaling_governor="schedutil", **limits)
    made.write(f"{CPU}/cpufreq", boost=1)
    return made


class FakePynvml(SimpleNamespace):
    """The library as far as it is used; ``reasons`` is the mask that the driver gives."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def __init__(self, reasons: int = 0, fails: frozenset[str] = frozenset()) -> None:
        super().__init__(asked=[], open=0, reasons=reasons, fails=fails)

    def _answer(self, question: str, answer: Any) -> Any:
        self.asked.append(question)
        if question in self.fails:
            raise self.NVMLError(question)
        return answer

    def nvmlInit(self) -> None:  # noqa: N802
        self._answer("init", None)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1
        self._answer("shutdown", None)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return str(self._answer("index", f"gpu {index}"))

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return str(self._answer("uuid", uuid))

    def nvmlDeviceGetClockInfo(self, gpu: str, domain: int) -> int:  # noqa: N802
        return int(self._answer(f"clock of {gpu}", {1: 1755, 2: 2619}[domain]))

    def nvmlDeviceGetMaxClockInfo(self, gpu: str, domain: int) -> int:  # noqa: N802
        return int(self._answer("limit", 1980))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: str) -> int:  # noqa: N802
        return int(self._answer("throttle reasons", self.reasons))


class RecentPynvml(FakePynvml):
    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: str) -> int:  # noqa: N802
        return int(self._answer("event reasons", self.reasons))


def test_clocks_come_from_cpufreq(kernel: Kernel) -> None:
    cpus = kernel.root / CPU
    assert read_clocks(kernel.root) == kernel.read() == Clocks(fastest_mhz=1900.0, limit_mhz=2000.0)
    assert sensors.maximum_clock_mhz(cpus) == 2400.0
    assert sensors.power_mode(cpus) == "schedutil, boost on"


def test_where_the_kernel_says_nothing_neither_do_we(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as where it is not installed
    assert read_clocks(tmp_path) == Clocks(None, None)
    assert Kernel(tmp_path).read(gpu=True) == Clocks(None, None)
    assert sensors.maximum_clock_mhz(tmp_path) is None
    assert sensors.power_mode(tmp_path) is None
    assert thermal.temperatures_c(tmp_path) == {}
    assert sensors.memory_bytes("VmHWM", tmp_path / "status") is None


def test_where_there_is_no_sensor_a_reading_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sensors(tmp_path)

    def opened(path: Path, *_: object, **__: object) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(Path, "read_text", opened)
    monkeypatch.setattr(Path, "glob", opened)
    assert found.read() == Clocks(None, None)


def test_a_file_that_goes_or_holds_no_number_is_no_sensor(kernel: Kernel) -> None:
    with Sensors(kernel.root) as found:
        (kernel.root / CPU / "cpu1/cpufreq/scaling_cur_freq").unlink()  # the core was switched off
        kernel.write(f"{CPU}/cpu0/cpufreq", scaling_max_freq="<unknown>")
        assert found.read() == Clocks(600.0, 2000.0)


def test_clocks_move_when_one_leaves_the_tolerance() -> None:
    then = Clocks(2000.0, 2400.0, gpu_mhz=1300.0, memory_mhz=3199.0)
    assert not Clocks(1950.0, 2400.0, gpu_mhz=1290.0, memory_mhz=3199.0).moved_since(then, 0.05)
    assert Clocks(1500.0, 2400.0).moved_since(then, 0.05)
    assert Clocks(2000.0, 1200.0).moved_since(then, 0.05), "a lowered limit is throttling"
    assert Clocks(2000.0, 2400.0, gpu_mhz=900.0).moved_since(then, 0.05)
    assert Clocks(2000.0, 2400.0, memory_mhz=2133.0).moved_since(then, 0.05)
    assert not Clocks(None, None).moved_since(then, 0.05)


@given(before=st.none() | st.integers(0, 9), after=st.none() | st.integers(0, 9))
def test_the_device_throttled_where_its_counter_rose(before: int | None, after: int | None) -> None:
    readings = [Clocks(None, None, throttle_events=count) for count in (before, after)]
    rose = before is not None and after is not None and after > before
    assert readings[1].throttled_since(readings[0]) == rose


def test_a_device_that_throttles_at_either_reading_throttled_in_between() -> None:
    still, hot = Clocks(2000.0, 2000.0), Clocks(2000.0, 2000.0, throttled=("heat",))
    assert hot.throttled_since(hot) and hot.throttled_since(still) and still.throttled_since(hot)
    assert not still.throttled_since(still)


def test_a_record_holds_everything_and_that_of_an_older_agent_is_read() -> None:
    reading = Clocks(1.0, 2.0, 3.0, 4.0, 5.0, 6, ("heat", "power cap"))
    host = TypeAdapter(Clocks)
    assert host.validate_json(json.dumps(reading.as_record())) == reading
    assert host.validate_python({"fastest_mhz": 1.0, "limit_mhz": None}) == Clocks(1.0, None)


def test_throttle_counters_of_x86_are_summed(kernel: Kernel) -> None:
    for core in range(2):
        counts = {"core_throttle_count": core, "package_throttle_count": 5, "core_throttle_max_time_ms": 99}
        kernel.write(f"{CPU}/cpu{core}/thermal_throttle", **counts)
    with Sensors(kernel.root) as found:
        first = found.read()
        assert first.throttle_events == 11
        assert not found.read().throttled_since(first)
        kernel.write(f"{CPU}/cpu1/thermal_throttle", core_throttle_count=2)
        assert found.read().throttled_since(first)


def test_over_current_events_of_a_jetson_are_throttling(kernel: Kernel) -> None:
    kernel.write("sys/class/hwmon/hwmon3", oc1_event_cnt=0, oc3_event_cnt=813, oc1_throt_en=1)
    assert kernel.read().throttle_events == 813


@pytest.mark.parametrize(
    "name", ["Processor", "cpufreq-cpu0", "thermal-cpufreq-1", "gpu-throttle-alert", "devfreq-17000000.ga10b"]
)
def test_a_cooling_device_that_slows_computing_down_is_told(kernel: Kernel, name: str) -> None:
    kernel.write(f"{THERMAL}/cooling_device0", type=name, cur_state=0, max_state=48)
    with Sensors(kernel.root) as found:
        assert found.read().throttled == ()
        kernel.write(f"{THERMAL}/cooling_device0", cur_state=3)
        assert found.read().throttled == (f"cooling device {name} at 3 of 48",)


@pytest.mark.parametrize("name", ["pwm-fan", "LCD", "Fan", "iwlwifi"])
def test_a_fan_that_turns_is_no_throttling(kernel: Kernel, name: str) -> None:
    kernel.write(f"{THERMAL}/cooling_device0", type=name, cur_state=3, max_state=4)
    assert kernel.read().throttled == ()


def zone(kernel: Kernel, name: str, temp: int, **files: object) -> None:
    kernel.write(f"{THERMAL}/thermal_zone0", type=name, temp=temp, **files)


def test_a_trip_point_that_is_reached_is_told(kernel: Kernel) -> None:
    zone(kernel, "cpu-thermal", 90_000, trip_point_0_type="passive", trip_point_0_temp=95_000)
    with Sensors(kernel.root) as found:
        assert found.read().throttled == ()
        zone(kernel, "cpu-thermal", 97_500)
        assert found.read().throttled == ("thermal zone cpu-thermal at 97.5 C, slowed from 95.0 C on",)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cpu-thermal", {"trip_point_0_type": "active", "trip_point_0_temp": 50_000}),  # a fan starts
        ("cpu-thermal", {"trip_point_0_type": "passive", "trip_point_0_temp": 50_000, "cdev0_trip_point": 0}),
        ("x86_pkg_temp", {"trip_point_0_type": "passive", "trip_point_0_temp": 0}),  # nobody set it
        ("iwlwifi_1", {"trip_point_0_type": "passive", "trip_point_0_temp": 50_000}),
        ("cpu-thermal", {"trip_point_0_type": "passive"}),
    ],
)
def test_trip_points_that_slow_nothing_down_are_not_told(kernel: Kernel, name: str, files: dict[str, object]) -> None:
    zone(kernel, name, 60_000, **files)
    assert kernel.read().throttled == ()


def test_a_clock_that_is_set_and_not_reached_is_held_back(kernel: Kernel) -> None:
    for core in range(2):
        kernel.write(f"{CPU}/cpu{core}/cpufreq", scaling_min_freq=2_000_000)
    kernel.write(f"{CPU}/cpufreq", boost=0)
    assert kernel.read().throttled == ()
    kernel.write(f"{CPU}/cpu1/cpufreq", scaling_cur_freq=1_500_000)
    assert kernel.read().throttled == ("the fastest core at 1500 MHz where 2000 are set",)
    kernel.write(f"{CPU}/cpufreq", boost=1)
    assert kernel.read().throttled == (), "a boost clock is promised to nobody"


def test_a_clock_that_follows_the_load_is_not_held_back(kernel: Kernel) -> None:
    kernel.write(f"{CPU}/cpu1/cpufreq", scaling_cur_freq=1_000_000)
    assert kernel.read() == Clocks(1000.0, 2000.0)


def test_the_gpu_of_a_jetson_counts_where_it_computes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    kernel.write(GPU, cur_freq=1_300_500_000, max_freq=1_300_500_000, min_freq=1_300_500_000)
    kernel.write("sys/class/devfreq/gpu-nvd-0", cur_freq=1_900_000_000, max_freq=1_900_000_000)
    assert kernel.read().gpu_mhz is None
    assert kernel.read(gpu=True) == Clocks(1900.0, 2000.0, gpu_mhz=1300.5, gpu_limit_mhz=1300.5)
    kernel.write(GPU, cur_freq=612_000_000)
    assert kernel.read(gpu=True).throttled == ("GPU 17000000.gpu at 612 MHz where 1300.5 are set",)
    kernel.write(GPU, min_freq=306_000_000)
    assert kernel.read(gpu=True).throttled == (), "its clock follows the load"


@pytest.mark.parametrize("library", [FakePynvml, RecentPynvml])
def test_an_nvidia_gpu_tells_its_clocks_and_what_holds_them_down(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, library: type[FakePynvml]
) -> None:
    nvml = library(reasons=0x4 | 0x20 | 0x1 | 0x2)  # the last two: idle, and clocks that somebody set
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert kernel.read() == Clocks(1900.0, 2000.0)
    assert nvml.asked == [], "a GPU that does not compute is left alone"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = kernel.read(gpu=True)
    assert (found.gpu_mhz, found.gpu_limit_mhz, found.memory_mhz) == (1755.0, 1980.0, 2619.0)
    assert found.throttled == ("GPU: power cap", "GPU: software thermal slowdown")
    assert nvml.open == 0
    nvml.reasons = 0x1 | 0x2 | 0x100
    assert kernel.read(gpu=True).throttled == ()


@pytest.mark.parametrize(
    ("visible", "gpu"), [("", "gpu 0"), ("2,0", "gpu 2"), ("GPU-5f3e,GPU-1", "GPU-5f3e"), ("MIG-9a", "MIG-9a")]
)
def test_it_is_the_gpu_that_cuda_sees_first(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, visible: str, gpu: str
) -> None:
    nvml = FakePynvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    kernel.read(gpu=True)
    assert f"clock of {gpu}" in nvml.asked


@pytest.mark.parametrize("failing", ["init", "index", "clock of gpu 0", "limit", "throttle reasons", "shutdown"])
def test_what_a_driver_does_not_know_is_not_claimed(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    nvml = FakePynvml(reasons=0x8, fails=frozenset({failing}))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = kernel.read(gpu=True)
    assert (found.gpu_mhz is None) == (failing in ("init", "index", "clock of gpu 0"))
    assert (found.gpu_limit_mhz is None) == (failing in ("init", "index", "limit"))
    assert bool(found.throttled) == (failing not in ("init", "index", "throttle reasons"))
    assert nvml.open == 0


def test_a_monitor_fills_in_what_nothing_else_tells(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    program = kernel.root / "tegrastats"
    program.write_text(
        "#!/bin/sh\necho 'CPU [3%@1190,off] EMC_FREQ 2%@2133 GR3D_FREQ 99%@[612]'\nexec sleep 60 >/dev/null\n"
    )
    program.chmod(0o755)
    with Sensors(kernel.root, gpu=True, tegrastats=str(program)) as found:
        assert found.read() == Clocks(1900.0, 2000.0, gpu_mhz=612.0, memory_mhz=2133.0)
        found.close()
        assert found.read() == Clocks(1900.0, 2000.0)
    kernel.write(GPU, cur_freq=918_000_000)
    with Sensors(kernel.root, gpu=True, tegrastats=str(program)) as found:
        assert found.read().gpu_mhz == 918.0


def test_temperatures_are_in_degrees(tmp_path: Path) -> None:
    hot = tmp_path / "thermal_zone0"
    hot.mkdir()
    (hot / "type").write_text("CPU-therm\n")
    (hot / "temp").write_text("47500\n")
    assert thermal.temperatures_c(tmp_path) == {"CPU-therm": 47.5}


def test_memory_lines_are_in_kib(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t    1728 kB\n")
    assert sensors.memory_bytes("VmHWM", status) == 1728 * 1024


def test_the_hottest_zone_of_what_computes_is_told(kernel: Kernel) -> None:
    zones = {"cpu-thermal": 61_500, "gpu-thermal": 64_000, "PMIC-Die": 100_000, "tj-thermal": 63_000, "acpitz": 99_000}
    for number, (kind, temperature) in enumerate(zones.items()):
        kernel.write(f"{THERMAL}/thermal_zone{number}", type=kind, temp=temperature)
    assert kernel.read().temperature_c == 64.0
    with Sensors(kernel.root) as found:
        assert found.heat() == Heat(64.0)
        kernel.write(f"{THERMAL}/cooling_device0", type="cpufreq-cpu0", cur_state=2, max_state=9)
    with Sensors(kernel.root) as found:
        assert found.heat() == Heat(64.0, ("cooling device cpufreq-cpu0 at 2 of 9",))


def test_a_graphics_cards_own_temperature_counts_where_it_computes(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WarmPynvml(RecentPynvml):
        def nvmlDeviceGetTemperature(self, gpu: str, sensor: int) -> int:  # noqa: N802
            assert sensor == 0
            return int(self._answer("temperature", 83))

    kernel.write(f"{THERMAL}/thermal_zone0", type="x86_pkg_temp", temp=91_000)
    monkeypatch.setitem(sys.modules, "pynvml", WarmPynvml(reasons=0x4 | 0x40))
    with Sensors(kernel.root, gpu=True, tegrastats="no such program") as found:
        assert found.read().temperature_c == 83.0
        assert found.heat() == Heat(83.0, ("GPU: hardware thermal slowdown",)), "a power cap is no heat"
    with Sensors(kernel.root) as found:
        assert found.heat() == Heat(91.0)
