"""One sitting of a profile: measure unit after unit, on one board or several, until the time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from hwnas.devices import Measurement
from hwnas.devices.errors import TooHotError, UnreachableError
from hwnas.errors import DeviceError, UserError
from hwnas.latency.agenda import Agenda, Knobs
from hwnas.latency.attempt import Attempt, Outcome
from hwnas.latency.crew import Board, Crew
from hwnas.latency.gauge import Gauge
from hwnas.latency.journal import Departure, JournalRecord
from hwnas.latency.judging import Judge
from hwnas.latency.plan import Unit
from hwnas.latency.speeds import FURTHEST, furthest_off
from hwnas.progress import Progress

LEARNING_S, LEARNING_SHARE = 2.0, 0.05
"""How long the canary runs alone before the first measurement, and no more than this share of the time there is."""
FAILURES_IN_A_ROW = 5
"""So many different failures, one after the other, are the device's and not the units'."""
_DIFFER = frozenset({"min_samples", "min_seconds", "max_seconds", "soak_seconds", "temperature_limit_c"})
LEAST_SECONDS = 0.2
"""Of measuring a unit, however little time is left."""


@dataclass
class _Seat:
    """What is remembered of a board during the sitting."""

    soak_s: float
    learned: set[str] = field(default_factory=set)
    """Canaries whose fast state it has learned."""
    tied: bool = False
    """Whether its speed was compared with the others' already."""
    failed: list[str] = field(default_factory=list)
    """Units that it did not measure, in a row."""
    uncounted: list[str] = field(default_factory=list)
    """Units of which it measured nothing that counts, in a row."""


