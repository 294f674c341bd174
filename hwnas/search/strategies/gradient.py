"""Gradient search on relaxed choices (after DARTS, Liu et al. 2019, and ProxylessNAS, Cai et al. 2019, Sec. 3.2).

These train weights and choices together; here the weights are there, so the gradient is that of surrogates: an ensemble
of perceptrons that learns accuracy from what was evaluated, and an expected additive cost fitted to the screen.
"""

from __future__ import annotations

import numpy as np
import torch

from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.relaxation import AdditiveExcess, Ensemble, Relaxation, one_thread
from hwnas.search.repair import repair
from hwnas.search.screen import distinct
from hwnas.search.strategies.batches import BatchStrategy
from hwnas.spaces import Genomes

STARTS = 64
"""Ascents side by side; half start at the best that were evaluated, half anywhere."""
STEPS = 80
LEARNING_RATE = 0.1
TEMPERATURES = 2.0, 0.1
"""At the first and at the last step; between them the logarithm falls evenly."""
HINT = 2.0
"""Logit by which an ascent prefers the values of the architecture that it starts at."""
PENALTY = 20.0
"""Standard deviations of accuracy that being over the budget by its whole limit costs."""
OPTIMISM = 0.5
"""Proposals are ranked by mean + this many standard deviations of the ensemble."""


def gradient(options: SearchOptions) -> Strategy:
    """Gradient ascent on surrogates, projected to the budget."""
    return GradientAscent(options)


class GradientAscent(BatchStrategy):
    """Each generation learns the surrogates anew, ascends from many starts, and makes the ends keep the budget."""

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        screen = space.screen
        genomes, top1 = self._history(space)
        if len(genomes) < 2:
            return genomes
        with one_thread():
            ensemble = Ensemble(screen.space, genomes, top1, int(rng.integers(2**31)))
            ends = self._ascend(space, rng, ensemble)
            projected = distinct(repair(screen, ends, lambda rows: ensemble.predict(rows)[0]))
            if not len(projected):
                return projected
            mean, std = ensemble.predict(projected)
        return projected[np.argsort(-(mean + OPTIMISM * std), kind="stable")]

    def _ascend(self, space: CandidateSpace, rng: np.random.Generator, ensemble: Ensemble) -> Genomes:
        """The ends of all ascents, [starts, choices]; they may be over the budget a little, or equal."""
        screen = space.screen
        genomes, top1 = self._history(space)
        relaxation = Relaxation(screen.space)
        excess = AdditiveExcess(screen, rng, genomes)
        logits = rng.normal(size=(STARTS, relaxation.features)).astype(np.float32)
        best = genomes[np.argsort(-top1, kind="stable")[: STARTS // 2]]
        logits[: len(best)] += HINT * screen.space.one_hot(best)
        leaf = torch.from_numpy(logits).requires_grad_()
        optimizer = torch.optim.Adam([leaf], LEARNING_RATE)
        for temperature in np.geomspace(*TEMPERATURES, STEPS).tolist():
            features = relaxation(leaf, temperature)
            loss = PENALTY * excess(features).clamp(min=0) - ensemble(features)
            optimizer.zero_grad()
            loss.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return screen.space.canonical(relaxation.likeliest(leaf))
