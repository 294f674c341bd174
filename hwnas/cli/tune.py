"""``hwnas tune``: the options of a supernet's training, by successive halving of short runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, out, percent, print_json, print_table

if TYPE_CHECKING:
    from hwnas.tuning.record import Trial
    from hwnas.tuning.tuning import Tuned

SHORT = {
    "learning_rate": "rate",
    "weight_decay": "decay",
    "augmentation_strength": "augm.",
    "distillation": "distill.",
}


@command
def tune(
    directory: Annotated[Path, typer.Option("--out", help="Of the tuning; the same one goes on where it stopped.")],
    space: Annotated[str, typer.Option(help="Search space, FAMILY/PRESET.")] = "mobilenet_v3/small",
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10, a folder or a parquet file.")] = "fashion-mnist",
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch a named data set that is not on this machine.")] = False,
    config: Annotated[Path | None, typer.Option(help="JSON file of training settings (see docs/training.md).")] = None,
    search_space: Annotated[
        Path | None, typer.Option(help="What to tune and within which bounds, as JSON for NNI; default: all.")
    ] = None,
    configurations: Annotated[
        int, typer.Option(help="On the first rung; the first one are the settings as given.")
    ] = 9,
    eta: Annotated[int, typer.Option(help="One configuration in so many goes on, and is trained so much longer.")] = 3,
    rungs: Annotated[int | None, typer.Option(help="Default: as many as the configurations allow.")] = None,
    epochs: Annotated[float, typer.Option(help="Of the last rung; need not be whole.")] = 3.0,
    baseline: Annotated[bool, typer.Option(help="Train the settings as given to the end, to compare.")] = True,
    subnets: Annotated[int, typer.Option(min=0, help="Measured beside the smallest and the largest.")] = 4,
    images: Annotated[int, typer.Option(min=1, help="Of the validation split to measure on, at most.")] = 2000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each trial.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Trials at the same time.")] = 1,
    json: JsonOption = False,
) -> None:
    """Tune learning rate, weight decay, augmentation and distillation of a supernet's training; NNI drives."""
    if epochs <= 0:
        raise typer.BadParameter("must be above 0", param_hint="--epochs")

    from hwnas.data import load_dataset
    from hwnas.pipeline.training import read_settings, training_config
    from hwnas.spaces import get_space
    from hwnas.tuning.ranges import read_ranges
    from hwnas.tuning.tuning import TuningOptions, run_tuning

    settings = training_config(read_settings(config), config)
    ranges = None if search_space is None else read_ranges(search_space)
    options = TuningOptions(
        configurations=configurations,
        eta=eta,
        rungs=rungs,
        epochs=epochs,
        baseline=baseline,
        subnets=subnets,
        images=images,
        seed=seed,
        threads=threads,
    )
    with bars() as progress:
        dataset = load_dataset(data, root=data_root, download=download, progress=progress)
        found = run_tuning(
            directory,
            get_space(space, dataset.num_classes),
            dataset,
            settings,
            options,
            data=data,
            data_root=data_root,
            ranges=ranges,
            workers=workers,
            progress=progress,
        )
    path = directory / "options.json"
    if json:
        tuned = found.options.model_dump(mode="json", by_alias=True)
        trials = [trial.model_dump(mode="json", by_alias=True) for trial in found.trials]
        print_json({"directory": str(directory), "options": str(path), "tuned": tuned, "trials": trials})
    else:
        print_tuned(found, path)


def print_tuned(found: Tuned, path: Path) -> None:
    """Each configuration and how far it came, the best first."""
    names = list(found.best.values)
    furthest: dict[int, Trial] = {trial.result.configuration: trial for trial in found.trials}
    ranked = sorted(furthest.values(), key=lambda t: (-t.result.rung, -t.result.accuracy, t.result.configuration))
    accuracies = {(t.result.configuration, t.result.rung): _accuracy(t) for t in found.trials}
    rows = [
        [
            "0, untuned" if trial.result.configuration == 0 else str(trial.result.configuration),
            *(f"{trial.values[name]:.2g}" for name in names),
            *(accuracies.get((trial.result.configuration, rung), "–") for rung in range(found.rungs.count)),
        ]
        for trial in ranked
    ]
    steps = [f"step {end}" for end in found.rungs.ends]
    header = ["", *(SHORT[name] for name in names), *steps]
    print_table("Mean validation top-1 of the measured subnets", header, rows)
    compared = ""
    if found.untuned is not None and found.untuned is not found.best:
        gain = found.best.result.accuracy - found.untuned.result.accuracy
        compared = f", {100 * gain:+.2f} points against the settings as given after as many steps"
    elif found.untuned is not None:
        compared = ": the settings as given"
    best = found.best.result
    sentence = f"The best is configuration {best.configuration} with {percent(best.accuracy)}{compared}."
    out.print(sentence, soft_wrap=True, highlight=False)
    out.print(f"Train with `hwnas train --options {path}`.", soft_wrap=True, highlight=False)


def _accuracy(trial: Trial) -> str:
    return "diverged" if trial.result.diverged else percent(trial.result.accuracy)
