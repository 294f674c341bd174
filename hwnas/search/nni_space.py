"""A space as NNI sees it: one categorical mutable a choice, and frozen candidates that keep the budget.

A sample names a value for every choice.  Whatever proposes it, :meth:`CandidateSpace.freeze` refuses it before a
candidate is made of it when its architecture is over the budget or was frozen before, with the exception at which
NNI's strategies draw again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Floats
from hwnas.search.nni_setup import (
    Categorical,
    Evaluator,
    ExecutableModelSpace,
    LabeledMutable,
    ModelStatus,
    MutableDict,
    Sample,
    SampleValidationError,
)
from hwnas.search.screen import Screen
from hwnas.spaces import Genomes

Known = tuple[Genomes, Floats]
"""Architectures [n, choices] and their top-1 [n]."""
POOL = 1024
"""Architectures drawn at a time for random candidates."""
MAX_POOLS = 3
"""Pools in a row without a new architecture after which the space counts as exhausted."""


class Candidate(ExecutableModelSpace):  # type: ignore[misc]
    """A frozen point of the space, to be submitted to NNI's engine.

    Attributes:
        genome: canonical, [1, choices].
        architecture_id: its canonical hash.
        origin: how the strategy came to it.
    """

    def __init__(self, sample: Sample, genome: Genomes, architecture_id: str, origin: str) -> None:
        super().__init__(ModelStatus.Frozen)
        self.sample = sample
        self.genome = genome
        self.architecture_id = architecture_id
        self.origin = origin
        self.evaluator: Evaluator | None = None

    @property
    def top1(self) -> float:
        """The metric, after evaluation."""
        assert isinstance(self.metric, float)
        return self.metric


class OverBudgetError(SampleValidationError):  # type: ignore[misc]
    """The sample's architecture does not keep the budget.

    Attributes:
        excess: :meth:`Screen.excess`, positive.
    """

    def __init__(self, excess: float) -> None:
        super().__init__("over the budget")
        self.excess = excess


class RepeatedError(SampleValidationError):  # type: ignore[misc]
    """The sample's architecture was frozen before."""

    def __init__(self, architecture_id: str) -> None:
        super().__init__("repeated")
        self.architecture_id = architecture_id


class CandidateSpace(ExecutableModelSpace):  # type: ignore[misc]
    """The architectures that keep the budget, each to be frozen once.

    Attributes:
        known: what was evaluated before: architectures, within the budget or not, and their top-1; none is frozen anew.
        exhausted: whether random draws no longer find an architecture that was not frozen before.
    """

    def __init__(self, screen: Screen, evaluator: Evaluator, known: Known | None = None) -> None:
        super().__init__(ModelStatus.Initialized)
        self.screen = screen
        self.evaluator = evaluator
        self.sample: Sample | None = None
        self.exhausted = False
        choices = screen.space.choices
        self._mutables = MutableDict({c.label: Categorical(list(c.values), label=c.label) for c in choices})
        self._sizes = np.array([len(choice.values) for choice in choices])
        self.known = known if known is not None else (screen.start[:0], np.empty(0))
        self._frozen: set[str] = set(screen.space.ids(self.known[0]))
        self._pool: list[npt.NDArray[np.int8]] = []

    # --- what NNI asks of a model space ---------------------------------------------------------------

    def leaf_mutables(self, is_leaf: Callable[[object], bool]) -> Iterable[LabeledMutable]:
        """The mutables, in the order of the space."""
        yield from self._mutables.leaf_mutables(is_leaf)

    def check_contains(self, sample: Sample) -> SampleValidationError | None:
        """Why the sample cannot become a candidate, or None."""
        error = self._mutables.check_contains(sample)
        return error if error is not None else self._screened(sample, "proposal")[1]

    def freeze(self, sample: Sample, origin: str = "mutation") -> Candidate:
        """The candidate of a sample.

        Raises:
            SampleValidationError: a value is missing or unknown; :class:`OverBudgetError`; :class:`RepeatedError`.
        """
        error = self._mutables.check_contains(sample)
        if error is not None:
            raise error
        candidate, error = self._screened(sample, origin)
        if error is not None:
            raise error
        assert candidate is not None
        self._frozen.add(candidate.architecture_id)
        return candidate

    def random(self, memo: Sample | None = None, random_state: np.random.RandomState | None = None) -> Candidate:
        """A random candidate; its sample is written to ``memo`` as well.

        Raises:
            SampleValidationError: the space is exhausted.
        """
        random_state = np.random.RandomState() if random_state is None else random_state
        memo = {} if memo is None else memo
        # Values of inactive choices are free; they count once a mutation activates them.
        genes = self._draw(random_state)
        free = (random_state.random_sample(len(genes)) * self._sizes).astype(np.int8)
        memo.update(self._sample_of(np.where(genes >= 0, genes, free)))
        return self.freeze(memo, "random")

    # --- what strategies of ours use ------------------------------------------------------------------

    def candidates(self, genomes: Genomes, origin: str) -> list[Candidate]:
        """Candidates of those rows of [n, choices] that keep the budget and were not frozen before."""
        keeps = self.screen.keeps(genomes)
        made = []
        for i, architecture_id in enumerate(self.screen.space.ids(genomes)):
            if keeps[i] and architecture_id not in self._frozen:
                self._frozen.add(architecture_id)
                sample = self._sample_of(genomes[i].clip(min=0))
                made.append(self._candidate(sample, genomes[i : i + 1], architecture_id, origin))
        return made

    def unseen(self, genomes: Genomes) -> Genomes:
        """The rows that were not frozen before."""
        return genomes[[architecture_id not in self._frozen for architecture_id in self.screen.space.ids(genomes)]]

    # --- private --------------------------------------------------------------------------------------

    def _screened(self, sample: Sample, origin: str) -> tuple[Candidate, None] | tuple[None, SampleValidationError]:
        """The candidate of a complete sample, or why it cannot be."""
        space = self.screen.space
        genes = [choice.values.index(sample[choice.label]) for choice in space.choices]
        genome = space.canonical(np.array([genes], np.int8))
        architecture_id = space.ids(genome)[0]
        if architecture_id in self._frozen:
            return None, RepeatedError(architecture_id)
        if not self.screen.keeps(genome)[0]:
            return None, OverBudgetError(float(self.screen.excess(genome)[0]))
        return self._candidate(dict(sample), genome, architecture_id, origin), None

    def _candidate(self, sample: Sample, genome: Genomes, architecture_id: str, origin: str) -> Candidate:
        candidate = Candidate(sample, genome, architecture_id, origin)
        candidate.evaluator = self.evaluator
        return candidate

    def _sample_of(self, genes: npt.NDArray[np.int8]) -> Sample:
        return {c.label: c.values[gene] for c, gene in zip(self.screen.space.choices, genes.tolist(), strict=True)}

    def _draw(self, random_state: np.random.RandomState) -> npt.NDArray[np.int8]:
        """One unseen architecture from a pool that is drawn, and screened, as an array."""
        for _ in range(0 if self.exhausted else MAX_POOLS):
            if not self._pool:
                rng = np.random.default_rng(random_state.randint(2**32, dtype=np.uint32))
                self._pool = list(self.screen.sample(rng, POOL))
            while self._pool:
                genes = self._pool.pop()
                if len(self.unseen(genes[None])):
                    return genes
        self.exhausted = True
        raise SampleValidationError("no architecture within the budget is left")
