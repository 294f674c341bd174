"""A board as it tells of itself: texts and numbers as they were found, which the host reads."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Optional

from . import nvpmodel, sensors
from .emulation import emulator
from .fingerprint import cpu_description
from .protocol import AgentError
from .sysfs import read_text

_ROOT = Path("/")
_PACKAGES = ("libnvinfer[0-9]*", "cuda-cudart-[0-9]*", "nvidia-l4t-core", "nvidia-jetpack")
_LONGEST_TEXT = 200000
_TIMEOUT_S = 20.0


def describe_board(root: Path = _ROOT) -> Dict[str, Any]:
    """All that a target's facts can be read from; ``None`` or empty where the board tells nothing.

    Args:
        root: the directory that has ``etc`` and ``proc``.
    """
    tree = root / "proc/device-tree"
    with sensors.Sensors(gpu=True) as clocks:
        limits = clocks.read()
    disk = shutil.disk_usage(Path.home())
    return {
        "machine": platform.machine(),
        "emulator": emulator(),
        "model": read_text(tree / "model"),
        "compatible": (read_text(tree / "compatible") or "").replace("\x00", " ").split(),
        "nv_tegra_release": _text(root / "etc/nv_tegra_release"),
        "nvpmodel": nvpmodel.query(),
        "nvpmodel_status": _text(root / nvpmodel.STATUS),
        "nvpmodel_conf": _text(root / nvpmodel.CONFIGURATION),
        "packages": _packages(),
        "python_tensorrt": _python_package("tensorrt"),
        "gpu": _gpu(),
        "cpu": cpu_description()["model"],
        "cpu_cores": os.cpu_count(),
        "cpu_max_mhz": sensors.maximum_clock_mhz(),
        "gpu_max_mhz": limits.gpu_limit_mhz,
        "memory_mhz": limits.memory_mhz,
        "memory_bytes": sensors.memory_bytes("MemTotal", root / "proc/meminfo"),
        "disk_bytes": disk.total,
        "disk_free_bytes": disk.free,
        "python": platform.python_version(),
    }


def _text(path: Path) -> Optional[str]:
    text = read_text(path)
    return None if text is None else text[:_LONGEST_TEXT]


def _packages() -> List[str]:
    """Name and version of Debian packages that say which TensorRT, CUDA and JetPack there are."""
    binary = shutil.which("dpkg-query")
    if binary is None:
        return []
    try:
        told = subprocess.run(
            [binary, "--show", "--showformat", "${db:Status-Abbrev}\t${Package}\t${Version}\n", *_PACKAGES],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,  # it fails when one of them is missing, and tells the others
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = told.stdout.decode("utf-8", errors="replace").splitlines()
    return [line[3:].strip() for line in lines if line.startswith("ii")]


def _python_package(name: str) -> Optional[str]:
    """The version of a package that this Python has; it is not imported."""
    try:
        return str(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> Optional[Dict[str, Any]]:
    """The GPU that CUDA sees first."""
    from .cuda import open_cuda  # only when somebody asks for a GPU

    try:
        return open_cuda().device().as_record()
    except AgentError:
        return None
