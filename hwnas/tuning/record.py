"""What a tuning has tried, on disk as it happens: ``tuning.json`` and ``trials.jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from hwnas.errors import BadFileError
from hwnas.files import Document, append_json_line, describe, read_json_lines, read_model, require_same, write_json
from hwnas.training import TrainingConfig
from hwnas.tuning.trials import Result

HEADER_FILE = "tuning.json"
RECORD_FILE = "trials.jsonl"


class TuningHeader(Document):
    """What the trials of a tuning depend on; another tuning may not go on with its record.

    Attributes:
        config: of the longest run before tuning.
        ranges: NNI's search space.
        configurations, eta, rungs: as of :class:`hwnas.tuning.Rungs`.
        baseline: whether the settings before tuning are trained to the end in any case.
        subnets: measured beside the smallest and the largest.
        images: of the validation split, on which subnets are measured; at most.
        threads: CPU threads of a trial; accuracies depend on it in the last digit.
    """

    space: str
    num_classes: int
    dataset: str
    dataset_fingerprint: str
    config: TrainingConfig
    ranges: dict[str, dict[str, Any]]
    configurations: int = Field(ge=2)
    eta: int = Field(ge=2)
    rungs: int = Field(ge=1)
    baseline: bool
    subnets: int = Field(ge=0)
    images: int = Field(ge=1)
    seed: int = Field(ge=0)
    threads: int = Field(ge=1)


class Trial(Document):
    """One configuration on one rung; ``index`` is 0 for the first that was proposed."""

    index: int = Field(ge=0)
    values: dict[str, float]
    result: Result


class TuningRecord:
    """The trials of one tuning, in order of proposal."""

    def __init__(self, directory: Path, header: TuningHeader) -> None:
        """Begin a record in ``directory``, or go on with the one that lies there.

        Raises:
            UserError: what lies there was begun with other inputs.
            BadFileError: what lies there is damaged.
        """
        path = directory / HEADER_FILE
        self._path = directory / RECORD_FILE
        if path.exists():
            require_same(directory, "tuning", read_model(path, TuningHeader, what="tuning header"), header)
        else:
            if self._path.exists():
                raise BadFileError(f"{directory} holds {RECORD_FILE} without {HEADER_FILE}; delete the directory.")
            write_json(path, header)
        self.trials = _read(self._path)

    def append(self, trial: Trial) -> None:
        """Add one; it is on the disk when this returns."""
        append_json_line(self._path, trial)
        self.trials.append(trial)


def _read(path: Path) -> list[Trial]:
    trials: list[Trial] = []
    for number, line in enumerate(read_json_lines(path), start=1):
        try:
            trial = Trial.model_validate(line)
        except ValidationError as error:
            raise BadFileError(f"{path}, line {number}: {describe(error)}; delete the directory.") from error
        if trial.index != len(trials):
            raise BadFileError(f"{path}, line {number}: out of order or a repetition; delete the directory.")
        trials.append(trial)
    return trials
