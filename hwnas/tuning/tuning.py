"""A tuning: from a data set and a training's settings to the best options for it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from hwnas.data import Dataset
from hwnas.errors import UserError
from hwnas.files import locked, write_json
from hwnas.progress import Progress, Silent
from hwnas.search.service.recipe import Recipe
from hwnas.search.service.server import Server, end_leftover
from hwnas.spaces import Space
from hwnas.training import TrainingConfig
from hwnas.tuning.experiment import run_tuning_experiment
from hwnas.tuning.halving import SuccessiveHalving
from hwnas.tuning.options import OPTIONS_FILE, TunedOptions, Values
from hwnas.tuning.ranges import Ranges, default_ranges, values_of
from hwnas.tuning.record import Trial, TuningHeader, TuningRecord
from hwnas.tuning.rungs import Rungs
from hwnas.tuning.schedule import Schedule
from hwnas.tuning.shortrun import ShortRuns, short_config, short_runs_recipe
from hwnas.tuning.trial import RECIPE_FILE

DIRECTORY = "service"


class TuningOptions(BaseModel):
    """How a tuning is made; see :class:`TuningHeader`.

    Attributes:
        rungs: None: as many as the configurations allow.
        epochs: of the longest run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    configurations: int = 9
    eta: int = 3
    rungs: int | None = None
    epochs: float = Field(default=3.0, gt=0)
    baseline: bool = True
    subnets: int = Field(default=4, ge=0)
    images: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Tuned:
    """What a tuning has found.

    Attributes:
        trials: all of them, in order of proposal.
        best: of those on the last rung.
        untuned: the settings before tuning on the last rung, if they came there.
        options: as in ``options.json``.
    """

    rungs: Rungs
    trials: tuple[Trial, ...]
    best: Trial
    untuned: Trial | None
    options: TunedOptions


def run_tuning(
    directory: Path,
    space: Space,
    dataset: Dataset,
    config: TrainingConfig,
    options: TuningOptions,
    *,
    data: str,
    data_root: Path | None = None,
    ranges: Ranges | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Tuned:
    """Tune the training that ``config`` describes, or go on where it stopped.

    Args:
        data, data_root: where trials find ``dataset``, as :func:`hwnas.data.load_dataset` takes them.
        ranges: what is tuned; None: all that can be, within wide bounds.
        workers: trials at the same time; what is found does not depend on them.

    Raises:
        UserError: the directory holds another tuning, there is too little to train for so many rungs, or every
            configuration diverged.
        HwnasError: trials fail.
    """
    short = short_config(config, options.epochs)
    protocol = {"subnets": options.subnets, "images": options.images, "seed": options.seed, "threads": options.threads}
    header = TuningHeader(
        space=space.name,
        num_classes=space.num_classes,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        config=short,
        ranges=default_ranges(config) if ranges is None else ranges,
        configurations=options.configurations,
        eta=options.eta,
        rungs=options.rungs or Rungs.most(options.configurations, options.eta),
        baseline=options.baseline,
        **protocol,
    )
    rungs = _rungs(header, len(dataset.train))
    trainee = ShortRuns(space, dataset, short, **protocol)
    recipe = short_runs_recipe(trainee, space, data, data_root, short, **protocol)
    trials = try_configurations(directory, header, rungs, recipe, workers, progress or Silent())
    return _conclude(directory, header, rungs, trials)


def try_configurations(
    directory: Path, header: TuningHeader, rungs: Rungs, recipe: Recipe, workers: int, progress: Progress
) -> list[Trial]:
    """All trials of a tuning; those that are not on record are made under NNI's training service.

    Raises:
        UserError: another process is at work in the directory, or it holds another tuning.
        BadFileError: what it holds is damaged.
        HwnasError: trials fail.
    """
    tuner = SuccessiveHalving(rungs, values_of(header.config), baseline=header.baseline, seed=header.seed)
    tuner.update_search_space(header.ranges)
    with locked(directory):
        record = TuningRecord(directory, header)
        end_leftover(directory / DIRECTORY)
        write_json(directory / RECIPE_FILE, recipe)
        schedule = Schedule(directory, tuner, record)
        schedule.settle()
        progress.start("tuning", rungs.total_steps(extra=int(header.baseline)), schedule.steps_done(), "step")
        if not schedule.finished:
            trial = ("hwnas.tuning.trial", str(directory.absolute()))
            server = Server(directory / DIRECTORY, f"tuning-{secrets.token_hex(4)}", trial)
            run_tuning_experiment(schedule, server, header.ranges, workers, progress)
        progress.finish()
    return record.trials


def _rungs(header: TuningHeader, images: int) -> Rungs:
    """With the steps of the longest run.

    Raises:
        UserError: there are too few, or the sandwich would not have begun at the end of the first rung.
    """
    config = header.config
    per_epoch = images // config.batch_size
    if not per_epoch:
        raise UserError(
            f"There are {images} training images, fewer than one batch of {config.batch_size}; choose a smaller batch."
        )
    steps = max(1, round(config.epochs * per_epoch))
    rungs = Rungs(header.configurations, header.eta, header.rungs, steps)
    alone = round(config.full_epochs * per_epoch)
    if rungs.ends[0] <= alone:
        raise UserError(
            f"The first rung ends after {rungs.ends[0]} steps, and the first {alone} train the largest subnet alone, "
            "so there would be nothing to compare; give more epochs, fewer rungs, or fewer full_epochs."
        )
    return rungs


def _conclude(directory: Path, header: TuningHeader, rungs: Rungs, trials: list[Trial]) -> Tuned:
    """Choose and write down.

    Raises:
        UserError: every configuration diverged.
    """
    last = [trial for trial in trials if trial.result.rung == header.rungs - 1]
    best = max(last, key=lambda trial: (trial.result.accuracy, -trial.result.configuration))
    if best.result.diverged:
        raise UserError("Every configuration diverged; give a search space with lower learning rates (--search-space).")
    untuned = next((trial for trial in last if trial.result.configuration == 0), None)
    options = TunedOptions(
        options=Values.model_validate(best.values),
        optimizer=header.config.optimizer,
        batch_size=header.config.batch_size,
        space=header.space,
        dataset=header.dataset,
        dataset_fingerprint=header.dataset_fingerprint,
        epochs=header.config.epochs,
        accuracy=best.result.accuracy,
        untuned_accuracy=None if untuned is None else untuned.result.accuracy,
        configuration=best.result.configuration,
        configurations=header.configurations,
        seed=header.seed,
    )
    write_json(directory / OPTIONS_FILE, options)
    return Tuned(rungs, tuple(trials), best, untuned, options)
