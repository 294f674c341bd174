"""Upper bounds, over all architectures within limits, of a predictor that is a network with ReLUs.

Each ReLU is enclosed between two lines, so that the network lies below a linear function of its features (CROWN: Zhang
et al. 2018, "Efficient Neural Network Robustness Certification", Sec. 3.2-3.3), and of that function the greatest
value over the architectures is known.  Branch and bound over the choices makes the enclosed regions smaller.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwnas.search.budget import Floats
from hwnas.search.optimum import Limit
from hwnas.search.region import Region, Regions
from hwnas.spaces import Space

SECONDS = 60.0
ENUMERATED = 4096
"""Regions of so few architectures are evaluated one by one: that takes as long as another relaxation."""
ROUNDING = 1e-9
"""Added to every bound, relative to the size of its sums: far more than sums of doubles are off."""


@dataclass(frozen=True)
class ReluNetwork:
    """A predictor: layers with ReLUs between them, on :meth:`Space.one_hot`'s features, in double precision.

    Attributes:
        weights: of each layer, [inputs, outputs]; the last has one output.
        biases: of each layer, [outputs].

    Raises:
        ValueError: the shapes of the layers do not follow each other, or end in more than one output.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def __post_init__(self) -> None:
        widths = [len(weight) for weight in self.weights] + [1]
        if [weight.shape[1:] for weight in self.weights] != [(width,) for width in widths[1:]]:
            raise ValueError(f"layers of shapes {[weight.shape for weight in self.weights]} make no predictor")
        if [bias.shape for bias in self.biases] != [(width,) for width in widths[1:]]:
            raise ValueError(f"biases of shapes {[bias.shape for bias in self.biases]} do not fit the layers")

    def predict(self, features: Floats) -> Floats:
        """The output for each row of [n, features], [n]."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            features = np.maximum(features @ weight + bias, 0.0)
        return np.asarray((features @ self.weights[-1] + self.biases[-1])[:, 0])


@dataclass(frozen=True)
class Proof:
    """What branch and bound proved.

    Attributes:
        upper_bound: no architecture within the limits has a greater value; -inf where there is none within them.
        greatest: value of the best architecture that was evaluated; -inf where none was.  They differ by no more than
            rounding where the search was exhausted.
        regions: relaxed or evaluated.
        seconds: that it took.
    """

    upper_bound: float
    greatest: float
    regions: int
    seconds: float


@dataclass(frozen=True)
class Linear:
    """Functions ``features @ coefficients + constants``; coefficients [features, n], constants [n]."""

    coefficients: Floats
    constants: Floats


@dataclass(frozen=True, order=True)
class _Open:
    """A region still to look at; that of greatest bound is the least."""

    negative_bound: float
    number: int
    region: Region = field(compare=False)


class ReluBound:
    """Bounds a :class:`ReluNetwork` from above; a :class:`hwnas.search.bound.Bounding`.

    Args:
        seconds: when to stop; what was proved until then holds.
        regions: at most so many are relaxed or evaluated; no limit where None.
        enumerated: regions of at most so many architectures are evaluated and not relaxed.
    """

    def __init__(
        self,
        space: Space,
        network: ReluNetwork,
        *,
        seconds: float = SECONDS,
        regions: int | None = None,
        enumerated: int = ENUMERATED,
    ) -> None:
        self._space, self._network = space, network
        self._seconds, self._most, self._enumerated = seconds, math.inf if regions is None else regions, enumerated

    def __call__(self, limits: Sequence[Limit]) -> float:
        """No architecture within ``limits`` has a greater value; -inf where there is none within them."""
        return self.prove(limits).upper_bound

    def prove(self, limits: Sequence[Limit]) -> Proof:
        """Branch and bound, the region of greatest bound first."""
        start, regions = time.monotonic(), Regions(self._space, limits)
        greatest, done, pushed = -math.inf, 0, 0
        whole = regions.narrowed(regions.whole)
        heap = [] if whole is None else [_Open(-math.inf, 0, whole)]
        while heap and -heap[0].negative_bound > greatest:
            if done >= self._most or time.monotonic() - start >= self._seconds:
                break
            top = heapq.heappop(heap)
            done += 1
            if regions.count(top.region) <= self._enumerated:
                greatest = max(greatest, self._evaluated(regions, top.region))
                continue
            above = relaxed(self._network, regions, top.region)
            for part in regions.split(top.region, above.coefficients[:, 0]):
                narrowed = regions.narrowed(part)
                if narrowed is not None:
                    bound = min(-top.negative_bound, _greatest(regions, narrowed, above))
                    pushed += 1
                    heapq.heappush(heap, _Open(-bound, pushed, narrowed))
        upper = max(greatest, -heap[0].negative_bound) if heap else greatest
        return Proof(upper, greatest, done, time.monotonic() - start)

    def _evaluated(self, regions: Regions, region: Region) -> float:
        genomes = regions.architectures(region)
        if not len(genomes):
            return -math.inf
        return float(self._network.predict(self._space.one_hot(genomes).astype(np.float64)).max())


def relaxed(network: ReluNetwork, regions: Regions, region: Region) -> Linear:
    """A linear function of the features that lies above the network everywhere in a region, of one column.

    The bounds of each ReLU's input come from relaxing the layers before it in the same way.
    """
    inputs: list[tuple[Floats, Floats]] = []
    for layer in range(len(network.weights) - 1):
        above = _back(network, inputs, np.eye(network.weights[layer].shape[1]), layer)
        below = _back(network, inputs, -np.eye(network.weights[layer].shape[1]), layer)
        upper, negative_lower = (
            regions.unlimited(region, bound.coefficients) + bound.constants for bound in (above, below)
        )
        slack = ROUNDING * (1 + np.maximum(abs(upper), abs(negative_lower)))
        inputs.append((-negative_lower - slack, upper + slack))
    return _back(network, inputs, np.eye(1), len(inputs))


def _back(network: ReluNetwork, inputs: Sequence[tuple[Floats, Floats]], outputs: Floats, layer: int) -> Linear:
    """Linear functions above ``outputs`` [width, n] of a layer's values before its ReLUs."""
    coefficients = network.weights[layer] @ outputs
    constants = network.biases[layer] @ outputs
    for before in range(layer - 1, -1, -1):
        lower, upper = inputs[before]
        crosses = (lower < 0) & (upper > 0)
        span = np.where(crosses, upper - lower, 1.0)
        # Above a ReLU that crosses zero lies its chord; below it 0 or the identity, whichever encloses less.
        chord = np.where(crosses, upper / span, upper > 0)[:, None]
        under = np.where(crosses, upper > -lower, upper > 0)[:, None]
        positive, negative = np.maximum(coefficients, 0), np.minimum(coefficients, 0)
        constants = constants + np.where(crosses, -lower * upper / span, 0.0) @ positive
        through = chord * positive + under * negative
        constants = constants + network.biases[before] @ through
        coefficients = network.weights[before] @ through
    return Linear(coefficients, constants)


def _greatest(regions: Regions, region: Region, above: Linear) -> float:
    bound = float(regions.greatest(region, above.coefficients)[0] + above.constants[0])
    return bound + ROUNDING * (1 + abs(bound) + float(abs(above.coefficients).sum()))
