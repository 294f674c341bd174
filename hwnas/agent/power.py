"""Energy while something runs: from counters of joules where there are any, else from watts that are integrated.

Sources, whichever the machine has: an NVIDIA GPU's driver (NVML), the INA3221 monitors of a Jetson (hwmon, or iio up
to JetPack 4), and RAPL of Intel and AMD processors (powercap).  Where none can be read, the reason is told.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .nvml import Nvml, open_nvml
from .sysfs import read_number, read_text

_ROOT = Path("/")
_INTERVAL_S = 0.02
_WHOLE_DEVICE = ("VDD_IN", "POM_5V_IN")
"""Rails of a Jetson through which all of its power flows; the others are parts of it."""

Reading = Tuple[float, float]
"""Seconds, and joules so far or watts now."""


class Source(ABC):
    """One thing that tells joules or watts."""

    name: str
    told_by: str
    whole: bool
    """Whether it tells of the whole device, and not of a part of another source's."""
    cumulative: bool
    """Whether it counts joules; else it tells watts."""

    @abstractmethod
    def read(self) -> Optional[float]:
        """Joules so far or watts now; ``None`` where it does not tell."""


class _Gpu(Source):
    whole = True

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self.name = "GPU"
        # The counter came with Volta.
        self.cumulative = nvml.energy_joules() is not None
        self.told_by = "NVML, energy counter" if self.cumulative else "NVML, power"

    def read(self) -> Optional[float]:
        return self._nvml.energy_joules() if self.cumulative else self._nvml.power_watts()


class _Rail(Source):
    """A rail of a Jetson: mV times mA, or mW."""

    cumulative = False

    def __init__(self, name: str, files: Sequence[Path], told_by: str) -> None:
        self.name, self.told_by = name, told_by
        self.whole = name in _WHOLE_DEVICE
        self._files = files

    def read(self) -> Optional[float]:
        watts = 1.0
        for file in self._files:
            number = read_number(file)
            if number is None:
                return None
            watts *= number / 1e3
        return watts


class _Rapl(Source):
    whole = True
    cumulative = True

    def __init__(self, zone: Path) -> None:
        self.name = read_text(zone / "name") or zone.name
        self.told_by = "RAPL"
        self._file = zone / "energy_uj"
        self._range = (read_number(zone / "max_energy_range_uj") or 0) / 1e6
        self._before, self._wrapped = 0.0, 0.0

    def read(self) -> Optional[float]:
        number = read_number(self._file)
        if number is None:
            return None
        joules = number / 1e6
        if joules < self._before:  # the counter began anew
            self._wrapped += self._range
        self._before = joules
        return joules + self._wrapped


@dataclass(frozen=True)
class Rail:
    """What one source told of a span of time."""

    name: str
    told_by: str
    joules: float
    readings: int


@dataclass(frozen=True)
class Energy:
    """Energy of a span of time, idle draw included; ``joules`` is ``None`` where nothing tells of the whole device."""

    seconds: float
    joules: Optional[float]
    of: Tuple[str, ...]
    """The rails whose sum ``joules`` is."""
    rails: Tuple[Rail, ...]
    reason: Optional[str]
    """Why ``joules`` is not known."""

    def as_record(self) -> Dict[str, Any]:
        """For the reply."""
        return asdict(self)


