"""NVIDIA's published Python bindings of TensorRT, made importable without TensorRT.

The bindings are real, with every class, enumeration and signature; the libraries behind them are stubs in C that define
the few functions which the bindings link to, and return nothing.  They tell what exists, and compute nothing.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

BINDINGS = {
    "8.6.1": "tensorrt-bindings",
    "10.3.0": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
"""Version to the package on PyPI that has it, 1 MB each."""
_TOOLS = ("cc", "nm", "readelf")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hwnas-tests" / "nvidia-bindings"


@dataclass(frozen=True)
class Bindings:
    """One version, unpacked, and the stub libraries that it needs."""

    packages: Path
    libraries: Path

    def environment(self, *more: Path) -> dict[str, str]:
        """Of a process that imports them, and what is in the directories ``more``."""
        path = os.pathsep.join(map(str, [self.packages, *more]))
        return {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(self.libraries)}


def bindings(version: str) -> Bindings:
    """The bindings of a version, downloaded on first use and kept; skips the test where that cannot be done."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} to make stub libraries for NVIDIA's bindings")
    name = f"{BINDINGS[version]}-{version}-cp{sys.version_info.major}{sys.version_info.minor}"
    home = _CACHE / name
    if not home.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = _CACHE / f"{name}.{os.getpid()}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _unpack(_download(version, unfinished), unfinished / "packages")
            _make_stubs(next((unfinished / "packages").rglob("tensorrt.so")), unfinished / "libraries")
            unfinished.replace(home)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Bindings(home / "packages", home / "libraries")


def _download(version: str, directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    finished = subprocess.run(
        [*command, "--dest", str(directory), f"{BINDINGS[version]}=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        reason = " ".join(finished.stderr.split())[-200:]
        pytest.skip(f"needs {BINDINGS[version]} {version} from PyPI, which was not to be had: {reason}")
    return next(directory.glob("*.whl"))


def _unpack(wheel: Path, directory: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)


def _make_stubs(extension: Path, directory: Path) -> None:
    """Libraries of the names that ``extension`` needs; the first defines all functions that no library here has."""
    directory.mkdir()
    needed = re.findall(r"\(NEEDED\).*\[(libnv\S+)\]", _output("readelf", "-d", str(extension)))
    here = ctypes.CDLL(None)
    symbols = [
        symbol
        for kind, symbol in (line.split()[-2:] for line in _output("nm", "-D", str(extension)).splitlines())
        if kind == "U" and "@" not in symbol and not symbol.startswith(("Py", "_Py")) and not hasattr(here, symbol)
    ]
    assert 9 <= len(symbols) <= 12, symbols
    source = directory / "stub.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    empty = directory / "empty.c"
    empty.write_text("")
    for number, soname in enumerate(needed):
        content = empty if number else source
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(directory / soname), str(content)]
        subprocess.run(command, check=True, capture_output=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
