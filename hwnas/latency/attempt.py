"""One build of one unit on one board."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hwnas.devices import CompileOptions, Measurement, MeasureOptions
from hwnas.devices.errors import AgentLostError, UnreachableError
from hwnas.errors import DeviceError
from hwnas.latency.base import TimingDevice
from hwnas.latency.plan import Unit
from hwnas.latency.unit_model import unit_model

_LOST = (AgentLostError, UnreachableError)


@dataclass(frozen=True)
class Outcome:
    """What became of a unit on a board."""

    unit: Unit
    measurement: Measurement | None = None
    error: DeviceError | None = None
    """Why there is no measurement."""


@dataclass(frozen=True)
class Attempt:
    """What a board is asked; it touches nothing but the board, so that it may run in a thread of the board's own."""

    device: TimingDevice
    unit: Unit
    batch: int
    compile: CompileOptions
    measure: MeasureOptions
    learning_s: Mapping[str, float] = field(default_factory=dict)
    """Canaries that run alone beforehand, and for how long."""

    def __call__(self) -> Outcome:
        """Build, measure, and release."""
        try:
            return Outcome(self.unit, self._measured())
        except DeviceError as error:
            return Outcome(self.unit, error=error)

    def _measured(self) -> Measurement:
        for canary, seconds in self.learning_s.items():
            self.device.learn_fast_state(seconds, self.compile, canary)
        engine = self.device.compile(unit_model(self.unit, self.batch, self.compile), self.compile)
        measurement = None
        try:
            measurement = self.device.measure(engine, self.measure)
        finally:
            # What was measured is not lost with the board; where nothing was, its loss is why.
            with contextlib.suppress(*(_LOST if measurement else ())):
                self.device.release(engine)
        return measurement
