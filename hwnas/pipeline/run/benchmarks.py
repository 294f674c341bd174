"""The step that benchmarks the winner and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hwnas.export import BenchmarkOptions, benchmark
from hwnas.export.benchmark import P99_SAMPLES
from hwnas.files import sha256_of, write_json
from hwnas.pipeline.forms import Form
from hwnas.pipeline.latency import promise_protocol
from hwnas.pipeline.run.models import YARDSTICK, model_path, subnet_model, yardstick_model, yardstick_name
from hwnas.pipeline.run.run import Run
from hwnas.spaces import BlockSpec, Space
from hwnas.spaces.precision import BITS
from hwnas.spaces.yardsticks import mobilenet_v3_small

LARGEST = "largest"


def benchmark_winner(run: Run) -> None:
    """The winner's accuracy, memory and throughput, and those of the yardsticks."""
    written: list[Path] = []

    def measure() -> None:
        winner, largest = run.winner_architecture, run.space.largest
        resolution = winner.resolution
        written.append(_benchmarked(run, winner.id, subnet_model(run, winner), resolution))
        written.append(_benchmarked(run, LARGEST, subnet_model(run, largest), largest.resolution))
        if YARDSTICK in yardsticks_of(run.space):
            untrained = "not trained: a yardstick of latency alone"
            yardstick = yardstick_model(run, resolution)
            written.append(_benchmarked(run, YARDSTICK, yardstick, resolution, untrained=untrained))
        for precision in wider_precisions(run):
            model = subnet_model(run, winner, precision)
            name = str(Form(winner.id, precision))
            written.append(_benchmarked(run, name, model, resolution, precision=precision))

    run.steps.do("benchmark", {"winner": sha256_of(run.winner_path)}, lambda: written, measure)


def yardsticks_of(space: Space) -> tuple[str, ...]:
    """The other networks that the winner is shown beside; a classifier is no measure of what a detector takes."""
    return (LARGEST, YARDSTICK) if space.task == "classification" else (LARGEST,)


def wider_precisions(run: Run) -> tuple[str, ...]:
    """Those wider than the run's that the device computes in as well: the winner is shown beside itself in them."""
    names, options = list(BITS), run.options
    wider = names[names.index(options.precision) + 1 :] if options.precision in BITS else []
    known = run.device.target.runtimes[options.runtime].precisions
    return tuple(name for name in wider if name in known)


def benchmark_path(run: Run, name: str) -> Path:
    """The figures of a benchmarked network: the winner by its :class:`Form`, or a yardstick."""
    return run.directory / "benchmarks" / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Model:
    """An exported network: its ONNX file and its blocks."""

    path: Path
    specs: tuple[BlockSpec, ...]


def benchmarked_model(run: Run, name: str) -> Model:
    """What the benchmark of that name is of."""
    winner, largest = run.winner_architecture, run.space.largest
    if name == YARDSTICK:
        specs = mobilenet_v3_small(winner.resolution, run.dataset.num_classes)
        return Model(model_path(run, yardstick_name(winner.resolution)), tuple(specs))
    if name == LARGEST:
        return Model(model_path(run, largest.id), run.space.blocks(largest))
    return Model(model_path(run, name), run.space.blocks(winner))


def _benchmarked(
    run: Run, name: str, model: Path, resolution: int, untrained: str | None = None, precision: str | None = None
) -> Path:
    """The benchmark of a model, measured if it was not: as the budget's runs arrive."""
    path = benchmark_path(run, name)
    compiled = replace(run.options, precision=precision or run.options.precision)

    def measure() -> None:
        protocol = replace(
            promise_protocol(run.device, run.space), fps=run.config.fps, min_samples=P99_SAMPLES, max_seconds=1.0
        )
        result = benchmark(
            run.device,
            name,
            model,
            None if untrained else run.dataset,
            resolution,
            top1_missing=untrained,
            options=BenchmarkOptions(compile=compiled, measure=protocol),
            progress=run.progress,
        )
        write_json(path, result)

    inputs = {"model": sha256_of(model), "device": run.device.fingerprint(compiled).identity8, **run.limited}
    run.steps.do(f"benchmark/{name}", inputs, lambda: [path], measure)
    return path
