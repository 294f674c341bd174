"""What is to be trained next: the tuner's proposals, and results told to it in their order."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from hwnas.errors import BadFileError
from hwnas.search.nni_setup import nni
from hwnas.tuning.halving import Run, SuccessiveHalving
from hwnas.tuning.record import RECORD_FILE, Trial, TuningRecord
from hwnas.tuning.trials import Result, TrialFolder


class Schedule:
    """The runs of a tuning.

    Results come from the record, which is replayed, and from the folders of the trials.  The tuner is told them in the
    order of its proposals, in which they enter the record.

    Args:
        directory: of the tuning, which this process has locked.
        tuner: with its search space, not asked for anything yet.
    """

    def __init__(self, directory: Path, tuner: SuccessiveHalving, record: TuningRecord) -> None:
        self._directory = directory
        self._tuner = tuner
        self._record = record
        self._proposed = 0
        self._told = 0
        self._open: deque[int] = deque()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self._tuner.finished

    @property
    def open(self) -> list[int]:
        """Numbers of the proposals whose results the tuner does not know."""
        return list(self._open)

    def run(self, number: int) -> Run:
        """What a proposal is."""
        return self._tuner.run(number)

    def folder(self, number: int) -> TrialFolder:
        """Of a proposal's configuration."""
        return TrialFolder(self._directory, self.run(number).configuration)

    def result(self, number: int) -> Result | None:
        """What is known of a proposal."""
        run = self.run(number)
        if number < len(self._record.trials):
            trial = self._record.trials[number]
            found = (trial.result.configuration, trial.result.rung, trial.result.step, trial.values)
            if found != (run.configuration, run.rung, run.end, run.values):
                raise BadFileError(
                    f"{self._directory / RECORD_FILE}, line {number + 1}: not what the tuner proposes there; delete "
                    "the directory."
                )
            return trial.result
        return self.folder(number).results().get(run.rung)

    def settle(self) -> list[int]:
        """Tell the tuner what is known by now and ask it for more; returns the new proposals without result."""
        new: list[int] = []
        while True:
            new += self._propose()
            told = 0
            while self._open and (result := self.result(self._open[0])) is not None:
                self._tell(self._open.popleft(), result)
                told += 1
            if not told:
                return [number for number in new if self.result(number) is None]

    def steps_done(self) -> int:
        """Steps trained so far, over all runs."""
        told = sum(self.run(number).end - self.run(number).begin for number in range(self._told))
        return told + sum(self._steps_of(number) for number in self._open)

    def _steps_of(self, number: int) -> int:
        run = self.run(number)
        step = run.end if self.result(number) else self.folder(number).step
        return min(max(step, run.begin), run.end) - run.begin

    def _propose(self) -> list[int]:
        new: list[int] = []
        while True:
            try:
                self._tuner.generate_parameters(self._proposed)
            except nni.NoMoreTrialError:
                return new
            self._open.append(self._proposed)
            new.append(self._proposed)
            self._proposed += 1

    def _tell(self, number: int, result: Result) -> None:
        run = self.run(number)
        if number == len(self._record.trials):
            self._record.append(Trial(index=number, values=run.values, result=result))
        self._tuner.receive_trial_result(number, run.values, result.accuracy)
        self._told += 1
        for configuration in self._tuner.dropped():
            TrialFolder(self._directory, configuration).forget_training()
