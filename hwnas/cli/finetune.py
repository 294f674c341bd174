"""``hwnas finetune``: a subnet trained further alone, and narrower than its space allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.checks import check_statistic
from hwnas.cli.console import JsonOption, bars, command, milliseconds, out, percent, print_json, print_table

if TYPE_CHECKING:
    from hwnas.pipeline.finetuned import FineTuningResult


@command
def finetune(
    architecture: Annotated[
        str,
        typer.Argument(
            help="largest, smallest, a JSON file, SEARCH_DIRECTORY:ID of an evaluated candidate, or a run's directory."
        ),
    ],
    output: Annotated[Path, typer.Option("--out", help="Directory of the results; the same one goes on.")],
    epochs: Annotated[float, typer.Option(help="Of fine-tuning, before any pruning; need not be whole.")] = 5,
    prune: Annotated[
        str | None, typer.Option(help="Latency to come to in ms, such as 0.06, or the share that is to go, as 30%.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="In which the channels go.")] = 3,
    prune_epochs: Annotated[
        float | None, typer.Option(help="Of fine-tuning after each round; default: --epochs.")
    ] = None,
    multiple: Annotated[int, typer.Option(min=1, help="Of which widths become when channels go.")] = 8,
    space: Annotated[str | None, typer.Option(help="FAMILY/PRESET; default: the run's, or mobilenet_v3/small.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set, for detectors a folder as COCO's; default: the run's, or fashion-mnist."),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    supernet: Annotated[
        Path | None, typer.Option(help="Directory of trained weights; default: the run's, or those shipped.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Default: 0.2, 1 or 3 times the supernet's, as the validation images say after a tenth of the epochs "
            "each, which takes 30 % longer; a rate that is set, here or by --config, is taken as it is."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="JSON file of training settings that are to differ from the supernet's.")
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    target: Annotated[str, typer.Option(help="Where latencies are measured: a target, or its YAML file.")] = "host-cpu",
    statistic: Annotated[str, typer.Option(help="Of the latency, that is measured and limited: p50 or p99.")] = "p50",
    builds: Annotated[int, typer.Option(min=1, help="Fresh ones of each network; the result has at least three.")] = 3,
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Latency tables, for an unpruned subnet beside the pruned one; default: the run's, or latency_tables."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the training.")] = 1,
    json: JsonOption = False,
) -> None:
    """Train a subnet alone, taught by its supernet's largest, and prune channels until a latency is kept.

    Detectors learn from the boxes alone: they have no teacher.

    Ends with status 1, all results being written, if the pruned network does not keep the latency when it is measured
    again.
    """
    import torch

    from hwnas.devices import load_target, open_device
    from hwnas.pipeline.chosen import choose
    from hwnas.pipeline.finetuning import FineTuning
    from hwnas.pipeline.finetuning_options import Pruning, training_plan
    from hwnas.pipeline.pruning import Limit
    from hwnas.pipeline.training import read_settings

    checked, limit = check_statistic(statistic), None if prune is None else Limit.parse(prune)
    device_target = load_target(target)
    torch.set_num_threads(threads)
    given = {"learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    settings = read_settings(config) | {name: value for name, value in given.items() if value is not None}
    with bars() as progress:
        chosen = choose(architecture, progress, space=space, data=data, data_root=data_root, supernet=supernet)
        plan = training_plan(chosen.supernet_directory, chosen.space.task, epochs, settings)
        pruning = None if limit is None else Pruning.of(limit, rounds, plan.config, prune_epochs, multiple)
        with open_device(device_target) as device:
            result = FineTuning(
                output,
                chosen,
                plan,
                device,
                pruning,
                statistic=checked,
                builds=builds,
                tables=tables or chosen.tables,
                progress=progress,
            ).execute()
    if json:
        print_json({"directory": str(output)} | result.model_dump(mode="json", by_alias=True))
    else:
        print_finetuned(result)
        out.print(
            f"[bold]{output}[/]: {result.delivered} network in network.safetensors and model.onnx", soft_wrap=True
        )
    result.require_kept()


def print_finetuned(result: FineTuningResult) -> None:
    """The figures of a fine-tuning, for people."""
    networks, figure = result.networks, f"{result.statistic} ({result.basis})"
    intervals = [network.latency.interval_ms or (None, None) for network in networks]
    rows = [
        [figure, *(milliseconds(network.latency.figure_ms) for network in networks)],
        ["95 % interval", *(f"{milliseconds(low)}\nto {milliseconds(high)}" for low, high in intervals)],
        ["p50 (ungated)", *(milliseconds(network.latency.ungated_p50_ms) for network in networks)],
        [f"test {result.metric}", *(percent(network.score_test) for network in networks)],
        [f"validation {result.metric}", *(percent(network.score_validation) for network in networks)],
        ["MACs", *(f"{network.macs / 1e6:.2f} M" for network in networks)],
        ["parameters", *(f"{network.params / 1e3:.0f} k" for network in networks)],
        ["architecture", *(network.id for network in networks)],
    ]
    title = f"{result.space} on {result.target}, {result.dataset}; {result.builds} builds each"
    print_table(title, ["", *(network.made for network in networks)], rows)
    for sentence in result.remarks():
        out.print(sentence, soft_wrap=True)
