"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sshd import Sshd

# One thread each: the suite's child processes must not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


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
def compiled_cuda_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libcudart over the host's memory and a virtual clock, and beside it libcuda."""
    from tests.agent.cuda.stub import compile_stub

    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler for the stub of CUDA")
    return compile_stub(tmp_path_factory.mktemp("cuda"))
