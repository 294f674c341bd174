"""A measurement like trtexec's, and the figures that trtexec prints of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.agent import arrays
from hwnas.agent.queries import Trace
from hwnas.agent.trtexec import TrtexecKnobs, percentile_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NS_PER_MS = 1e6
_BOUND = 0.8
_UNSTABLE_PERCENT = 2.5

HOST_CLOCK = "the host's clock"


@dataclass(frozen=True)
class QueryTimes:
    """One metric of all queries, ms."""

    min: float
    max: float
    mean: float
    median: float
    percentiles: dict[str, float]
    """By per cent, such as ``99``; chosen as trtexec does."""

    @classmethod
    def of(cls, times_ms: NDArray[np.float64], percents: tuple[float, ...]) -> QueryTimes:
        """Of one time for each query."""
        ordered = np.sort(times_ms)
        return cls(
            min=float(ordered[0]),
            max=float(ordered[-1]),
            mean=float(ordered.mean()),
            median=float(np.median(ordered)),
            percentiles={f"{p:g}": float(ordered[percentile_index(len(ordered), p)]) for p in percents},
        )


@dataclass(frozen=True, eq=False)
class QueryMeasurement:
    """Every query after warming up, and all that its times depend on."""

    like: str
    knobs: TrtexecKnobs
    """As they were met: where no GPU computes, those about it are off."""
    clock: str
    depth: int
    """Queries of a stream in flight at most."""
    warmup_queries: int
    traces_ns: NDArray[np.int64]
    """[n, 8]: the columns are those of :class:`hwnas.agent.queries.Trace`, the rows in the order of their begin."""

    @classmethod
    def of(cls, like: str, reply: dict[str, Any]) -> QueryMeasurement:
        """What an agent answered."""
        knobs = reply["knobs"]
        return cls(
            like=like,
            knobs=TrtexecKnobs(**{**knobs, "percentile": tuple(knobs["percentile"])}),
            clock=str(reply["clock"]),
            depth=int(reply["depth"]),
            warmup_queries=int(reply["warmup_queries"]),
            traces_ns=arrays.unpack(reply["traces_ns"]).reshape(-1, len(Trace._fields)),
        )

    @property
    def on_gpu(self) -> bool:
        """Whether the times are between CUDA events."""
        return self.clock != HOST_CLOCK

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(self.traces_ns)

    @cached_property
    def enqueue(self) -> QueryTimes:
        """What the host took to enqueue a query; where it computes itself, the computation."""
        return self._times(self._part_ms("enqueue"))

    @cached_property
    def h2d(self) -> QueryTimes:
        """Copies of the inputs to where they are computed from."""
        return self._times(self._part_ms("h2d"))

    @cached_property
    def compute(self) -> QueryTimes:
        """The inference alone."""
        return self._times(self._part_ms("compute"))

    @cached_property
    def d2h(self) -> QueryTimes:
        """Copies of the outputs back."""
        return self._times(self._part_ms("d2h"))

    @cached_property
    def latency(self) -> QueryTimes:
        """H2D, compute and D2H together, without what a query waited between them."""
        return self._times(self._latency_ms)

    @property
    def host_walltime_s(self) -> float:
        """From where the first query began to where the last one ended."""
        return float(self._column("d2h_end")[-1] - self._column("h2d_start")[0]) / 1e9

    @property
    def total_compute_s(self) -> float:
        """The compute of all queries together."""
        return self.compute.mean * self.queries / 1e3

    @property
    def throughput_qps(self) -> float:
        """Queries a second, each of the engine's batch."""
        return self.queries / self.host_walltime_s

    @property
    def averages_ms(self) -> list[float]:
        """Latency averaged over every ``avgRuns`` successive queries; what is left at the end is left out."""
        whole = self.queries - self.queries % self.knobs.avgRuns
        return [float(mean) for mean in self._latency_ms[:whole].reshape(-1, self.knobs.avgRuns).mean(axis=1)]

    def warnings(self) -> list[str]:
        """What keeps these figures from being the device's best, by trtexec's own thresholds."""
        found = []
        if self.on_gpu and self.enqueue.median > _BOUND * self.compute.median:
            found.append("Throughput may be bound by Enqueue Time rather than by compute; a CUDA graph may raise it.")
        for name, times in {"inputs": self.h2d, "outputs": self.d2h}.items():
            if times.median >= self.compute.median:
                found.append(
                    f"Throughput may be bound by the transfers of the {name}; --noDataTransfers leaves them out."
                )
        if self.variation_percent > _UNSTABLE_PERCENT:
            found.append(
                f"Compute time is unstable, with a coefficient of variance of {self.variation_percent:.3g} %; "
                "locked clocks may steady it."
            )
        if self.knobs.infStreams > 1:
            found.append("Streams share the GPU: read the throughput and not the latencies.")
        return found

    @property
    def variation_percent(self) -> float:
        """Standard deviation of the compute time in per cent of its mean."""
        return 100.0 * float(self._part_ms("compute").std()) / self.compute.mean

    def as_record(self) -> dict[str, Any]:
        """All figures, with all knobs, for JSON."""
        times = ("latency", "enqueue", "h2d", "compute", "d2h")
        return {
            "like": self.like,
            "knobs": self.knobs.as_record(),
            "clock": self.clock,
            "depth": self.depth,
            "warmup_queries": self.warmup_queries,
            "queries": self.queries,
            "throughput_qps": self.throughput_qps,
            **{f"{name}_ms": asdict(getattr(self, name)) for name in times},
            "host_walltime_s": self.host_walltime_s,
            "total_compute_s": self.total_compute_s,
            "compute_variation_percent": self.variation_percent,
            "latency_averages_ms": self.averages_ms,
            "warnings": self.warnings(),
        }

    def trace_records(self) -> list[dict[str, float]]:
        """One record a query, by the names of trtexec's ``--exportTimes``; ms."""
        names = [f"{edge}{part}Ms" for part in ("Enq", "H2d", "Compute", "D2h") for edge in ("start", "end")]
        records = [dict(zip(names, row, strict=True)) for row in (self.traces_ns / _NS_PER_MS).tolist()]
        parts = zip(self._part_ms("h2d"), self._part_ms("compute"), self._part_ms("d2h"), self._latency_ms, strict=True)
        for record, (h2d, compute, d2h, latency) in zip(records, parts, strict=True):
            record.update(h2dMs=float(h2d), computeMs=float(compute), d2hMs=float(d2h), latencyMs=float(latency))
        return records

    @cached_property
    def _latency_ms(self) -> NDArray[np.float64]:
        return self._part_ms("h2d") + self._part_ms("compute") + self._part_ms("d2h")

    def _times(self, times_ms: NDArray[np.float64]) -> QueryTimes:
        return QueryTimes.of(times_ms, self.knobs.percentile)

    def _part_ms(self, name: str) -> NDArray[np.float64]:
        return (self._column(f"{name}_end") - self._column(f"{name}_start")) / _NS_PER_MS

    def _column(self, name: str) -> NDArray[np.int64]:
        column: NDArray[np.int64] = self.traces_ns[:, Trace._fields.index(name)]
        return column


def patience_s(knobs: TrtexecKnobs) -> float:
    """How long a host waits for a measurement: long after it should have ended."""
    idle_s = (knobs.sleepTime + knobs.iterations * knobs.idleTime) / 1e3
    return 120.0 + 3.0 * (knobs.duration + knobs.warmUp / 1e3 + idle_s) + knobs.iterations
