"""What all tests share."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.agent.cuda.stub import Stub
    from tests.agent.fake_jetson import FakeJetson
    from tests.arm64 import Arm64Board
    from tests.sshd import Sshd

# One thread each: the suite's child processes must not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No property is about how long an example takes: on a busy machine that fails now and then.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Where tests run in several processes, let none run beside one that is marked ``alone``."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with locked(ROOT / "pyproject.toml", fcntl.LOCK_EX) as turn:  # else many could keep out one for ever
        kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
        with locked(Path(__file__), kind):
            fcntl.flock(turn, fcntl.LOCK_UN)
            return (yield)


@contextlib.contextmanager
def locked(path: Path, kind: int) -> Iterator[int]:
    """A file of the repository's, locked for the processes of the suite while the block runs."""
    with path.open() as file:
        fcntl.flock(file, kind)
        try:
            yield file.fileno()
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open as well


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published measurements and pictures that lie beside the repository on some machines."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the published data in {path}")
    return path


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An SSH server that nobody may stop."""
    from tests.sshd import serving

    with serving(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def arm64_board() -> Iterator[Arm64Board]:
    """A board of another architecture, emulated; for slow tests."""
    from tests.arm64 import serving

    with serving() as board:
        yield board


@pytest.fixture(scope="session")
def compiled_cuda_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libcudart over the host's memory and a virtual clock, and beside it libcuda."""
    from tests.agent.cuda.stub import compile_stub

    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler for the stub of CUDA")
    return compile_stub(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def cuda_stub(compiled_cuda_stub: Path) -> Iterator[Stub]:
    """The stub, with nothing of its memory in use; a test that leaves some fails."""
    from tests.agent.cuda.stub import Stub

    stub = Stub(compiled_cuda_stub)
    stub.clear()
    yield stub
    if stub.live:
        gc.collect()
    assert stub.live == 0, "a test left something of CUDA's behind"


@pytest.fixture
def fake_nvidia(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Fakes of TensorRT, TensorRT-RTX and CUDA, in child processes too; a test that breaks a rule of theirs fails."""
    from hwnas.agent import cuda

    fakes = ROOT / "tests" / "agent" / "fake_nvidia"
    for directory in (fakes / "rtx", fakes):
        monkeypatch.syspath_prepend(str(directory))
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(cuda, "LIBRARIES", dict(cuda.LIBRARIES))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
    fake = importlib.import_module("fake_tensorrt")
    fake.BROKEN.clear()
    fake.fail_at(0, False)
    yield fake
    gc.collect()
    assert fake.BROKEN == []
    for name in ("tensorrt", "tensorrt_rtx"):
        sys.modules.pop(name, None)


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJetson:
    """A board whose programs agents find, and which remembers in a directory of the test's how things were."""
    from tests.agent.fake_jetson import FakeJetson

    made = FakeJetson(tmp_path / "board")
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are drawn 200 characters wide."""
    from hwnas.cli import console

    monkeypatch.setattr(console.out, "_width", 200)
