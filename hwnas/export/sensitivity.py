"""Which layers suffer most from INT8, found by measurement, and how many of them must stay in higher precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import ModelProto
from scipy.special import log_softmax

from hwnas.export.scoring import Array, PairedLoss, Sample, logits
from hwnas.graphs import Layer, insert_qdq
from hwnas.progress import Progress, Silent

MOST_IMAGES = 256
"""That layers are ranked on; a model a layer is run on them."""


def sensitivities(
    model: ModelProto,
    layers: Sequence[Layer],
    scales: Mapping[str, float],
    sample: Sample,
    progress: Progress,
) -> dict[str, float]:
    """How far each layer alone in INT8 moves the answers: mean Kullback-Leibler divergence in nats, by name.

    That is the sensitivity of Cai et al. 2020, "ZeroQ"; unlike the number of wrong answers it tells layers apart on a
    hundred images.

    Args:
        model: float32.
        scales: of all activations that the layers read.
        sample: of which at most ``MOST_IMAGES`` are used.
    """
    sample = sample.first(MOST_IMAGES)
    exact = log_softmax(logits(model, sample, Silent()), axis=1)
    found = {}
    progress.start("sensitivity of layers", len(layers), unit="layers")
    for layer in layers:
        moved = log_softmax(logits(insert_qdq(model, [layer], scales), sample, Silent()), axis=1)
        found[layer.name] = _divergence(exact, moved)
        progress.advance(note=layer.name)
    progress.finish()
    return found


def _divergence(exact: Array, moved: Array) -> float:
    each: npt.NDArray[np.float64] = (np.exp(exact) * (exact - moved)).sum(axis=1, dtype=np.float64)
    return max(float(each.mean()), 0.0)


@dataclass(frozen=True)
class Attempt:
    """One INT8 model: the layers that stay in higher precision, and what it loses on the images of the choice."""

    left: tuple[str, ...]
    loss: PairedLoss


def fewest_left(ranked: Sequence[str], attempt: Callable[[Sequence[str]], Attempt], max_drop: float) -> Attempt:
    """Leave the most sensitive layers in higher precision until the loss is within the limit, and no more of them.

    Their number is doubled until the loss is small enough, then halved in; at least one layer is quantised.

    Args:
        ranked: layers, the most sensitive first.
        attempt: makes and scores the model that leaves some layers.
        max_drop: points.

    Returns:
        The attempt with the fewest layers left that keeps the limit, or, if none does, the one that loses least.
    """
    tried: dict[int, Attempt] = {}

    def keeps(count: int) -> bool:
        if count not in tried:
            tried[count] = attempt(ranked[:count])
        return tried[count].loss.points <= max_drop

    most = len(ranked) - 1
    low, high = -1, 0
    while not keeps(high) and high < most:
        low, high = high, min(max(2 * high, 1), most)
    while keeps(high) and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    if keeps(high):
        return tried[high]
    return min(tried.values(), key=lambda found: (found.loss.points, len(found.left)))
