"""Shared by the benchmarks that train: many trainings one after the other, each in a directory of its own.

Killed at any moment, the same queue goes on where it was: what a directory holds is a run of ``hwnas train``.  Several
processes may work on one queue.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from together import families, go_on

from hwnas.data import Dataset
from hwnas.errors import BusyError
from hwnas.files import locked, read_json, write_json
from hwnas.progress import Progress
from hwnas.spaces import Space
from hwnas.supernet import ElasticNetwork, PlainNetwork, SupernetRecord, load_record, load_supernet
from hwnas.supernet.checkpoint import RECORD_FILE
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.state import STATE_FILE, read_progress

UNFINISHED = 75
"""Exit status while trainings remain (sysexits' EX_TEMPFAIL): run the same command again."""
DIVERGED_FILE = "diverged.json"


@dataclass(frozen=True)
class Training:
    """One run of ``hwnas train``: to be begun, gone on with, or done.

    ``beginning`` is as of :class:`Trainer`.
    """

    directory: Path
    space: Space
    dataset: Dataset
    config: TrainingConfig
    beginning: PlainNetwork | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return max(1, round(self.config.epochs * (len(self.dataset.train) // self.config.batch_size)))

    @property
    def diverged(self) -> bool:
        """Whether it cannot go on."""
        return (self.directory / DIVERGED_FILE).exists()

    @property
    def done(self) -> bool:
        """Whether nothing remains to be done."""
        return self.diverged or (self.directory / RECORD_FILE).exists()

    @property
    def steps_done(self) -> int:
        """Steps that need not be done again."""
        if self.done:
            return self.steps
        state = self.directory / STATE_FILE
        return read_progress(state).step if state.exists() else 0

    @property
    def record(self) -> SupernetRecord | None:
        """What is known of the trained network; None where it diverged or is not there yet."""
        return load_record(self.directory) if self.done and not self.diverged else None

    @property
    def validation_top1(self) -> float | None:
        """Of the largest subnet at the end, in 0..1; None as for :attr:`record`."""
        return None if self.record is None else self.record.metrics["validation_top1_largest"]

    def network(self) -> ElasticNetwork:
        """The trained network, in evaluation mode."""
        return load_supernet(self.directory, self.space)[0]

    def trainer(self, like: Trainer | None = None) -> Trainer:
        """The run as hwnas trains it; with the teacher of ``like``, where that has the same."""
        return Trainer(self.directory, self.space, self.dataset, self.config, self.beginning, like=like)

    def write_diverged(self, reason: str) -> None:
        """Let it be known that this training cannot go on."""
        write_json(self.directory / DIVERGED_FILE, {"reason": reason})

    def why_diverged(self) -> str:
        """In words."""
        return str(read_json(self.directory / DIVERGED_FILE)["reason"])


def run_all(
    trainings: Sequence[Training], minutes: float | None, progress: Progress, *, together: bool = False
) -> bool:
    """Whether all are done; ``minutes`` from now no further step is begun.

    Trainings that another process is at work on are left to it.

    Args:
        together: those that see the same images are trained side by side, not one after the other.
    """
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    progress.start("training", sum(t.steps for t in trainings), sum(t.steps_done for t in trainings), "steps")
    for family in families(trainings) if together else [[one] for one in trainings]:
        with ExitStack() as held:
            mine = [one for one in family if not one.done and time.monotonic() < deadline and _taken(one, held)]
            go_on(mine, deadline, progress)
    progress.finish()
    return all(training.done for training in trainings)


def _taken(training: Training, held: ExitStack) -> bool:
    """Whether it is this process that works on a training now, and something remains to be done."""
    try:
        held.enter_context(locked(training.directory))
    except BusyError:
        return False
    return not training.done
