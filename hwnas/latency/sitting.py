"""One sitting of a profile: measure unit after unit until the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from hwnas.devices import CompileOptions, Measurement, MeasureOptions
from hwnas.errors import DeviceError, UserError
from hwnas.latency.base import TimingDevice
from hwnas.latency.journal import JournalRecord
from hwnas.latency.judging import Judge
from hwnas.latency.plan import Unit
from hwnas.latency.unit_model import unit_model
from hwnas.progress import Progress

Clock = Callable[[], float]

LEARNING_S, LEARNING_SHARE = 2.0, 0.05
"""How long the canary runs alone before the first measurement, and no more than this share of the time there is."""
FURTHER_BUILDS = 3
"""A unit is built and measured again until enough of its samples count, but no more often than this."""
FAILURES_AT_MOST = 2
"""A unit that the device refused so often is given up."""
FAILURES_IN_A_ROW = 5
"""So many different failures, one after the other, are the device's and not the units'."""
_DIFFER = frozenset({"min_samples", "min_seconds", "max_seconds", "soak_seconds"})
LEAST_SECONDS = 0.2
"""Of measuring a unit, however little time is left."""


@dataclass(frozen=True)
class Knobs:
    """How units are built and measured, and for how long in all."""

    minutes: float | None
    block_builds: int
    network_builds: int
    batch: int
    compile: CompileOptions
    blocks: MeasureOptions
    networks: MeasureOptions

    def of(self, unit: Unit) -> MeasureOptions:
        """The measuring protocol of a unit."""
        return self.blocks if unit.architecture is None else self.networks

    def builds(self, unit: Unit) -> int:
        """How often a unit is built and measured."""
        return self.block_builds if unit.architecture is None else self.network_builds


class Sitting:
    """Fills a journal, unit after unit, until the time is over."""

    def __init__(
        self,
        device: TimingDevice,
        judge: Judge,
        knobs: Knobs,
        expected_builds: int,
        progress: Progress,
        clock: Clock = time.monotonic,
        doing: str = "profile",
    ) -> None:
        """``expected_builds`` is for the progress bar of a sitting that time does not bound; ``doing`` names it."""
        self._device, self._judge, self._knobs = device, judge, knobs
        self._journal = judge.journal
        self._progress, self._clock = progress, clock
        self._mark = clock()
        self._failures_in_a_row = 0
        self._expected, self._doing = expected_builds, doing
        self._seen: dict[str, Unit] = {}
        self._learned: set[str] = set()
        self._soak_s = device.target.promise_soak_s

    def __enter__(self) -> Self:
        """Begin the progress bar: in seconds where they are what bounds the profile, else in builds."""
        if self._knobs.minutes is not None:
            self._progress.start(self._doing, 60 * self._knobs.minutes, self._journal.spent_s, unit="s")
        else:
            # Of interrupted profiles; what exceeds the plan is not known before its units are.
            done = min(sum(map(len, self._journal.measurements.values())), self._expected)
            self._progress.start(self._doing, self._expected, done, unit="builds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.finish()

    def measure(self, units: Sequence[Unit], builds: int | None = None) -> bool:
        """Measure these, each into the journal as soon as it is measured; gives whether there is time for more.

        All of them once, twice, …, so often as the knobs say and no more often than ``builds``; then those that lack
        samples.  Builds of the same unit are thereby so far apart in time that what disturbed one has passed when the
        next is measured.

        Raises:
            UserError: the journal was measured with other knobs, so that figures would not compare.
            DeviceError: one unit after the other fails.
        """
        self._require_same_protocol(units)
        self._seen.update({unit.key: unit for unit in units})
        most = max(self._knobs.block_builds, self._knobs.network_builds) if builds is None else builds
        unit = self._next(units, most)
        while unit is not None and self._seconds_left() > 0:
            self._learn_fast_states()
            self._measure(unit)
            unit = self._next(units, most)
        return self._seconds_left() > 0

    def _next(self, units: Sequence[Unit], most_builds: int) -> Unit | None:
        for tries in range(most_builds):
            for unit in units:
                if self._journal.tries(unit.key) <= tries < self._knobs.builds(unit) and not self._given_up(unit):
                    return unit
        lacking = [unit for unit in units if self._lacks_samples(unit, most_builds)]
        return min(lacking, key=lambda unit: self._judge.count(unit.key), default=None)

    def _learn_fast_states(self) -> None:
        """Of the canaries that nothing was measured with yet, so that the first batches are judged by something."""
        canaries = {knobs.canary for knobs in (self._knobs.blocks, self._knobs.networks) if knobs.gate}
        for canary in sorted(canaries - set(self._journal.fast_states_ms) - self._learned):
            self._learned.add(canary)
            seconds = min(LEARNING_S, LEARNING_SHARE * self._seconds_left())
            self._device.learn_fast_state(seconds, self._knobs.compile, canary)

    def _given_up(self, unit: Unit) -> bool:
        return len(self._journal.failures(unit.key)) >= FAILURES_AT_MOST

    def _lacks_samples(self, unit: Unit, most_builds: int) -> bool:
        builds = min(most_builds, self._knobs.builds(unit)) + FURTHER_BUILDS
        if self._given_up(unit) or self._journal.tries(unit.key) >= builds:
            return False
        return self._judge.count(unit.key) < self._knobs.of(unit).min_samples

    def _measure(self, unit: Unit) -> None:
        measurement, failure = None, None
        try:
            measurement = self._build_and_time(unit)
            self._failures_in_a_row = 0
        except DeviceError as error:
            failure = error
            self._failures_in_a_row += 1
        now = self._clock()
        seconds, self._mark = max(0.0, now - self._mark), now
        message = None if failure is None else str(failure)
        self._journal.append(JournalRecord(unit=unit.key, seconds=seconds, measurement=measurement, error=message))
        if failure is not None and self._failures_in_a_row >= FAILURES_IN_A_ROW:
            raise failure
        self._advance_progress(unit, seconds)

    def _build_and_time(self, unit: Unit) -> Measurement:
        knobs, options = self._knobs.of(unit), self._knobs.compile
        engine = self._device.compile(unit_model(unit, self._knobs.batch, options), options)
        try:
            max_seconds = min(knobs.max_seconds, max(self._seconds_left(), LEAST_SECONDS))
            state = self._journal.fast_states_ms.get(knobs.canary)
            # Once hot, the device stays so: unit follows unit.
            soak_s, self._soak_s = min(self._soak_s, max(0.0, self._seconds_left())), 0.0
            asked = replace(knobs, max_seconds=max_seconds, fast_state_ms=state, soak_seconds=soak_s)
            return self._device.measure(engine, asked)
        finally:
            self._device.release(engine)

    def _seconds_left(self) -> float:
        if self._knobs.minutes is None:
            return float("inf")
        return 60 * self._knobs.minutes - self._journal.spent_s - (self._clock() - self._mark)

    def _require_same_protocol(self, units: Sequence[Unit]) -> None:
        for unit in units:
            wanted = _how(self._knobs.of(unit).as_protocol())
            for measurement in self._journal.measurements[unit.key]:
                if _how(vars(measurement.protocol)) != wanted:
                    raise UserError(
                        f"{self._journal.path} was measured by another protocol (tolerance, runs per batch, seed …); "
                        "use that protocol again or begin afresh (--fresh)."
                    )

    def _advance_progress(self, unit: Unit, seconds: float) -> None:
        blocks = [self._journal.tries(unit.key) for unit in self._seen.values() if unit.architecture is None]
        networks = [self._journal.tries(unit.key) for unit in self._seen.values() if unit.architecture is not None]
        kinds = {"blocks": blocks, "networks": networks}
        done = [f"{sum(map(bool, tries))} of {len(tries)} {kind}" for kind, tries in kinds.items() if tries]
        note = ", ".join(done)
        if self._knobs.minutes is not None:
            self._progress.advance(seconds, note)
        else:
            self._progress.advance(float(self._journal.tries(unit.key) <= self._knobs.builds(unit)), note)


def _how(protocol: dict[str, Any]) -> dict[str, Any]:
    """The knobs without those that say how much and how late is measured, which may differ from build to build."""
    return {name: value for name, value in protocol.items() if name not in _DIFFER}
