"""What a trial leaves on disk, in ``trials/<configuration>``: results, the step it has come to, and why it failed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, ValidationError

from hwnas.errors import BadFileError
from hwnas.files import Document, append_json_line, describe, read_json_lines, write_atomic
from hwnas.progress import Progress

TRIALS = "trials"
RESULTS_FILE = "results.jsonl"
Top1 = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Result(Document):
    """What a configuration reached at the end of a rung.

    Attributes:
        step: to which it was trained.
        accuracy: mean of ``top1s``; 0 if the training diverged.
        top1s: of the measured subnets on the validation images: smallest, largest, the others; empty if it diverged.
        seconds: of training on this rung and of measuring.
    """

    configuration: Annotated[int, Field(ge=0)]
    rung: Annotated[int, Field(ge=0)]
    step: Annotated[int, Field(ge=1)]
    accuracy: Top1
    top1s: tuple[Top1, ...]
    seconds: Annotated[float, Field(ge=0)]

    @property
    def diverged(self) -> bool:
        """Whether the training had no accuracy to measure."""
        return not self.top1s


class Trainee(Protocol):
    """What a trial trains."""

    @property
    def identity(self) -> str:
        """Changes whenever the accuracies do."""

    def train(self, directory: Path, values: Mapping[str, float], until: int, progress: Progress) -> list[float]:
        """Train to the end of a step, from where the directory's state is; returns top-1 of the measured subnets.

        Raises:
            DivergedError: there is nothing to measure.
        """


class TrialFolder:
    """Of one configuration; a trial writes it, the tuning reads it."""

    def __init__(self, directory: Path, configuration: int) -> None:
        self.path = directory / TRIALS / f"{configuration:03d}"

    @property
    def training(self) -> Path:
        """Where the training has its state."""
        return self.path / "training"

    def results(self) -> dict[int, Result]:
        """By rung.

        Raises:
            BadFileError: a line of the file is damaged.
        """
        path = self.path / RESULTS_FILE
        results = {}
        for number, line in enumerate(read_json_lines(path), start=1):
            try:
                result = Result.model_validate(line)
            except ValidationError as error:
                raise BadFileError(f"{path}, line {number}: {describe(error)}; delete {self.path}.") from error
            results[result.rung] = result
        return results

    def add(self, result: Result) -> None:
        """Keep a result; it is on the disk when this returns."""
        append_json_line(self.path / RESULTS_FILE, result)

    def forget_training(self) -> None:
        """Delete the training's state, which is large; results stay."""
        shutil.rmtree(self.training, ignore_errors=True)

    # --- while a trial runs ---------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The step that the training has come to, as far as is known."""
        with suppress(OSError, ValueError):
            return int((self.path / "step").read_text())
        return 0

    @step.setter
    def step(self, step: int) -> None:
        # Only for progress bars, so it need not survive a power cut.
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "step").write_text(str(step))

    @property
    def error(self) -> str | None:
        """Why the trial failed, unless it was killed."""
        with suppress(OSError):
            return (self.path / "error").read_text()
        return None

    @error.setter
    def error(self, sentence: str | None) -> None:
        if sentence is None:
            (self.path / "error").unlink(missing_ok=True)
        else:
            write_atomic(self.path / "error", sentence)
