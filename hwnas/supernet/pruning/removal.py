"""A network without its least important channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from hwnas.supernet.plain import PlainNetwork
from hwnas.supernet.pruning.layout import Layout


@torch.no_grad()
def narrowed(
    network: PlainNetwork, layout: Layout, widths: Sequence[int], importance: Mapping[int, Tensor]
) -> PlainNetwork:
    """A copy of other widths, which keeps the most important channels in their order.

    Its batch norms want to be recalibrated.

    Args:
        network: whose blocks are the layout's.
        widths: one for each group of the layout, none above its own.
        importance: as of :func:`channel_importance`.
    """
    result = PlainNetwork(layout.narrowed(widths), network.norm_eps)
    device = next(network.parameters()).device
    kept = {number: torch.arange(width, device=device) for number, width in enumerate(layout.widths)}
    kept |= {
        number: _best(importance[number], width)
        for group, width in zip(layout.groups, widths, strict=True)
        for number in group.sets
    }
    for block, spec in enumerate(result.specs):
        if spec.se:
            squeezed = layout.set_of[block, "se.reduce"]
            kept[squeezed] = _best(importance[squeezed], spec.se_channels)
    state = network.state_dict()
    for path, written, read in layout.layers():
        dims = [_places(layout, number, kept) for number in (written, read) if number is not None]
        for name in (name for name in state if name.startswith(f"{path}.")):
            state[name] = _part(state[name], dims)
    result.load_state_dict(state)
    return result.to(memory_format=torch.channels_last).train(network.training)  # type: ignore[call-overload,no-any-return]


def _best(importance: Tensor, count: int) -> Tensor:
    return torch.argsort(importance, descending=True, stable=True)[:count].sort().values


def _places(layout: Layout, number: int, kept: Mapping[int, Tensor]) -> Tensor:
    """Which channels of a set are kept, part by part."""
    parts = layout.parts[number]
    begins = accumulate((layout.widths[part] for part in parts), initial=0)
    return torch.cat([begin + kept[part] for part, begin in zip(parts, begins, strict=False)])


def _part(tensor: Tensor, dims: Sequence[Tensor]) -> Tensor:
    """The kept channels of a parameter [out, in, …] or [out], or of a norm's statistics."""
    for dim, places in enumerate(dims[: tensor.ndim]):
        tensor = tensor.index_select(dim, places)
    return tensor
