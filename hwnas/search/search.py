"""A search from its options to its result."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from hwnas.errors import HwnasError, UserError
from hwnas.files import explain_os_errors
from hwnas.progress import Progress, Silent
from hwnas.search.accuracy import GaussianProcess, cross_validated_tau, prequential_tau
from hwnas.search.budget import Budget, LatencyPredictor, QuantityPredictor
from hwnas.search.constraints import Constraint
from hwnas.search.feasibility import require_feasible
from hwnas.search.options import SearchOptions
from hwnas.search.pareto import pareto_front
from hwnas.search.record import Estimate, Evaluation, OtherBudget, SearchHeader, SearchRecord
from hwnas.search.screen import Screen
from hwnas.spaces import Architecture, Space, precisions_of

if TYPE_CHECKING:
    from hwnas.search.evaluator import Evaluator
    from hwnas.search.nni_space import Candidate
    from hwnas.search.service import Service

PROBES = 64


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        evaluations: every evaluated candidate, in order; all keep the budget by the latency model.
        front: those that no other beats in top-1 and all predicted quantities that budgets limit, fastest first.
        kendall_tau: rank correlation of the accuracies that a :class:`GaussianProcess` predicted for each batch before
            it was evaluated with those then found; None for fewer than 10 predictions.  The batches of a search that
            converges hold candidates of much the same accuracy, so this is lower than over random ones.
        kendall_tau_n: number of these predictions.
        cross_validated_tau: the same correlation for every evaluation, each predicted from four fifths of the others;
            None for fewer than 10 evaluations.
        fastest: the fastest architecture by the latency model and its predicted mean in ms.
        stopped: why the search ended, in words.
    """

    evaluations: tuple[Evaluation, ...]
    front: tuple[Evaluation, ...]
    kendall_tau: float | None
    kendall_tau_n: int
    cross_validated_tau: float | None
    fastest: tuple[Architecture, float]
    stopped: str

    def best_first(self) -> Iterator[Evaluation]:
        """All evaluations by top-1, the best first; equals by predicted latency, then by index."""
        yield from sorted(self.evaluations, key=lambda e: (-e.top1, e.predicted_ms, e.index))

    def finalists(self, k: int = 5) -> tuple[Evaluation, ...]:
        """The first ``k`` of :meth:`best_first`."""
        return tuple(islice(self.best_first(), k))


def run_search(
    space: Space,
    latency_model: LatencyPredictor,
    budget: Budget,
    evaluate: Evaluator,
    directory: Path,
    options: SearchOptions | None = None,
    progress: Progress | None = None,
    measure_fastest: Callable[[Architecture], float | None] | None = None,
    known: Sequence[Evaluation] = (),
    others: Sequence[Constraint] = (),
    service: Service | None = None,
) -> SearchResult:
    """Search for accurate architectures that keep ``budget`` by the latency model, and all other budgets with it.

    What is sought, the most accurate one or the whole front, is :attr:`SearchOptions.objective`.

    Every evaluation is on disk before the next begins.  A search that was broken off, by whatever, goes on with the
    same arguments and visits the candidates that it would have visited unbroken; none is evaluated twice but the one
    in flight.

    Args:
        evaluate: gives top-1 of an architecture on the validation split.
        directory: of ``search.json``, ``evaluations.jsonl`` and NNI's log; one search each.
        measure_fastest: measures what the budget limits (ms) of the fastest architecture, if it can, for the message of
            a refused budget.
        known: evaluations of another search of the same evaluator, from which ``hwnas`` learns before its first; none
            is evaluated again.
        others: budgets beside the promised one, of other devices or of the architecture itself.
        service: workers that evaluate in place of this process, under NNI's training service; the same candidates.

    Raises:
        InfeasibleBudgetError: no architecture keeps all budgets, or none was found.
        UserError: ``directory`` holds another search, or one that is running.
        BadFileError: the record in ``directory`` is damaged.
    """
    options = options or SearchOptions()
    progress = progress or Silent()
    feasible = require_feasible(space, latency_model, budget, measure_fastest, others)
    screen = Screen(space, latency_model, budget, feasible.start, tuple(others))
    header = SearchHeader(
        space=space.name,
        num_classes=space.num_classes,
        budget=budget,
        options=options,
        latency_model=predictor_digest(space, latency_model),
        evaluator=evaluate.identity,
        others=tuple(OtherBudget(budget=c.budget, predictor=predictor_digest(space, c.predictor)) for c in others),
        precisions=precisions_of(space),
        known=_digest_of(known),
    )
    with explain_os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / ".lock", timeout=0):
            record = SearchRecord.open(directory, header, space)
            stopped = _explore(screen, evaluate, record, directory, options, progress, known, service)
    except Timeout as error:
        raise UserError(f"Another process is searching in {directory}; wait for it or choose another one.") from error
    genomes = space.encode([evaluation.architecture for evaluation in record.evaluations])
    top1 = np.array([evaluation.top1 for evaluation in record.evaluations])
    blocks = range(options.initial, len(top1), options.batch)
    tau, n = prequential_tau(GaussianProcess(space), genomes, top1, blocks)
    return SearchResult(
        evaluations=record.evaluations,
        front=pareto_front(record.evaluations),
        kendall_tau=tau,
        kendall_tau_n=n,
        cross_validated_tau=cross_validated_tau(GaussianProcess(space), genomes, top1),
        fastest=feasible.fastest,
        stopped=stopped,
    )


