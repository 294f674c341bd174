"""``hwnas bench``: an ONNX file, compiled and measured on a target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, milliseconds, out, percent, print_json, print_table


@command
def bench(
    model: Annotated[Path, typer.Argument(help="An ONNX file with one static input [batch, 3, r, r].")],
    target: Annotated[str, typer.Option(help="Name of a target, or its YAML file.")] = "host-cpu",
    data: Annotated[
        str | None, typer.Option(help="Data set on whose test split the engine's accuracy is measured.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    json: JsonOption = False,
) -> None:
    """Compile a model on a target and measure latency, throughput, memory and, with --data, accuracy."""
    from hwnas.data import load_dataset
    from hwnas.devices import load_target, open_device
    from hwnas.export import benchmark, input_resolution

    dataset = None if data is None else load_dataset(data, root=data_root)
    with open_device(load_target(target)) as device, bars() as progress:
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
        return
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
    print_table(f"{model} on {target}", ["", "p50", "p90", "p99", "images", "samples"], rows)
    accuracy = percent(result.top1) if result.top1 is not None else f"not measured ({result.top1_missing})"
    out.print(
        f"Top-1 on the test split: {accuracy}; build {result.build_s:.2f} s; ONNX {result.onnx_bytes / 2**20:.2f} MiB; "
        f"peak memory {result.peak_memory_mib:.0f} MiB, {result.engine_memory_mib:.0f} of them the engine's.",
        soft_wrap=True,
    )
