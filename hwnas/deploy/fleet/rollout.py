"""A bundle goes to a group in waves; past the threshold the wave gets back what it had, and the rollout stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Protocol

from hwnas.deploy.fleet.journal import Journal
from hwnas.deploy.fleet.stages import FailureLimit
from hwnas.deploy.outcome import Outcome
from hwnas.progress import Progress


class Fleet(Protocol):
    """Boards by name; each call is for one board, and several are under way at once."""

    def flash(self, board: str) -> Outcome:
        """Give a board the bundle; whatever goes wrong there is an outcome, no exception."""

    def roll_back(self, board: str, why: str) -> Outcome:
        """Give a board back what it had before the bundle; likewise."""


@dataclass(frozen=True)
class RolloutResult:
    """How a rollout ended."""

    waves: tuple[tuple[str, ...], ...]
    outcomes: dict[str, Outcome]
    """Of each board that was seen to."""
    stopped_in: int | None
    """Number of the wave that failed, from 0; ``None``: none did."""

    @property
    def untouched(self) -> list[str]:
        """Boards that the rollout never came to."""
        return [board for wave in self.waves for board in wave if board not in self.outcomes]


class Rollout:
    """One bundle's way to a group, resumed from its journal."""

    def __init__(
        self,
        fleet: Fleet,
        waves: Sequence[Sequence[str]],
        limit: FailureLimit,
        journal: Journal,
        parallel: int = 8,
    ) -> None:
        """``parallel``: how many boards of a wave are seen to at once."""
        self._fleet, self._limit, self._journal, self._parallel = fleet, limit, journal, parallel
        self._waves = tuple(tuple(wave) for wave in waves)

    def run(self, progress: Progress) -> RolloutResult:
        """Go through the waves, or on with them; a board that succeeded is not seen to again, one that failed is.

        Interrupted, it lets the boards under way end and goes no further.
        """
        progress.start("flashing", sum(map(len, self._waves)), self._done(), unit="boards")
        for number, wave in enumerate(self._waves):
            if self._journal.failed_wave is not None:
                break
            if not self._flash_wave(wave, progress):
                self._journal.wave_failed(number)
        stopped = self._journal.failed_wave
        if stopped is None:
            progress.finish()
        else:
            self._give_back(self._waves[stopped], stopped, progress)
        return RolloutResult(self._waves, dict(self._journal.outcomes), stopped)

    def _done(self) -> int:
        return sum(outcome.succeeded for outcome in self._journal.outcomes.values())

    def _flash_wave(self, wave: Sequence[str], progress: Progress) -> bool:
        """Whether no more of the wave failed than may."""
        allowed = self._limit.allowed(len(wave))
        known = self._journal.outcomes
        waiting = [board for board in wave if board not in known or not known[board].succeeded]
        failed: list[str] = []
        for told in self._each(self._announced(waiting), self._fleet.flash, lambda: len(failed) <= allowed):
            outcome = self._journal.flashed(told)
            if not outcome.succeeded:
                failed.append(outcome.board)
            progress.advance(note=f"{outcome.board}: {outcome.fate}")
        return len(failed) <= allowed

    def _announced(self, boards: Iterable[str]) -> Iterator[str]:
        for board in boards:
            self._journal.begin(board)
            yield board

    def _give_back(self, wave: Sequence[str], number: int, progress: Progress) -> None:
        """What the wave's boards had before; boards that had the bundle already keep it."""
        why = f"wave {number + 1} of the rollout failed"
        had = [board for board in wave if board in self._journal.have_it]
        if not had:
            return
        progress.start("rolling back", len(had), unit="boards")
        for outcome in self._each(had, lambda board: self._fleet.roll_back(board, why), lambda: True):
            self._journal.rolled_back(outcome)
            progress.advance(note=f"{outcome.board}: {outcome.fate}")
        progress.finish()

    def _each(
        self, boards: Iterable[str], act: Callable[[str], Outcome], go_on: Callable[[], bool]
    ) -> Iterator[Outcome]:
        """Outcomes as they come; no further board is begun once ``go_on`` says no, those under way end."""
        waiting = iter(boards)
        under_way: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="board") as pool:
            while True:
                while go_on() and len(under_way) < self._parallel:
                    board = next(waiting, None)
                    if board is None:
                        break
                    # Who answers questions is told by context; each board's thread gets a copy.
                    under_way.add(pool.submit(copy_context().run, act, board))
                if not under_way:
                    return
                ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
