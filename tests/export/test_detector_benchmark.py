"""Detectors on a device: what their engines detect is what torch detects, in whichever form they were exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.data.detection import DetectionDataset, load_detection
from hwnas.detection.forms import Form, form_of, read_detections
from hwnas.detection.scores import DetectionScores
from hwnas.detection.scoring import PICTURES_AT_ONCE, scores
from hwnas.devices import Device, MeasureOptions, load_target, open_device
from hwnas.errors import DeviceError, UserError
from hwnas.export import BenchmarkOptions, BenchmarkResult, benchmark, export_onnx
from hwnas.export.detections import with_detections
from hwnas.spaces.bifpn import ANCHORS
from hwnas.supernet import PlainNetwork
from tests.detectors import found_in_part, sure_detector, thin_detectors
from tests.export.test_benchmark import CLASSES, a_dataset
from tests.rectangles import make_set

pytest.importorskip("pycocotools")

SPACE = thin_detectors()
SIDE = SPACE.smallest.resolution
QUICK = BenchmarkOptions(measure=MeasureOptions(min_samples=8, max_seconds=0.1), max_seconds=0.2)


@pytest.fixture(scope="module")
def network() -> PlainNetwork:
    return sure_detector(SPACE.smallest)


@pytest.fixture(scope="module")
def dataset(network: PlainNetwork, tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Rectangles whose test split holds each third of the objects that the network finds, and so is found in part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        read = load_detection(make_set(tmp_path_factory.mktemp("set"), train=8, val=2, test=PICTURES_AT_ONCE + 3))
        return found_in_part(network, SIDE, read, "test")


@pytest.fixture(scope="module")
def by_torch(network: PlainNetwork, dataset: DetectionDataset) -> DetectionScores:
    images = dataset.inputs(dataset.test.pixels, SIDE, PICTURES_AT_ONCE)
    return scores(network, SIDE, images, dataset.test)


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device(load_target("host-cpu")) as device:
        yield device


Export = Callable[[Form, int], Path]


@pytest.fixture(scope="module")
def exported(network: PlainNetwork, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The network in a form, for so many pictures at once."""
    directory = tmp_path_factory.mktemp("models")

    @cache
    def export(form: Form, batch: int) -> Path:
        path: Path = directory / f"{form}-{batch}.onnx"
        export_onnx(network, SIDE, path, metadata={}, batch=batch, convert=partial(with_detections, form=form))
        return path

    return export


@pytest.mark.parametrize(("form", "batch"), [("maps", 1), ("maps", 4), ("boxes", 1), ("nms", 1)])
def test_an_engine_detects_what_torch_detects(
    device: Device, exported: Export, dataset: DetectionDataset, by_torch: DetectionScores, form: Form, batch: int
) -> None:
    result = benchmark(device, "m", exported(form, batch), dataset, SIDE, options=QUICK)
    assert 0.1 < by_torch.map < 0.9
    assert result.detection is not None and result.classification is None
    found, expected = result.detection.model_dump(), by_torch.model_dump()
    assert found.pop("classes") == pytest.approx(expected.pop("classes"), abs=2e-3)
    assert found == pytest.approx(expected, abs=2e-3)
    assert (result.metric, result.top1, result.top1_images) == ("mAP", result.detection.map, len(dataset.test))
    assert BenchmarkResult.model_validate_json(result.model_dump_json()) == result


def test_what_is_for_another_task_or_other_classes_is_refused(
    device: Device, exported: Export, dataset: DetectionDataset
) -> None:
    boxes, nms = exported("boxes", 1), exported("nms", 1)
    with pytest.raises(UserError, match="has 2 outputs, as detectors have, and data set noise is for classifiers"):
        benchmark(device, "m", boxes, a_dataset(CLASSES), SIDE)
    three = replace(dataset, class_names=("red", "blue", "green"))
    with pytest.raises(UserError, match=r"has 2 classes, data set set.* 3; give the data set"):
        benchmark(device, "m", boxes, three, SIDE)
    one = replace(dataset, class_names=("red",))
    with pytest.raises(UserError, match=r"m finds objects of a class numbered 1, and data set .* has 1 classes"):
        benchmark(device, "m", nms, one, SIDE, options=QUICK)
    with pytest.raises(UserError, match=re.escape(f"takes [3, {SIDE}, {SIDE}], not images of 48 pixels")):
        benchmark(device, "m", boxes, dataset, 48)


def test_answers_that_are_not_finite_are_no_accuracy(
    device: Device, network: PlainNetwork, dataset: DetectionDataset, tmp_path: Path
) -> None:
    with torch.no_grad():
        broken = PlainNetwork(network.network, SPACE.norm_eps).eval()
        broken.load_state_dict(network.state_dict())
        next(broken.parameters()).fill_(float("inf"))
    model = tmp_path / "m.onnx"
    export_onnx(broken, SIDE, model, metadata={})
    with pytest.raises(DeviceError, match=r"the engine of m on 'host-cpu' gives answers that are not finite"):
        benchmark(device, "m", model, dataset, SIDE, options=QUICK)


def test_without_data_a_detector_is_still_told_from_a_classifier(device: Device, exported: Export) -> None:
    result = benchmark(device, "m", exported("maps", 1), None, SIDE, top1_missing="no data", options=QUICK)
    assert (result.metric, result.top1, result.detection) == ("mAP", None, None)
    before = result.model_dump(by_alias=True, exclude={"metric", "detection"})
    assert BenchmarkResult.model_validate(before).metric == "top-1"  # all models were classifiers then


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (["class.p8", "class.p16", "box.p16", "box.p8"], "maps"),
        (["class.p8", "box.p16"], None),
        (["class.p8", "box.p8", "logits"], None),
        (["scores", "boxes"], "boxes"),
        (["labels", "scores", "boxes"], "nms"),
        (["logits"], None),
        ([], None),
    ],
)
def test_forms_are_known_by_their_names(names: list[str], form: Form | None) -> None:
    assert form_of(names) == form


def test_the_order_of_the_outputs_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = {
        f"{kind}.p{reduction}": torch.randn(2, ANCHORS * each, 32 // reduction, 32 // reduction, generator=generator)
        for reduction in (8, 16)
        for kind, each in (("class", 3), ("box", 4))
    }
    one, other = (read_detections(dict(order), 32) for order in (maps.items(), reversed(maps.items())))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.labels, second.labels)
    with pytest.raises(ValueError, match=r"outputs logits are no detector's"):
        read_detections({"logits": torch.zeros(1, 2)}, 32)
