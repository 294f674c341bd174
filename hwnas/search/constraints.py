"""Budgets beside the one that is promised: of other devices' latencies, and of the architecture itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Budget, Floats, Quantity, QuantityPredictor
from hwnas.spaces import Genomes, Space, bytes_per_weight

BYTES_OF_FLOAT = 4


@dataclass(frozen=True)
class Constraint:
    """A budget and what predicts its quantity."""

    budget: Budget
    predictor: QuantityPredictor

    def keeps(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which rows keep the budget by the upper side of their predictions, [n]."""
        return self.budget.keeps(*self.predictor.predict(genomes))

    def upper(self, genomes: Genomes) -> Floats:
        """The upper side of each row's prediction, [n]."""
        return self.budget.upper(*self.predictor.predict(genomes))

    def excess(self, genomes: Genomes) -> Floats:
        """How far each row's upper side is over the budget, as a fraction of the limit, [n]; ≤ 0 where it is not."""
        return self.upper(genomes) / self.budget.limit - 1


def worst_excess(constraints: Sequence[Constraint], genomes: Genomes) -> Floats:
    """The greatest :meth:`Constraint.excess` of each row, [n]."""
    return np.asarray(np.max([constraint.excess(genomes) for constraint in constraints], axis=0))


@dataclass(frozen=True)
class ArchitectureQuantity:
    """Says exactly what an architecture has on every device: weights, operations, activations at batch 1.

    Weights are in the precision that the architecture chooses, or FP32; activations always in FP32, which they are at
    most.
    """

    space: Space
    quantity: Quantity

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """The quantity of each row in its unit, and zeros, each [n]."""
        amounts = self._amounts(genomes)
        return amounts, np.zeros(len(genomes))

    def _amounts(self, genomes: Genomes) -> Floats:
        match self.quantity:
            case "macs":
                return self.space.macs(genomes)
            case "params":
                return self.space.params(genomes)
            case "model_mb":
                return self.space.weights(genomes) * bytes_per_weight(self.space, genomes) / 1e6
            case "activation_mib":
                return self.space.peak_activations(genomes) * BYTES_OF_FLOAT / 2**20
            case "latency_ms":
                raise ValueError("the latency of an architecture depends on the device")


def architecture_constraint(space: Space, quantity: Quantity, limit: float) -> Constraint:
    """A limit on a quantity that belongs to the architecture.

    Raises:
        UserError: the limit is not positive and finite.
    """
    return Constraint(Budget.of_architecture(quantity, limit), ArchitectureQuantity(space, quantity))
