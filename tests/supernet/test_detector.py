"""Supernets of detectors: extraction, shared convolutions, files and export."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from hwnas.data.detection import NO_OBJECT
from hwnas.detection.anchors import anchors
from hwnas.detection.answers import answers_of, level_sizes
from hwnas.detection.boxes import areas, decode
from hwnas.detection.forms import form_of
from hwnas.detection.suppression import Suppression, detections
from hwnas.errors import UserError
from hwnas.export import ExportError, export_onnx
from hwnas.export.detections import with_detections
from hwnas.spaces import get_space
from hwnas.spaces.bifpn import ANCHORS
from hwnas.supernet import DatasetRecord, ElasticNetwork, PlainNetwork, SupernetRecord, load_supernet, save_supernet
from hwnas.supernet.blocks.predict import Predict
from hwnas.supernet.importing import begin_with
from tests.detectors import thin_detectors

SPACE = thin_detectors()


@pytest.fixture(scope="module")
def supernet() -> ElasticNetwork:
    """With statistics of its norms and weights of its sums that are no beginner's."""
    torch.manual_seed(0)
    made = ElasticNetwork(SPACE)
    for architecture in (SPACE.largest, SPACE.smallest):
        made(torch.randn(8, 3, architecture.resolution, architecture.resolution), architecture)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "fuse" in name:
                parameter.uniform_(-0.2, 2)
    return made.eval()


@pytest.mark.parametrize("seed", range(6))
def test_an_extracted_detector_says_what_the_supernet_says(supernet: ElasticNetwork, seed: int) -> None:
    (architecture,) = SPACE.decode(SPACE.sample(np.random.default_rng(seed), 1))
    x = torch.randn(2, 3, architecture.resolution, architecture.resolution)
    with torch.no_grad():
        for ours, theirs in zip(supernet(x, architecture), supernet.extract(architecture)(x), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_levels_share_convolutions_and_no_norms(supernet: ElasticNetwork) -> None:
    blocks = supernet.blocks
    first, other = blocks["class_layer1_p4"], blocks["class_layer1_p16"]
    assert first.layers.depthwise.conv.weight is other.layers.depthwise.conv.weight
    assert first.layers.mix.conv.weight is other.layers.mix.conv.weight
    assert first.layers.mix.norm.weight is not other.layers.mix.norm.weight
    assert blocks["box_p4"].mix.bias is blocks["box_p8"].mix.bias
    for one, another in (("class_layer1_p4", "box_layer1_p4"), ("bifpn1_p4_down", "bifpn1_p8_down")):
        assert blocks[one].layers.depthwise.conv.weight is not blocks[another].layers.depthwise.conv.weight


def record(space: str, classes: int) -> SupernetRecord:
    data = DatasetRecord(
        name="x", fingerprint="x", class_names=("a",) * classes, mean=(0.5,) * 3, std=(0.2,) * 3, train_images=1
    )
    return SupernetRecord(space=space, num_classes=classes, weights_sha256="", dataset=data, training={}, metrics={})


def test_a_saved_detector_reads_back_and_still_shares(tmp_path: Path) -> None:
    space = get_space("mobilenet_v3-bifpn/small", 2)
    torch.manual_seed(1)
    saved = ElasticNetwork(space)
    save_supernet(tmp_path, saved, record(space.name, 2))
    read, _ = load_supernet(tmp_path)
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in saved.state_dict().items())
    assert read.blocks["box_p4"].mix.weight is read.blocks["box_p32"].mix.weight


def test_a_detector_begins_with_a_classifiers_backbone(tmp_path: Path) -> None:
    torch.manual_seed(2)
    classifier = ElasticNetwork(get_space("mobilenet_v3/small", 10))
    save_supernet(tmp_path, classifier, record("mobilenet_v3/small", 10))
    detector = ElasticNetwork(get_space("mobilenet_v3-bifpn/small", 2))
    begin_with(str(tmp_path), detector, (0.5,) * 3, (0.2,) * 3)
    ours, theirs = detector.state_dict(), classifier.state_dict()
    taken = [name for name in theirs if "stage" in name]
    assert taken
    assert all(torch.equal(ours[name], theirs[name]) for name in taken)
    with pytest.raises(UserError, match="of space mobilenet_v3/small, not proxyless-bifpn/small or proxyless/small;"):
        begin_with(str(tmp_path), ElasticNetwork(get_space("proxyless-bifpn/small", 2)), (0.5,) * 3, (0.2,) * 3)


