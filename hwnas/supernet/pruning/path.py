"""In which order widths are taken from a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hwnas.supernet.pruning.layout import Layout

MULTIPLE = 8
"""Of which widths are, as those of the spaces: what kernels compute at once."""
LEAST_SAVING = 1e-9
"""Of a channel, ms: what was measured to save nothing goes last."""

Widths = tuple[int, ...]
"""One for each group of a layout."""


class _Step(NamedTuple):
    cost: float
    widths: Widths


def pruning_path(
    layout: Layout, importance: Mapping[int, Tensor], saving_ms: Sequence[float], multiple: int = MULTIPLE
) -> list[Widths]:
    """Ever narrower widths, from those of the network to where no group can become narrower.

    Each step takes from the group in which the least importance is lost for the time that is saved, the greedy
    solution of the knapsack problem (Shen et al. 2022, "Structural Pruning via Latency-Saliency Knapsack").

    Args:
        importance: of each channel, by the number of its set.
        saving_ms: what a channel less of each group saves.
        multiple: of which widths are.
    """
    lost = [_lost([importance[number] for number in group.sets]) for group in layout.groups]
    path: list[Widths] = [tuple(group.width for group in layout.groups)]
    while True:
        steps = list(_steps(layout, path[-1], lost, saving_ms, multiple))
        if not steps:
            return path
        path.append(min(steps).widths)


def narrowest(layout: Layout, multiple: int = MULTIPLE) -> Widths:
    """The end of a path on which all channels are alike."""
    alike = {number: torch.ones(group.width) for group in layout.groups for number in group.sets}
    return pruning_path(layout, alike, [1.0] * len(layout.groups), multiple)[-1]


def narrower(layout: Layout, widths: Widths, group: int, most: int, multiple: int = MULTIPLE) -> Widths | None:
    """The widest widths with a group at ``most`` channels or fewer, all others being kept; None where there are none.

    A block that expands its input goes on doing so: one of equal widths would be another block.
    """
    for width in range(most // multiple * multiple, 0, -multiple):
        candidate = (*widths[:group], width, *widths[group + 1 :])
        if layout.keeps_expansions(candidate):
            return candidate
    return None


def _steps(
    layout: Layout, widths: Widths, lost: Sequence[Sequence[float]], saving_ms: Sequence[float], multiple: int
) -> Iterator[_Step]:
    for group, width in enumerate(widths):
        candidate = narrower(layout, widths, group, width - 1, multiple)
        if candidate is not None:
            importance = lost[group][candidate[group]] - lost[group][width]
            saved = max(saving_ms[group], LEAST_SAVING) * (width - candidate[group])
            yield _Step(importance / saved, candidate)


def _lost(importance: Sequence[Tensor]) -> list[float]:
    """What is lost with the least important channels of some sets, by how many are left in each, [width + 1]."""
    ascending = torch.stack([each.double().sort().values for each in importance]).sum(0)
    return [*ascending.cumsum(0).flip(0).tolist(), 0.0]
