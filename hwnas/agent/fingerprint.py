"""A device as found: *identity*, which decides what a timing depends on and is compared, and *context*, recorded."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

from . import nvpmodel, sensors
from .emulation import emulator
from .runtimes import Runtime, RuntimeOptions
from .sysfs import read_text
from .thermal import temperatures_c

_ISA_X86 = "sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16"
_ISA_AMX = "amx_tile amx_int8 amx_bf16"
_ISA_ARM = "neon asimd asimddp asimdhp i8mm bf16 sve sve2"
_ISA_OF_INTEREST = frozenset(" ".join((_ISA_X86, _ISA_AMX, _ISA_ARM)).split())
"""The instruction sets by which a runtime chooses its kernels."""


def probe(
    runtime: Runtime, options: RuntimeOptions, clocks: sensors.Clocks, settings: Optional[Mapping[str, Any]] = None
) -> Dict[str, Any]:
    """Identity and context of this device as ``runtime`` uses it; nothing in the identity moves by itself.

    Args:
        runtime: which executes models.
        options: how.
        clocks: of what computes, now.
        settings: what this agent has set.
    """
    settings = dict(settings or {})
    cpu = cpu_description()
    identity = {
        "machine": platform.machine(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "max_clock_mhz": sensors.maximum_clock_mhz(),
        "power_mode": _power_mode(settings),
        "runtime": dict(runtime.identity(options), name=runtime.name, version=runtime.version()),
    }
    emulated_by = emulator()
    if emulated_by is not None:  # else nothing, so that devices stay who they were
        identity["emulator"] = emulated_by
    return {"identity": identity, "context": dict(_context(clocks), settings=settings)}


def _power_mode(settings: Mapping[str, Any]) -> Optional[str]:
    """What somebody set that decides of the clocks: a Jetson's mode, governors, and whether clocks are locked.

    A graphics card does not tell that its clock is locked, so what this agent did to it counts.
    """
    mode = nvpmodel.current_mode()
    card_mhz = settings.get("clocks", {}).get("asked_gpu_mhz")
    found = (
        mode and mode.name,
        sensors.power_mode(),
        "clocks locked" if sensors.clocks_locked() else None,
        "GPU locked at %g MHz" % card_mhz if card_mhz else None,
    )
    return ", ".join(filter(None, found)) or None


def _context(clocks: sensors.Clocks) -> Dict[str, Any]:
    meminfo = Path("/proc/meminfo")
    return {
        "kernel": platform.release(),
        "system": _system_name(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "usable_cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "virtual_machine": "hypervisor" in _cpuinfo().get("flags", "").split(),
        "clocks": clocks.as_record(),
        "temperatures_c": temperatures_c(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "memory_total_bytes": sensors.memory_bytes("MemTotal", meminfo),
        "memory_available_bytes": sensors.memory_bytes("MemAvailable", meminfo),
        "l4t": read_text(Path("/etc/nv_tegra_release")),
    }


def cpu_description() -> Dict[str, Any]:
    """Model, stepping and instruction sets; on Arm, which states no model name, the implementer's numbers."""
    info = _cpuinfo()
    arm = [info.get(key) for key in ("CPU implementer", "CPU part", "CPU variant", "CPU revision")]
    model = info.get("model name") or read_text(Path("/proc/device-tree/model"))
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "model": model or platform.processor() or "unknown",
        "family": [info[key] for key in ("cpu family", "model", "stepping") if key in info] or [a for a in arm if a],
        "isa": sorted(_ISA_OF_INTEREST.intersection(flags)),
    }


def _cpuinfo() -> Dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    first = (read_text(Path("/proc/cpuinfo")) or "").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _system_name() -> Optional[str]:
    for line in (read_text(Path("/etc/os-release")) or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.system()
