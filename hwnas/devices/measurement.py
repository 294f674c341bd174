"""A measurement as the agent gave it, with every batch, and the figures that follow from a fast state.

The fast state is better known at the end of a session than while it is learned, so figures are computed from the
batches when asked for: :meth:`Measurement.judged` states them for another fast state.  With drift divided out, gated
figures are proportional to the fast state; those that are compared or added must be judged by the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from hwnas.agent import judging
from hwnas.agent.cooling import Pause
from hwnas.agent.judging import Batch
from hwnas.agent.knobs import MeasuringProtocol, WarmUp
from hwnas.agent.sensors import Clocks

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Statistics:
    """Order statistics of ``n`` samples in ms; ``None`` where n is too small to state one (p90: 64, p99: 662)."""

    n: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    mad_ms: float | None
    """Median absolute deviation, unscaled."""

    @classmethod
    def of(cls, samples_ns: list[float]) -> Statistics:
        """The statistics of samples in ns."""
        summary = judging.summarise(samples_ns)
        return cls(summary.n, *map(_ms, (summary.p50, summary.p90, summary.p99, summary.mad)))


class Measurement(BaseModel):
    """Every sample of one measurement, batch by batch; it round-trips through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: MeasuringProtocol
    """Every knob."""
    samples_ns: tuple[tuple[int, ...], ...]
    """Compute time of each run, batch by batch."""
    canary_ns: tuple[tuple[int, int] | None, ...]
    """The canary's time before and after each batch; ``None`` in a measurement that is not gated."""
    clocks_moved: tuple[bool, ...]
    """Whether the clocks moved, or the device throttled, while the batch ran; such a batch does not count."""
    preempted: tuple[bool, ...]
    """Whether the system took the processor away while the batch ran; such a batch is not gated."""
    fast_state_ns: float | None
    """The canary's fast state by which :attr:`gated` judges."""
    complete: bool
    """Whether as much was accepted as the protocol asks for, by the fast state known then."""
    warmup: WarmUp
    clocks: tuple[Clocks, ...]
    """Readings before, during and after, with what throttled in words; null where the system tells no clocks."""
    upload_ns: tuple[int, ...]
    download_ns: tuple[int, ...]
    timer_overhead_ns: int
    canary_sha256: str
    elapsed_s: float
    pause: Pause | None = None
    """In which the device cooled down beforehand."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len({len(self.samples_ns), len(self.canary_ns), len(self.clocks_moved), len(self.preempted)}) > 1:
            raise ValueError("samples, canaries, clocks and preemptions differ in their number of batches")
        return self

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """The batches, in order."""
        parts = zip(self.samples_ns, self.canary_ns, self.clocks_moved, self.preempted, strict=True)
        return tuple(Batch(*part) for part in parts)

    @property
    def gated(self) -> Statistics:
        """The device's capability: of the batches in the fast state with still clocks."""
        return Statistics.of(self.gated_samples_ns())

    @property
    def ungated(self) -> Statistics:
        """What the machine gave while it was measured: of every batch."""
        return Statistics.of(judging.all_samples(self.batches))

    @property
    def upload_ms(self) -> float:
        """Median time to copy the inputs in."""
        return median(self.upload_ns) / _NS_PER_MS

    @property
    def download_ms(self) -> float:
        """Median time to copy the outputs out."""
        return median(self.download_ns) / _NS_PER_MS

    @property
    def fast_state_ms(self) -> float | None:
        """The canary's fast state by which :attr:`gated` judges."""
        return _ms(self.fast_state_ns)

    def gated_samples_ns(self) -> list[float]:
        """The samples behind :attr:`gated`, in order, with drift divided out if the protocol says so."""
        if self.fast_state_ns is None:
            return []
        return judging.accepted_samples(
            self.batches, self.fast_state_ns, self.protocol.tolerance, self.protocol.correct_drift
        )

    def judged(self, fast_state_ms: float) -> Measurement:
        """The same batches, judged by another fast state."""
        return self.model_copy(update={"fast_state_ns": fast_state_ms * _NS_PER_MS})


def fast_state_ms(measurements: Iterable[Measurement]) -> float | None:
    """The fast state that all these measurements of one device show together, or ``None`` if none was gated."""
    state = judging.fast_state(batch for measurement in measurements for batch in measurement.batches)
    return _ms(state)


def fast_states_ms(measurements: Iterable[Measurement]) -> dict[str, float]:
    """The same of each canary that gated any of them, by its name."""
    by_canary: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        by_canary.setdefault(measurement.protocol.canary, []).append(measurement)
    found = {canary: fast_state_ms(by_canary[canary]) for canary in sorted(by_canary)}
    return {canary: state for canary, state in found.items() if state is not None}


def _ms(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NS_PER_MS
