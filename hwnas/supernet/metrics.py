"""Everything that is told of a classifier, from its logits batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hwnas.classification import CalibrationBin, Classification, ClassScores, Confusion

BINS = 15
DECIMALS = 7
"""Of figures that torchmetrics computes in float32."""


class ClassificationMeter:
    """Gathers a network's answers; what it keeps does not grow with the images.

    Args:
        class_names: two or more, in the order of the logits.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        from torchmetrics import Metric, MetricCollection
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassConfusionMatrix,
            MulticlassF1Score,
            MulticlassPrecision,
            MulticlassRecall,
        )

        self._names = tuple(class_names)
        n = len(class_names)
        kinds = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}
        scores = {name: kind(n, average="macro") for name, kind in kinds.items()}
        scores |= {f"{name} of each": kind(n, average="none") for name, kind in kinds.items()}
        others: dict[str, Metric] = {"confusion": MulticlassConfusionMatrix(n)}
        if n > 5:
            others["top5"] = MulticlassAccuracy(n, average="micro", top_k=5)
        # By itself torchmetrics lets those share their counts that are equal after one batch, such as top-1 and top-5.
        groups = [list(scores), *([name] for name in others)]
        self._metrics = MetricCollection(scores | others, compute_groups=groups)
        self._bins = np.zeros((3, BINS))
        """Images, the sum of their confidences, the number that is right, by bin."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            logits: finite, [n, classes].
            labels: int64 [n], numbers of classes.
        """
        logits = logits.float()
        self._metrics.update(logits, labels)
        largest, called = torch.softmax(logits.double(), dim=1).max(dim=1)
        confidence, right = largest.clamp(max=1.0).numpy(force=True), (called == labels).numpy(force=True)
        # torchmetrics gives the confidence 1.0, frequent in float32, a bin of its own, and shows none of its bins.
        for row, weights in enumerate((None, confidence, right.astype(float))):
            self._bins[row] += np.histogram(confidence, BINS, (0.0, 1.0), weights=weights)[0]

    def result(self, split: str) -> Classification:
        """The figures of all batches so far, one at least; ``split`` is what reports call the images."""
        found: dict[str, Tensor] = self._metrics.compute()
        confusion = found["confusion"].cpu()
        images, confidences, right = self._bins
        total = int(images.sum())
        return Classification(
            split=split,
            images=total,
            top1=int(confusion.trace()) / total,
            top5=_number(found["top5"]) if "top5" in found else None,
            **{name: _number(found[name]) for name in ("precision", "recall", "f1")},
            calibration_error=float(np.abs(right - confidences).sum()) / total,
            bins=tuple(
                CalibrationBin(images=int(n), confidence=c / n if n else None, accuracy=r / n if n else None)
                for n, c, r in zip(images.tolist(), confidences.tolist(), right.tolist(), strict=True)
            ),
            classes=self._classes(found, confusion),
            confusion=tuple(
                Confusion(actual=actual, called=called, images=int(confusion[actual, called]))
                for actual, called in confusion.nonzero().tolist()
            ),
        )

    def _classes(self, found: dict[str, Tensor], confusion: Tensor) -> tuple[ClassScores, ...]:
        precision, recall, f1 = (found[f"{name} of each"] for name in ("precision", "recall", "f1"))
        actual, called = confusion.sum(dim=1).tolist(), confusion.sum(dim=0).tolist()
        return tuple(
            ClassScores(
                name=name,
                images=actual[i],
                precision=_number(precision[i]) if called[i] else None,
                recall=_number(recall[i]) if actual[i] else None,
                f1=_number(f1[i]) if actual[i] or called[i] else None,
            )
            for i, name in enumerate(self._names)
        )


def _number(value: Tensor) -> float:
    """A share without the noise of float32, in which a mean of ones may exceed one."""
    return min(round(float(value), DECIMALS), 1.0)
