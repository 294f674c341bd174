"""The step that gives a supernet: found ready, or trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hwnas.errors import BadFileError, UserError
from hwnas.files import describe, read_json
from hwnas.progress import Progress
from hwnas.supernet import SupernetRecord, load_record, shipped_supernets

if TYPE_CHECKING:
    from hwnas.data.tasks import AnyDataset
    from hwnas.training import TrainingConfig


DEFAULT_SPACE = "mobilenet_v3/small"


def training_config(settings: dict[str, Any], source: Path | None = None) -> TrainingConfig:
    """Check training settings.

    Raises:
        UserError: one is unknown or out of range; ``source`` is named as the place.
    """
    from hwnas.training import TrainingConfig

    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"training settings{f' in {source}' if source else ''}: {describe(error)}.") from error


def read_settings(path: Path | None, options: Path | None = None) -> dict[str, Any]:
    """Training settings from a JSON file, with tuned options in place of their own; not yet checked.

    Raises:
        BadFileError: a file is missing or wrong.
        UserError: the options were tuned for another optimizer or batch size.
    """
    settings = {} if path is None else read_json(path, what="training settings")
    if not isinstance(settings, dict):
        raise BadFileError(f"training settings {path} are not a JSON object; see docs/training.md.")
    if options is None:
        return settings
    from hwnas.tuning.options import apply_options

    return apply_options(settings, options)


def space_to_train(space: str | None, init: str | None) -> str:
    """The space that is named, that of the weights to begin with, or the one for a first try."""
    if space is None and init is not None:
        from hwnas.supernet.importing import space_of

        return space_of(init)
    return space or DEFAULT_SPACE


def train_supernet(
    directory: Path,
    space: str,
    dataset: AnyDataset,
    config: TrainingConfig,
    progress: Progress,
    workers: int | None = None,
) -> SupernetRecord:
    """Train a supernet for a data set's classes, or go on with it; ``workers`` are as of the trainer."""
    from hwnas.spaces import get_space
    from hwnas.training import Trainer

    trainer = Trainer(directory, get_space(space, dataset.num_classes), dataset, config, workers=workers)
    record = trainer.run(progress)
    trainer.accelerator.end_training()  # a process that ends with its group open may abort
    return record


def find_supernet(space: str, dataset: AnyDataset) -> Path | None:
    """The weights that come with hwnas for this space and exactly this data, if there are any."""
    for directory in shipped_supernets():
        record = load_record(directory)
        if record.space == space and record.dataset.fingerprint == dataset.fingerprint:
            return directory
    return None


def require_supernet(space: str, dataset: AnyDataset) -> Path:
    """:func:`find_supernet`, where nothing can be done without.

    Raises:
        UserError: there are no such weights.
    """
    directory = find_supernet(space, dataset)
    if directory is None:
        raise UserError(f"No weights for {space} on {dataset.name} come with hwnas; train some with `hwnas train`.")
    return directory
