"""``hwnas bench --like trtexec-11``: a model measured as trtexec measures, told in trtexec's words."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from hwnas.cli.console import bars, out, print_json

if TYPE_CHECKING:
    from hwnas.devices import Engine
    from hwnas.devices.queries import QueryMeasurement, QueryTimes

_PANEL = "With --like, by trtexec's names"


def _option(*names: str, text: str, least: float | None = None) -> Any:
    return typer.Option(*names, help=text, min=least, rich_help_panel=_PANEL)


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "warmUp": (float, _option("--warmUp", text="Milliseconds that do not count.", least=0)),
    "duration": (float, _option("--duration", text="Seconds to measure at least.", least=0)),
    "iterations": (int, _option("--iterations", text="Queries to measure at least.", least=1)),
    "avgRuns": (int, _option("--avgRuns", text="Successive queries that are averaged.", least=1)),
    "percentile": (str, _option("--percentile", text="Percentiles with commas between.")),
    "sleepTime": (float, _option("--sleepTime", text="Milliseconds that the GPU begins later.", least=0)),
    "idleTime": (float, _option("--idleTime", text="Milliseconds to sleep after each query.", least=0)),
    "infStreams": (int, _option("--infStreams", "--streams", text="Contexts beside each other.", least=1)),
    "exposeDMA": (bool, _option("--exposeDMA", text="Enqueue no query ahead.")),
    "noDataTransfers": (bool, _option("--noDataTransfers/--includeDataTransfers", text="Leave copies out.")),
    "useSpinWait": (bool, _option("--useSpinWait/--noSpinWait", text="Spin while waiting.")),
    "useCudaGraph": (bool, _option("--useCudaGraph/--noCudaGraph", text="Launch a query as one graph.")),
    "useManagedMemory": (bool, _option("--useManagedMemory", text="Cannot be met.")),
    "threads": (bool, _option("--threads", text="Cannot be met.")),
    "timeRefit": (bool, _option("--timeRefit", text="Cannot be met.")),
    "separateProfileRun": (bool, _option("--separateProfileRun", text="Is always so.")),
    "timeDeserialize": (bool, _option("--timeDeserialize", text="Time the loading of the engine, and nothing else.")),
    "skipInference": (bool, _option("--skipInference", text="Build only.")),
    "exportTimes": (Path, _option("--exportTimes", text="Write every query's times as JSON, by trtexec's names.")),
}
"""A parameter's name to its type and its option; ``None`` is as the generation of ``--like`` has it."""


def with_trtexec_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command trtexec's options; it gets those that were given in its parameter ``trtexec``."""

    @functools.wraps(function)
    def wrapped(**arguments: Any) -> None:
        asked = {name: arguments.pop(name) for name in _OPTIONS}
        function(**arguments, trtexec={name: value for name, value in asked.items() if value is not None})

    own = [part for name, part in inspect.signature(function).parameters.items() if name != "trtexec"]
    hints = get_type_hints(function, include_extras=True)
    added = {name: Annotated[kind | None, option] for name, (kind, option) in _OPTIONS.items()}
    wrapped.__annotations__ = {part.name: hints[part.name] for part in own} | added | {"return": None}
    parameters = [part.replace(annotation=hints[part.name]) for part in own]
    for name, annotation in added.items():
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return wrapped


@dataclass(frozen=True)
class LikeOptions:
    """The command's other options."""

    target: str
    runtime: str | None
    precision: str | None
    data: str | None
    scenario: str | None
    html: Path | None
    json: bool


def measure_like(models: Sequence[Path], like: str | None, trtexec: dict[str, Any], options: LikeOptions) -> None:
    """Compile one model, measure it, and print trtexec's summary of it."""
    from hwnas.devices import RuntimeChoice, load_target, open_device
    from hwnas.export.benchmark import compiled
    from hwnas.files import read_bytes, write_json

    like, given, asked = _parsed(models, like, trtexec, options)
    runtime, _, provider = (options.runtime or "").partition(":")
    target = load_target(options.target)
    choice = RuntimeChoice(runtime or None, provider or None, options.precision).options(target)
    content = read_bytes(models[0], what="model")
    with open_device(target) as device, bars() as progress:
        progress.start(f"{models[0].name} like {like}", 2, unit="steps")
        with compiled(device, content, choice) as engine:
            progress.advance(note="built")
            facts = _facts(models[0], target.name, device.fingerprint(choice).identity8, engine)
            loads_s = device.time_loading(engine) if asked.time_loading else []
            timed = not (asked.skip_inference or asked.time_loading)
            found = device.measure_like_trtexec(engine, like, given) if timed else None
            progress.advance(note="measured")
        progress.finish()
    if found is not None and asked.export_times is not None:
        write_json(asked.export_times, found.trace_records())
    if options.json:
        print_json({**facts, **({"loads_s": loads_s} if loads_s else {}), **(found.as_record() if found else {})})
        return
    out.print(f"[bold]{models[0]} on {target.name}, like {like}[/]", highlight=False)
    for line in [_build_line(engine), *_loading_lines(loads_s), *(summary_lines(found) if found else [])]:
        out.print(line, soft_wrap=True, highlight=False, markup=False)


