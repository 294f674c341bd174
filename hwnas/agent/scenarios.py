"""MLPerf's single-machine scenarios on an engine of this device.

* single-stream: one sample a query, the next query as soon as the last is answered; figure: a high percentile.
* multi-stream: eight samples a query, likewise.
* offline: all samples in one query; figure: samples a second.

A query goes from the host's memory to outputs in the host's memory: copy in, compute, copy out.  It is generated here,
on the device, so that no pipe or network is in its time.  Where the package mlcommons-loadgen is installed, MLPerf's
own LoadGen generates it (:mod:`hwnas.agent.loadgen`), elsewhere :class:`Scheduler`, by the same rules.
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass, fields
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from . import early_stopping
from .arrays import Array
from .judging import order_statistic
from .measuring import seeded_inputs
from .protocol import AgentError, ErrorKind, Fields, Message
from .runtimes import Engine, TensorInfo

SCENARIOS = ("single-stream", "multi-stream", "offline")
GENERATORS = ("auto", "loadgen", "hwnas")
PERCENTILES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)
OWN_NAME = "hwnas scheduler (not LoadGen)"
_WARM_QUERIES = 8
_MARGIN = 1.1
"""How many more samples than its least time needs an offline query has; LoadGen's own."""


@dataclass(frozen=True)
class ScenarioKnobs:
    """Every knob of a scenario; it goes into the reply."""

    scenario: str = "single-stream"
    percentile: float = 0.9
    """Which one is the figure; MLPerf: 0.9 in single-stream, 0.99 in multi-stream."""
    samples_per_query: int = 1
    """MLPerf: 8 in multi-stream; of no account offline."""
    min_queries: int = 64
    """Fewest that bound the percentile; offline, fewest samples."""
    min_seconds: float = 10.0
    """MLPerf asks a submission for 600."""
    max_seconds: float = 120.0
    distinct_samples: int = 64
    """How many different inputs the queries draw from."""
    generator: str = "auto"
    """``loadgen``, ``hwnas``, or LoadGen where it is installed."""
    seed: int = 0

    @classmethod
    def from_message(cls, message: Message) -> "ScenarioKnobs":
        """The knobs that ``message`` names, each checked, and the defaults of the others.

        Raises:
            AgentError: ``bad-request``.
        """
        given = Fields(message)
        knobs: Dict[str, Any] = {}
        for knob in fields(ScenarioKnobs):
            default: Any = knob.default
            if isinstance(default, str):
                knobs[knob.name] = given.text(knob.name, default)
            elif isinstance(default, int):
                knobs[knob.name] = given.integer(knob.name, default, least=0 if knob.name == "seed" else 1)
            else:
                knobs[knob.name] = given.number(knob.name, default)
        _check(knobs["scenario"] in SCENARIOS, "scenario", "one of " + ", ".join(SCENARIOS), knobs["scenario"])
        _check(knobs["generator"] in GENERATORS, "generator", "one of " + ", ".join(GENERATORS), knobs["generator"])
        _check(0 < knobs["percentile"] < 1, "percentile", "between 0 and 1", knobs["percentile"])
        _check(knobs["max_seconds"] > 0, "max_seconds", "positive", knobs["max_seconds"])
        return cls(**knobs)


class SystemUnderTest:
    """An engine and the samples that queries name, which lie in the host's memory; it keeps account of its answers."""

    def __init__(self, engine: Engine, knobs: ScenarioKnobs, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """``clock`` gives ns; it is replaced in tests.

        Raises:
            AgentError: ``bad-request`` where the engine's inputs have no common batch, or it takes more at once than
                a query has.
        """
        self._engine = engine
        self.batch = _common_batch(engine.inputs)
        if knobs.scenario != "offline" and self.batch > knobs.samples_per_query:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "the engine takes %d samples at once, a query of %s has %d; compile it with batch %d"
                % (self.batch, knobs.scenario, knobs.samples_per_query, knobs.samples_per_query),
            )
        count = max(knobs.distinct_samples, self.batch)
        one = [TensorInfo(tensor.name, tensor.dtype, (count, *tensor.shape[1:])) for tensor in engine.inputs]
        self._samples = seeded_inputs(one, knobs.seed)
        self._batches = [samples[: self.batch].copy() for samples in self._samples]
        self._clock = clock
        self.count = count
        self.forget()

    def forget(self) -> None:
        """Begin the account anew."""
        self._begin: Optional[int] = None
        self.end_ns = 0
        """The last answer's end, by the clock."""
        self.answering_ns = 0
        """Time within answers."""

    @property
    def begin_ns(self) -> int:
        """The first answer's beginning, by the clock."""
        return self.end_ns if self._begin is None else self._begin

    @property
    def seconds(self) -> float:
        """From the first answer's beginning to the last one's end."""
        return (self.end_ns - self.begin_ns) / 1e9

    def answer(self, indices: Sequence[int]) -> List[Array]:
        """Run the samples through the engine, batch by batch, the last one padded; gives the last batch's outputs."""
        start = self._clock()
        if self._begin is None:
            self._begin = start
        outputs: List[Array] = []
        for first in range(0, len(indices), self.batch):
            self._engine.upload(self._gathered(indices[first : first + self.batch]))
            self._engine.run()
            outputs = self._engine.download()
        self.end_ns = self._clock()
        self.answering_ns += self.end_ns - start
        return outputs

    def _gathered(self, chosen: Sequence[int]) -> Sequence[Array]:
        if self.batch == 1:
            return [samples[chosen[0] : chosen[0] + 1] for samples in self._samples]
        for number, samples in enumerate(self._samples):
            self._batches[number][: len(chosen)] = samples[list(chosen)]
        return self._batches


