"""Whether heat slows computing down at this moment, as the kernel's thermal framework tells it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional

from .sysfs import read_number, read_numbers, read_text

THERMAL = Path("/sys/class/thermal")
GPU_NAMES = r"gpu(?!-nvd)|g[pvab]\d+b"
"""How kernels call GPUs: ``17000000.gpu``, ``17000000.ga10b``, ``gpu-gpc-0``; a video engine is none."""
_COMPUTES = re.compile(r"processor|powerclamp|cpu|devfreq|throttle-alert|" + GPU_NAMES, re.IGNORECASE)
"""Cooling devices that slow computing down; fans and displays do not."""
_HEATED = re.compile(r"cpu|x86_pkg|package|soc|\btj\b|" + GPU_NAMES, re.IGNORECASE)
"""Thermal zones of what computes."""
_SLOWING_TRIPS = ("passive", "hot")


class _Cooling(NamedTuple):
    name: str
    state: Path
    most: str


class _Trip(NamedTuple):
    zone: str
    temperature: Path
    limit: int
    """In thousandths of a degree Celsius, as the kernel has it."""


class Thermal:
    """The cooling devices and trip points of what computes, looked for once."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is ``/sys/class/thermal``."""
        self._cooling = list(_cooling_devices(directory))
        self._heated = [zone / "temp" for zone in sorted(directory.glob("thermal_zone*")) if _is_heated(zone)]
        self._trips = [trip for zone in sorted(directory.glob("thermal_zone*")) for trip in _unattended_trips(zone)]

    def slowed_by(self) -> List[str]:
        """What slows computing down now, in words."""
        found = []
        for device in self._cooling:
            state = read_number(device.state)
            if state is not None and state > 0:
                found.append("cooling device %s at %d of %s" % (device.name, state, device.most))
        for trip in self._trips:
            temperature = read_number(trip.temperature)
            if temperature is not None and temperature >= trip.limit:
                degrees = (trip.zone, temperature / 1e3, trip.limit / 1e3)
                found.append("thermal zone %s at %.1f C, slowed from %.1f C on" % degrees)
        return found

    def temperature_c(self) -> Optional[float]:
        """Of the hottest zone of what computes, degrees Celsius; ``None`` where there is none."""
        return max((number / 1e3 for number in read_numbers(self._heated)), default=None)


def temperatures_c(directory: Path = THERMAL) -> Dict[str, float]:
    """Degrees Celsius of each thermal zone, by its type."""
    zones = {}
    for zone in sorted(directory.glob("thermal_zone*")):
        name, value = read_text(zone / "type"), read_number(zone / "temp")
        if name and value is not None:
            zones[name] = value / 1000.0
    return zones


def _cooling_devices(directory: Path) -> Iterable[_Cooling]:
    for device in sorted(directory.glob("cooling_device*")):
        name = read_text(device / "type") or ""
        if _COMPUTES.search(name):
            yield _Cooling(name, device / "cur_state", read_text(device / "max_state") or "unknown")


def _is_heated(zone: Path) -> bool:
    return bool(_HEATED.search(read_text(zone / "type") or ""))


def _unattended_trips(zone: Path) -> Iterable[_Trip]:
    """Temperatures from which firmware or a daemon slows computing down.

    Where the kernel does so itself, a cooling device is bound to the trip point and its state tells more: some
    governors only begin to watch there.
    """
    if not _is_heated(zone):
        return
    name = read_text(zone / "type") or ""
    attended = {read_text(bound) for bound in zone.glob("cdev*_trip_point")}
    for kind in sorted(zone.glob("trip_point_*_type")):
        number = kind.name.split("_")[2]
        limit = read_number(zone / ("trip_point_%s_temp" % number))
        if read_text(kind) in _SLOWING_TRIPS and number not in attended and limit is not None and limit > 0:
            yield _Trip(name, zone / "temp", limit)
