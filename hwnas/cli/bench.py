"""``hwnas bench``: ONNX files, compiled and measured on a target, one alone or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.bench_like import LikeOptions, measure_like, with_trtexec_options
from hwnas.cli.console import JsonOption, bars, command, milliseconds, out, percent, print_json, print_table

if TYPE_CHECKING:
    from hwnas.classification import Classification
    from hwnas.detection.scores import DetectionScores
    from hwnas.export import BenchmarkResult


@command
@with_trtexec_options
def bench(
    models: Annotated[list[Path], typer.Argument(help="ONNX files of static shapes; several are compared.")],
    target: Annotated[str, typer.Option(help="Name of a target, or its YAML file.")] = "host-cpu",
    data: Annotated[
        str | None, typer.Option(help="Data set on whose test split one engine's accuracy is measured.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Runtimes with commas between, RUNTIME or RUNTIME:PROVIDER, each an engine; default: the target's."
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precisions with commas between, each an engine; default: the target's.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="MLPerf's single-stream, multi-stream or offline, with the energy it takes.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Least time of a scenario; MLPerf asks for 600.")] = 10.0,
    load_generator: Annotated[
        str, typer.Option(help="Of a scenario: loadgen, hwnas, or auto: LoadGen where the device has it.")
    ] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="How often engines are timed in turns.")] = 9,
    roofline: Annotated[bool, typer.Option(help="Measure the device's roofs, too.")] = True,
    html: Annotated[Path | None, typer.Option(help="Write a comparison as a self-contained page, too.")] = None,
    like: Annotated[
        str | None, typer.Option(help="Measure as trtexec does, with the defaults of trtexec-10 or trtexec-11.")
    ] = None,
    json: JsonOption = False,
    *,
    trtexec: dict[str, Any],
) -> None:
    """Compile models on a target and measure latency, throughput and memory.

    One model alone gets --data's accuracy.  With several models, runtimes or precisions, a --scenario or an --html
    page, engines are timed in turns in one sitting, and compared with the first and with what the device can do.
    With --like, one model is measured as trtexec measures, and its knobs have trtexec's names.
    """
    if like or trtexec:
        measure_like(models, like, trtexec, LikeOptions(target, runtime, precision, data, scenario, html, json))
        return
    if len(models) == 1 and not (runtime or precision or scenario or html):
        _one(models[0], target, data, data_root, json)
        return

    from hwnas.cli.bench_compare import Comparing, Ways, run_comparison
    from hwnas.errors import UserError

    if data is not None:
        raise UserError("With --data one model is measured alone, as the target runs it; leave --data out to compare.")
    ways = Ways.parse(runtime, precision)
    run_comparison(models, Comparing(target, ways, scenario, seconds, load_generator, rounds, roofline, html, json))


def _one(model: Path, target: str, data: str | None, data_root: Path | None, json: bool) -> None:
    from hwnas.devices import load_target, open_device
    from hwnas.export import benchmark, input_resolution
    from hwnas.pipeline.model_data import load_for_model

    with bars() as progress:
        dataset = None if data is None else load_for_model(model, data, root=data_root, progress=progress)
        with open_device(load_target(target)) as device:
            result = benchmark(
                device,
                model.stem,
                model,
                dataset,
                input_resolution(model),
                top1_missing="no data set was given" if dataset is None else None,
                progress=progress,
            )
    if json:
        print_json(result.model_dump(mode="json", by_alias=True, exclude={"measurements"}))
    else:
        _print(f"{model} on {target}", result)


def _print(title: str, result: BenchmarkResult) -> None:
    rows = [
        [
            name,
            milliseconds(t.p50_ms),
            milliseconds(t.p90_ms),
            milliseconds(t.p99_ms),
            "–" if t.images_per_s is None else f"{t.images_per_s:.0f} /s",
            str(t.n),
        ]
        for name, t in {"capability (gated)": result.gated, "as it ran (ungated)": result.ungated}.items()
    ]
    print_table(title, ["", "p50", "p90", "p99", "images", "samples"], rows)
    accuracy = percent(result.top1) if result.top1 is not None else f"not measured ({result.top1_missing})"
    metric = "Top-1" if result.metric == "top-1" else result.metric
    out.print(
        f"{metric} on the test split: {accuracy}; build {result.build_s:.2f} s; ONNX {result.onnx_bytes / 2**20:.2f} "
        f"MiB; peak memory {result.peak_memory_mib:.0f} MiB, {result.engine_memory_mib:.0f} of them the engine's.",
        soft_wrap=True,
    )
    if result.classification:
        out.print(_classified(result.classification), soft_wrap=True)
    if result.detection:
        out.print(_detected(result.detection), soft_wrap=True)


def _classified(found: Classification) -> str:
    top5 = "" if found.top5 is None else f"Top-5 {percent(found.top5)}; "
    return (
        f"{top5}macro averages of precision {percent(found.precision)}, recall {percent(found.recall)}, "
        f"F1 {percent(found.f1)}; calibration error {percent(found.calibration_error)}."
    )


def _detected(found: DetectionScores) -> str:
    return (
        f"At overlap 0.5 {percent(found.map50)}, at 0.75 {percent(found.map75)}; of small objects "
        f"{percent(found.small)}, medium {percent(found.medium)}, large {percent(found.large)}; "
        f"recall {percent(found.recall)}."
    )
