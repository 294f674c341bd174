"""The NNI experiment that drives a search in this process: no server, no child process, nothing written to HOME."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hwnas.search.nni_setup import (
    Evaluator,
    ExecutableModelSpace,
    NasExperiment,
    NasExperimentConfig,
    RunMode,
    SequentialEngineConfig,
    SimplifiedModelFormatConfig,
    Strategy,
    nni,
)
from hwnas.search.nni_space import Candidate, CandidateSpace, Known
from hwnas.search.screen import Screen

EXPERIMENT_ID = "experiment"


class CandidateEvaluator(Evaluator):  # type: ignore[misc]
    """NNI's evaluator of a candidate: reports what ``judge`` says as the final metric."""

    def __init__(self, judge: Callable[[Candidate], float]) -> None:
        self._judge = judge

    def _execute(self, model: Candidate) -> float:
        """Evaluate the candidate itself; NNI would first instantiate it as a network."""
        top1 = self._judge(model)
        nni.report_final_result(top1)
        return top1


class SearchExperiment(NasExperiment):  # type: ignore[misc]
    """A NAS experiment without the files that NNI keeps.

    Its checkpoints are pickles that today's torch does not load, its manifest lies in HOME; neither is needed, since
    a search is resumed from our own record of evaluations.
    """

    def executable_model_factory(self, config: object) -> ExecutableModelSpace:
        """The space is executable as it is."""
        del config
        return self.model_space

    def save_checkpoint(self) -> None:
        """Nothing: see the class."""

    def _start_without_nni_manager(self) -> None:
        """No manifest: see the class."""

    def _stop_without_nni_manager(self) -> None:
        """No manifest: see the class."""


def run_experiment(
    screen: Screen,
    strategy: Strategy,
    judge: Callable[[Candidate], float],
    directory: Path,
    evaluations: int,
    known: Known | None = None,
) -> CandidateSpace:
    """Let ``strategy`` explore until ``evaluations`` candidates were judged or it finds no more.

    Args:
        judge: gives a candidate's top-1; called for one candidate after the other, in the order of proposal.
        directory: of NNI's log.
        known: what was evaluated before, from which a strategy may learn; not evaluated again.

    Returns:
        The space as the strategy left it.

    Raises:
        Whatever ``judge`` raises, KeyboardInterrupt included.
    """
    evaluator = CandidateEvaluator(judge)
    space = CandidateSpace(screen, evaluator, known)
    config = NasExperimentConfig(
        execution_engine=SequentialEngineConfig(max_model_count=evaluations, continue_on_failure=False),
        model_format=SimplifiedModelFormatConfig(),
    )
    config.experiment_working_directory = directory
    config.log_level = "warning"
    experiment = SearchExperiment(space, evaluator, strategy, config, id=EXPERIMENT_ID)
    try:
        # Detached: else NNI registers an exit hook.  There is no process that could be left behind.
        experiment.start(run_mode=RunMode.Detach)
    finally:
        experiment.stop()
    return space
