"""A space of detectors like any other, but quick, its networks, and what they find for certain."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from hwnas.data.detection import DetectionDataset
from hwnas.data.detection.annotations import Annotation
from hwnas.detection.forms import read_detections
from hwnas.spaces import Architecture, Space
from hwnas.spaces.bifpn import ANCHORS, Preset, choices, slots
from hwnas.spaces.family import Family
from hwnas.spaces.inverted_residuals import choices as backbone_choices
from hwnas.spaces.inverted_residuals import slots as backbone_slots
from hwnas.supernet import ElasticNetwork, PlainNetwork
from hwnas.supernet.blocks.predict import Predict
from tests.training import toy

THIN = replace(
    toy.THIN,
    stages=tuple(replace(stage, depths=(1, 2)) for stage in toy.THIN.stages),
    resolutions=(16, 24),
    expansions=(2, 3),
    num_classes=2,
)
FAMILY = Family("thin", {"thin": THIN}, backbone_choices, backbone_slots)
PRESET = Preset(FAMILY, "thin", "h_swish", (4, 8, 16), (32, 48), (8, 16), (1, 2), (1, 2))
DETECTORS = Family("thin-bifpn", {"thin": PRESET}, choices, slots, norm_eps=1e-3, task="detection")


def thin_detectors(num_classes: int = 2) -> Space:
    return DETECTORS.space("thin", num_classes)


def sure_detector(architecture: Architecture) -> PlainNetwork:
    """An untrained detector that is sure of some boxes all the same."""
    torch.manual_seed(0)
    supernet = ElasticNetwork(thin_detectors())
    side = architecture.resolution
    supernet(torch.randn(8, 3, side, side), architecture)
    network = supernet.eval().extract(architecture)
    with torch.no_grad():
        for block in network:
            if isinstance(block, Predict) and block.spec.out_channels != 4 * ANCHORS:
                block.mix.weight *= 1000  # so that probabilities differ by more than rounding
    return network


def found_in_part(
    network: PlainNetwork, side: int, data: DetectionDataset, split: Literal["validation", "test"]
) -> DetectionDataset:
    """The data, whose split is said to hold each third of the objects that the network finds in its pictures."""
    told = getattr(data, split)
    categories = list(told.truth.classes)
    truth: list[Annotation] = []
    with torch.no_grad():
        names = [name for name, _ in network.network.outputs]
        pictures = [dict(zip(names, network(images), strict=True)) for images in data.inputs(told.pixels, side, 1)]
    for outputs, number, scale in zip(pictures, told.image_ids.tolist(), told.scales.tolist(), strict=True):
        (found,) = read_detections(outputs, side)
        for box, label in list(zip(found.boxes.tolist(), found.labels.tolist(), strict=True))[::3]:
            left, top, right, bottom = (end * told.side / side / scale for end in box)
            bbox = (left, top, right - left, bottom - top)
            entry = Annotation(id=len(truth) + 1, image_id=number, category_id=categories[label], bbox=bbox)
            truth.append(entry)
    told = replace(told, truth=told.truth.model_copy(update={"annotations": tuple(truth)}))
    return replace(data, readers={**data.readers, split: lambda: told})