@dataclass(frozen=True)
class Load:
    """What a generator found; times in ns."""

    generator: str
    queries: int
    samples: int
    seconds: float
    """From the first query's beginning to the last one's end."""
    percentiles_ns: Tuple[Tuple[float, float], ...]
    """Percentile and the queries' time at it; empty offline, where there is one query."""
    bound_ns: Optional[float]
    """What the scenario's percentile is at most, by early stopping; ``None`` where there are too few queries."""
    samples_per_s: float
    answering_s: float
    """Time within the engine and its copies, of ``seconds``; the rest is the generator's."""
    reasons: Tuple[str, ...]
    """Why the run is not valid; empty where it is."""
    log: Optional[Dict[str, Any]] = None
    """LoadGen's own results, by its own names."""

    def as_record(self) -> Dict[str, Any]:
        """For the reply."""
        return asdict(self)


class Scheduler:
    """Generates queries by LoadGen's rules where LoadGen is not installed."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """``clock`` gives ns; it is replaced in tests."""
        self._clock = clock

    def run(self, sut: SystemUnderTest, knobs: ScenarioKnobs, expected_ns: float) -> Load:
        """Issue queries until there are enough; ``expected_ns`` is what a query, offline a sample, takes."""
        draw = random.Random(knobs.seed)  # noqa: S311 - which input is next needs no secrecy
        if knobs.scenario == "offline":
            samples = offline_samples(knobs, expected_ns)
            sut.answer([draw.randrange(sut.count) for _ in range(samples)])
            return self._load(sut, knobs, [], samples, sut.seconds)
        latencies: List[int] = []
        begin = self._clock()
        while self._wanting(knobs, len(latencies), (self._clock() - begin) / 1e9):
            indices = [draw.randrange(sut.count) for _ in range(knobs.samples_per_query)]
            start = self._clock()
            sut.answer(indices)
            latencies.append(self._clock() - start)
        elapsed = (self._clock() - begin) / 1e9
        return self._load(sut, knobs, latencies, len(latencies) * knobs.samples_per_query, elapsed)

    @staticmethod
    def _wanting(knobs: ScenarioKnobs, queries: int, seconds: float) -> bool:
        enough = queries >= knobs.min_queries and seconds >= knobs.min_seconds
        return queries == 0 or (not enough and seconds < knobs.max_seconds)

    @staticmethod
    def _load(sut: SystemUnderTest, knobs: ScenarioKnobs, latencies: List[int], samples: int, elapsed: float) -> Load:
        counted = len(latencies) if latencies else samples
        return Load(
            generator=OWN_NAME,
            queries=len(latencies) or 1,
            samples=samples,
            seconds=sut.seconds,
            percentiles_ns=tuple((p, order_statistic(latencies, p)) for p in PERCENTILES if latencies),
            bound_ns=early_stopping.bound(latencies, knobs.percentile),
            samples_per_s=samples / sut.seconds,
            answering_s=sut.answering_ns / 1e9,
            reasons=tuple(_shortcomings(knobs, counted, elapsed)),
        )


def offline_samples(knobs: ScenarioKnobs, expected_ns: float) -> int:
    """How many samples the one query of the offline scenario has."""
    wanted = max(knobs.min_queries, int(_MARGIN * knobs.min_seconds * 1e9 / expected_ns) + 1)
    return max(1, min(wanted, int(knobs.max_seconds * 1e9 / expected_ns)))


def expected_ns(sut: SystemUnderTest, knobs: ScenarioKnobs, clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """What a query, offline a sample, takes at its fastest, by a few queries that warm up."""
    # The fastest, since a generator that expects too much time prepares too few queries to last as long as is asked.
    size = sut.batch if knobs.scenario == "offline" else knobs.samples_per_query
    times = []
    for number in range(_WARM_QUERIES):
        start = clock()
        sut.answer([(number + k) % sut.count for k in range(size)])
        times.append(clock() - start)
    sut.forget()
    fastest = float(max(min(times), 1))
    return fastest / size if knobs.scenario == "offline" else fastest


def _shortcomings(knobs: ScenarioKnobs, found: int, seconds: float) -> Iterator[str]:
    what = "samples" if knobs.scenario == "offline" else "queries"
    if found < knobs.min_queries:
        yield "%d %s of at least %d" % (found, what, knobs.min_queries)
    if seconds < knobs.min_seconds:
        yield "%.3g s of at least %.3g s" % (seconds, knobs.min_seconds)


def _common_batch(inputs: Sequence[TensorInfo]) -> int:
    batches = {tensor.shape[0] if tensor.shape else 0 for tensor in inputs}
    if len(batches) != 1 or 0 in batches:
        raise AgentError(ErrorKind.BAD_REQUEST, "a scenario needs inputs that all begin with the same batch dimension")
    return batches.pop()


def _check(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise AgentError(ErrorKind.BAD_REQUEST, "field '%s' must be %s, found %s" % (name, expected, repr(found)[:60]))