def exported(
    network: PlainNetwork, resolution: int, path: Path, form: str, rule: Suppression, x: Tensor
) -> list[np.ndarray]:
    convert = partial(with_detections, form=form, rule=rule)
    model = export_onnx(network, resolution, path, metadata={"k": "v"}, images=x, convert=convert)
    assert model.parity is not None
    assert model.parity < 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["k"] == "v"
    assert form_of([output.name for output in session.get_outputs()]) == form
    outputs = session.run(None, {"input": x[:1].numpy()})
    assert [list(output.shape) for output in outputs] == [output.shape for output in session.get_outputs()]
    return [np.asarray(output) for output in outputs]


@pytest.mark.parametrize("beside", [False, True])
def test_exported_detections_are_torchs(supernet: ElasticNetwork, tmp_path: Path, beside: bool) -> None:
    architecture = SPACE.smallest
    resolution = architecture.resolution
    network = supernet.extract(architecture)
    x = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        for block in (block for block in network if isinstance(block, Predict)):
            if block.spec.out_channels != 4 * ANCHORS:
                block.mix.weight *= 1000  # so that probabilities differ by more than rounding
            elif beside:
                assert block.mix.bias is not None
                block.mix.bias[0] -= 100  # the first anchor of each place: its box lies left of the picture
        answers = answers_of(network(x[:1]))
        start = anchors(resolution, level_sizes(network(x[:1])))
    rule = Suppression(score=float(answers.classes.sigmoid().flatten().topk(400).values[-1]), most=30)

    boxes, scores = exported(network, resolution, tmp_path / "boxes.onnx", "boxes", rule, x)
    np.testing.assert_allclose(boxes, decode(answers.boxes, start).clamp(0, resolution), atol=1e-3)
    np.testing.assert_allclose(scores, answers.classes.sigmoid(), atol=1e-5)

    boxes, scores, labels = (each[0] for each in exported(network, resolution, tmp_path / "nms.onnx", "nms", rule, x))
    (found,) = detections(answers, start, resolution, rule)
    if beside:
        assert (areas(decode(answers.boxes, start).clamp(0, resolution)) == 0).any()
    count = len(found.scores)
    assert 0 < count <= 30
    np.testing.assert_allclose(scores[:count], found.scores, atol=1e-5)
    np.testing.assert_allclose(boxes[:count], found.boxes, atol=1e-3)
    assert labels[:count].tolist() == found.labels.tolist()
    assert (labels[count:] == NO_OBJECT).all()
    assert (scores[count:] == 0).all()
    assert (boxes[count:] == 0).all()


def test_sums_of_equal_weights_are_exported_one_by_one(tmp_path: Path) -> None:
    torch.manual_seed(3)
    for architecture in SPACE.decode(SPACE.sample(np.random.default_rng(0), 3)):
        network = PlainNetwork.of(SPACE, architecture)  # whose maps all weigh the same
        resolution = architecture.resolution
        x = torch.randn(1, 3, resolution, resolution)
        exported(network, resolution, tmp_path / "equal.onnx", "maps", Suppression(), x)


def test_nothing_found_is_filled_up_and_many_pictures_are_refused(supernet: ElasticNetwork, tmp_path: Path) -> None:
    resolution = SPACE.smallest.resolution
    network = supernet.extract(SPACE.smallest)
    x = torch.randn(2, 3, resolution, resolution)
    never = Suppression(score=0.9999, most=5)
    _, scores, labels = exported(network, resolution, tmp_path / "none.onnx", "nms", never, x)
    assert labels.tolist() == [[NO_OBJECT] * 5]
    assert scores.tolist() == [[0] * 5]
    with pytest.raises(ExportError, match="one picture at a time, not 2"):
        export_onnx(
            network, resolution, tmp_path / "x.onnx", metadata={}, batch=2, convert=partial(with_detections, form="nms")
        )
