"""What of a device is set otherwise while it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from hwnas.devices.target import Target


@dataclass(frozen=True)
class DeviceSettings:
    """What is asked for; nothing, unless somebody does."""

    power_mode: str | None = None
    """One of a Jetson's, by the name that nvpmodel gives it."""
    lock_clocks: bool = False
    """Keep clocks from moving with the load: all of a Jetson's, a graphics card's, or the processor's."""

    @property
    def any(self) -> bool:
        """Whether anything is to be changed."""
        return self.power_mode is not None or self.lock_clocks

    def as_request(self, target: Target) -> dict[str, Any]:
        """The fields of a request, with the modes that such devices are known to have."""
        modes = target.facts.power_modes
        named = {} if self.power_mode is None else {"power_mode": self.power_mode}
        return {
            **named,
            "lock_clocks": self.lock_clocks,
            "known_modes": {} if modes is None else {name: mode.id for name, mode in modes.value.items()},
        }


class ChangedSettings(BaseModel):
    """What was really set, as read back; what was not asked for is ``None`` or empty."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    power_mode: str | None = None
    clocks: dict[str, FiniteFloat | None] = {}
    """Those that were locked, MHz; ``None``: not told."""

    def __str__(self) -> str:
        """For people; empty where nothing was set."""
        found = [] if self.power_mode is None else [f"power mode {self.power_mode}"]
        if self.clocks:
            known = {name.removesuffix("_mhz"): mhz for name, mhz in self.clocks.items() if mhz is not None}
            locked = ", ".join(f"{name.replace('_', ' ')} {mhz:.0f} MHz" for name, mhz in known.items())
            found.append(f"clocks locked ({locked})")
        return ", ".join(found)
