"""Several boards at work at the same time: each in a thread of its own, all bookkeeping in the caller's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from hwnas.latency.base import TimingDevice

Clock = Callable[[], float]
Result = TypeVar("Result")


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Board:
    """One of several devices of a kind."""

    name: str
    """Distinguishes it from the others, today and when the profile goes on: how it is reached, say."""
    device: TimingDevice
    clock: Clock = time.monotonic
    """Seconds; a device that reports time instead of spending it brings its own."""
    interrupt: Callable[[], None] = _nothing
    """Ends what the device is at, for another thread than that which waits for it."""


class Crew(Generic[Result]):
    """Hands jobs to boards as they get free.

    Jobs are handed out and results come in the order of the boards' clocks, so boards that report time instead of
    spending it work in turn as they would side by side, in the same order each time.  A crew of one works in the
    caller's thread.
    """

    def __init__(self, boards: Sequence[Board]) -> None:
        self._workers = [_Worker[Result](board) for board in boards]
        self._pool = ThreadPoolExecutor(len(boards), "board") if len(boards) > 1 else None
        self._last_result_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what boards are still at, which is so only after an error."""
        for worker in self._workers:
            worker.give_up()
        if self._pool is not None:
            self._pool.shutdown()

    @property
    def boards(self) -> tuple[Board, ...]:
        """Those at work."""
        return tuple(worker.board for worker in self._workers if not worker.dismissed)

    def now_s(self) -> float:
        """Seconds since the crew began; virtual ones pass until the last result."""
        return max([self._last_result_s, *(worker.now_s() for worker in self._workers if worker.job is None)])

    def dismiss(self, board: Board) -> None:
        """Give a board no more jobs; the result of the one that it may be at is lost."""
        for worker in self._workers:
            worker.dismissed |= worker.board is board

    def results(self, job_for: Callable[[Board], Callable[[], Result] | None]) -> Iterator[tuple[Board, Result]]:
        """The result of each job with the board that did it, until no board is given one any more.

        ``job_for`` gives a free board its next job; ``None``: none at present, it is asked again after each result.
        Whatever a job raises is raised here.
        """
        while True:
            for worker in [worker for worker in self._workers if worker.job is None and not worker.dismissed]:
                job = job_for(worker.board)
                if job is not None:
                    worker.begin(job, self.now_s(), self._pool)
            if all(worker.job is None for worker in self._workers):
                return
            worker = self._next_done()
            result = worker.result()
            if not worker.dismissed:
                self._last_result_s = worker.done_s
                yield worker.board, result

    def _next_done(self) -> _Worker[Result]:
        """The one that was done first, once none of those still at work can be done before."""
        while True:
            at_work = [worker for worker in self._workers if worker.job is not None and not worker.job.done()]
            done = [worker for worker in self._workers if worker.job is not None and worker not in at_work]
            first = min(done, key=lambda worker: worker.done_s, default=None)
            if first is not None and all(other.now_s() >= first.done_s for other in at_work):
                return first
            wait([worker.job for worker in at_work if worker.job is not None], return_when=FIRST_COMPLETED)


class _Worker(Generic[Result]):
    """A board and what it is at."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.job: Future[Result] | None = None
        self.done_s = 0.0
        self.dismissed = False
        self._start_s = board.clock()

    def now_s(self) -> float:
        """Seconds since the crew began."""
        return self.board.clock() - self._start_s

    def begin(self, job: Callable[[], Result], now_s: float, pool: ThreadPoolExecutor | None) -> None:
        """Work from now on; a clock that stood still while the board was idle is set."""
        self._start_s -= max(0.0, now_s - self.now_s())

        def timed() -> Result:
            try:
                return job()
            finally:
                self.done_s = self.now_s()

        self.job = _at_once(timed) if pool is None else pool.submit(timed)

    def result(self) -> Result:
        """Of the job that is done."""
        assert self.job is not None
        job, self.job = self.job, None
        return job.result()

    def give_up(self) -> None:
        """End the job."""
        if self.job is not None and not self.job.done():
            self.board.interrupt()


def _at_once(job: Callable[[], Result]) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(job())
    return future
