"""What a board tells of itself, and the facts in it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from hwnas.agent import nvpmodel

_RELEASE = re.compile(r"^#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)")
_PART = re.compile(r"\bp\d{4}-\d{4}\b")
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)*)")
"""Of a Debian version: an epoch, then what the authors call it."""
_GIB = 2**30


class GpuRecord(BaseModel):
    """The GPU that CUDA sees first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    integrated: bool
    runtime_version: str
    driver_version: str


class BoardRecord(BaseModel):
    """The reply to an agent's request ``board``; ``None`` or empty where the board tells nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    emulator: str | None
    """What emulates its processor; then ``cpu`` may be that of the machine underneath."""
    model: str | None
    """Of the device tree."""
    compatible: tuple[str, ...]
    """Of the device tree, the board first, then the module, then the SoC."""
    nv_tegra_release: str | None
    nvpmodel: str | None
    """What ``nvpmodel -q`` prints."""
    nvpmodel_status: str | None
    """What it keeps for the next start, which everybody may read."""
    nvpmodel_conf: str | None
    packages: tuple[str, ...]
    """Name and version of Debian packages, a tabulator between them."""
    python_tensorrt: str | None
    gpu: GpuRecord | None
    cpu: str
    cpu_cores: int | None
    cpu_max_mhz: float | None
    gpu_max_mhz: float | None
    memory_mhz: float | None
    memory_bytes: int | None
    disk_bytes: int
    disk_free_bytes: int
    python: str

    @property
    def processor(self) -> str:
        """What it computes on."""
        return self.cpu if self.emulator is None else f"{self.machine}, emulated by {self.emulator}"

    @property
    def part_numbers(self) -> list[str]:
        """Of carrier and module, such as ``p3767-0005``."""
        return _PART.findall(" ".join(self.compatible))

    @property
    def is_super(self) -> bool:
        """Whether an Orin was flashed with the configuration that JetPack 6.2 calls Super."""
        modes = nvpmodel.parse_configuration(self.nvpmodel_conf or "")
        return "MAXN_SUPER" in modes or any(name.endswith("-super") for name in self.compatible)


class Found(NamedTuple):
    """A fact's value, and where on the board it stood."""

    value: Any
    source: str


def facts_of(record: BoardRecord) -> dict[str, Found]:
    """What a record says, by the names of a target's facts."""
    gpu = record.gpu
    configuration = nvpmodel.parse_configuration(record.nvpmodel_conf or "")
    modes = {name: _without_none(mode._asdict()) for name, mode in configuration.items()}
    in_memory = gpu.memory_bytes if gpu is not None and not gpu.integrated else record.memory_bytes
    found: dict[str, Found | None] = {
        "l4t": _found(parse_release(record.nv_tegra_release or ""), "/etc/nv_tegra_release"),
        "tensorrt": _tensorrt(record),
        "cuda": _package(record, "cuda-cudart-") or _found(gpu and parse_version(gpu.driver_version), "CUDA's driver"),
        "python": _found(parse_version(record.python), "the agent's Python"),
        "power_mode": _power_mode(record, configuration),
        "power_modes": _found(modes or None, "/etc/nvpmodel.conf"),
        "sms": _found(gpu and gpu.multiprocessors, "CUDA"),
        "compute_capability": _found(gpu and "{}.{}".format(*gpu.compute_capability), "CUDA"),
        "gpu_max_mhz": _found(record.gpu_max_mhz, "the kernel or NVML, at present"),
        "memory_mhz": _found(record.memory_mhz, "NVML or tegrastats"),
        "cpu": _cpu(record),
        "cpu_cores": _found(record.cpu_cores, "the operating system"),
        "cpu_max_mhz": _found(record.cpu_max_mhz, "cpufreq"),
        "memory_gib": _found(
            in_memory and round(in_memory / _GIB, 2), "CUDA" if in_memory != record.memory_bytes else "/proc/meminfo"
        ),
        "disk_gib": _found(round(record.disk_bytes / _GIB, 1), "the file system of the user's home"),
    }
    return {name: one for name, one in found.items() if one is not None}


def parse_release(text: str) -> str | None:
    """The release of Jetson Linux in ``/etc/nv_tegra_release``, such as ``36.4.3``; ``None`` where there is none."""
    found = _RELEASE.match(text)
    return f"{found[1]}.{found[2]}" if found else None


def parse_version(text: str) -> str | None:
    """The authors' version in a Debian or Python one: ``10.3.0.30-1+cuda12.5`` is ``10.3.0.30``."""
    found = _UPSTREAM.match(text)
    return found[1] if found else None


def _power_mode(record: BoardRecord, configuration: dict[str, nvpmodel.ModeLimits]) -> Found | None:
    """As the tool tells it, or where it tells it to root alone, as it keeps it."""
    told = nvpmodel.parse_query(record.nvpmodel or "")
    if told is not None:
        return Found(told.name, "nvpmodel -q")
    kept = nvpmodel.kept_mode(record.nvpmodel_status or "", configuration)
    return kept and Found(kept.name, "/var/lib/nvpmodel/status and /etc/nvpmodel.conf")


def _cpu(record: BoardRecord) -> Found | None:
    """Unless it is the board's model, nothing, or another machine's."""
    told = record.emulator is None and record.cpu not in (record.model, "unknown")
    return Found(record.cpu, "/proc/cpuinfo") if told else None


def _tensorrt(record: BoardRecord) -> Found | None:
    by_python = _found(parse_version(record.python_tensorrt or ""), "the package of the agent's Python")
    return by_python or _package(record, "libnvinfer")


def _package(record: BoardRecord, prefix: str) -> Found | None:
    """The newest version of the packages whose names begin so and go on with a number."""
    versions = {}
    for line in record.packages:
        name, _, text = line.partition("\t")
        version = parse_version(text)
        if version and re.fullmatch(rf"{re.escape(prefix)}[\d-]+", name):
            versions[tuple(map(int, version.split(".")))] = Found(version, f"dpkg, {name}")
    return versions[max(versions)] if versions else None


def _found(value: Any, source: str) -> Found | None:
    return None if value is None else Found(value, source)


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None and value is not False}
