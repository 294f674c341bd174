"""What a detector's answers cost."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hwnas.data.detection import NO_OBJECT
from hwnas.detection.anchors import anchors
from hwnas.detection.assignment import IGNORED, assign
from hwnas.detection.boxes import encode
from hwnas.detection.losses import Answers, LossConfig, box_loss, class_loss, detection_loss, prior_bias

LABELS = torch.tensor([[0, NO_OBJECT, IGNORED, 2], [1, 1, NO_OBJECT, IGNORED]])
COUNTED = LABELS != IGNORED
TARGETS = torch.zeros(2, 4, 3)
for _row, _column, _class in ((0, 0, 0), (0, 3, 2), (1, 0, 1), (1, 1, 1)):
    TARGETS[_row, _column, _class] = 1


@given(st.integers(0, 1000), st.floats(0.05, 0.95))
def test_without_focus_it_is_weighted_cross_entropy(seed: int, alpha: float) -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed)) * 3
    found = class_loss(logits, LABELS, LossConfig(alpha=alpha, gamma=0))
    weights = TARGETS * alpha + (1 - TARGETS) * (1 - alpha)
    wanted = F.binary_cross_entropy_with_logits(logits, TARGETS, weights, reduction="none")[COUNTED].sum()
    torch.testing.assert_close(found, wanted)


@given(st.integers(0, 1000), st.floats(0.5, 3))
def test_focus_by_its_definition(seed: int, gamma: float) -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed)) * 3
    p = logits.sigmoid()
    right = torch.where(TARGETS == 1, p, 1 - p)
    weight = torch.where(TARGETS == 1, 0.25, 0.75)
    wanted = -(weight * (1 - right) ** gamma * right.log())[COUNTED].sum()
    torch.testing.assert_close(class_loss(logits, LABELS, LossConfig(gamma=gamma)), wanted, rtol=1e-4, atol=1e-4)


def test_boxes_cost_nothing_when_right_and_grow_linearly_when_far() -> None:
    start = anchors(64, [4])[:5]
    boxes = start + torch.tensor([1.0, -2, 3, 0])
    config = LossConfig()
    right = encode(boxes, start)
    assert box_loss(right, boxes, start, config) == 0
    far, farther = (float(box_loss(right + error, boxes, start, config)) for error in (1.0, 2.0))
    assert farther - far == pytest.approx(5 * config.delta, rel=1e-5)  # the mean over four numbers, of five boxes


def test_ignored_anchors_learn_nothing_and_background_has_no_box() -> None:
    start = anchors(64, [4])
    boxes = torch.tensor([[[8.0, 8, 50, 50]]])
    labels, owned = assign(boxes, torch.tensor([[1]]), start)
    answers = Answers(
        torch.zeros(1, len(start), 3, requires_grad=True), torch.zeros(1, len(start), 4, requires_grad=True)
    )
    detection_loss(answers, labels, owned, start, LossConfig()).backward()
    classes, deltas = answers.classes.grad, answers.boxes.grad
    assert classes is not None
    assert deltas is not None
    assert (classes[labels == IGNORED] == 0).all()
    assert (classes[labels != IGNORED] != 0).all()
    assert (deltas[labels < 0] == 0).all()
    assert (deltas[labels >= 0] != 0).any()


@given(st.integers(0, 1000), st.integers(0, 3), st.booleans())
def test_masks_cost_what_picking_out_the_anchors_costs(seed: int, objects: int, wild: bool) -> None:
    """With gradients, none of which is infinite, where no anchor answers and where an idle one's answer is wild."""
    generator = torch.Generator().manual_seed(seed)
    start, config = anchors(64, [8, 4]), LossConfig()
    corners = torch.rand(2, 3, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 4 + torch.rand(2, 3, 2, generator=generator) * 20], -1)
    labels, owned = assign(boxes, torch.arange(3).where(torch.arange(3) < objects, NO_OBJECT).expand(2, 3), start)
    deltas = torch.randn(2, len(start), 4, generator=generator)
    found = labels >= 0
    if wild:
        deltas[~found] = math.inf
    classes = torch.randn(2, len(start), 3, generator=generator)
    masked, picked = deltas.clone().requires_grad_(), deltas.clone().requires_grad_()
    cost = detection_loss(Answers(classes, masked), labels, owned, start, config)
    wanted = box_loss(picked[found], owned[found], start.expand_as(owned)[found], config) * config.box_weight
    wanted = wanted + class_loss(classes, labels, config)
    torch.testing.assert_close(cost, wanted)
    cost.backward()
    wanted.backward()
    torch.testing.assert_close(masked.grad, picked.grad)


def test_a_picture_without_objects_has_a_finite_loss() -> None:
    start = anchors(32, [4])
    labels, owned = assign(torch.zeros(1, 1, 4), torch.tensor([[NO_OBJECT]]), start)
    answers = Answers(torch.full((1, len(start), 3), prior_bias()), torch.zeros(1, len(start), 4))
    loss = float(detection_loss(answers, labels, owned, start, LossConfig()))
    assert 0 < loss < 1


def test_descending_finds_the_boxes() -> None:
    """Answers that are free to be anything end as the objects, and the loss near nothing."""
    torch.manual_seed(0)
    start = anchors(64, [8, 4])
    labels, owned = assign(torch.tensor([[[8.0, 8, 40, 44], [40, 40, 60, 60]]]), torch.tensor([[1, 0]]), start)
    classes = torch.full((1, len(start), 3), prior_bias(), requires_grad=True)
    deltas = torch.zeros(1, len(start), 4, requires_grad=True)
    optimizer = torch.optim.Adam([classes, deltas], 0.1)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = detection_loss(Answers(classes, deltas), labels, owned, start, LossConfig())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 50


def test_the_prior_is_a_probability() -> None:
    assert 1 / (1 + math.exp(-prior_bias(0.2))) == pytest.approx(0.2)
