"""The dynamic networks of the PyPI package ``ofa`` (``hwnas[dev]``), which tests and benchmarks compare with."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch

from hwnas.spaces import Architecture, Space

_KERNELS_AND_SO_ON = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}


def networks() -> ModuleType:
    """``ofa.imagenet_classification.elastic_nn.networks``, imported without torchvision.

    The package needs torchvision for loading pictures alone, which none of the networks does.

    Raises:
        ImportError: the package is not installed.
    """
    stubs: dict[str, Any] = {}
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets"):
        if name not in sys.modules:
            stubs[name] = MagicMock(__path__=[], __spec__=None)
    if "torchvision.transforms" in stubs:
        stubs["torchvision.transforms"].RandomResizedCrop = object
    sys.modules.update(stubs)
    try:
        from ofa.imagenet_classification.elastic_nn import networks as found
    finally:
        for name in stubs:
            del sys.modules[name]
    return found


def published(name: str, **options: Any) -> torch.nn.Module:
    """A network of ``ofa.model_zoo.ofa_net`` with random weights, in evaluation mode.

    Args:
        name: of its file; see :data:`hwnas.supernet.importing.ofa.SPACES`.
        options: of the package's class, such as ``n_classes``.
    """
    made = networks()
    if name.startswith("ofa_resnet50"):
        network = made.OFAResNets(
            depth_list=[0, 1, 2], expand_ratio_list=[0.2, 0.25, 0.35], width_mult_list=[0.65, 0.8, 1.0], **options
        )
    elif name.startswith("ofa_proxyless"):
        network = made.OFAProxylessNASNets(width_mult=1.3, **_KERNELS_AND_SO_ON, **options)
    else:
        network = made.OFAMobileNetV3(width_mult=float(name.rpartition("w")[2]), **_KERNELS_AND_SO_ON, **options)
    return network.eval()


def activate(network: torch.nn.Module, space: Space, architecture: Architecture) -> None:
    """Make the subnet of an architecture the active one of a network of the package."""
    deepest = {c.label.split(".")[0]: c.values[-1] for c in space.choices if c.label.endswith(".depth")}
    stages = [label for label in deepest if label.startswith("stage")]
    blocks = [f"{stage}.block{b}" for stage in stages for b in range(1, deepest[stage] + 1)]
    expansions = [architecture.get(f"{block}.expansion") for block in blocks]
    depths = {label: architecture[f"{label}.depth"] for label in deepest}
    if space.family == "resnet":
        widths = [architecture[label] for label in ("stem.inner_width", "stem.width", *(f"{s}.width" for s in stages))]
        network.set_active_subnet(  # type: ignore[operator]
            # Blocks beyond the fewest, of which there are two; the stem has both or none.
            d=[2 * (depths["stem"] == deepest["stem"]), *(2 + depths[s] - deepest[s] for s in stages)],
            e=[expansion and expansion / 100 for expansion in expansions],
            w=[(65, 80, 100).index(width) for width in widths],
        )
        return
    kernels = [architecture.get(f"{block}.kernel") for block in blocks]
    network.set_active_subnet(ks=kernels, e=expansions, d=[depths[stage] for stage in stages])  # type: ignore[operator]
