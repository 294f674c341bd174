"""NNI's TPE tuner (Bergstra et al. 2011) as a strategy; NNI's own adapter sleeps a second a candidate."""

from __future__ import annotations

import numpy as np

from hwnas.search.nni_setup import SampleValidationError, Strategy, TpeTuner, nni
from hwnas.search.nni_space import Candidate, CandidateSpace, OverBudgetError, RepeatedError
from hwnas.search.options import SearchOptions

PATIENCE = 300
"""Proposals in a row that are over the budget or repeated after which the strategy gives up."""


def tree_parzen(options: SearchOptions) -> Strategy:
    """TPE that begins with random architectures within the budget."""
    return TreeParzen(options.seed, options.initial)


class TreeParzen(Strategy):  # type: ignore[misc]
    """Asks the tuner for one architecture after the other.

    A proposal over the budget is not evaluated; the tuner is told its excess as a negative accuracy, so that it ranks
    below every architecture within the budget and the less, the farther off it is (Deb 2000).  A repeated one is told
    its accuracy again.
    """

    def __init__(self, seed: int, initial: int) -> None:
        super().__init__()
        self._seed = seed
        self._initial = initial
        self._proposals = 0
        self._top1: dict[str, float] = {}

    def _run(self) -> None:
        space: CandidateSpace = self.model_space
        # Its own random start would ignore the budget; the imported one does not.
        tuner = TpeTuner("maximize", seed=self._seed, tpe_args={"n_startup_jobs": 1})
        tuner.update_search_space({label: mutable.as_legacy_dict() for label, mutable in space.simplify().items()})
        for candidate in self._random_start(space):
            tuner.import_data([{"parameter": candidate.sample, "value": candidate.top1}])
        while self.wait_for_resource():
            proposed = self._propose(tuner, space)
            if proposed is None or not self._evaluate(proposed):
                return
            tuner.receive_trial_result(self._proposals, proposed.sample, proposed.top1)

    def _random_start(self, space: CandidateSpace) -> list[Candidate]:
        random_state = np.random.RandomState(self._seed)
        started: list[Candidate] = []
        while len(started) < self._initial:
            try:
                candidate = space.random(random_state=random_state)
            except SampleValidationError:
                break
            if not self._evaluate(candidate):
                break
            started.append(candidate)
        return started

    def _propose(self, tuner: TpeTuner, space: CandidateSpace) -> Candidate | None:
        """The tuner's next architecture that is within the budget and new; None when its patience is over."""
        for _ in range(PATIENCE):
            self._proposals += 1
            try:
                sample = tuner.generate_parameters(self._proposals)
            except nni.NoMoreTrialError:
                return None
            try:
                return space.freeze(sample, "proposal")
            except OverBudgetError as error:
                tuner.receive_trial_result(self._proposals, sample, -error.excess)
            except RepeatedError as error:
                tuner.receive_trial_result(self._proposals, sample, self._top1[error.architecture_id])
        return None

    def _evaluate(self, candidate: Candidate) -> bool:
        """Evaluate the candidate, if the engine still takes one."""
        if not self.wait_for_resource():
            return False
        self.engine.submit_models(candidate)
        self.engine.wait_models(candidate)
        self._top1[candidate.architecture_id] = candidate.top1
        return True
