"""Boxes, anchors and which anchor answers for which box."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hwnas.data.detection import CROWD, NO_OBJECT
from hwnas.detection.anchors import anchors
from hwnas.detection.assignment import BACKGROUND, FOREGROUND, IGNORED, IN_CROWD, assign
from hwnas.detection.boxes import areas, decode, encode, intersections, iou
from hwnas.spaces.bifpn import ANCHORS

NUMBERS = st.floats(0, 200, width=32)
EXTENTS = st.floats(0.5, 100, width=32)
BOXES = st.lists(st.tuples(NUMBERS, NUMBERS, EXTENTS, EXTENTS), min_size=1, max_size=6)


def tensor(boxes: list[tuple[float, float, float, float]]) -> Tensor:
    """From left, top, width and height."""
    found = torch.tensor(boxes)
    found[:, 2:] += found[:, :2]
    return found


@given(BOXES, BOXES)
def test_decoding_undoes_encoding(boxes: list[tuple[float, ...]], others: list[tuple[float, ...]]) -> None:
    count = min(len(boxes), len(others))
    wanted, start = tensor(boxes[:count]), tensor(others[:count])
    within = ((wanted[:, 2:] - wanted[:, :2]) / (start[:, 2:] - start[:, :2]) < 60).all(1)
    torch.testing.assert_close(decode(encode(wanted, start), start)[within], wanted[within], atol=1e-3, rtol=1e-5)


@given(BOXES, BOXES)
def test_overlap_is_symmetric_and_a_share(boxes: list[tuple[float, ...]], others: list[tuple[float, ...]]) -> None:
    first, second = tensor(boxes), tensor(others)
    overlap = iou(first, second)
    assert torch.equal(overlap, iou(second, first).T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-6)).all()
    torch.testing.assert_close(iou(first, first).diagonal(), torch.ones(len(first)))
    smaller = torch.minimum(areas(first)[:, None], areas(second))
    larger = torch.maximum(areas(first)[:, None], areas(second))
    assert (overlap <= smaller / larger + 1e-4).all()


def test_overlap_by_hand() -> None:
    box = torch.tensor([[0.0, 0, 4, 4]])
    others = torch.tensor([[2.0, 2, 6, 6], [4, 0, 8, 4], [0, 0, 0, 0], [1, 1, 3, 3]])
    torch.testing.assert_close(iou(box, others)[0], torch.tensor([4 / 28, 0, 0, 4 / 16]))
    assert iou(others[2:3], others[2:3]).item() == 0


def test_anchors_are_nine_a_place_level_by_level() -> None:
    found = anchors(64, [8, 4])
    assert found.shape == (ANCHORS * (64 + 16), 4)
    sides = found[:, 2:] - found[:, :2]
    torch.testing.assert_close(found[0], torch.tensor([-12.0, -12, 20, 20]))  # 32 pixels around (4, 4)
    torch.testing.assert_close(sides[:9].prod(1).sqrt(), 32 * 2 ** torch.tensor([0, 1, 2]).repeat_interleave(3).div(3))
    torch.testing.assert_close((sides[:, 0] / sides[:, 1])[:3], torch.tensor([1.0, 0.5, 2.0]))
    # Row by row: the second place is to the right of the first, the ninth below it.
    centres = (found[:, :2] + found[:, 2:])[::ANCHORS] / 2
    assert centres[[1, 8, 64]].tolist() == [[12.0, 4.0], [4.0, 12.0], [8.0, 8.0]]


def test_anchors_answer_for_what_they_overlap() -> None:
    start = anchors(64, [8, 4])
    boxes = torch.zeros(2, 3, 4)
    boxes[0, 1] = start[100] + 0.5
    boxes[1, 0] = torch.tensor([31.0, 31, 33, 33])  # so small that no anchor overlaps much
    labels = torch.tensor([[NO_OBJECT, 4, NO_OBJECT], [2, NO_OBJECT, NO_OBJECT]])
    found, owned = assign(boxes, labels, start)
    overlap = iou(boxes[0, 1:2], start)[0]
    assert (found[0] == 4).equal(overlap >= FOREGROUND)
    assert (found[0] == NO_OBJECT).equal(overlap < BACKGROUND)
    assert (found[0] == IGNORED).equal((overlap >= BACKGROUND) & (overlap < FOREGROUND))
    assert (owned[0, found[0] == 4] == boxes[0, 1]).all()
    assert (found[1] == 2).sum() == 1
    assert iou(boxes[1, :1], start)[0, found[1] == 2] == iou(boxes[1, :1], start).max()


def test_for_a_box_without_extent_no_anchor_answers() -> None:
    start = anchors(64, [8, 4])
    found, _ = assign(torch.tensor([[[20.0, 20, 20, 30]]]), torch.tensor([[1]]), start)
    assert (found == NO_OBJECT).all()


def test_an_anchor_in_a_crowd_is_ignored_unless_it_answers_for_an_object() -> None:
    start = anchors(64, [8, 4])
    boxes = torch.tensor([[[4.0, 4, 44, 60], [10, 10, 40, 40]]])
    without, _ = assign(boxes, torch.tensor([[NO_OBJECT, 1]]), start)
    within, owned = assign(boxes, torch.tensor([[CROWD, 1]]), start)
    share = intersections(boxes[0, :1], start)[0] / areas(start)  # as pycocotools has it
    changed = (share >= IN_CROWD) & (without[0] == NO_OBJECT)
    assert changed.any()
    assert ((without[0] == NO_OBJECT) & ~changed).any()
    assert ((without[0] == 1) & (share >= IN_CROWD)).any()
    assert torch.equal(within[0], torch.where(changed, IGNORED, without[0]))
    assert (owned[within == 1] == boxes[0, 1]).all()


def test_of_two_crowds_each_counts_for_itself_and_one_without_extent_for_nothing() -> None:
    start = torch.tensor([[0.0, 0, 10, 10]])
    halves = torch.tensor([[[0.0, 0, 4, 10], [6, 0, 10, 10], [5, 5, 5, 5]]])
    assert assign(halves, torch.full((1, 3), CROWD), start)[0].item() == NO_OBJECT
    halves[0, 0, 2] = 5
    assert assign(halves, torch.full((1, 3), CROWD), start)[0].item() == IGNORED


@given(BOXES)
def test_whatever_would_answer_for_an_object_of_a_crowd_is_ignored(boxes: list[tuple[float, ...]]) -> None:
    start, objects = anchors(256, [8, 4, 2]), tensor(boxes)
    crowd = torch.cat([objects[:, :2].amin(0), objects[:, 2:].amax(0)])
    found, _ = assign(crowd[None, None], torch.tensor([[CROWD]]), start)
    answers = (iou(objects, start) >= FOREGROUND + 1e-5).any(0)
    assert (found[0, answers] == IGNORED).all()


@given(st.integers(0, 1000), st.integers(0, 4))
def test_the_best_anchor_of_each_object_answers_for_one_and_padding_has_none(seed: int, present: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start = anchors(64, [8, 4])
    corners = torch.rand(5, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 4 + torch.rand(5, 2, generator=generator) * 20], 1)
    labels = torch.arange(5).where(torch.arange(5) < present, NO_OBJECT)
    boxes[present:] = 0
    found, owned = assign(boxes[None], labels[None], start)
    # Of several with the same best anchor, one has it.
    favourites = iou(boxes[:present], start).argmax(1)
    assert {int(label) for label in found[0].unique() if label >= 0} <= set(range(present))
    assert (found[0, favourites] >= 0).all()
    assert owned[0, found[0] >= 0].equal(boxes[found[0, found[0] >= 0]])
    if not present:
        assert (found == NO_OBJECT).all()


def test_anchors_that_were_first_wanted_where_nothing_is_learned_serve_to_learn() -> None:
    with torch.inference_mode():
        first = anchors(56, [7])
    assert anchors(56, [7]) is first
    deltas = torch.zeros(len(first), 4, requires_grad=True)
    (deltas * first).sum().backward()
    assert deltas.grad is not None


@pytest.mark.parametrize("sizes", [[8], [6, 3], [8, 4, 2, 1]])
def test_anchors_are_centred_in_the_picture(sizes: list[int]) -> None:
    found = anchors(48, sizes)
    assert len(found) == ANCHORS * sum(size**2 for size in sizes)
    torch.testing.assert_close((found[:, :2] + found[:, 2:]).mean(0) / 2, torch.tensor([24.0, 24.0]))
