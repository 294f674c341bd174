"""Clocks of an NVIDIA GPU and what holds them down, by nvidia-ml-py where that is installed."""

from __future__ import annotations

import importlib
import os
from typing import Any, Callable, NamedTuple, Optional, Tuple

_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x200: "board limit",
    0x400: "reliability",
}
"""NVML's bits of what throttles; those of idleness, of clocks that somebody set and of other GPUs are none of it."""


_CHIP = 0
"""NVML's number of the sensor within the chip."""


class GpuReading(NamedTuple):
    """Of one moment; ``None`` where the driver does not tell."""

    mhz: Optional[float] = None
    """Clock of the multiprocessors."""
    limit_mhz: Optional[float] = None
    """What it may reach."""
    memory_mhz: Optional[float] = None
    slowed_by: Tuple[str, ...] = ()
    """What holds the clocks down."""
    temperature_c: Optional[float] = None
    """Of the chip, degrees Celsius."""


class Nvml:
    """The GPU that CUDA sees first."""

    def __init__(self, library: Any) -> None:
        """``library`` is the module pynvml; what it raises is of its own classes."""
        self._library = library
        library.nvmlInit()
        try:
            self._gpu = self._first_visible()
        except library.NVMLError:
            self.close()
            raise

    def read(self) -> GpuReading:
        """The clocks now."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # drivers before 535 know it by its former name
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuReading(
            mhz=self._clock("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
            limit_mhz=self._clock("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
            memory_mhz=self._clock("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
            slowed_by=tuple(name for bit, name in _REASONS.items() if bit & (bits or 0)),
            temperature_c=self._ask("nvmlDeviceGetTemperature", _CHIP),
        )

    def energy_joules(self) -> Optional[float]:
        """Since the driver was loaded; ``None`` where the GPU is older than Volta or the driver does not tell."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def power_watts(self) -> Optional[float]:
        """Now; ``None`` where the driver does not tell."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1e3

    def uuid(self) -> str:
        """By which other programs know the GPU."""
        uuid = self._library.nvmlDeviceGetUUID(self._gpu)
        return uuid.decode() if isinstance(uuid, bytes) else str(uuid)

    def steady_mhz(self) -> Optional[int]:
        """The multiprocessors' clock that applications get by default, else the highest; ``None``: neither is told."""
        graphics = getattr(self._library, "NVML_CLOCK_GRAPHICS", 0)
        default = self._ask("nvmlDeviceGetDefaultApplicationsClock", graphics)
        return default or self._ask("nvmlDeviceGetMaxClockInfo", self._library.NVML_CLOCK_SM)

    def lock_clocks(self, mhz: int) -> bool:
        """Keep the multiprocessors at one clock; gives whether the driver let this user do so."""
        return self._do("nvmlDeviceSetGpuLockedClocks", mhz, mhz)

    def unlock_clocks(self) -> bool:
        """Undo :meth:`lock_clocks`; gives whether the driver let this user do so."""
        return self._do("nvmlDeviceResetGpuLockedClocks")

    def close(self) -> None:
        """Let go of the library."""
        try:
            self._library.nvmlShutdown()
        except self._library.NVMLError:
            return

    def _first_visible(self) -> Any:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if first.startswith(("GPU-", "MIG-")):
            return self._library.nvmlDeviceGetHandleByUUID(first)
        return self._library.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)

    def _clock(self, question: str, domain: str) -> Optional[float]:
        answer = self._ask(question, getattr(self._library, domain))
        return float(answer) if answer else None

    def _do(self, command: str, *arguments: int) -> bool:
        try:
            getattr(self._library, command)(self._gpu, *arguments)
        except (AttributeError, self._library.NVMLError):
            return False
        return True

    def _ask(self, question: str, *arguments: Any) -> Optional[int]:
        """An answer, or ``None`` where this library, driver or GPU does not know the question."""
        ask: Optional[Callable[..., int]] = getattr(self._library, question, None)
        if ask is None:
            return None
        try:
            return ask(self._gpu, *arguments)
        except self._library.NVMLError:
            return None


def open_nvml() -> Optional[Nvml]:
    """The GPU; ``None`` without library, driver or GPU."""
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        return Nvml(library)
    except library.NVMLError:
        return None
