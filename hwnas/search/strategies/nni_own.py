"""NNI's own NAS strategies; :class:`~hwnas.search.nni_space.CandidateSpace` keeps them within the budget."""

from __future__ import annotations

from hwnas.search.nni_setup import Random, RegularizedEvolution, Strategy
from hwnas.search.options import SearchOptions

MUTATION_PROBABILITY = 0.08


def random(options: SearchOptions) -> Strategy:
    """Random architectures within the budget."""
    return Random(seed=options.seed)


def regularized_evolution(options: SearchOptions) -> Strategy:
    """Aging evolution (Real et al. 2019, Algorithm 1), a third of the evaluations being its first population."""
    population = max(2, min(100, options.evaluations // 3))
    return RegularizedEvolution(
        population_size=population,
        sample_size=max(2, population // 4),
        mutation_prob=MUTATION_PROBABILITY,
        seed=options.seed,
    )
