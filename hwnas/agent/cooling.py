"""Pauses in which a device that is too hot cools down: plain data and a loop, shared by agent and host."""

from __future__ import annotations

import datetime
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Optional, Tuple

HYSTERESIS_C = 5.0
"""A pause at the limit ends so far below it; else the first runs after it would reach the limit again."""
MOST_PAUSE_S = 600.0
"""A device that is as hot after such a pause does not cool down by waiting."""
_POLL_S = 2.0
_INSTANT_S = 0.01
"""So little time is none."""


@dataclass(frozen=True)
class Heat:
    """How hot what computes is at a moment."""

    temperature_c: Optional[float]
    """Of the hottest thermal zone of what computes; ``None`` where the system tells none."""
    slowed_by: Tuple[str, ...] = ()
    """What slows computing down for heat, in words."""

    def why_pause(self, limit_c: Optional[float]) -> Optional[str]:
        """Why measuring must pause, as a clause; ``None`` where it need not."""
        if limit_c is not None and self.temperature_c is not None and self.temperature_c >= limit_c:
            return "limit of %g °C reached" % limit_c
        return "; ".join(self.slowed_by) or None

    def told(self, limit_c: Optional[float]) -> str:
        """How hot it is, and why measuring pauses if it must, for people."""
        degrees = None if self.temperature_c is None else "%.1f °C" % self.temperature_c
        return ", ".join(filter(None, (degrees, self.why_pause(limit_c))))

    def is_cool(self, limit_c: Optional[float]) -> bool:
        """Whether measuring may go on after a pause."""
        hot = limit_c is not None and self.temperature_c is not None and self.temperature_c > limit_c - HYSTERESIS_C
        return not hot and not self.slowed_by

    def as_record(self) -> Dict[str, Any]:
        """For the reply."""
        return asdict(self)


@dataclass(frozen=True)
class Pause:
    """One pause."""

    began: str
    """Date and time in UTC, ISO 8601, by the clock of whoever waited."""
    seconds: float
    from_c: Optional[float]
    to_c: Optional[float]
    why: str
    cooled: bool
    """Whether it ended because the device had cooled down enough; else the time for it was over."""

    def as_record(self) -> Dict[str, Any]:
        """For the results."""
        return asdict(self)


class TooHotError(Exception):
    """The device does not cool down by waiting; the message is a clause."""


def cool_down(
    read: Callable[[], Heat],
    limit_c: Optional[float],
    most_s: float = MOST_PAUSE_S,
    tell: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Optional[Pause]:
    """Wait while the device is too hot, no longer than ``most_s``; ``None`` where it is not.

    Args:
        limit_c: the temperature at which measuring pauses; ``None``: where the device slows itself down.
        tell: is told how hot it is, again and again.

    Raises:
        TooHotError: it is still too hot after :data:`MOST_PAUSE_S`.
    """
    heat = first = read()
    why = first.why_pause(limit_c)
    if why is None:
        return None
    began, start = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), clock()
    waited = 0.0
    while not heat.is_cool(limit_c) and most_s - waited > _INSTANT_S:
        tell("paused to cool down: " + heat.told(limit_c))
        sleep(min(_POLL_S, most_s - waited))
        heat, waited = read(), clock() - start
    if heat.why_pause(limit_c) and most_s >= MOST_PAUSE_S:
        still = (waited, heat.told(limit_c))
        raise TooHotError("after a pause of %.0f s it is still too hot (%s); see to its cooling" % still)
    return Pause(began, round(waited, 3), first.temperature_c, heat.temperature_c, why, heat.is_cool(limit_c))
