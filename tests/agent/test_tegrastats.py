"""The Jetson's monitor: what its lines say in each JetPack, and that its process comes and goes as it should."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent import tegrastats
from hwnas.agent.tegrastats import TegraClocks, Tegrastats, parse_line, start_tegrastats

LINES = {
    "TX1, JetPack 3": (
        "RAM 3607/3983MB (lfb 47x4MB) SWAP 873/8192MB (cached 281MB) cpu [17%,11%,65%,0%]@1734 EMC 1%@1600 APE 25 "
        "GR3D 39%@76",
        TegraClocks(1734.0, 76.0, 1600.0),
    ),
    "Nano, JetPack 4": (
        "RAM 1446/3957MB (lfb 458x4MB) IRAM 0/252kB(lfb 252kB) CPU [17%@1428,11%@1224,21%@1428,12%@1428] "
        "EMC_FREQ 2%@1600 GR3D_FREQ 0%@76 APE 25 PLL@20.5C CPU@24.5C PMIC@100C GPU@21C AO@29.5C thermal@22.25C "
        "POM_5V_IN 2830/1483 POM_5V_GPU 41/31 POM_5V_CPU 943/206",
        TegraClocks(1428.0, 76.0, 1600.0),
    ),
    "Nano, not as root": (
        "RAM 1766/3964MB (lfb 197x4MB) SWAP 0/2048MB (cached 0MB) CPU [24%@1224,15%@1224,13%@1224,10%@1224] "
        "EMC_FREQ 0% GR3D_FREQ 0% PLL@21C CPU@25C PMIC@100C GPU@23.5C AO@33.5C thermal@24.5C POM_5V_IN 2545/2547",
        TegraClocks(1224.0, None, None),
    ),
    "Xavier NX, JetPack 5": (
        "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,17%@1192,off,off] "
        "EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C thermal@45.6C AO@45C GPU@45.5C "
        "PMIC@50C VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW",
        TegraClocks(1397.0, 114.0, 204.0),
    ),
    "Orin NX, two clusters under two names": (
        "CPU [1%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 99%@917 GR3D2_FREQ 99%@0 VIC_FREQ 0%@435",
        TegraClocks(729.0, 917.0, 2133.0),
    ),
    "AGX Orin, clusters off, JetPack 6": (
        "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) CPU [0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] "
        "VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C Tboard@32C GPU@-256C tj@44.343C VDD_GPU_SOC 2340mW/2340mW",
        TegraClocks(729.0, None, 2133.0),
    ),
    "Orin Nano, JetPack 6": (
        "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) CPU [38%@1497,2%@729,1%@729] "
        "EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC off NVJPG off VIC off OFA off APE 200 cpu@57.125C gpu@58.625C "
        "tj@58.312C VDD_IN 16321mW/11204mW VDD_CPU_GPU_CV 7104mW/4944mW VDD_SOC 3120mW/3659mW",
        TegraClocks(1497.0, 612.0, 2133.0),
    ),
    "Thor, JetPack 7, no loads": (
        "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 "
        "GR3D_FREQ @[1574,off,1098] cpu@49.75C/49.75C tj@51.218C/51.218C VDD_GPU 6330mW/6330mW/6330mW",
        TegraClocks(2601.0, 1574.0, 4266.0),
    ),
    "all cores off": ("RAM 100/7765MB CPU [off,off] GR3D_FREQ 0%", TegraClocks()),
}


@pytest.mark.parametrize("name", LINES)
def test_the_lines_of_every_jetpack_are_understood(name: str) -> None:
    line, clocks = LINES[name]
    assert parse_line(line) == clocks


@given(st.text())
def test_any_other_text_names_no_clocks_or_positive_ones(text: str) -> None:
    clocks = parse_line(text)
    assert all(mhz is None or mhz > 0 for mhz in (clocks.cpu_mhz, clocks.gpu_mhz, clocks.memory_mhz))


def program(folder: Path, body: str) -> str:
    """An executable with a name that a shell would stumble over."""
    path = folder / "tegra stats; exit 1"
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n" + body)
    path.chmod(0o755)
    return str(path)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def started(binary: str) -> Tegrastats:
    found = start_tegrastats(binary)
    assert found is not None
    return found


def test_the_last_line_counts_and_the_process_ends_with_the_sensor(tmp_path: Path) -> None:
    body = """
assert sys.argv[1:] == ["--interval", "100"]
for mhz in (306, 612):
    print(f"CPU [1%@1190] EMC_FREQ 0%@2133 GR3D_FREQ 99%@[{mhz}] {os.getpid()}", flush=True)
time.sleep(600)
"""
    monitor = started(program(tmp_path, body))
    wait_for(lambda: monitor.read() == TegraClocks(1190.0, 612.0, 2133.0))
    process = monitor._process.pid
    assert monitor.alive
    monitor.close()
    assert is_gone(process) and not monitor.alive
    monitor.close()


def test_a_monitor_that_does_not_want_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tegrastats, "_SECONDS_TO_LEAVE", 0.05)
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('x', flush=True)\ntime.sleep(600)\n"
    monitor = started(program(tmp_path, body))
    wait_for(lambda: monitor._line != b"")
    monitor.close()
    assert is_gone(monitor._process.pid)


def test_what_was_said_long_ago_is_not_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = started(program(tmp_path, "print('CPU [1%@1190]', flush=True)\ntime.sleep(600)\n"))
    wait_for(lambda: monitor.read().cpu_mhz == 1190.0)
    monkeypatch.setattr(tegrastats, "_STALE_S", 0.0)
    assert monitor.read() == TegraClocks()
    monitor.close()


def test_a_monitor_that_ends_at_once_tells_nothing(tmp_path: Path) -> None:
    monitor = started(program(tmp_path, "sys.exit(3)\n"))
    wait_for(lambda: not monitor.alive)
    assert monitor.read() == TegraClocks()
    monitor.close()


def test_where_there_is_no_monitor_there_is_no_sensor(tmp_path: Path) -> None:
    assert start_tegrastats(str(tmp_path / "tegrastats")) is None
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    assert start_tegrastats(str(broken)) is None
