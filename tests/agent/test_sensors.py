"""What is read from the kernel's files, on kernels that the test writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.agent import sensors
from hwnas.agent.sensors import Clocks


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    for core, live in enumerate((600_000, 1_900_000)):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{live}\n")
        (folder / "scaling_max_freq").write_text("2000000\n")
        (folder / "cpuinfo_max_freq").write_text("2400000\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpufreq" / "boost").write_text("1\n")
    return tmp_path


def test_clocks_come_from_cpufreq(cpus: Path) -> None:
    assert sensors.read_clocks(cpus) == Clocks(fastest_mhz=1900.0, limit_mhz=2000.0)
    assert sensors.maximum_clock_mhz(cpus) == 2400.0
    assert sensors.power_mode(cpus) == "schedutil, boost on"


def test_where_the_kernel_says_nothing_neither_do_we(tmp_path: Path) -> None:
    assert sensors.read_clocks(tmp_path) == Clocks(None, None)
    assert sensors.maximum_clock_mhz(tmp_path) is None
    assert sensors.power_mode(tmp_path) is None
    assert sensors.temperatures_c(tmp_path) == {}
    assert sensors.memory_bytes("VmHWM", tmp_path / "status") is None


def test_clocks_move_when_either_leaves_the_tolerance() -> None:
    then = Clocks(2000.0, 2400.0)
    assert not Clocks(1950.0, 2400.0).moved_since(then, 0.05)
    assert Clocks(1500.0, 2400.0).moved_since(then, 0.05)
    assert Clocks(2000.0, 1200.0).moved_since(then, 0.05), "a lowered limit is throttling"
    assert not Clocks(None, None).moved_since(then, 0.05)


def test_temperatures_are_in_degrees(tmp_path: Path) -> None:
    zone = tmp_path / "thermal_zone0"
    zone.mkdir()
    (zone / "type").write_text("CPU-therm\n")
    (zone / "temp").write_text("47500\n")
    assert sensors.temperatures_c(tmp_path) == {"CPU-therm": 47.5}


def test_memory_lines_are_in_kib(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t    1728 kB\n")
    assert sensors.memory_bytes("VmHWM", status) == 1728 * 1024
