"""Thinning out against the loop that defines it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hwnas.detection.anchors import anchors
from hwnas.detection.boxes import iou
from hwnas.detection.losses import Answers
from hwnas.detection.suppression import Suppression, detections, suppressed


def naive(boxes: Tensor, scores: Tensor, rule: Suppression) -> set[tuple[int, int]]:
    """Answer and class of each detection, by one greedy pass over all of them, the surest first."""
    order = sorted(
        ((float(scores[a, c]), a, c) for a in range(len(boxes)) for c in range(scores.shape[1])), reverse=True
    )
    kept: list[tuple[int, int]] = []
    for score, a, c in order:
        rivals = [other for other, label in kept if label == c]
        overlaps = iou(boxes[a : a + 1], boxes[rivals])[0]
        if score >= rule.score and len(kept) < rule.most and not bool((overlaps > rule.iou).any()):
            kept.append((a, c))
    return set(kept)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.1, 0.9), st.sampled_from([3, 100]))
def test_it_keeps_what_the_loop_keeps(seed: int, count: int, threshold: float, most: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 10
    boxes = torch.cat([corner, corner + 2 + torch.rand(count, 2, generator=generator) * 10], 1)
    scores = torch.rand(count, 3, generator=generator)
    rule = Suppression(score=0.3, iou=threshold, most=most)
    found = suppressed(boxes, scores, rule)
    named = {
        (int((boxes == box).all(1).nonzero()[0]), int(label))
        for box, label in zip(found.boxes, found.labels, strict=True)
    }
    assert named == naive(boxes, scores, rule)
    assert (found.scores.diff() <= 0).all()


def test_nothing_sure_is_nothing() -> None:
    found = suppressed(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[0.01, 0.02]]), Suppression())
    assert [len(found.boxes), len(found.scores), len(found.labels)] == [0, 0, 0]


def test_boxes_end_at_the_picture_and_empty_ones_are_none() -> None:
    start = anchors(32, [4])
    deltas = torch.zeros(1, len(start), 4)
    deltas[0, 0, 0] = -40.0  # far to the left of the picture
    logits = torch.full((1, len(start), 2), -9.0)
    logits[0, :2, 1] = 4.0
    (found,) = detections(Answers(logits, deltas), start, 32, Suppression())
    assert len(found.boxes) == 1
    assert ((found.boxes >= 0) & (found.boxes <= 32)).all()
    assert found.labels.tolist() == [1]
