"""The NNI experiment that drives a search whose candidates are evaluated under NNI's training service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Protocol

from hwnas.search.engine import CandidateEvaluator, SearchExperiment
from hwnas.search.nni_setup import (
    CommandType,
    FinalMetricEvent,
    ModelStatus,
    NasExperimentConfig,
    RunMode,
    SimplifiedModelFormatConfig,
    Strategy,
    TrainingEndEvent,
    TrainingServiceEngineConfig,
    TrainingServiceExecutionEngine,
    nni,
)
from hwnas.search.nni_space import Candidate, CandidateSpace, Known
from hwnas.search.screen import Screen
from hwnas.search.service.manager import OwnServer
from hwnas.search.service.pool import Pool
from hwnas.search.service.server import Server
from hwnas.search.service.workers import Workers

JOIN_S = 5.0


class BatchJudge(Protocol):
    """Gives the top-1 of one candidate after the other, told before of those that come next."""

    def begin(self, candidates: Sequence[Candidate]) -> None:
        """These will be asked for next, in this order."""

    def __call__(self, candidate: Candidate) -> float:
        """The candidate's top-1."""


class ServiceEngine(TrainingServiceExecutionEngine):  # type: ignore[misc]
    """NNI's engine on its training service, whose trials are workers that stay alive.

    The models submitted together are evaluated at the same time; their metrics are told in the order of submission,
    before the submission returns.  So a search visits the candidates that it visits with the sequential engine.
    """

    def __init__(self, experiment: ServiceExperiment, judge: BatchJudge, pool: Pool, most: int) -> None:
        self._judge = judge
        self._pool = pool
        self._most = most
        self._history: list[Candidate] = []
        self._places: dict[int, int] = {}
        self._numbers = count()  # of trials; every start is a new experiment
        super().__init__(experiment)
        for place in range(len(pool.places)):
            self._launch(place)

    def submit_models(self, *models: Candidate) -> None:
        """Evaluate the models.

        Raises:
            Whatever the judge raises.
        """
        self._check_running()
        self._judge.begin(models)
        for model in models:
            model.status = ModelStatus.Training
            self._history.append(model)
            try:
                top1 = self._judge(model)
            except BaseException:
                self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Interrupted))
                raise
            self.dispatch_model_event(FinalMetricEvent(model, top1))
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

    def wait_models(self, *models: Candidate) -> None:
        """Nothing: submission waits."""

    def list_models(self, status: ModelStatus | None = None) -> Iterable[Candidate]:
        """Those submitted so far."""
        return [model for model in self._history if status is None or model.status == status]

    def idle_worker_available(self) -> bool:
        """Always: submission waits for a worker."""
        return True

    def budget_available(self) -> bool:
        """Whether fewer models were submitted than may be."""
        return len(self._history) < self._most

    def shutdown(self) -> None:
        """Stop listening to NNI's server, which has ended."""
        self._stopped = True
        self._channel_listen_stop_event.set()
        self._channel_listen_thread.join(JOIN_S)

    # --- in the thread that listens to NNI's server ---------------------------------------------------

    def _report_metric_data_callback(self, command: Any) -> None:
        """Nothing: these metrics are for the web page; the search has them from the worker."""

    def _trial_end_callback(self, command: Any) -> None:
        """Launch a new trial in the place of one that ended."""
        place = self._places.pop(command.parameter_ids[0], None)
        if place is not None and self._pool.ended(place):
            self._launch(place)

    def _launch(self, place: int) -> None:
        parameter = next(self._numbers)
        self._places[parameter] = place
        parameters = {"place": place, "worker": self._pool.launched(place).name}
        # NNI's own send_trial would add the versions of packages and import them all, torch too, to know them.
        trial = {"parameter_id": parameter, "parameters": parameters, "parameter_source": "algorithm"}
        self._channel._send(CommandType.NewTrialJob, nni.dump(trial | {"parameter_index": 0, "version_info": {}}))


class ServiceExperiment(OwnServer, SearchExperiment):
    """A NAS experiment on a server of ours."""

    def __init__(
        self,
        space: CandidateSpace,
        strategy: Strategy,
        server: Server,
        make_engine: Callable[[ServiceExperiment], ServiceEngine],
        workers: int,
    ) -> None:
        config = NasExperimentConfig(
            execution_engine=TrainingServiceEngineConfig(),
            model_format=SimplifiedModelFormatConfig(),
            training_service_platform="local",
            trial_concurrency=workers,
        )
        config.experiment_working_directory = server.work
        config.log_level = "warning"
        super().__init__(space, space.evaluator, strategy, config, id=server.experiment)
        self._server = server
        self._make_engine = make_engine

    def execution_engine_factory(self, config: object) -> ServiceEngine:
        """Ours."""
        del config
        return self._make_engine(self)


def run_service_experiment(
    screen: Screen,
    strategy: Strategy,
    judge: BatchJudge,
    workers: Workers,
    evaluations: int,
    known: Known | None = None,
) -> CandidateSpace:
    """As :func:`hwnas.search.engine.run_experiment`, with ``workers`` launched by NNI's training service.

    Raises:
        HwnasError: NNI's server does not start.
        Whatever ``judge`` raises, KeyboardInterrupt included.
    """
    space = CandidateSpace(screen, CandidateEvaluator(judge), known)

    def make_engine(experiment: ServiceExperiment) -> ServiceEngine:
        return ServiceEngine(experiment, judge, workers.pool, evaluations)

    experiment = ServiceExperiment(space, strategy, workers.server, make_engine, len(workers.pool.places))
    try:
        # Detached: else NNI registers an exit hook.
        experiment.start(run_mode=RunMode.Detach)
    finally:
        workers.pool.close()
        experiment.stop()
    return space
