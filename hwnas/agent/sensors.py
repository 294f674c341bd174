"""What the kernel and a GPU's driver say of clocks, throttling and memory; ``None`` or empty where they say nothing."""

from __future__ import annotations

import re
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Tuple

from .cooling import Heat
from .nvml import GpuReading, open_nvml
from .sysfs import number_files, read_numbers, read_text, read_texts, same_number
from .tegrastats import TegraClocks, start_tegrastats
from .thermal import GPU_NAMES, Thermal

_ROOT = Path("/")
_CPUS = Path("/sys/devices/system/cpu")
_HELD_BACK = 0.9
"""A clock that is set to one value and runs below this share of it is held back by something."""


@dataclass(frozen=True)
class Clocks:
    """One reading of the clocks that a measurement stands on, and of what holds them down."""

    fastest_mhz: Optional[float]
    """The live clock of the fastest core, which is the one that works."""
    limit_mhz: Optional[float]
    """The clock that no core may exceed at present; throttling lowers it."""
    gpu_mhz: Optional[float] = None
    """The GPU's live clock; the three are ``None``, too, where no GPU computes."""
    gpu_limit_mhz: Optional[float] = None
    memory_mhz: Optional[float] = None
    throttle_events: Optional[int] = None
    """How often the hardware throttled since it was started; it is its rise that tells."""
    throttled: Tuple[str, ...] = ()
    """What slows computing down at this moment, in words."""
    temperature_c: Optional[float] = None
    """Of the hottest thermal zone of what computes, a graphics card's own where it computes."""

    def moved_since(self, earlier: "Clocks", tolerance: float) -> bool:
        """Whether a clock differs from the ``earlier`` reading by more than the fraction ``tolerance``."""
        pairs = (
            (self.fastest_mhz, earlier.fastest_mhz),
            (self.limit_mhz, earlier.limit_mhz),
            (self.gpu_mhz, earlier.gpu_mhz),
            (self.gpu_limit_mhz, earlier.gpu_limit_mhz),
            (self.memory_mhz, earlier.memory_mhz),
        )
        return any(now and then and abs(now - then) > tolerance * then for now, then in pairs)

    def throttled_since(self, earlier: "Clocks") -> bool:
        """Whether the device throttled at one of both readings or in between."""
        if self.throttled or earlier.throttled:
            return True
        if self.throttle_events is None or earlier.throttle_events is None:
            return False
        return self.throttle_events > earlier.throttle_events

    def as_record(self) -> Dict[str, Any]:
        """For the reply."""
        return asdict(self)


