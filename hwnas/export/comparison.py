"""Engines side by side: timed in turns in one sitting, so that what the machine does meanwhile happens to all alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hwnas.agent.scenarios import ScenarioKnobs
from hwnas.devices import CompileOptions, Device, Engine, Measurement, MeasureOptions, ScenarioResult
from hwnas.errors import UserError
from hwnas.export.benchmark import P99_SAMPLES, compiled
from hwnas.export.engine_figures import EngineFigures, all_ns, gated_ns
from hwnas.export.roofline import Roofline, Roofs, measure_roofs, work_of
from hwnas.files import Document, read_bytes
from hwnas.progress import Progress, Silent

_CONFIDENCE = 0.95
_LEAST_ROUNDS = 6
"""Fewest that give an interval."""


@dataclass(frozen=True)
class Contender:
    """An ONNX file and how it is compiled."""

    name: str
    path: Path
    options: CompileOptions


@dataclass(frozen=True)
class CompareOptions:
    """How engines are compared.

    Attributes:
        rounds: how often each is timed, in turns; six at least for an interval.
        measure: the protocol of one turn; None: as many samples as state a p99 over all rounds, 1 s at most.
        scenario: one of MLPerf's, run on each engine afterwards, with the energy that it takes; None for none.
        roofline: whether the device's roofs are measured.
    """

    rounds: int = 9
    measure: MeasureOptions | None = None
    scenario: ScenarioKnobs | None = None
    roofline: bool = True

    @property
    def turn(self) -> MeasureOptions:
        """The protocol of one turn."""
        return self.measure or MeasureOptions(min_samples=ceil(P99_SAMPLES / self.rounds), max_seconds=1.0)


class Ratio(BaseModel):
    """How much longer than the first engine another takes: the median over rounds of the ratio of medians.

    Attributes:
        interval: of the median, at 95 % by order statistics, which suppose no distribution; None below six rounds.
        by_round: each round's ratio.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float
    interval: tuple[float, float] | None
    by_round: tuple[float, ...]

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        """Of one ratio for each round."""
        from scipy.stats import binom  # takes a second

        ordered = sorted(ratios)
        below = int(binom.ppf((1 - _CONFIDENCE) / 2, len(ordered), 0.5))
        # The k-th smallest and k-th largest miss the median with 2 P[Binomial(n, 1/2) < k].
        k = below if 2 * binom.cdf(below - 1, len(ordered), 0.5) <= 1 - _CONFIDENCE else below - 1
        interval = (ordered[k - 1], ordered[-k]) if k >= 1 else None
        return cls(median=statistics.median(ordered), interval=interval, by_round=tuple(ratios))


class ComparedEngine(EngineFigures):
    """One engine's figures, and how it compares; it has a measurement for each round.

    Attributes:
        ratio: to the first engine, in time for one image; ``ratio_gated``: whether of gated samples alone.
        roofline: None where it was not asked for or cannot be counted, with ``roofline_missing``.
        scenario: None where none was asked for.
    """

    ratio: Ratio
    ratio_gated: bool
    roofline: Roofline | None
    roofline_missing: str | None
    scenario: ScenarioResult | None


class Comparison(Document):
    """Engines of one device side by side; the first is what the others are compared with."""

    target: str
    created: datetime
    identity8: tuple[str, ...]
    """Of the device's fingerprint with each engine's runtime and options."""
    identity: dict[str, object]
    """Of the first."""
    rounds: int
    roofs: tuple[Roofs, ...]
    engines: tuple[ComparedEngine, ...]


