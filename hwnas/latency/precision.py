"""The latency of architectures that choose their precision: a model for each, from a table of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwnas.latency.base import Floats, LatencyModel
from hwnas.spaces import Genomes, Space, precisions_of
from hwnas.spaces.precision import PRECISION


class PrecisionLatency:
    """Predicts by the model of the precision that each architecture chooses.

    Args:
        space: with a choice of precision, its last.
        models: of each precision that can be chosen, of the space without that choice.

    Raises:
        ValueError: a precision has no model, or the choice is not the last.
    """

    def __init__(self, space: Space, models: Mapping[str, LatencyModel]) -> None:
        names = precisions_of(space)
        if not names or set(names) - set(models) or space.choices[-1].label != PRECISION:
            raise ValueError(f"{space.name} chooses from {names} last; there are models of {sorted(models)}")
        self.space = space
        self._models = [models[name] for name in names]

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms, each [n], of a genome array [n, choices]."""
        mean, std = np.empty(len(genomes)), np.empty(len(genomes))
        for chosen, model in enumerate(self._models):
            rows = genomes[:, -1] == chosen
            mean[rows], std[rows] = model.predict(genomes[rows, :-1])
        return mean, std