class EnergyMeter:
    """Reads every source at intervals, in a thread of its own, while it is entered."""

    def __init__(
        self,
        sources: Sequence[Source],
        reasons: Sequence[str] = (),
        interval_s: float = _INTERVAL_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``reasons`` say why there are not more sources."""
        self._reasons = reasons
        self._interval_s = interval_s
        self._clock = clock
        self._series: List[Tuple[Source, List[Reading]]] = [(source, []) for source in sources]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="energy", daemon=True)

    def __enter__(self) -> "EnergyMeter":
        self.take()
        if self._series:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._series:
            self._thread.join()
        self.take()

    def take(self) -> None:
        """Read every source once."""
        for source, series in self._series:
            value = source.read()
            if value is not None:
                series.append((self._clock(), value))

    def energy(self, begin: float, end: float) -> Energy:
        """Of the span between two times of the clock, within which the meter was entered."""
        rails = []
        whole = []
        for source, series in self._series:
            joules = _counted(series, begin, end) if source.cumulative else _integrated(series, begin, end)
            if joules is not None:
                rails.append(Rail(source.name, source.told_by, joules, len(series)))
                whole += [rails[-1]] if source.whole else []
        reason = None
        if not whole:
            told = "only parts of the device tell their power" if rails else "; ".join(self._reasons)
            reason = told or "nothing here tells power or energy"
        return Energy(
            seconds=end - begin,
            joules=sum(rail.joules for rail in whole) if whole else None,
            of=tuple(rail.name for rail in whole),
            rails=tuple(rails),
            reason=reason,
        )

    def _sample(self) -> None:
        while not self._over.wait(self._interval_s):
            self.take()


def find_sources(root: Path = _ROOT, gpu: bool = False) -> Tuple[List[Source], List[str]]:
    """What tells the energy of this machine, or where a GPU computes that GPU's; and why there is not more.

    Args:
        root: the directory that has ``sys``.
        gpu: whether a GPU computes.
    """
    rails = _jetson_rails(root / "sys")
    if rails:
        return rails, []
    return _gpu() if gpu else _processors(root / "sys/class/powercap")


def _gpu() -> Tuple[List[Source], List[str]]:
    nvml = open_nvml()
    if nvml is None:
        return [], ["no GPU answers through nvidia-ml-py, and there is no INA3221 power monitor"]
    if nvml.energy_joules() is None and nvml.power_watts() is None:
        return [], ["the GPU's driver tells neither energy nor power"]
    return [_Gpu(nvml)], []


def _processors(powercap: Path) -> Tuple[List[Source], List[str]]:
    packages = [zone for zone in sorted(powercap.glob("intel-rapl:[0-9]*")) if zone.name.count(":") == 1]
    readable: List[Source] = [_Rapl(zone) for zone in packages if read_number(zone / "energy_uj") is not None]
    if readable:
        return readable, []
    if packages:
        return [], ["RAPL's energy_uj may be read by root alone"]
    return [], ["there is no INA3221 power monitor and no RAPL here (virtual machines have none)"]


def _jetson_rails(sys: Path) -> List[Source]:
    rails: List[Source] = []
    for monitor in sorted((sys / "bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for label in sorted(monitor.glob("in[0-9]*_label")):
            number = label.name[len("in") : -len("_label")]
            files = [monitor / ("in%s_input" % number), monitor / ("curr%s_input" % number)]
            _append(rails, label, files, "INA3221")
    for label in sorted((sys / "bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        watts = label.parent / ("in_power%s_input" % label.name[len("rail_name_") :])
        _append(rails, label, [watts], "INA3221 (iio)")
    return rails


def _append(rails: List[Source], label: Path, files: Sequence[Path], told_by: str) -> None:
    name = read_text(label)
    if name and name != "NC" and all(read_number(file) is not None for file in files):
        rails.append(_Rail(name, files, told_by))


def _counted(series: Sequence[Reading], begin: float, end: float) -> Optional[float]:
    """Joules of a counter between two times, straight lines between its readings."""
    if len(series) < 2:
        return None
    return _at(series, end) - _at(series, begin)


def _integrated(series: Sequence[Reading], begin: float, end: float) -> Optional[float]:
    """Joules of a gauge between two times, by the trapezoidal rule."""
    if len(series) < 2:
        return None
    inner = [reading for reading in series if begin < reading[0] < end]
    joules, before = 0.0, (begin, _at(series, begin))
    for now in [*inner, (end, _at(series, end))]:
        joules += (now[0] - before[0]) * (now[1] + before[1]) / 2
        before = now
    return joules


def _at(series: Sequence[Reading], when: float) -> float:
    """The value at a time, by straight lines; the nearest reading's before the first and after the last."""
    previous = series[0]
    for reading in series:
        if reading[0] >= when:
            span = reading[0] - previous[0]
            share = (when - previous[0]) / span if span > 0 else 1.0
            return previous[1] + max(share, 0.0) * (reading[1] - previous[1])
        previous = reading
    return previous[1]