def _facts(model: Path, target: str, identity8: str, engine: Engine) -> dict[str, Any]:
    """What a figure of this engine is a figure of."""
    return {
        "model": str(model),
        "onnx_sha256": engine.onnx_sha256,
        "target": target,
        "identity8": identity8,
        "runtime": engine.options.runtime,
        "provider": engine.options.provider,
        "precision": engine.options.precision,
        "threads": engine.options.threads,
        "build_s": engine.build_s,
        "load_s": engine.load_s,
        "engine_bytes": engine.size_bytes,
    }


@dataclass(frozen=True)
class _Asked:
    """What of trtexec's options is not a knob of the measurement."""

    skip_inference: bool
    time_loading: bool
    export_times: Path | None


def _parsed(
    models: Sequence[Path], like: str | None, trtexec: dict[str, Any], options: LikeOptions
) -> tuple[str, dict[str, Any], _Asked]:
    """The generation, the knobs given, and the rest; anything that does not go together is refused."""
    from hwnas.agent.protocol import AgentError
    from hwnas.agent.trtexec import GENERATIONS, TrtexecKnobs
    from hwnas.errors import UserError

    if like is None:
        raise UserError(f"--{next(iter(trtexec))} is trtexec's; give --like {' or --like '.join(GENERATIONS)} with it.")
    several = len(models) > 1 or "," in f"{options.runtime}{options.precision}"
    if several or options.data or options.scenario or options.html:
        raise UserError(
            "With --like one model is measured in one way; leave out other models, --data, --scenario, --html."
        )
    given = dict(trtexec)
    asked = _Asked(
        given.pop("skipInference", False), given.pop("timeDeserialize", False), given.pop("exportTimes", None)
    )
    if asked.export_times is not None and (asked.skip_inference or asked.time_loading):
        raise UserError("--exportTimes needs queries; leave --skipInference and --timeDeserialize out.")
    if "percentile" in given:
        given["percentile"] = _numbers(given["percentile"])
    try:
        TrtexecKnobs.like(like, given)
    except AgentError as error:
        raise UserError(f"--like {like}: {error.message}.") from error
    return like, given, asked


def _numbers(text: str) -> list[float]:
    from hwnas.errors import UserError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--percentile takes numbers with commas between, such as 90,95,99, found '{text}'.") from error


def summary_lines(found: QueryMeasurement) -> list[str]:
    """trtexec's summary, line by line, by trtexec's names."""
    compute = "GPU Compute Time" if found.on_gpu else "Compute Time"
    averages = found.averages_ms
    lines = [
        f"Timed by {found.clock}",
        f"Warmup completed {found.warmup_queries} queries over {found.knobs.warmUp:g} ms",
        f"Timing trace has {found.queries} queries over {found.host_walltime_s:.6g} s",
    ]
    if averages:
        lines.append(
            f"Trace averages of {found.knobs.avgRuns} runs: {len(averages)}, "
            f"from {min(averages):.6g} to {max(averages):.6g} ms of latency"
        )
    lines += [
        "=== Performance summary ===",
        f"Throughput: {found.throughput_qps:.6g} qps",
        f"Latency: {_times(found.latency)}",
        f"Enqueue Time: {_times(found.enqueue)}",
        f"H2D Latency: {_times(found.h2d)}",
        f"{compute}: {_times(found.compute)}",
        f"D2H Latency: {_times(found.d2h)}",
        f"Total Host Walltime: {found.host_walltime_s:.6g} s",
        f"Total {compute}: {found.total_compute_s:.6g} s",
        *(f"* {warning}" for warning in found.warnings()),
    ]
    if not found.on_gpu:
        lines.append(
            "* The runtime is called query by query, each waited for: nothing is enqueued ahead, Enqueue Time is "
            "Compute Time, and the knobs about a GPU are off."
        )
    knobs = found.knobs.as_record().items()
    lines.append("Knobs: " + ", ".join(f"{name}={_knob(value)}" for name, value in knobs))
    return lines


def _times(times: QueryTimes) -> str:
    percentiles = "".join(f", percentile({p}%) = {value:.6g} ms" for p, value in times.percentiles.items())
    return (
        f"min = {times.min:.6g} ms, max = {times.max:.6g} ms, mean = {times.mean:.6g} ms, "
        f"median = {times.median:.6g} ms{percentiles}"
    )


def _knob(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" for part in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _build_line(engine: Engine) -> str:
    return f"Built in {engine.build_s:.2f} s, loaded in {engine.load_s:.2f} s, {engine.size_bytes / 2**20:.2f} MiB"


def _loading_lines(loads_s: list[float]) -> list[str]:
    if not loads_s:
        return []
    average = sum(loads_s[1:]) / len(loads_s[1:])
    return [
        f"Loading (deserialising, a context, its buffers): first {1e3 * loads_s[0]:.4g} ms, "
        f"average of {len(loads_s) - 1} more {1e3 * average:.4g} ms"
    ]
