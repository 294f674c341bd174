"""The agent runs in the Python 3.8 of JetPack 5: its syntax, its standard library, and the interpreter itself."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hwnas.agent.canary import canary_onnx
from hwnas.devices import Device, MeasureOptions, load_target, open_device, scenario_knobs
from hwnas.devices.ssh import SshConnection
from hwnas.devices.zipapp import agent_zipapp
from hwnas.latency import ProfileOptions, profile
from hwnas.spaces import get_space
from tests.sshd import Sshd

AGENT = Path(__file__).resolve().parents[2] / "hwnas" / "agent"
NEWEST_FOR_IT = ("numpy==1.24.4", "onnxruntime==1.19.2")
INSTALLS_WITHIN_S = 300


def vermin(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "import vermin; vermin.main()",
        "--target=3.8-",
        "--no-tips",
        "--violations",
        "--processes=1",
    ]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)


def test_the_agent_needs_nothing_that_is_newer_than_python_3_8() -> None:
    checked = vermin(AGENT)
    assert checked.returncode == 0, checked.stdout


def test_what_is_newer_would_be_found(tmp_path: Path) -> None:
    for number, code in enumerate(("'ab'.removeprefix('a')", "import zoneinfo", "{} | {}", "import math; math.lcm(1)")):
        path = tmp_path / f"newer{number}.py"
        path.write_text(code + "\n")
        assert vermin(path).returncode == 1, code


def test_the_agent_is_written_in_python_3_8() -> None:
    for path in AGENT.rglob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 8))


def interpreters() -> Iterator[str]:
    """Where a Python 3.8 may be: ``$HWNAS_PYTHON38``, the path, pyenv."""
    yield from filter(None, [os.environ.get("HWNAS_PYTHON38"), shutil.which("python3.8")])
    yield from map(str, Path.home().glob(".pyenv/versions/3.8.*/bin/python3.8"))


def is_python38(python: str) -> bool:
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 8))"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def python38() -> str:
    """A Python 3.8 with the newest NumPy and ONNX Runtime that there are for it, made once for each machine."""
    found = next(filter(is_python38, interpreters()), None)
    if found is None:
        pytest.skip("needs a Python 3.8: name one by HWNAS_PYTHON38")
    home = Path("~/.cache/hwnas/python38").expanduser()
    python, done = home / "bin" / "python", home / "-".join(NEWEST_FOR_IT)
    if not done.exists():
        subprocess.run([found, "-m", "venv", "--clear", home], check=True, capture_output=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *NEWEST_FOR_IT]
        installed = subprocess.run(install, capture_output=True, text=True, check=False, timeout=INSTALLS_WITHIN_S)
        if installed.returncode:
            pytest.skip(f"cannot install {' '.join(NEWEST_FOR_IT)} for Python 3.8: {installed.stderr.strip()[-200:]}")
        done.touch()
    return str(python)


@pytest.fixture(scope="module")
def board(python38: str, sshd: Sshd) -> Iterator[Device]:
    """This machine over SSH, with an agent in Python 3.8."""
    with Device(load_target("host-cpu"), SshConnection(sshd.settings(python=python38))) as opened:
        yield opened


def test_every_module_of_the_agent_is_imported_by_python_3_8(python38: str, tmp_path: Path) -> None:
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_zipapp())
    code = (
        "import sys, pkgutil, importlib; sys.path.insert(0, sys.argv[1]); import hwnas.agent\n"
        "for module in pkgutil.walk_packages(hwnas.agent.__path__, 'hwnas.agent.'):\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as error: print(error.name)\n"
    )
    done = subprocess.run([python38, "-E", "-c", code, archive], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"cuda", "pycuda", "tensorrt", "tensorrt_rtx", "torch", "mlperf_loadgen"}


def test_an_agent_in_python_3_8_does_what_any_other_does(board: Device) -> None:
    assert board._request("hello", "greeting it", 60, dict)["python"].startswith("3.8.")
    fingerprint = board.fingerprint()
    engine = board.compile(canary_onnx())
    measured = board.measure(engine, MeasureOptions(min_samples=8, max_seconds=10.0))
    assert measured.ungated.n >= 8
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    with open_device(load_target("host-cpu")) as here:
        assert fingerprint.differences(here.fingerprint()) == [
            f"runtime.version: 1.19.2 → {here.fingerprint().identity['runtime']['version']}"
        ]
        np.testing.assert_allclose(
            board.infer(engine, images), here.infer(here.compile(canary_onnx()), images), rtol=1e-4, atol=1e-5
        )
    assert board.peak_memory(engine).peak_bytes > 0
    assert len(board.time_loading(engine)) == 21
    assert board.measure_like_trtexec(engine, "trtexec-10", {"duration": 0.1, "warmUp": 0.0}).queries > 0
    assert board.run_scenario(engine, scenario_knobs("single-stream", min_seconds=0.1)).load.queries > 0
    assert len(board.engine_content(engine)) == engine.size_bytes
    board.release(engine)


def test_a_profile_by_an_agent_in_python_3_8(board: Device, tmp_path: Path) -> None:
    quick = MeasureOptions(min_samples=4, max_seconds=1.0, gate=False)
    options = ProfileOptions(
        resolutions=(24,), networks_only=5, validation_networks=1, builds=1, network_builds=1, network_protocol=quick
    )
    table, _ = profile(board, get_space("mobilenet_v3/small"), tmp_path, options)
    assert len(table.networks) == 6
    assert table.missing.failures == ()
