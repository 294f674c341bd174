"""The supernets that the authors of Once-for-All published (Cai et al. 2020), with 1,200 GPU hours of training.

Their files are those of ``ofa.model_zoo.ofa_net`` of the package ``ofa``; older ones have other names for the same
layers.  Networks are told apart by the shapes of their weights.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from hwnas.errors import BadFileError
from hwnas.files import sha256_of
from hwnas.spaces import get_space
from hwnas.supernet.checkpoint import DatasetRecord, SupernetRecord, save_supernet
from hwnas.supernet.importing.reading import State, fill, first_misfit, read_state
from hwnas.supernet.network import ElasticNetwork

SPACES = {
    "ofa_mbv3_d234_e346_k357_w1.0": "mobilenet_v3/imagenet-w1.0",
    "ofa_mbv3_d234_e346_k357_w1.2": "mobilenet_v3/imagenet-w1.2",
    "ofa_proxyless_d234_e346_k357_w1.3": "proxyless/imagenet-w1.3",
    "ofa_resnet50_d=0+1+2_e=0.2+0.25+0.35_w=0.65+0.8+1.0": "resnet/imagenet",
}
"""The published networks, by the names of their files."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of pixels scaled to 0..1, as the networks were trained with."""
IMAGENET_IMAGES = 1_281_167

_PLACES = {
    "mobilenet_v3": {"stem": "first_conv.", "final": "final_expand_layer.", "head": ""},
    "proxyless": {"stem": "first_conv.", "final": "feature_mix_layer.", "head": ""},
    "resnet": {
        "stem_conv1": "input_stem.0.",
        "stem_conv2": "input_stem.1.conv.",
        "stem_conv3": "input_stem.2.",
        "head": "",
    },
}
"""By family, what the names of a block's layers begin with; the other blocks are numbered."""
_LAYERS = {
    "body.conv": "conv",
    "body.norm": "bn",
    "expand": "conv.inverted_bottleneck.conv",
    "expand_norm": "conv.inverted_bottleneck.bn",
    "depthwise.conv": "conv.depth_conv.conv",
    "depthwise.transforms": "conv.depth_conv.conv",
    "depthwise.norm": "conv.depth_conv.bn",
    "depthwise_norm": "conv.depth_conv.bn",
    "se.reduce": "conv.depth_conv.se.fc.reduce",
    "se.expand": "conv.depth_conv.se.fc.expand",
    "project": "conv.point_linear.conv",
    "project.conv": "conv.point_linear.conv",
    "project.norm": "conv.point_linear.bn",
    "project_norm": "conv.point_linear.bn",
    "reduce.conv": "conv1.conv",
    "reduce.norm": "conv1.bn",
    "filter.conv": "conv2.conv",
    "filter.norm": "conv2.bn",
    "widen.conv": "conv3.conv",
    "widen.norm": "conv3.bn",
    "shortcut.conv": "downsample.conv",
    "shortcut.norm": "downsample.bn",
    "mix": "feature_mix_layer.conv",
    "classifier": "classifier.linear",
}
"""Our layers and theirs."""
_ROLES = {"to5": "7to5_matrix", "to3": "5to3_matrix"}


def import_once_for_all(path: Path, directory: Path, class_names: tuple[str, ...] | None = None) -> SupernetRecord:
    """Write a published supernet as one of ours, to be searched or trained further.

    Args:
        path: the published file.
        directory: for weights and record.
        class_names: of the classifier's outputs in their order; default: their numbers.

    Raises:
        BadFileError: the file is none of the published networks, or is damaged; or the names are too few or many.
    """
    state = {_canonical(name): tensor for name, tensor in read_state(path).items()}
    published, supernet = _matching(path, state)
    classes = supernet.space.num_classes
    if class_names is not None and len(class_names) != classes:
        raise BadFileError(f"{path} tells {classes} classes apart, but {len(class_names)} names are given.")
    record = SupernetRecord(
        space=supernet.space.name,
        num_classes=classes,
        weights_sha256="",
        dataset=DatasetRecord(
            name="imagenet",
            fingerprint="",
            class_names=class_names or tuple(map(str, range(classes))),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            train_images=IMAGENET_IMAGES,
        ),
        training={"imported": published, "sha256": sha256_of(path), "torch": torch.__version__},
        metrics={},
    )
    return save_supernet(directory, supernet, record)


def _matching(path: Path, state: State) -> tuple[str, ElasticNetwork]:
    """The published network whose weights a state holds: its file's name, and our supernet with them."""
    bias = state.get("classifier.linear.bias")
    if bias is None or bias.ndim != 1:
        raise BadFileError(f"checkpoint {path} is of no once-for-all network: it has no classifier.linear.bias.")
    misfits = {}
    for published, name in SPACES.items():
        supernet = ElasticNetwork(get_space(name, len(bias)))
        names = _their_names(supernet)
        misfit = first_misfit(supernet, state, names.__getitem__)
        if misfit is None:
            fill(supernet, state, names.__getitem__)
            return published, supernet
        ours = {(names[name], tensor.shape) for name, tensor in supernet.state_dict().items()}
        misfits[published] = (len(ours ^ {(name, tensor.shape) for name, tensor in state.items()}), misfit)
    nearest = min(misfits, key=lambda published: misfits[published][0])
    raise BadFileError(
        f"checkpoint {path} is none of the published once-for-all networks ({', '.join(SPACES)}): "
        f"for {nearest}, the nearest, {misfits[nearest][1]}."
    )


def _canonical(name: str) -> str:
    """A name as in all versions of the package: dynamic layers wrap plain ones, which have the same name once more."""
    name = name.replace(".mobile_inverted_conv.", ".conv.")
    return re.sub(r"(\.(?:conv|bn|linear))\1+(?=\.[^.]+$)", r"\1", name)


def _their_names(supernet: ElasticNetwork) -> dict[str, str]:
    """Theirs (:func:`_canonical`) of all names in our state."""
    places = dict(_PLACES[supernet.space.family])
    numbered = (block for block in supernet.blocks if block not in places and block != "stem_pool")
    places |= {block: f"blocks.{number}." for number, block in enumerate(numbered)}
    names = {}
    for name in supernet.state_dict():
        _, block, inside = name.split(".", 2)
        layer, _, role = inside.rpartition(".")
        names[name] = _canonical(f"{places[block]}{_LAYERS[layer]}.{_ROLES.get(role, role)}")
    return names