def compare(
    device: Device,
    contenders: Sequence[Contender],
    options: CompareOptions | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compile all, time them in turns, then run the scenario and measure memory and roofs.

    Raises:
        UserError: there are no contenders, two have one name, or their inputs do not fit a scenario.
        BadFileError: a file is missing.
        RefusedError: the runtime refused a model.
        DeviceError: the device failed.
    """
    options, progress = options or CompareOptions(), progress or Silent()
    _check(contenders, options)
    contents = [read_bytes(contender.path, what="model") for contender in contenders]
    with ExitStack() as stack:
        engines = [
            stack.enter_context(compiled(device, content, contender.options))
            for contender, content in zip(contenders, contents, strict=True)
        ]
        turns = _timed(device, engines, options, progress)
        turns = _judged_alike(turns, [(c.options.runtime, c.options.provider) for c in contenders])
        roofs = _roofs(device, contenders, progress) if options.roofline else {}
        progress.start("scenario and memory", len(engines), unit="engines")
        found = []
        for number, engine in enumerate(engines):
            ran = None if options.scenario is None else device.run_scenario(engine, options.scenario)
            pair = (turns[number], turns[0])
            first_batch = engines[0].inputs[0].shape[0]
            found.append(_figures(device, contenders[number], contents[number], engine, pair, first_batch, ran, roofs))
            progress.advance()
        progress.finish()
    fingerprints = [device.fingerprint(contender.options) for contender in contenders]
    return Comparison(
        target=device.target.name,
        created=datetime.now(UTC),
        identity8=tuple(fingerprint.identity8 for fingerprint in fingerprints),
        identity=dict(fingerprints[0].identity),
        rounds=options.rounds,
        roofs=tuple(roofs.values()),
        engines=tuple(found),
    )


def _check(contenders: Sequence[Contender], options: CompareOptions) -> None:
    names = [contender.name for contender in contenders]
    if not names:
        raise UserError("There is nothing to compare; give at least one model.")
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"Two engines are called '{double}'; rename one of the files.")
    if options.rounds < 1:
        raise UserError(f"Engines are timed in at least one round, not {options.rounds}.")


def _timed(
    device: Device, engines: Sequence[Engine], options: CompareOptions, progress: Progress
) -> list[list[Measurement]]:
    """A measurement of each engine in each round; each round begins with another engine."""
    turns: list[list[Measurement]] = [[] for _ in engines]
    soak_s = device.target.promise_soak_s
    progress.start("timing in turns", options.rounds * len(engines), unit="turns")
    for number in range(options.rounds):
        for position in range(len(engines)):
            index = (position + number) % len(engines)
            soak = replace(options.turn, soak_seconds=soak_s if number == 0 else 0.0)
            turns[index].append(device.measure(engines[index], soak))
            progress.advance()
    progress.finish()
    return turns


def _judged_alike(
    turns: Sequence[Sequence[Measurement]], canaries: Sequence[tuple[str, str | None]]
) -> list[list[Measurement]]:
    """All measurements that one canary gated, judged by the fastest state that it showed in all of them."""
    fastest: dict[tuple[str, str | None], float] = {}
    for canary, own in zip(canaries, turns, strict=True):
        states = [turn.fast_state_ms for turn in own if turn.fast_state_ms is not None]
        if states:
            fastest[canary] = min(*states, fastest.get(canary, states[0]))
    return [
        [turn.judged(fastest[canary]) if canary in fastest else turn for turn in own]
        for canary, own in zip(canaries, turns, strict=True)
    ]


def _roofs(device: Device, contenders: Sequence[Contender], progress: Progress) -> dict[CompileOptions, Roofs]:
    """Of every way in which an engine was compiled."""
    ways = list(dict.fromkeys(contender.options for contender in contenders))
    progress.start("roofs", len(ways), unit="precisions")
    found = {}
    for way in ways:
        found[way] = measure_roofs(device, way)
        progress.advance()
    progress.finish()
    return found


def _figures(
    device: Device,
    contender: Contender,
    content: bytes,
    engine: Engine,
    turns: tuple[Sequence[Measurement], Sequence[Measurement]],
    first_batch: int,
    scenario: ScenarioResult | None,
    roofs: dict[CompileOptions, Roofs],
) -> ComparedEngine:
    own, first = turns
    figures = EngineFigures.of(device, contender.name, len(content), engine, own)
    ratio, of_gated = _ratio(own, first, figures.batch / first_batch)
    p50_ms = figures.gated.p50_ms or figures.ungated.p50_ms
    roofline, missing = _roofline(contender.options, content, roofs, p50_ms)
    return ComparedEngine(
        **dict(figures),
        ratio=ratio,
        ratio_gated=of_gated,
        roofline=roofline,
        roofline_missing=missing,
        scenario=scenario,
    )


def _ratio(own: Sequence[Measurement], first: Sequence[Measurement], images: float) -> tuple[Ratio, bool]:
    """The ratio for one image, and whether it is of gated samples; ``images`` is the ratio of both batches."""
    gated, ungated = (
        [
            statistics.median(mine) / statistics.median(theirs) / images
            for mine, theirs in ((samples([a]), samples([b])) for a, b in zip(own, first, strict=True))
            if mine and theirs
        ]
        for samples in (gated_ns, all_ns)
    )
    enough = len(gated) >= min(_LEAST_ROUNDS, len(own))
    return Ratio.of(gated if enough else ungated), enough


def _roofline(
    options: CompileOptions, content: bytes, roofs: dict[CompileOptions, Roofs], p50_ms: float | None
) -> tuple[Roofline | None, str | None]:
    """The engine under its roofs, or why there is none."""
    if options not in roofs:
        return None, "it was not asked for"
    if p50_ms is None:
        return None, "there are too few samples"
    try:
        return Roofline.of(work_of(content, options.precision), roofs[options], p50_ms / 1e3), None
    except ValueError as error:
        return None, f"its work cannot be counted: {error}"