def _explore(
    screen: Screen,
    evaluate: Evaluator,
    record: SearchRecord,
    directory: Path,
    options: SearchOptions,
    progress: Progress,
    known: Sequence[Evaluation],
    service: Service | None,
) -> str:
    """Run the strategy under NNI; returns why it ended."""
    from hwnas.search.engine import run_experiment
    from hwnas.search.strategies import make_strategy

    progress.start("Searching", options.evaluations, done=len(record), unit="candidates")
    genomes = screen.space.encode([evaluation.architecture for evaluation in known])
    before = genomes, np.array([evaluation.top1 for evaluation in known])
    strategy = make_strategy(options)
    # A finished search is only read, for which no worker is needed.
    if service is None or len(record) >= options.evaluations:
        judge = _Judge(screen, _timed(evaluate), record, options.strategy, progress)
        candidates = run_experiment(screen, strategy, judge, directory / "nni", options.evaluations, before)
    else:
        from hwnas.search.service.experiment import run_service_experiment
        from hwnas.search.service.workers import Workers

        progress.advance(0, note="workers begin")
        workers = Workers(service, directory)
        judge = _Judge(screen, workers.evaluate, record, options.strategy, progress, workers.begin)
        candidates = run_service_experiment(screen, strategy, judge, workers, options.evaluations, before)
    progress.finish()
    if judge.position < len(record):
        raise UserError(f"{directory} holds more evaluations than this search makes; delete it and search again.")
    if len(record) == options.evaluations:
        return f"{options.evaluations} candidates were evaluated"
    if candidates.exhausted:
        return f"only {len(record)} architectures were found that keep the budget, and all were evaluated"
    return (
        f"after {len(record)} evaluations strategy '{options.strategy}' proposed no further architecture that keeps "
        "the budget and was not evaluated before"
    )


def _timed(evaluate: Evaluator) -> Callable[[Architecture], tuple[float, float]]:
    """Top-1 with the seconds that its evaluation took."""

    def timed(architecture: Architecture) -> tuple[float, float]:
        start = time.monotonic()
        top1 = evaluate(architecture)
        return top1, time.monotonic() - start

    return timed


class _Judge:
    """Answers candidates from the record as far as it goes, and evaluates those beyond.

    Args:
        evaluate: gives top-1 and seconds.
        begin: told of architectures that will be evaluated next, so that it can be begun with all at once.
    """

    def __init__(
        self,
        screen: Screen,
        evaluate: Callable[[Architecture], tuple[float, float]],
        record: SearchRecord,
        strategy: str,
        progress: Progress,
        begin: Callable[[Sequence[Architecture]], None] | None = None,
    ) -> None:
        self.position = 0
        self._screen = screen
        self._evaluate = evaluate
        self._begin = begin
        self._record = record
        self._strategy = strategy
        self._progress = progress

    def begin(self, candidates: Sequence[Candidate]) -> None:
        """These will be asked for next, in this order; none is evaluated that is on record."""
        new = candidates[max(0, len(self._record) - self.position) :]
        if self._begin is not None and new:
            self._begin(self._screen.space.decode(np.concatenate([candidate.genome for candidate in new])))

    def __call__(self, candidate: Candidate) -> float:
        """The candidate's top-1."""
        if self.position == len(self._record):
            self._record.append(self._evaluation(candidate))
            best = max(evaluation.top1 for evaluation in self._record.evaluations)
            self._progress.advance(note=f"best {self._screen.space.metric} {100 * best:.2f} %")
        known = self._record[self.position]
        if known.architecture.id != candidate.architecture_id:
            raise UserError(
                f"Evaluation {self.position} of the search on record is {known.architecture.id}, where the same search "
                f"now proposes {candidate.architecture_id}: hwnas or a library has changed; search in a new directory."
            )
        self.position += 1
        return known.top1

    def _evaluation(self, candidate: Candidate) -> Evaluation:
        architecture = self._screen.space.decode(candidate.genome)[0]
        latency, *others = (constraint.predictor.predict(candidate.genome) for constraint in self._screen.constraints)
        top1, seconds = self._evaluate(architecture)
        if not 0 <= top1 <= 1:
            raise HwnasError(f"The evaluation of {architecture.id} gave a top-1 of {top1}, which is not in 0..1.")
        return Evaluation(
            index=self.position,
            strategy=self._strategy,
            origin=candidate.origin,
            architecture=architecture,
            top1=top1,
            predicted_ms=float(latency[0][0]),
            std_ms=float(latency[1][0]),
            others=tuple(Estimate(mean=float(mean[0]), std=float(std[0])) for mean, std in others),
            seconds=round(seconds, 3),
        )


def _digest_of(known: Sequence[Evaluation]) -> str:
    """Of what was evaluated before; empty where nothing was."""
    if not known:
        return ""
    text = json.dumps([[evaluation.architecture.id, evaluation.top1] for evaluation in known])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def predictor_digest(space: Space, predictor: QuantityPredictor) -> str:
    """What is predicted for a fixed sample, hashed: equal for equal tables and methods."""
    probes = space.sample(np.random.default_rng(0), PROBES)
    rounded = np.round(np.stack(predictor.predict(probes)), 9) + 0.0
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]
