"""Several engines side by side, for ``hwnas bench``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.cli.console import bars, milliseconds, out, print_json, print_table

if TYPE_CHECKING:
    from hwnas.devices import ScenarioResult, Target
    from hwnas.export import ComparedEngine, Comparison, Contender


@dataclass(frozen=True)
class Ways:
    """Runtimes and precisions in which every model is compiled; None is what the target says."""

    runtimes: tuple[str | None, ...] = (None,)
    precisions: tuple[str | None, ...] = (None,)

    @classmethod
    def parse(cls, runtimes: str | None, precisions: str | None) -> Ways:
        """Each with commas between; a runtime may have its provider after a colon."""
        return cls(*(tuple(text.split(",")) if text else (None,) for text in (runtimes, precisions)))


@dataclass(frozen=True)
class Comparing:
    """The command line's options of a comparison."""

    target: str
    ways: Ways
    scenario: str | None
    seconds: float
    load_generator: str
    rounds: int
    roofline: bool
    html: Path | None
    json: bool


def run_comparison(models: Sequence[Path], asked: Comparing) -> None:
    """Compare, print, and write the page."""
    from hwnas.devices import load_target, open_device, scenario_knobs
    from hwnas.export import CompareOptions, compare

    knobs = None
    if asked.scenario is not None:
        knobs = scenario_knobs(asked.scenario, min_seconds=asked.seconds, generator=asked.load_generator)
    options = CompareOptions(rounds=asked.rounds, scenario=knobs, roofline=asked.roofline)
    with open_device(load_target(asked.target)) as device, bars() as progress:
        contenders = _contenders(models, asked.ways, device.target)
        found = compare(device, contenders, options, progress)
    if asked.html is not None:
        from hwnas.pipeline.comparison_page import comparison_data
        from hwnas.report.comparison_page import write_comparison_page

        write_comparison_page(comparison_data(found), asked.html)
    if asked.json:
        print_json(_as_json(found))
        return
    _print(found)
    if asked.html is not None:
        out.print(f"As a page: [bold]{asked.html}[/]", soft_wrap=True, highlight=False)


def _contenders(models: Sequence[Path], ways: Ways, target: Target) -> list[Contender]:
    """Every model in every way; each is called by what tells it from the others."""
    from hwnas.devices import RuntimeChoice
    from hwnas.export import Contender

    stems = [model.stem for model in models]
    names = stems if len(set(stems)) == len(stems) else [str(model) for model in models]
    found = []
    for name, model in zip(names, models, strict=True):
        for way in ways.runtimes:
            runtime, _, provider = (way or "").partition(":")
            for precision in ways.precisions:
                parts = [name, *_telling(way, ways.runtimes), *_telling(precision, ways.precisions)]
                options = RuntimeChoice(runtime or None, provider or None, precision).options(target)
                found.append(Contender(" ".join(parts), model, options))
    return found


def _telling(value: str | None, all_values: Sequence[str | None]) -> list[str]:
    """The value as a part of a name, where there are several."""
    return [value] if value is not None and len(all_values) > 1 else []


def _as_json(found: Comparison) -> dict[str, object]:
    """Without every single sample, and with what follows from a scenario."""
    content: dict[str, object] = found.model_dump(
        mode="json", by_alias=True, exclude={"engines": {"__all__": {"measurements", "scenario"}}}
    )
    engines = content["engines"]
    assert isinstance(engines, list)
    for record, engine in zip(engines, found.engines, strict=True):
        record["scenario"] = None if engine.scenario is None else engine.scenario.as_json()
    return content


def _print(found: Comparison) -> None:
    rows = [
        [
            engine.name,
            milliseconds(engine.gated.p50_ms),
            milliseconds(engine.ungated.p50_ms),
            milliseconds(engine.ungated.p99_ms),
            "–" if number == 0 else _ratio(engine),
            "–" if engine.ungated.images_per_s is None else f"{engine.ungated.images_per_s:.0f} /s",
            _roofline(engine),
        ]
        for number, engine in enumerate(found.engines)
    ]
    header = ["engine", "p50, gated", "p50", "p99", "against first", "images", "of the roof"]
    print_table(f"Engines on {found.target}, {found.rounds} rounds in turns", header, rows)
    for roofs in found.roofs:
        arithmetic = "–" if roofs.operations_per_s is None else f"{roofs.operations_per_s / 1e9:.4g} Gop/s"
        memory = "–" if roofs.bytes_per_s is None else f"{roofs.bytes_per_s / 1e9:.4g} GB/s"
        reason = "" if roofs.reason is None else f" ({roofs.reason})"
        out.print(f"Roofs in {roofs.precision}: {arithmetic} ({roofs.product}), {memory}{reason}", soft_wrap=True)
    for engine in found.engines:
        if engine.scenario is not None:
            out.print(f"{engine.name}, {_words(engine.scenario)}", soft_wrap=True, markup=False)


def _ratio(engine: ComparedEngine) -> str:
    interval = engine.ratio.interval
    ends = "" if interval is None else f"\n{interval[0]:.3g}–{interval[1]:.3g}"
    return f"{engine.ratio.median:.4g} ×{ends}" + ("" if engine.ratio_gated else "\nungated")


def _roofline(engine: ComparedEngine) -> str:
    line = engine.roofline
    if line is None or line.share is None:
        return "–"
    return f"{100 * line.share:.0f} %\n{line.bound_by}"


def _words(ran: ScenarioResult) -> str:
    """A scenario's figures, by whom they were generated, and how far they are from MLPerf's."""
    load = ran.load
    if ran.knobs.scenario == "offline":
        figure = f"{load.samples_per_s:.1f} samples a second ({load.samples} samples in {load.seconds:.1f} s)"
    else:
        bound = "no bound: too few queries" if ran.bound_ms is None else f"at most {milliseconds(ran.bound_ms)}"
        figure = (
            f"p{100 * ran.knobs.percentile:g} {milliseconds(ran.percentile_ms)}, {bound} by early stopping "
            f"({load.queries} queries in {load.seconds:.1f} s)"
        )
    joules = ran.joules_per_sample
    energy = f"energy not told: {ran.energy.reason}" if joules is None else (
        f"{1e3 * joules:.4g} mJ a sample ({', '.join(ran.energy.of)}, idle included)"
    )  # fmt: skip
    differs = "" if ran.differs_from_mlperf is None else f"; not as MLPerf: {ran.differs_from_mlperf}"
    valid = "" if ran.valid else f"; NOT VALID: {'; '.join(load.reasons)}"
    return f"{ran.knobs.scenario}: {figure}; {energy}; by {load.generator}{differs}{valid}"
