"""Detectors where networks are opened and exported."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from hwnas.data import Dataset, ImageSet
from hwnas.data.detection import DetectionDataset, load_detection
from hwnas.detection.scoring import PICTURES_AT_ONCE
from hwnas.errors import UserError
from hwnas.pipeline.networks import export_network, export_subnet, open_supernet, ready_subnet
from hwnas.search import SubnetEvaluator
from hwnas.spaces import get_space
from hwnas.supernet import DatasetRecord, ElasticNetwork, NetworkRecord, PlainNetwork, SupernetRecord, save_supernet
from hwnas.training.teachers import supernet_teacher
from tests.detectors import thin_detectors
from tests.rectangles import make_set

SPACE = thin_detectors()


def unread() -> ImageSet:
    raise AssertionError("no image is needed to refuse this")


CLASSIFIED = Dataset("classified", ("red", "blue"), (0.5,) * 3, (0.2,) * 3, "x", {"recalibration": unread})
"""Of the same classes as the rectangles."""


@pytest.fixture
def rectangles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionDataset:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    return load_detection(make_set(tmp_path / "set", train=PICTURES_AT_ONCE + 20), side=48)


@pytest.fixture
def supernet() -> ElasticNetwork:
    torch.manual_seed(0)
    return ElasticNetwork(SPACE).eval()


@torch.no_grad()
def test_what_is_exported_is_what_was_scored(supernet: ElasticNetwork, rectangles: DetectionDataset) -> None:
    architecture = SPACE.smallest
    (pictures,) = rectangles.inputs(rectangles.validation.pixels, architecture.resolution, 10)
    exported = ready_subnet(supernet, architecture, rectangles)(pictures)
    scored = SubnetEvaluator(supernet, rectangles).ready(architecture)(pictures)
    for one, other in zip(exported, scored, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_precision_is_refused_before_anything_is_recalibrated(supernet: ElasticNetwork, tmp_path: Path) -> None:
    unseen = DetectionDataset("rectangles", ("red", "blue"), (0.5,) * 3, (0.2,) * 3, "x", {})
    with pytest.raises(UserError, match="exported in fp32, not in fp16"):
        export_subnet(supernet, SPACE.largest, unseen, tmp_path / "x.onnx", "fp16")
    with pytest.raises(UserError, match="leave out --detections nms"):
        export_subnet(supernet, SPACE.largest, CLASSIFIED, tmp_path / "x.onnx", detections="nms")


def test_detections_of_a_network_alone_are_refused(tmp_path: Path) -> None:
    network, record = cast(PlainNetwork, None), cast(NetworkRecord, None)
    with pytest.raises(UserError, match="leave out --detections boxes"):
        export_network(network, record, CLASSIFIED, tmp_path / "x.onnx", detections="boxes")


def test_a_detector_is_not_taken_for_a_classifier_of_the_same_classes(tmp_path: Path) -> None:
    space = get_space("mobilenet_v3-bifpn/small", 2)
    data = DatasetRecord(
        name="x",
        fingerprint="x",
        class_names=CLASSIFIED.class_names,
        mean=CLASSIFIED.mean,
        std=CLASSIFIED.std,
        train_images=1,
    )
    record = SupernetRecord(space=space.name, num_classes=2, weights_sha256="", dataset=data, training={}, metrics={})
    save_supernet(tmp_path, ElasticNetwork(space), record)
    with pytest.raises(UserError, match="is for detection, and the data set classified is not"):
        open_supernet(tmp_path, space, CLASSIFIED)
    with pytest.raises(UserError, match="is for detection, and the data set classified is not"):
        supernet_teacher(tmp_path, CLASSIFIED, torch.device("cpu"))
