"""The knobs of the measuring protocol, and how an engine was warmed up: plain data, shared by agent and host."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict

from .canary import CANARY_SHA256
from .protocol import AgentError, ErrorKind, Fields, Message


@dataclass(frozen=True)
class MeasuringProtocol:
    """Every knob of a measurement; it goes into the reply and from there into the tables."""

    min_samples: int = 64
    """Accepted samples to gather."""
    min_seconds: float = 0.0
    """Accepted compute time to gather."""
    max_seconds: float = 2.0
    """When to stop, enough or not; warming up is not counted."""
    gate: bool = True
    """Whether batches run between canaries; without, all count and none is called gated."""
    canary: str = "small"
    """Which canary gates: ``large`` for networks that do not fit into the nearest caches.

    On a shared host, fresh builds of networks of 2 to 3.5 ms differed by 1.6 % with the small one's drift divided out,
    and by 0.6 % with that of a network of their own size.
    """
    tolerance: float = 0.12
    """How much slower than the fast state both canaries of a batch that counts may be."""
    correct_drift: bool = True
    """Whether the canary's drift within the tolerance is divided out of the gated samples when they are judged.

    On a shared host, 100 networks of 9 µs to 1 ms measured twice differed by 1.1 to 1.7 % in the median without,
    and by 0.3 to 0.8 % with (four trials, fresh builds).
    """
    canary_warm_runs: int = 5
    """Runs of the canary that are discarded before the timed one.

    After a network of 4 ms the second run of either canary is still 15 % slow, the sixth 2 to 4 %.
    """
    runs_per_batch: int = 8
    batch_seconds: float = 0.02
    """A batch has fewer runs, at least one, where ``runs_per_batch`` would take longer."""
    warmup_min_seconds: float = 0.005
    warmup_max_seconds: float = 0.5
    warmup_tolerance: float = 0.03
    """Warm is when the medians of two successive windows of runs differ by no more than this fraction."""
    fps: float = 0.0
    """Arrival: 0 for back-to-back runs; else each timed run begins on a grid of so many a second, idle in between."""
    soak_seconds: float = 0.0
    """How long the engine runs before it is warmed up, so that a board is as hot as its work makes it."""
    clock_interval_seconds: float = 0.1
    """How often the clocks are read while measuring."""
    clock_tolerance: float = 0.05
    """The batches between two readings that differ by more than this fraction, or one of which says that the device
    throttles, do not count and are redone."""
    temperature_limit_c: float = 0.0
    """When what computes is so hot at a reading of the clocks, the measurement ends before it has enough; 0: never."""
    transfer_runs: int = 8
    seed: int = 0
    """Of the inputs' content."""

    @classmethod
    def from_message(cls, message: Message) -> "MeasuringProtocol":
        """The knobs that ``message`` names, each checked, and the defaults of the others.

        Raises:
            AgentError: ``bad-request`` when a knob has a wrong type, is negative, or names no canary.
        """
        given = Fields(message)
        knobs: Dict[str, Any] = {}
        for knob in fields(MeasuringProtocol):
            default: Any = knob.default
            if isinstance(default, bool):
                knobs[knob.name] = given.flag(knob.name, default)
            elif isinstance(default, str):
                knobs[knob.name] = given.text(knob.name, default)
            elif isinstance(default, int):
                knobs[knob.name] = given.integer(knob.name, default, least=0 if knob.name == "seed" else 1)
            else:
                knobs[knob.name] = given.number(knob.name, default)
        if knobs["canary"] not in CANARY_SHA256:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "field 'canary' must be one of %s, found %r" % (", ".join(CANARY_SHA256), knobs["canary"][:40]),
            )
        return cls(**knobs)


@dataclass(frozen=True)
class WarmUp:
    """How an engine was warmed up."""

    runs: int
    seconds: float
    stable: bool
    """Whether two windows of runs agreed before the time for it was over."""
    last_median_ns: int
