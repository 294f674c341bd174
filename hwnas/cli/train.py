"""``hwnas train``: a supernet for a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, err, percent, print_json, print_table


@command
def train(
    out: Annotated[Path, typer.Option(help="Directory of the run; the same one goes on where it stopped.")],
    space: Annotated[
        str | None,
        typer.Option(help="Search space, FAMILY/PRESET; default: mobilenet_v3/small, or that of --init."),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Weights to begin with: efficientnet-lite0, or a supernet's directory.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Who teaches: efficientnet-lite2, or a supernet's directory.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="fashion-mnist, cifar10, a folder or a parquet file; for detectors, a folder as COCO's.")
    ] = "fashion-mnist",
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch a named data set that is not on this machine.")] = False,
    epochs: Annotated[float | None, typer.Option(help="Need not be whole.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0)] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file of training settings (see docs/training.md).")] = None,
    options: Annotated[Path | None, typer.Option(help="options.json of `hwnas tune`.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: torch's choice.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that make batches ahead; default: none on a CPU, up to 12 for a GPU."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a once-for-all supernet; under torchrun, in several processes."""
    from hwnas.data.tasks import load_for
    from hwnas.pipeline.training import read_settings, space_to_train, train_supernet, training_config
    from hwnas.spaces import get_space

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    settings = read_settings(config, options)
    given = {"init": init, "teacher": teacher, "epochs": epochs, "batch_size": batch_size}
    given |= {"learning_rate": learning_rate, "seed": seed}
    settings |= {name: value for name, value in given.items() if value is not None}
    checked = training_config(settings, config)
    checked.require_subnets()
    tells = not int(os.environ.get("RANK", "0"))  # one of several processes is enough
    for sentence in checked.without_effect() if tells else ():
        err.print(sentence, soft_wrap=True, highlight=False)
    with bars() as progress:
        chosen = space_to_train(space, checked.init)
        dataset = load_for(get_space(chosen), data, root=data_root, download=download, progress=progress)
        record = train_supernet(out, chosen, dataset, checked, progress, workers)
    if not tells:
        return
    if json:
        print_json({"directory": str(out), **record.model_dump(mode="json", by_alias=True)})
        return
    trained = get_space(record.space)
    plain = {name.replace(f"_{trained.metric_key}_", "_"): value for name, value in record.metrics.items()}
    rows = [[name.replace("_", " "), percent(value)] for name, value in plain.items()]
    print_table(f"Supernet {record.space} in {out}", ["", trained.metric], rows)
