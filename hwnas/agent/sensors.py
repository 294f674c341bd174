"""What the kernel says of clocks, heat and memory; ``None`` or empty where it says nothing."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")


@dataclass(frozen=True)
class Clocks:
    """One reading of the clocks that a measurement stands on."""

    fastest_mhz: Optional[float]
    """The live clock of the fastest core, which is the one that works."""
    limit_mhz: Optional[float]
    """The clock that no core may exceed at present; throttling lowers it."""

    def moved_since(self, earlier: "Clocks", tolerance: float) -> bool:
        """Whether a clock differs from the ``earlier`` reading by more than the fraction ``tolerance``."""
        pairs = ((self.fastest_mhz, earlier.fastest_mhz), (self.limit_mhz, earlier.limit_mhz))
        return any(now and then and abs(now - then) > tolerance * then for now, then in pairs)

    def as_record(self) -> Dict[str, Any]:
        """For the reply."""
        return {"fastest_mhz": self.fastest_mhz, "limit_mhz": self.limit_mhz}


def read_clocks(cpus: Path = _CPUS) -> Clocks:
    """The CPU's clocks now, from cpufreq; without cpufreq (most virtual machines) all are ``None``."""
    live = _frequencies_mhz(cpus, "scaling_cur_freq")
    limits = _frequencies_mhz(cpus, "scaling_max_freq")
    return Clocks(max(live, default=None), max(limits, default=None))


def preemptions_so_far() -> int:
    """How often the system took the processor away from this thread against its will; always 0 where it does not tell.

    It sees the thread that runs single-threaded engines; those with several threads have others beside it.
    """
    who = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if who is None else resource.getrusage(who).ru_nivcsw


def maximum_clock_mhz(cpus: Path = _CPUS) -> Optional[float]:
    """The hardware's highest clock, as cpufreq states it."""
    return max(_frequencies_mhz(cpus, "cpuinfo_max_freq"), default=None)


def power_mode(cpus: Path = _CPUS) -> Optional[str]:
    """The cpufreq governors in use and whether boost is on, e.g. ``performance, boost on``."""
    governors = sorted(set(_texts(cpus, "cpu[0-9]*/cpufreq/scaling_governor")))
    boost = read_text(cpus / "cpufreq" / "boost")
    if not governors:
        return None
    return "+".join(governors) + ("" if boost is None else ", boost " + ("on" if boost == "1" else "off"))


def temperatures_c(thermal: Path = _THERMAL) -> Dict[str, float]:
    """Degrees Celsius of each thermal zone, by its type."""
    zones = {}
    for zone in sorted(thermal.glob("thermal_zone*")):
        name, value = read_text(zone / "type"), read_text(zone / "temp")
        if name and value and value.lstrip("-").isdigit():
            zones[name] = int(value) / 1000.0
    return zones


def memory_bytes(field: str, status: Path = Path("/proc/self/status")) -> Optional[int]:
    """A ``... kB`` line of a /proc file in bytes: ``VmHWM`` or ``VmRSS`` of this process, ``MemTotal`` of meminfo."""
    for line in (read_text(status) or "").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def read_text(path: Path) -> Optional[str]:
    """A small file's stripped text, or ``None`` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00 \t\r\n")
    except OSError:
        return None


def _frequencies_mhz(cpus: Path, name: str) -> List[float]:
    return [int(text) / 1000.0 for text in _texts(cpus, "cpu[0-9]*/cpufreq/" + name) if text.isdigit()]


def _texts(directory: Path, pattern: str) -> List[str]:
    texts = (read_text(path) for path in directory.glob(pattern))
    return [text for text in texts if text]