class Sitting:
    """Fills a journal, unit after unit, until the time is over."""

    def __init__(
        self,
        boards: Sequence[Board],
        judge: Judge,
        knobs: Knobs,
        expected_builds: int,
        progress: Progress,
        doing: str = "profile",
        ties: Sequence[Unit] = (),
    ) -> None:
        """
        Args:
            boards: of one kind.
            judge: of the journal to be filled.
            knobs: how units are measured.
            expected_builds: for the progress bar of a sitting that time does not bound.
            progress: of the whole.
            doing: names it.
            ties: what each of several boards measures, so that their speeds can be compared.
        """
        self._crew = Crew[Outcome](boards)
        self._judge, self._knobs, self._journal = judge, knobs, judge.journal
        self._mark_s = 0.0
        self._seats = {board.name: _Seat(board.device.target.promise_soak_s) for board in boards}
        self._gauge = Gauge(progress, doing, expected_builds, knobs, self._journal, len(boards))
        for board in boards:
            board.device.tell = partial(self._gauge.hear, board)
        together = len({*self._seats, *self._journal.boards}) > 1
        self._agenda = Agenda(judge, knobs, ties if together else ())

    def __enter__(self) -> Self:
        self._gauge.start()
        self._crew.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.__exit__(kind, error, trace)
        self._gauge.finish()

    @property
    def boards(self) -> tuple[Board, ...]:
        """Those still at work."""
        return self._crew.boards

    def measure(self, units: Sequence[Unit], builds: int | None = None) -> bool:
        """Measure these, each into the journal as soon as it is measured; gives whether there is time for more.

        All of them once, twice, …, so often as the knobs say and no more often than ``builds``; then those that lack
        samples.  Builds of the same unit are thereby so far apart in time that what disturbed one has passed when the
        next is measured.

        A board that cannot be reached any more, or on which one unit after the other comes to nothing, leaves: what
        it was at is done by the others.  One whose speed is too far off leaves too, and what it measured is void.

        Raises:
            UserError: the journal was measured with other knobs, so that figures would not compare.
            DeviceError: no board is left; two boards differ too much.
        """
        self._require_same_protocol(units)
        self._gauge.expect(units)
        most = max(self._knobs.block_builds, self._knobs.network_builds) if builds is None else builds
        while True:
            for board, outcome in self._crew.results(partial(self._job, units, most)):
                self._take(board, outcome)
            if not self._leave_out_the_furthest():
                return self._seconds_left() > 0

    def leave_out(self, board: Board, reason: str) -> None:
        """Go on without a board whose measurements are void; ``reason`` is a clause.

        Raises:
            DeviceError: it was the last.
        """
        self._dismiss(board, DeviceError(f"{board.name} is left out, since {reason}."), void=reason)

    def _job(self, units: Sequence[Unit], most_builds: int, board: Board) -> Attempt | None:
        """What a free board does next."""
        seconds_left = self._seconds_left()
        if seconds_left <= 0:
            return None
        unit = self._agenda.begin(units, most_builds, board.name, [each.name for each in self._crew.boards])
        if unit is None:
            return None
        seat, knobs = self._seats[board.name], self._knobs.of(unit)
        states = self._journal.fast_states_ms.get(board.name, {})
        # Of canaries that nothing was measured with yet, so that the first batches are judged by something.
        canaries = {knobs.canary for knobs in (self._knobs.blocks, self._knobs.networks) if knobs.gate}
        new = sorted(canaries - set(states) - seat.learned)
        learning_s = min(LEARNING_S, LEARNING_SHARE * seconds_left)
        seconds_left -= learning_s * len(new)
        # Once hot, a board stays so: unit follows unit.
        soak_s, seat.soak_s = min(seat.soak_s, max(0.0, seconds_left)), 0.0
        asked = replace(
            knobs,
            max_seconds=min(knobs.max_seconds, max(seconds_left, LEAST_SECONDS)),
            fast_state_ms=states.get(knobs.canary),
            soak_seconds=soak_s,
            most_pause_s=min(knobs.most_pause_s, max(0.0, seconds_left)),
        )
        seat.learned.update(new)
        learning = dict.fromkeys(new, learning_s)
        return Attempt(board.device, unit, self._knobs.batch, self._knobs.compile, asked, learning)

    def _take(self, board: Board, outcome: Outcome) -> None:
        seat, error = self._seats[board.name], outcome.error
        self._agenda.end(board.name)
        if isinstance(error, (UnreachableError, TooHotError)):
            self._dismiss(board, error)
            return
        now_s = self._crew.now_s()
        seconds, self._mark_s = max(0.0, now_s - self._mark_s), now_s
        record = JournalRecord(
            unit=outcome.unit.key,
            seconds=seconds,
            measurement=outcome.measurement,
            error=None if error is None else str(error),
            board=board.name,
        )
        self._journal.append(record)
        self._gauge.advance(outcome.unit, record, len(self._crew.boards))
        self._take_to_heart(board, seat, outcome)
        if len(self._seats) > 1 and not seat.tied and self._agenda.is_tied(board.name):
            seat.tied = True
            self._leave_out_the_furthest()

    def _take_to_heart(self, board: Board, seat: _Seat, outcome: Outcome) -> None:
        """Whether it is the board and not the unit, when one unit after the other comes to nothing."""
        if outcome.error is not None:
            seat.failed.append(outcome.unit.key)
            if len(seat.failed) >= FAILURES_IN_A_ROW:
                self._agenda.forgive(seat.failed)
                self._dismiss(board, outcome.error)
            return
        seat.failed.clear()
        assert outcome.measurement is not None
        if self._judge.counts(board.name, outcome.measurement):
            seat.uncounted.clear()
            return
        seat.uncounted.append(outcome.unit.key)
        # Where none is in its fast state, all wait for it.
        others = [self._seats[other.name] for other in self._crew.boards if other is not board]
        if len(seat.uncounted) >= FAILURES_IN_A_ROW and any(not other.uncounted for other in others):
            self._agenda.forgive(seat.uncounted)
            why = _why_uncounted(outcome.measurement)
            self._dismiss(board, DeviceError(f"nothing that it measures counts: {why}."))

    def _dismiss(self, board: Board, error: DeviceError, void: str | None = None) -> None:
        """Go on without a board; ``void`` is why nothing of what it measured counts.

        Raises:
            DeviceError: it was the last.
        """
        self._agenda.end(board.name)
        self._crew.dismiss(board)
        if len(self._seats) > 1 or void:
            reason = void or str(error).rstrip(".")
            self._journal.append(Departure(board=board.name, reason=reason, void=void is not None))
            self._gauge.leave(board, reason)
        if self._crew.boards:
            return
        if len(self._seats) == 1:
            raise error
        left = "; ".join(f"{name}: {self._journal.departures[name].reason}" for name in self._seats)
        raise DeviceError(
            f"No board is left ({left}); what was measured is kept in {self._journal.path}, so run the same command "
            "again when one of them is back, or with others of the kind."
        ) from error

    def _leave_out_the_furthest(self) -> bool:
        """Leave out the board that is surely too far off the others, if there is one.

        Raises:
            DeviceError: there are two, so that nothing tells which of them it is.
        """
        names, off = furthest_off(self._judge.speeds)
        at_work = {board.name: board for board in self._crew.boards}
        if len(names) > 1:
            present = [name for name in names if name in at_work]
            if len(present) != 1:
                raise DeviceError(
                    f"{names[0]} and {names[1]} differ by {abs(off):.0%} in speed, more than {FURTHEST:.0%}, and of "
                    "two boards nothing tells which is off; compare their power modes, clocks and cooling, or profile "
                    "with one of them."
                )
            names = tuple(name for name in names if name not in present)
        for name in names:
            reason = f"its times are {off:+.0%} off those of the other boards, more than {FURTHEST:.0%}"
            if name in at_work:
                self.leave_out(at_work[name], reason)
            else:
                self._journal.append(Departure(board=name, reason=reason, void=True))
        return bool(names)

    def _seconds_left(self) -> float:
        if self._knobs.minutes is None:
            return float("inf")
        return 60 * self._knobs.minutes - self._journal.spent_s - (self._crew.now_s() - self._mark_s)

    def _require_same_protocol(self, units: Sequence[Unit]) -> None:
        for unit in units:
            wanted = _how(self._knobs.of(unit).as_protocol())
            for build in self._journal.builds[unit.key]:
                if _how(vars(build.measurement.protocol)) != wanted:
                    raise UserError(
                        f"{self._journal.path} was measured by another protocol (tolerance, runs per batch, seed …); "
                        "use that protocol again or begin afresh (--fresh)."
                    )


def _why_uncounted(measurement: Measurement) -> str:
    throttled = next((reading.throttled for reading in measurement.clocks if reading.throttled), ())
    if throttled:
        return f"throttled, {', '.join(throttled)}"
    if all(measurement.clocks_moved):
        return "its clocks do not keep still"
    return "something else runs on it" if all(measurement.preempted) else "it never runs in its fast state"


def _how(protocol: dict[str, Any]) -> dict[str, Any]:
    """The knobs without those that say how much and how late is measured, which may differ from build to build."""
    return {name: value for name, value in protocol.items() if name not in _DIFFER}
