"""Shared by the benchmarks that train: many trainings one after the other, each in a directory of its own.

Killed at any moment, the same queue goes on where it was: what a directory holds is a run of ``hwnas train``.  Several
processes may work on one queue.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from answers import remember
from together import families, run_together

from hwnas.data import Dataset
from hwnas.errors import BusyError, DivergedError
from hwnas.files import locked, read_json, write_json
from hwnas.progress import Progress, Silent
from hwnas.spaces import Space
from hwnas.supernet import ElasticNetwork, PlainNetwork, SupernetRecord, load_record, load_supernet
from hwnas.supernet.checkpoint import RECORD_FILE
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.state import STATE_FILE, read_progress

UNFINISHED = 75
"""Exit status while trainings remain (sysexits' EX_TEMPFAIL): run the same command again."""
SLICE = 100
"""Steps between two looks at the clock."""
DIVERGED_FILE = "diverged.json"
QUEUE_LOCK = ".queue.lock"
"""Held for as long as a queue trains in a directory; the trainer's own lock is held for a slice."""


@dataclass(frozen=True)
class Training:
    """One run of ``hwnas train``: to be begun, gone on with, or done.

    ``beginning`` is as of :class:`Trainer`; ``answers`` is where its teacher's answers are kept for others.
    """

    directory: Path
    space: Space
    dataset: Dataset
    config: TrainingConfig
    beginning: PlainNetwork | None = None
    answers: Path | None = None

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

    def run(self, deadline: float, progress: Progress) -> None:
        """Train until the end or until ``deadline`` (``time.monotonic``); a divergence is written down."""
        trainer = self.trainer()
        if self.answers is not None:
            remember(trainer, self.answers)
        try:
            trainer.run_until(self.steps_done, progress)
            while trainer.step < trainer.total_steps and time.monotonic() < deadline:
                trainer.run_until(trainer.step + SLICE, progress)
            if trainer.step == trainer.total_steps:
                trainer.run(progress)
        except DivergedError as error:
            self.write_diverged(str(error))

    def write_diverged(self, reason: str) -> None:
        """Let it be known that this training cannot go on."""
        write_json(self.directory / DIVERGED_FILE, {"reason": reason})

    def why_diverged(self) -> str:
        """In words."""
        return str(read_json(self.directory / DIVERGED_FILE)["reason"])


class Share(Silent):
    """A training's steps as part of the queue's bar."""

    def __init__(self, whole: Progress, name: str) -> None:
        self._whole, self._name = whole, name
        self.done = 0.0

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """``amount`` steps more of the queue are done."""
        self.done += amount
        self._whole.advance(amount, f"{self._name} {note}")


def run_all(
    trainings: Sequence[Training], minutes: float | None, progress: Progress, *, together: bool = False
) -> bool:
    """Whether all are done; ``minutes`` from now no further step is begun, give or take a slice.

    Trainings that another process is at work on are left to it.

    Args:
        together: those that see the same images are trained side by side (:mod:`together`).
    """
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    progress.start("training", sum(t.steps for t in trainings), sum(t.steps_done for t in trainings), "steps")
    if together:
        for family in families(one for one in trainings if not one.done):
            if time.monotonic() >= deadline:
                break
            run_together(family, deadline, lambda one: Share(progress, one.directory.name), QUEUE_LOCK)
    else:
        _one_by_one(trainings, deadline, progress)
    progress.finish()
    return all(training.done for training in trainings)


def _one_by_one(trainings: Sequence[Training], deadline: float, progress: Progress) -> None:
    for training in trainings:
        if training.done or time.monotonic() >= deadline:
            continue
        left, share = training.steps - training.steps_done, Share(progress, training.directory.name)
        try:
            with locked(training.directory, QUEUE_LOCK):
                if not training.done:
                    training.run(deadline, share)
        except BusyError:
            continue
        if training.diverged:
            progress.advance(left - share.done)
