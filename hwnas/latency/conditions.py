"""In what state devices were while a table was measured: clocks, temperature, throttling, pauses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from statistics import median
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from hwnas.agent.cooling import Pause
from hwnas.devices import Fingerprint
from hwnas.latency.journal import Build, Journal

_CLOCKS = ("fastest_mhz", "limit_mhz", "gpu_mhz", "gpu_limit_mhz", "memory_mhz")
_REASONS_SHOWN = 5


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Record):
    """Of many readings."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """Of those that are known; ``None`` where none is."""
        known = [value for value in values if value is not None]
        return cls(least=min(known), median=median(known), most=max(known)) if known else None


class BoardPause(_Record):
    """A pause in which a board cooled down."""

    board: str
    """Which of several boards of one kind it was."""
    pause: Pause


class Conditions(_Record):
    """What was read before, during and after every measurement of a table, and once more in the end.

    How the device was in the beginning is in the context of the table's fingerprint.
    """

    readings: int = Field(ge=0)
    clocks_mhz: dict[str, Span]
    """By the names of a reading's fields; a clock that nothing tells is not there."""
    temperature_c: Span | None
    """Of the hottest thermal zone of what computes."""
    temperature_limit_c: float | None
    """At which measuring pauses; ``None``: where the device slows itself down."""
    throttled: int = Field(ge=0)
    """Readings at which something held clocks down; what was measured beside them does not count."""
    throttled_by: tuple[str, ...] = ()
    """The first of what did, in words."""
    pauses: tuple[BoardPause, ...] = ()
    """In the order of their beginning."""
    after: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By board, its context when all was measured."""

    @property
    def paused_s(self) -> float:
        """Seconds of all pauses together."""
        return sum(one.pause.seconds for one in self.pauses)


def conditions_of(journal: Journal, limit_c: float | None, after: Mapping[str, Fingerprint]) -> Conditions:
    """Of all measurements in a journal; ``after``: by board, what it was when all was measured."""
    builds: list[Build] = list(chain.from_iterable(journal.builds.values()))
    readings = [reading for build in builds for reading in build.measurement.clocks]
    spans = {name: Span.of(getattr(reading, name) for reading in readings) for name in _CLOCKS}
    throttled = [reading.throttled for reading in readings if reading.throttled]
    reasons = list(dict.fromkeys(chain.from_iterable(throttled)))
    pauses = [BoardPause(board=one.board, pause=one.measurement.pause) for one in builds if one.measurement.pause]
    return Conditions(
        readings=len(readings),
        clocks_mhz={name: span for name, span in spans.items() if span is not None},
        temperature_c=Span.of(reading.temperature_c for reading in readings),
        temperature_limit_c=limit_c,
        throttled=len(throttled),
        throttled_by=tuple(reasons[:_REASONS_SHOWN]),
        pauses=tuple(sorted(pauses, key=lambda one: one.pause.began)),
        after={board: fingerprint.context for board, fingerprint in after.items()},
    )
