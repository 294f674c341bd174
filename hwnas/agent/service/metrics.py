"""What the service counts, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional

from ..judging import LEAST_SAMPLES, order_statistic

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RECENT = 1000
"""The p99 is that of so many requests, the last ones."""
KEPT = 10_000
"""Of no more requests it is known when they were answered."""
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Sample(NamedTuple):
    """One value of a metric."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


class Metric(NamedTuple):
    """A metric with its samples."""

    name: str
    kind: str
    says: str
    samples: Iterable[Sample]


class Answered(NamedTuple):
    """A request for inference that was met."""

    at_s: float
    took_ms: float


class Metrics:
    """Counters since the start of the service; any thread may count."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` is replaced in tests."""
        self._now = now
        self._lock = threading.Lock()
        self._requests: "Counter[int]" = Counter()
        self._switches: "Counter[str]" = Counter({"slot": 0, "budget": 0, "throttling": 0})
        self._refused_slots = 0
        self._in_bucket = [0] * (len(BUCKETS_S) + 1)
        self._seconds = 0.0
        self._recent: Deque[Answered] = deque(maxlen=KEPT)

    def answered(self, status: int, seconds: float) -> None:
        """A request for inference was answered, so long after it was read."""
        with self._lock:
            self._requests[status] += 1
            if status == 200:
                self._in_bucket[bisect_left(BUCKETS_S, seconds)] += 1
                self._seconds += seconds
                self._recent.append(Answered(self._now(), 1e3 * seconds))

    def switched(self, cause: str) -> None:
        """Another model serves: by ``slot``, ``budget`` or ``throttling``."""
        with self._lock:
            self._switches[cause] += 1

    def refused_slot(self) -> None:
        """A slot could not be loaded."""
        with self._lock:
            self._refused_slots += 1

    def p99_ms(self) -> Optional[float]:
        """Of the last :data:`RECENT` requests that were met; ``None`` while they are too few to state one."""
        with self._lock:
            recent = list(self._recent)[-RECENT:]
        return _p99_ms(recent)

    def lately(self, seconds: float) -> Dict[str, Any]:
        """Of the requests that were met in the last ``seconds``: how many they are, the p99 if they are enough to state
        it, and the slowest.
        """
        with self._lock:
            recent = list(self._recent)
        within = [one for one in recent if one.at_s >= self._now() - seconds]
        return {
            "seconds": round(seconds, 3),
            "requests": len(within),
            "p99_ms": _p99_ms(within),
            "slowest_ms": round(max(one.took_ms for one in within), 3) if within else None,
        }

    def render(self, state: Iterable[Metric]) -> str:
        """All counters, and what ``state`` adds of the present."""
        with self._lock:
            lines = [line for metric in (*self._counted(), *state) for line in _lines(metric)]
        return "\n".join(lines) + "\n"

    def _counted(self) -> Iterator[Metric]:
        by_status = [Sample(count, {"code": str(code)}) for code, count in sorted(self._requests.items())]
        failures = sum(count for code, count in self._requests.items() if code >= 500)
        switches = [Sample(count, {"cause": cause}) for cause, count in sorted(self._switches.items())]
        yield Metric("hwnas_requests_total", "counter", "Requests for inference, by the answer's status.", by_status)
        yield Metric(
            "hwnas_failures_total",
            "counter",
            "Requests for inference not met by the service's fault.",
            [Sample(failures)],
        )
        yield Metric(
            "hwnas_request_seconds", "histogram", "From the request read to the answer ready.", self._histogram()
        )
        yield Metric("hwnas_switches_total", "counter", "Changes of the model that serves, by cause.", switches)
        yield Metric(
            "hwnas_refused_slots_total",
            "counter",
            "Active slots that could not be loaded.",
            [Sample(self._refused_slots)],
        )

    def _histogram(self) -> List[Sample]:
        samples, total = [], 0
        for bound, count in zip([*map(repr, BUCKETS_S), "+Inf"], self._in_bucket):
            total += count
            samples.append(Sample(total, {"le": bound}, "_bucket"))
        return [*samples, Sample(self._seconds, suffix="_sum"), Sample(total, suffix="_count")]


def _p99_ms(answered: List[Answered]) -> Optional[float]:
    if len(answered) < LEAST_SAMPLES[0.99]:
        return None
    return round(order_statistic([one.took_ms for one in answered], 0.99), 3)


def _lines(metric: Metric) -> Iterator[str]:
    yield "# HELP %s %s" % (metric.name, metric.says)
    yield "# TYPE %s %s" % (metric.name, metric.kind)
    for sample in metric.samples:
        yield "%s%s%s %r" % (metric.name, sample.suffix, _labels(sample.labels), sample.value)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{%s}" % ",".join('%s="%s"' % (name, _escaped(value)) for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
