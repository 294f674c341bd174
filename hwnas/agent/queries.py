"""Measuring as trtexec does: queries in flight, each with the times at which its parts began and ended."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from . import arrays
from .protocol import MAX_LINE_BYTES, AgentError, ErrorKind, Message
from .trtexec import TrtexecKnobs

if TYPE_CHECKING:
    from .runtimes.base import Engine

_NS_PER_MS = 1_000_000
_LOADS_BEFORE, _LOADS = 2, 21
_MOST_TRACES = MAX_LINE_BYTES // 100
"""Base64 of a trace of eight 64-bit numbers takes 86 bytes of a reply's line."""


class Trace(NamedTuple):
    """When the parts of one query began and ended, in ns since the measurement began.

    Without transfers both of them begin and end where the compute begins or ends.  The times of ``enqueue`` are the
    host's; the others are the GPU's, or the host's where that computes.
    """

    enqueue_start: int
    enqueue_end: int
    h2d_start: int
    h2d_end: int
    compute_start: int
    compute_end: int
    d2h_start: int
    d2h_end: int


class Queries(ABC):
    """An engine with queries in flight in one or more streams of its own."""

    clock: str
    """Whose times the traces tell, in words."""
    knobs: TrtexecKnobs
    """As they are met: where there is no GPU, those about it are off."""
    depth: int
    """Queries of a stream in flight at most: 2 is one enqueued ahead."""

    @abstractmethod
    def begin(self) -> None:
        """What the times are counted from."""

    @abstractmethod
    def enqueue(self, stream: int) -> None:
        """Enqueue a query into the ``stream``-th of ``knobs.infStreams``, of whose :attr:`depth` one is free."""

    @abstractmethod
    def wait(self, stream: int) -> Trace:
        """Wait for the oldest query in flight of a stream."""


class HostQueries(Queries):
    """One query at a time, waited for while it is enqueued, by the host's clock."""

    clock = "the host's clock"
    depth = 1

    def __init__(
        self,
        engine: Engine,
        knobs: TrtexecKnobs,
        inputs: Sequence[arrays.Array],
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """``inputs`` are what is copied in; ``clock`` gives ns and is replaced in tests."""
        self.knobs = replace(knobs, infStreams=1, exposeDMA=False, useSpinWait=False, useCudaGraph=False, sleepTime=0.0)
        self._engine = engine
        self._inputs = inputs
        self._clock = clock
        self._start = 0
        self._times: List[int] = []

    def begin(self) -> None:
        """Copy the inputs in, and look at the clock."""
        self._engine.upload(self._inputs)
        self._start = self._clock()

    def enqueue(self, stream: int) -> None:  # noqa: ARG002 there is one
        """Copy in, compute, copy out."""
        clock, transfers = self._clock, not self.knobs.noDataTransfers
        times = [clock()]
        if transfers:
            self._engine.upload(self._inputs)
            times.append(clock())
        self._engine.run()
        times.append(clock())
        if transfers:
            self._engine.download()
            times.append(clock())
        self._times = [moment - self._start for moment in times]

    def wait(self, stream: int) -> Trace:  # noqa: ARG002 there is one
        """What :meth:`enqueue` has seen."""
        begun, over = self._times[0], self._times[-1]
        computing, computed = self._times[-3:-1] if len(self._times) == 4 else (begun, over)
        return Trace(computing, computed, begun, computing, computing, computed, computed, over)


def measure_queries(queries: Queries, given: Message, sleep: Callable[[float], None] = time.sleep) -> Dict[str, object]:
    """Measure, and give the knobs as they were met, the clock, and the traces after warming up ([n, 8] ns, packed).

    Args:
        queries: ready to begin.
        given: the knobs that somebody asked for by name; defaults that have no object are left aside in silence.
        sleep: for ``idleTime``, seconds.

    Raises:
        AgentError: ``bad-request`` when a knob that was asked for has no object here, or when there are too many
            queries for one reply.
    """
    met = queries.knobs.as_record()
    for name, value in given.items():
        if met[name] != (tuple(value) if isinstance(value, list) else value):
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "knob %s has no object here: this runtime is measured by %s" % (name, queries.clock),
            )
    traces = _run(queries, sleep)
    traces.sort(key=lambda trace: trace.h2d_start)
    warm_ns = queries.knobs.warmUp * _NS_PER_MS
    first = next(number for number, trace in enumerate(traces) if trace.compute_start >= warm_ns)
    timed = traces[first:]
    if len(timed) > _MOST_TRACES:
        raise AgentError(
            ErrorKind.BAD_REQUEST, "%d queries do not fit into a reply; ask for a shorter duration" % len(timed)
        )
    return {
        "knobs": met,
        "clock": queries.clock,
        "depth": queries.depth,
        "warmup_queries": first,
        "traces_ns": arrays.pack(np.array(timed, dtype=np.int64)),
    }


def time_loading(load: Callable[[], object], clock: Callable[[], int] = time.perf_counter_ns) -> List[int]:
    """Times in ns of loading an engine one time after another as trtexec's ``timeDeserialize`` does: 1 + 20 times.

    Two more before them bring the file into the caches; each engine is dropped before the next is loaded.
    """
    times = []
    for _ in range(_LOADS_BEFORE + _LOADS):
        start = clock()
        engine = load()
        times.append(clock() - start)
        del engine
    return times[_LOADS_BEFORE:]


def _run(queries: Queries, sleep: Callable[[float], None]) -> List[Trace]:
    """trtexec's loop: an iteration enqueues one query in every stream and waits for the oldest of each."""
    knobs = queries.knobs
    streams = range(knobs.infStreams)
    in_flight = [0] * knobs.infStreams
    traces: List[Trace] = []

    def oldest(stream: int) -> Optional[Trace]:
        if not in_flight[stream]:
            return None
        in_flight[stream] -= 1
        traces.append(queries.wait(stream))
        return traces[-1]

    warm_ns = knobs.warmUp * _NS_PER_MS
    end_ns = warm_ns + knobs.duration * 1000 * _NS_PER_MS
    begun_ns, iteration, warming = 0, 0, 0  # begun_ns: when the last query known began to compute
    queries.begin()
    while iteration < knobs.iterations + warming or begun_ns < end_ns:
        iteration += 1
        for stream in streams:
            queries.enqueue(stream)
            in_flight[stream] += 1
        for stream in streams:
            trace = oldest(stream) if in_flight[stream] == queries.depth else None
            begun_ns = max(begun_ns, trace.compute_start if trace else 0)
        if begun_ns < warm_ns:
            warming += begun_ns > 0
        elif knobs.idleTime:
            sleep(knobs.idleTime / 1e3)
    for stream in streams:
        while oldest(stream):
            pass
    return traces
