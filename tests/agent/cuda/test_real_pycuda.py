"""PyCUDA itself, bound to the stub of the driver: the same suite as every way to CUDA.  It takes minutes to build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.agent.cuda.stub import PRELOADED, SOURCE

_VERSION = "2026.1"
_TOOLKIT = Path("/usr/local/cuda")
_ROOT = Path(__file__).resolve().parents[3]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hwnas-tests" / "pycuda"


def run(*command: str | Path, **options: object) -> str:
    """What a command prints."""
    return str(subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, **options).stdout)  # type: ignore[call-overload]


def built(directory: Path) -> Path:
    """PyCUDA, built once and kept."""
    home = _CACHE / f"{_VERSION}-py{sys.version_info.major}{sys.version_info.minor}"
    if home.is_dir():
        return home
    pip = (sys.executable, "-m", "pip")
    try:
        run(*pip, "download", "-q", "--no-deps", "--no-binary", "pycuda", "-d", directory, f"pycuda=={_VERSION}")
    except subprocess.CalledProcessError:
        pytest.skip("PyCUDA cannot be downloaded here")
    with tarfile.open(directory / f"pycuda-{_VERSION}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    source = directory / f"pycuda-{_VERSION}"
    run("cc", "-shared", "-Wl,-soname,libcuda.so.1", "-o", directory / "libcuda.so", "-xc", "/dev/null")
    settings = {
        "USE_SHIPPED_BOOST": True,
        "CUDA_ROOT": str(_TOOLKIT.resolve()),
        "CUDA_ENABLE_CURAND": False,
        "CUDADRV_LIB_DIR": [str(directory)],
        "CUDADRV_LIBNAME": ["cuda"],
    }
    (source / "siteconf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    part = home.with_suffix(f".{os.getpid()}.part")
    run(*pip, "install", "-q", "--no-deps", "--target", part, source)
    part.replace(home)
    return home


def stub_for(pycuda: Path, directory: Path) -> Path:
    """The stub, and a refusal for everything else of the driver that PyCUDA is bound to."""
    module = next(pycuda.glob("pycuda/_driver*.so"))
    wanted = {line.split()[-1] for line in run("nm", "-D", "--undefined-only", module).splitlines()}
    plain, full = directory / "plain.so", directory / "libcuda.so.1"
    run("cc", "-shared", "-fPIC", "-o", plain, SOURCE)
    there = {line.split()[-1] for line in run("nm", "-D", "--defined-only", plain).splitlines()}
    missing = sorted(name for name in wanted - there if name.startswith("cu"))
    (directory / "full.c").write_text(
        f'#include "{SOURCE}"\n' + "".join(f"int {name}(void) {{ return 801; }}\n" for name in missing)
    )
    run("cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", full, directory / "full.c")
    return full


@pytest.mark.slow
def test_pycuda_itself_passes_the_suite_of_every_way_to_cuda(tmp_path: Path) -> None:
    if not (_TOOLKIT / "include" / "cuda.h").is_file() or not all(map(shutil.which, ("cc", "nm"))):
        pytest.skip(f"needs a CUDA toolkit in {_TOOLKIT} and a C compiler to build PyCUDA")
    pycuda = built(tmp_path)
    library = stub_for(pycuda, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(pycuda), "LD_PRELOAD": str(library), PRELOADED: str(library)}
    command = [sys.executable, "-m", "pytest", "-q", "tests/conformance/test_cuda.py", "-k", "pycuda"]
    finished = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert " passed" in finished.stdout
