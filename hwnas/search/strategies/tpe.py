"""NNI's TPE tuner (Bergstra et al. 2011) as a strategy; NNI's own adapter sleeps a second a candidate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwnas.search.nni_setup import Sample, Strategy, TpeTuner, nni
from hwnas.search.nni_space import Candidate, CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.strategies.batches import BatchStrategy
from hwnas.spaces import Genomes

PATIENCE = 300
"""Proposals in a row that are over the budget or repeated after which random ones are evaluated."""


def tree_parzen(options: SearchOptions) -> Strategy:
    """TPE that begins with random architectures within the budget."""
    return TreeParzen(options)


class TreeParzen(BatchStrategy):
    """Asks the tuner for as many architectures as a batch has, which it spreads by a constant liar.

    A proposal over the budget is not evaluated; the tuner is told its excess as a negative accuracy, so that it ranks
    below every architecture within the budget and the less, the farther off it is (Deb 2000).  A repeated one is told
    its accuracy again.
    """

    def __init__(self, options: SearchOptions) -> None:
        super().__init__(options)
        self._tuner: TpeTuner | None = None
        self._proposals = 0
        self._waiting: dict[bytes, tuple[int, Sample]] = {}

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        del rng  # the tuner has its own
        tuner = self._tuner or self._start(space)
        found = [space.screen.start[:0]]
        patience = PATIENCE
        while patience and len(found) <= self._options.batch:
            patience -= 1
            self._proposals += 1
            try:
                sample = tuner.generate_parameters(self._proposals)
            except nni.NoMoreTrialError:
                break
            genome = _genome(space, sample)
            fitness = float(self._fitness(space, genome)[0])
            if genome.tobytes() in self._waiting:
                tuner.trial_end(self._proposals, False)
            elif np.isfinite(fitness):
                tuner.receive_trial_result(self._proposals, sample, fitness)
            else:
                self._waiting[genome.tobytes()] = (self._proposals, sample)
                found.append(genome)
                patience = PATIENCE
        return np.concatenate(found)

    def _learn(self, space: CandidateSpace, batch: list[Candidate]) -> None:
        del space
        for candidate in batch:
            proposal = self._waiting.pop(candidate.genome.tobytes(), None)
            if self._tuner is None:
                continue
            if proposal is None:
                self._tuner.import_data([{"parameter": candidate.sample, "value": candidate.top1}])
            else:
                self._tuner.receive_trial_result(*proposal, candidate.top1)
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Forget proposals that were not evaluated."""
        for number, _ in self._waiting.values():
            assert self._tuner is not None
            self._tuner.trial_end(number, False)
        self._waiting.clear()

    def _start(self, space: CandidateSpace) -> TpeTuner:
        """The tuner, told what was evaluated: its own random start would ignore the budget."""
        self._tuner = TpeTuner("maximize", seed=self._options.seed, tpe_args={"n_startup_jobs": 1})
        self._tuner.update_search_space({label: m.as_legacy_dict() for label, m in space.simplify().items()})
        genomes, _ = self._history(space)
        values = self._fitness(space, genomes).tolist()
        for row, value in zip(genomes, values, strict=True):
            self._tuner.import_data([{"parameter": _sample(space, row), "value": value}])
        return self._tuner


def _sample(space: CandidateSpace, row: npt.NDArray[np.int8]) -> Sample:
    """A row of a genome array as a sample; inactive choices take their first value."""
    genes = row.clip(min=0).tolist()
    return {choice.label: choice.values[gene] for choice, gene in zip(space.screen.space.choices, genes, strict=True)}


def _genome(space: CandidateSpace, sample: Sample) -> Genomes:
    """A sample as [1, choices]."""
    genes = [choice.values.index(sample[choice.label]) for choice in space.screen.space.choices]
    return space.screen.space.canonical(np.array([genes], np.int8))
