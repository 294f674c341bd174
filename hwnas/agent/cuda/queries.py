"""Queries in flight on a GPU as trtexec has them: copies in, compute and copies out in streams of their own."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional, Sequence, Tuple

from ..arrays import Array
from ..queries import Queries, Trace
from ..trtexec import TrtexecKnobs
from .base import Cuda, Event, Graph
from .timing import CudaRun, require_graphs, warm_capture


class CudaQueries(Queries):
    """Timed by events."""

    def __init__(self, cuda: Cuda, runs: Sequence[CudaRun], knobs: TrtexecKnobs, inputs: Sequence[Array]) -> None:
        """
        Args:
            cuda: the GPU.
            runs: one for each of ``knobs.infStreams``, with buffers and execution contexts of their own.
            knobs: all that :class:`TrtexecKnobs` allows can be met.
            inputs: what every query computes from.

        Raises:
            AgentError: ``bad-request`` when a graph is asked for and there can be none.
        """
        if len(runs) != knobs.infStreams:
            raise ValueError("%d streams need as many runs, found %d" % (knobs.infStreams, len(runs)))
        if knobs.useCudaGraph:
            require_graphs(cuda)
        self.clock = "CUDA events (%s)" % cuda.name
        self.knobs = knobs
        self.depth = 1 if knobs.exposeDMA else 2
        for run in runs:
            run.upload(inputs)
        self._main = cuda.stream()
        self._start = _Start(0, cuda.event(blocking=True))
        self._lanes = [_Lane(cuda, run, knobs, self.depth) for run in runs]

    def begin(self) -> None:
        """Hold all streams back until the first event is reached, after the delay if there is to be one."""
        if self.knobs.sleepTime:
            self._main.delay(self.knobs.sleepTime)
        self._start = self._start._replace(host_ns=time.perf_counter_ns())
        self._start.event.record(self._main)
        for lane in self._lanes:
            lane.wait_for(self._start.event)

    def enqueue(self, stream: int) -> None:
        """Enqueue copies and compute, each waiting for what it needs."""
        self._lanes[stream].enqueue(self._start)

    def wait(self, stream: int) -> Trace:
        """Wait for the last event of the oldest query."""
        return self._lanes[stream].wait(self._start)


class _Start(NamedTuple):
    host_ns: int
    event: Event


class _Slot:
    """The events of one query in flight; those of a copy that is not made are those of the compute beside it."""

    def __init__(self, cuda: Cuda, knobs: TrtexecKnobs) -> None:
        def pair() -> Tuple[Event, Event]:
            return cuda.event(not knobs.useSpinWait), cuda.event(not knobs.useSpinWait)

        self.compute = pair()
        self.h2d = (self.compute[0], self.compute[0]) if knobs.noDataTransfers else pair()
        self.d2h = (self.compute[1], self.compute[1]) if knobs.noDataTransfers else pair()
        self.enqueued_ns = (0, 0)


class _Lane:
    """One of trtexec's inference streams."""

    def __init__(self, cuda: Cuda, run: CudaRun, knobs: TrtexecKnobs, depth: int) -> None:
        self._run = run
        self._transfers = not knobs.noDataTransfers
        self._input, self._compute, self._output = (cuda.stream() for _ in range(3))
        self._slots = [_Slot(cuda, knobs) for _ in range(depth)]
        self._next = self._oldest = 0
        self._graph: Optional[Graph] = warm_capture(run.enqueue, self._compute) if knobs.useCudaGraph else None

    def wait_for(self, event: Event) -> None:
        for stream in (self._input, self._compute, self._output):
            stream.wait_for(event)

    def enqueue(self, start: _Start) -> None:
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        if self._transfers:
            slot.h2d[0].record(self._input)
            self._run.copy_in(self._input)
            slot.h2d[1].record(self._input)
            self._compute.wait_for(slot.h2d[1])
        slot.compute[0].record(self._compute)
        begun = time.perf_counter_ns()
        self._launch()
        slot.enqueued_ns = (begun - start.host_ns, time.perf_counter_ns() - start.host_ns)
        slot.compute[1].record(self._compute)
        if self._transfers:
            self._output.wait_for(slot.compute[1])
            slot.d2h[0].record(self._output)
            self._run.copy_out(self._output)
            slot.d2h[1].record(self._output)

    def wait(self, start: _Start) -> Trace:
        slot = self._slots[self._oldest]
        self._oldest = (self._oldest + 1) % len(self._slots)
        slot.d2h[1].synchronize()
        events = slot.h2d + slot.compute + slot.d2h
        return Trace(*slot.enqueued_ns, *(round(event.milliseconds_since(start.event) * 1e6) for event in events))

    def _launch(self) -> None:
        if self._graph is None:
            self._run.enqueue(self._compute)
        else:
            self._graph.launch(self._compute)
