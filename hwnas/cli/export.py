"""``hwnas export``: an architecture with its weights as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.checks import check_detections
from hwnas.cli.console import JsonOption, command, out, print_json


@command
def export(
    architecture: Annotated[
        str,
        typer.Argument(
            help="largest, smallest, a JSON file, SEARCH_DIRECTORY:ID of an evaluated candidate, or a fine-tuning's "
            "directory."
        ),
    ],
    output: Annotated[Path, typer.Option("--out", help="The ONNX file.")],
    space: Annotated[str, typer.Option(help="Search space, FAMILY/PRESET.")] = "mobilenet_v3/small",
    data: Annotated[str, typer.Option(help="Data set that recalibrates batch norms.")] = "fashion-mnist",
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    supernet: Annotated[Path | None, typer.Option(help="Directory of trained weights; default: those shipped.")] = None,
    detections: Annotated[
        str, typer.Option(help="What a detector's model gives: maps (of the network), boxes (decoded), or nms.")
    ] = "maps",
    json: JsonOption = False,
) -> None:
    """Extract a subnet, recalibrate it, export it, and compare it with torch on real images."""
    form = check_detections(detections)
    import torch

    from hwnas.data.tasks import load_for
    from hwnas.pipeline.networks import export_network, export_subnet, open_supernet, read_architecture
    from hwnas.pipeline.training import require_supernet
    from hwnas.spaces import get_space
    from hwnas.supernet import holds_network, load_network

    torch.set_num_threads(1)
    if holds_network(Path(architecture)):
        network, record = load_network(Path(architecture))
        chosen = record.identity
        dataset = load_for(get_space(record.space), data, root=data_root)
        model = export_network(network, record, dataset, output, detections=form)
    else:
        dataset = load_for(get_space(space), data, root=data_root)
        searched = get_space(space, dataset.num_classes)
        chosen = read_architecture(searched, architecture)
        weights = supernet or require_supernet(space, dataset)
        model = export_subnet(open_supernet(weights, searched, dataset), chosen, dataset, output, detections=form)
    if json:
        print_json(
            {
                "path": str(model.path),
                "architecture": chosen.to_json(),
                "sha256": model.sha256,
                "bytes": model.size_bytes,
                "input_shape": list(model.input_shape),
                "opset": model.opset,
                "ir_version": model.ir_version,
                "parity": model.parity,
            }
        )
        return
    out.print(
        f"[bold]{model.path}[/]: architecture {chosen.id}, input {list(model.input_shape)}, opset {model.opset}, "
        f"IR {model.ir_version}, {model.size_bytes / 2**20:.2f} MiB, largest difference from torch {model.parity:.1e}",
        soft_wrap=True,
    )
