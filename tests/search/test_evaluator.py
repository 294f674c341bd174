from __future__ import annotations

import copy

import pytest
import torch

from hwnas.data import Dataset, ImageSet, to_input
from hwnas.data.augmentation import AugmentationConfig
from hwnas.data.recalibration import recalibration_pixels
from hwnas.errors import UserError
from hwnas.search import SubnetEvaluator
from hwnas.search.evaluator import fold_batch_norms
from hwnas.spaces import get_space
from hwnas.supernet import ElasticNetwork, recalibrate, top1
from hwnas.training.validation import recalibrated

SPACE = get_space("mobilenet_v3/small", 3)


def images(n: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(n) % 3)


def dataset(classes: int = 3, fingerprint: str = "toy", recalibration: int = 40) -> Dataset:
    splits = {"recalibration": images(recalibration, 1), "validation": images(90, 2)}
    readers = {name: (lambda split=split: split) for name, split in splits.items()}
    names = tuple(map(str, range(classes)))
    return Dataset("toy", names, (0.5,) * 3, (0.25,) * 3, fingerprint, readers)


@pytest.fixture(scope="module")
def supernet() -> ElasticNetwork:
    torch.manual_seed(0)
    return ElasticNetwork(SPACE).eval()


def test_accuracy_is_that_of_the_recalibrated_subnet(supernet: ElasticNetwork) -> None:
    data = dataset()
    for architecture in (SPACE.smallest, SPACE.architecture(resolution=36, stage2_depth=3)):
        network = supernet.extract(architecture)
        batches = data.recalibration.pixels.split(20)
        recalibrate(network, (to_input(b, architecture.resolution, data.mean, data.std) for b in batches))
        validation = to_input(data.validation.pixels, architecture.resolution, data.mean, data.std)
        expected = top1(network, [(validation, data.validation.labels)])
        assert SubnetEvaluator(supernet, data, batch_size=20)(architecture) == pytest.approx(expected, abs=1.5 / 90)


@pytest.mark.parametrize("images", [101, 110, 201])
@torch.no_grad()
def test_a_search_and_an_export_recalibrate_alike_however_many_images_there_are(
    supernet: ElasticNetwork, images: int
) -> None:
    data, inputs = dataset(recalibration=images), torch.randn(32, 3, 24, 24)
    searched = SubnetEvaluator(supernet, data).ready(SPACE.smallest)(inputs)
    exported = recalibrated(supernet.extract(SPACE.smallest), SPACE.smallest.resolution, data, None)(inputs)
    assert (searched - exported).norm() < 0.1 * exported.norm()


def test_a_subnet_is_recalibrated_on_images_that_are_changed_as_in_its_training(supernet: ElasticNetwork) -> None:
    data, changing = dataset(), copy.deepcopy(supernet)
    changing.recalibration = AugmentationConfig(erasing=1.0, erasing_value=1.0).model_dump(mode="json")
    evaluate, as_they_are = (SubnetEvaluator(network, data, batch_size=20) for network in (changing, supernet))
    assert evaluate.identity != as_they_are.identity
    network = supernet.extract(SPACE.smallest)
    pixels = recalibration_pixels(data, changing.recalibration)
    recalibrate(network, data.inputs(pixels, SPACE.smallest.resolution, 20))
    inputs = torch.randn(8, 3, 24, 24)
    expected = fold_batch_norms(network)(inputs)
    torch.testing.assert_close(evaluate.ready(SPACE.smallest)(inputs), expected)
    assert not torch.allclose(as_they_are.ready(SPACE.smallest)(inputs), expected, rtol=0.01)


def test_evaluation_repeats_exactly_with_and_without_cache(supernet: ElasticNetwork) -> None:
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    one_resolution = 130 * 3 * 28**2 * 4
    evaluators = [SubnetEvaluator(supernet, dataset(), cache_bytes=size) for size in (0, one_resolution, 1 << 30)]
    architectures = [SPACE.architecture(resolution=r) for r in (24, 28, 24, 32, 28)]
    results = [[evaluate(architecture) for architecture in architectures] for evaluate in evaluators]
    assert results[0] == results[1] == results[2]
    assert results[0][0] == results[0][2]
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_number_of_threads_is_put_back(supernet: ElasticNetwork) -> None:
    before = torch.get_num_threads()
    SubnetEvaluator(supernet, dataset(), threads=before + 1)(SPACE.smallest)
    assert torch.get_num_threads() == before


def test_folding_leaves_the_output(supernet: ElasticNetwork) -> None:
    network = supernet.extract(SPACE.largest)
    inputs = torch.randn(8, 3, 64, 64)
    recalibrate(network, [inputs])
    with torch.inference_mode():
        before = network(inputs)
        after = fold_batch_norms(network)(inputs)
    assert not [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_identity_tells_weights_data_and_protocol_apart(supernet: ElasticNetwork) -> None:
    torch.manual_seed(1)
    other = ElasticNetwork(SPACE).eval()
    identities = [
        SubnetEvaluator(supernet, dataset()).identity,
        SubnetEvaluator(other, dataset()).identity,
        SubnetEvaluator(supernet, dataset(fingerprint="other")).identity,
        SubnetEvaluator(supernet, dataset(), threads=2).identity,
        SubnetEvaluator(supernet, dataset(), batch_size=50).identity,
        SubnetEvaluator(supernet, dataset(), batch_size=25).identity,
    ]
    assert len(set(identities)) == len(identities)
    assert SubnetEvaluator(supernet, dataset()).identity == identities[0]


def test_data_of_other_classes_is_refused(supernet: ElasticNetwork) -> None:
    with pytest.raises(UserError, match="5 classes, the supernet 3"):
        SubnetEvaluator(supernet, dataset(classes=5))
