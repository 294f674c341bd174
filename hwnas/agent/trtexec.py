"""trtexec's knobs under trtexec's names, its two generations of defaults, and its percentile: plain data.

After the sources of TensorRT's sample trtexec, 8.5 to 11.5 (samples/common, later samples/trtexecCommon:
sampleOptions, sampleInference, sampleReporting).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Tuple

import numpy as np

from .protocol import AgentError, ErrorKind, Fields, Message


@dataclass(frozen=True)
class TrtexecKnobs:
    """What a measurement like trtexec's depends on; the defaults here are those of TensorRT 10 and before."""

    warmUp: float = 200.0
    """Milliseconds at the beginning whose queries do not count."""
    duration: float = 3.0
    """Seconds to measure at least, warming up not counted."""
    iterations: int = 10
    """Queries of each stream to measure at least."""
    avgRuns: int = 10
    """How many successive queries are averaged for the trace."""
    percentile: Tuple[float, ...] = (90.0, 95.0, 99.0)
    """In per cent; which of the sorted times each is: :func:`percentile_index`."""
    sleepTime: float = 0.0
    """Milliseconds by which the GPU begins later than the host, which can run ahead meanwhile."""
    idleTime: float = 0.0
    """Milliseconds to sleep after each query."""
    infStreams: int = 1
    """Execution contexts that compute beside each other."""
    exposeDMA: bool = False
    """Wait for each query before the next is enqueued, so that no copy hides behind a computation."""
    noDataTransfers: bool = False
    """Whether inputs stay on the GPU, and outputs too; 11 says ``--includeDataTransfers`` for its opposite."""
    useSpinWait: bool = False
    """Whether the host spins while it waits and does not sleep; 11 says ``--noSpinWait`` for its opposite."""
    useCudaGraph: bool = False
    """Whether a query is captured once and launched as one graph; 11 says ``--noCudaGraph`` for its opposite."""
    useManagedMemory: bool = False
    threads: bool = False
    timeRefit: bool = False
    separateProfileRun: bool = True
    """Always so: no profiler is ever attached to what is timed."""

    @classmethod
    def like(cls, generation: str, given: Message) -> "TrtexecKnobs":
        """The defaults of ``trtexec-10`` or ``trtexec-11``, and in their place the knobs ``given``, each checked.

        Raises:
            AgentError: ``bad-request`` for an unknown generation or knob, a wrong value, or one that cannot be met.
        """
        if generation not in GENERATIONS:
            raise _refused("'like' must be one of %s, found %r" % (", ".join(GENERATIONS), generation[:40]))
        unknown = sorted(set(given) - {knob.name for knob in fields(cls)})
        if unknown:
            raise _refused("trtexec's knob '%s' is not known here" % unknown[0][:40])
        knobs = cls(**{**GENERATIONS[generation], **{name: _checked(Fields(given), name) for name in given}})
        for name, reason in _ALWAYS.items():
            if getattr(knobs, name) != getattr(cls(), name):
                raise _refused("knob %s cannot be met: %s" % (name, reason))
        return knobs

    def as_record(self) -> Dict[str, Any]:
        """For the replies and the reports."""
        return asdict(self)


GENERATIONS: Dict[str, Dict[str, Any]] = {
    "trtexec-10": {},
    "trtexec-11": {"noDataTransfers": True, "useSpinWait": True, "useCudaGraph": True},
}
"""What each generation of trtexec does unless told otherwise; ``trtexec-10`` is also that of 8.5 to 10.16."""

_ALWAYS = {
    "useManagedMemory": "host and GPU have buffers of their own here, as trtexec's without it",
    "threads": "one thread drives all streams here, as in trtexec without it",
    "timeRefit": "engines are built here without the means to refit them",
    "separateProfileRun": "no profiler is ever attached here to what is timed",
}
"""Knobs of one value only, and why."""


def percentile_index(count: int, percent: float) -> int:
    """Which of ``count`` ascending times is the percentile: ``max(n - 1 - int((1 - p / 100) * n), 0)``.

    In single precision, as trtexec computes it: of 30 times the 90th per cent is number 26, in double it were 27.
    """
    one, hundred = np.float32(1), np.float32(100)
    excluded = int((one - np.float32(percent) / hundred) * np.float32(count))
    return max(count - 1 - excluded, 0)


def _checked(given: Fields, name: str) -> Any:
    default = getattr(TrtexecKnobs, name)
    if isinstance(default, bool):
        return given.flag(name)
    if isinstance(default, int):
        return given.integer(name, least=1)
    if isinstance(default, float):
        return given.number(name)
    return _percentiles(given.items(name))


def _percentiles(values: Any) -> Tuple[float, ...]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
            raise _refused("knob percentile takes numbers from 0 to 100, found %s" % repr(value)[:40])
    if not values:
        raise _refused("knob percentile takes at least one number from 0 to 100")
    return tuple(map(float, values))


def _refused(message: str) -> AgentError:
    return AgentError(ErrorKind.BAD_REQUEST, message)