class Sensors:
    """The sensors of this machine, looked for once: a reading opens no other file, and none where there are none."""

    def __init__(self, root: Path = _ROOT, gpu: bool = False, tegrastats: str = "tegrastats") -> None:
        """
        Args:
            root: the directory that has ``sys``.
            gpu: whether a GPU computes; its clocks count only then, and only then anything is started to read them.
            tegrastats: name or path of the program of that name, which runs until :meth:`close`.
        """
        cpus = root / "sys/devices/system/cpu"
        self._live = number_files(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq")
        self._limits = number_files(cpus, "cpu[0-9]*/cpufreq/scaling_max_freq")
        self._cores_pinned = clocks_locked(cpus)
        self._counters = number_files(cpus, "cpu[0-9]*/thermal_throttle/*_throttle_count")
        self._counters += number_files(root / "sys/class/hwmon", "hwmon*/oc*_event_cnt")  # over-current on a Jetson
        self._thermal = Thermal(root / "sys/class/thermal")
        clocked = sorted((root / "sys/class/devfreq").glob("*")) if gpu else []
        self._gpus = [folder for folder in clocked if re.search(GPU_NAMES, folder.name)]
        self._gpus_pinned = [folder for folder in self._gpus if same_number(folder / "min_freq", folder / "max_freq")]
        self._nvml = open_nvml() if gpu else None
        self._tegrastats = start_tegrastats(tegrastats) if gpu else None

    def __enter__(self) -> "Sensors":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started; calling it again does nothing."""
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None
        if self._tegrastats is not None:
            self._tegrastats.close()
            self._tegrastats = None

    def read(self) -> Clocks:
        """The clocks now."""
        tegra = TegraClocks() if self._tegrastats is None else self._tegrastats.read()
        nvidia = self._of_the_card()
        fastest, limit = _greatest_mhz(self._live, 1e3) or tegra.cpu_mhz, _greatest_mhz(self._limits, 1e3)
        return Clocks(
            fastest_mhz=fastest,
            limit_mhz=limit,
            gpu_mhz=_greatest_mhz([gpu / "cur_freq" for gpu in self._gpus], 1e6) or nvidia.mhz or tegra.gpu_mhz,
            gpu_limit_mhz=_greatest_mhz([gpu / "max_freq" for gpu in self._gpus], 1e6) or nvidia.limit_mhz,
            memory_mhz=nvidia.memory_mhz or tegra.memory_mhz,
            throttle_events=sum(read_numbers(self._counters)) if self._counters else None,
            throttled=(
                *self._thermal.slowed_by(),
                *self._held_back(fastest, limit),
                *("GPU: " + reason for reason in nvidia.slowed_by),
            ),
            temperature_c=self._temperature_c(nvidia),
        )

    def heat(self) -> Heat:
        """How hot it is now."""
        nvidia = self._of_the_card()
        by_card = ("GPU: " + reason for reason in nvidia.slowed_by if "thermal" in reason)
        return Heat(self._temperature_c(nvidia), (*self._thermal.slowed_by(), *by_card))

    def _of_the_card(self) -> GpuReading:
        return GpuReading() if self._nvml is None else self._nvml.read()

    def _temperature_c(self, nvidia: GpuReading) -> Optional[float]:
        return self._thermal.temperature_c() if nvidia.temperature_c is None else float(nvidia.temperature_c)

    def _held_back(self, fastest_mhz: Optional[float], limit_mhz: Optional[float]) -> Iterable[str]:
        """The clocks that run below the one to which they are set."""
        pairs = [("the fastest core", fastest_mhz, limit_mhz)] if self._cores_pinned else []
        for gpu in self._gpus_pinned:
            live, wanted = (_greatest_mhz([gpu / name], 1e6) for name in ("cur_freq", "max_freq"))
            pairs.append(("GPU " + gpu.name, live, wanted))
        for name, live, wanted in pairs:
            if live and wanted and live < _HELD_BACK * wanted:
                yield "%s at %g MHz where %g are set" % (name, live, wanted)


def read_clocks(root: Path = _ROOT) -> Clocks:
    """The CPU's clocks now; where the kernel tells nothing of them (most virtual machines) all are ``None``."""
    return Sensors(root).read()


def preemptions_so_far() -> int:
    """How often the system took the processor away from this thread against its will; always 0 where it does not tell.

    It sees the thread that runs single-threaded engines; those with several threads have others beside it.
    """
    who = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if who is None else resource.getrusage(who).ru_nivcsw


def maximum_clock_mhz(cpus: Path = _CPUS) -> Optional[float]:
    """The hardware's highest clock, as cpufreq states it."""
    return _greatest_mhz(cpus.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq"), 1e3)


def power_mode(cpus: Path = _CPUS) -> Optional[str]:
    """The cpufreq governors in use and whether boost is on, e.g. ``performance, boost on``."""
    governors = sorted(set(read_texts(cpus, "cpu[0-9]*/cpufreq/scaling_governor")))
    boost = read_text(cpus / "cpufreq" / "boost")
    if not governors:
        return None
    return "+".join(governors) + ("" if boost is None else ", boost " + ("on" if boost == "1" else "off"))


def clocks_locked(cpus: Path = _CPUS) -> bool:
    """Whether every core is set to one clock that it can hold for ever, as ``jetson_clocks`` does."""
    # Clocks above the nominal one are given as far as heat and neighbours allow, which is no throttling.
    boosts = read_text(cpus / "cpufreq" / "boost") == "1" or read_text(cpus / "intel_pstate" / "no_turbo") == "0"
    cores = sorted(cpus.glob("cpu[0-9]*/cpufreq"))
    same = (same_number(core / "scaling_min_freq", core / "scaling_max_freq") for core in cores)
    return bool(cores) and not boosts and all(same)


def memory_bytes(field: str, status: Path = Path("/proc/self/status")) -> Optional[int]:
    """A ``... kB`` line of a /proc file in bytes: ``VmHWM`` or ``VmRSS`` of this process, ``MemTotal`` of meminfo."""
    for line in (read_text(status) or "").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _greatest_mhz(paths: Iterable[Path], per_mhz: float) -> Optional[float]:
    return max((number / per_mhz for number in read_numbers(paths)), default=None)
