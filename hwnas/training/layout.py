"""How feature maps lie in memory while a network is trained."""

from __future__ import annotations

import torch

from hwnas.spaces import Space


def layout_for(space: Space, device: torch.device) -> torch.memory_format:
    """Channels last, except for a supernet on a GPU.

    There a step in channels last is a quarter faster, but before an architecture's first one cuDNN plans its depthwise
    convolutions for seconds (docs/training.md), and a supernet has new shapes all the time.
    """
    several = space.largest != space.smallest
    return torch.contiguous_format if several and device.type == "cuda" else torch.channels_last
