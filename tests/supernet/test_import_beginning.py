"""A training that begins with weights of others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.data import Dataset, ImageSet, to_input
from hwnas.errors import BadFileError, UserError
from hwnas.pipeline.training import DEFAULT_SPACE, space_to_train
from hwnas.spaces import get_space
from hwnas.supernet import DatasetRecord, ElasticNetwork, SupernetRecord, save_supernet
from hwnas.supernet.importing import begin_with
from hwnas.training import Trainer, TrainingConfig

SPACE = "proxyless/small"
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
OTHER_MEAN, OTHER_STD = (0.1, 0.5, 0.45), (0.3, 0.2, 0.28)
CLASSIFIER = {"blocks.head.classifier.weight", "blocks.head.classifier.bias"}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ElasticNetwork]:
    """A supernet for five classes, and its directory."""
    torch.manual_seed(1)
    directory = tmp_path_factory.mktemp("begun")
    supernet = ElasticNetwork(get_space(SPACE, 5)).eval()
    for name, tensor in supernet.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    data = DatasetRecord(name="others", fingerprint="", class_names=tuple("abcde"), mean=MEAN, std=STD, train_images=1)
    record = SupernetRecord(space=SPACE, num_classes=5, weights_sha256="", dataset=data, training={}, metrics={})
    save_supernet(directory, supernet, record)
    return directory, supernet


def made(classes: int, space: str = SPACE) -> ElasticNetwork:
    torch.manual_seed(2)
    return ElasticNetwork(get_space(space, classes)).eval()


def test_it_is_the_same_network_with_a_classifier_of_its_own(begun: tuple[Path, ElasticNetwork]) -> None:
    directory, source = begun
    for classes, new in ((5, set()), (3, CLASSIFIER)):
        supernet = made(classes)
        begin_with(str(directory), supernet, MEAN, STD)
        theirs = source.state_dict()
        differing = {name for name, t in supernet.state_dict().items() if not torch.equal(t, theirs[name])}
        assert differing == new


@torch.no_grad()
def test_images_may_be_normalised_otherwise(begun: tuple[Path, ElasticNetwork]) -> None:
    directory, source = begun
    supernet = made(5)
    begin_with(str(directory), supernet, OTHER_MEAN, OTHER_STD)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = source.blocks["stem"](to_input(pixels, 32, MEAN, STD))
    found = supernet.blocks["stem"](to_input(pixels, 32, OTHER_MEAN, OTHER_STD))
    inside = (..., slice(1, None), slice(1, None))  # the padding is no longer the mean colour
    assert torch.allclose(found[inside], expected[inside], atol=1e-5)
    assert expected[inside].std() > 0.1


def test_another_space_and_no_weights_are_refused(begun: tuple[Path, ElasticNetwork], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are of space proxyless/small, not mobilenet_v3/small; give such weights"):
        begin_with(str(begun[0]), made(5, "mobilenet_v3/small"), MEAN, STD)
    with pytest.raises(BadFileError, match=r"nowhere/record.json does not exist"):
        begin_with(str(tmp_path / "nowhere"), made(5), MEAN, STD)


def test_the_space_is_that_of_the_weights_unless_named(begun: tuple[Path, ElasticNetwork]) -> None:
    assert space_to_train(None, str(begun[0])) == SPACE
    assert space_to_train(None, "efficientnet-lite0") == "proxyless/efficientnet-lite0"
    assert space_to_train(None, None) == DEFAULT_SPACE
    assert space_to_train("resnet/small", str(begun[0])) == "resnet/small"


def data() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = ImageSet(
        torch.randint(0, 256, (8, 3, 24, 24), generator=generator, dtype=torch.uint8), torch.arange(8) % 3
    )
    readers = dict.fromkeys(("train", "recalibration", "validation", "test"), lambda: images)
    return Dataset("toy", ("x", "y", "z"), MEAN, STD, "toy", readers)


def settings(init: str | None) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {"init": init, "epochs": 2, "full_epochs": 1, "batch_size": 8, "random_subnets": 0, "learning_rate": 1e-9}
    )


def test_a_training_begins_with_them_and_says_so(begun: tuple[Path, ElasticNetwork], tmp_path: Path) -> None:
    directory, source = begun
    space = get_space(SPACE, 3)
    trainer = Trainer(tmp_path, space, data(), settings(str(directory)))
    record = trainer.run()
    assert record.training["config"]["init"] == str(directory)
    theirs = source.state_dict()
    for name, parameter in trainer.model.named_parameters():
        # The channels of weights that were trained are in their order, and not sorted anew.
        assert name in CLASSIFIER or torch.allclose(parameter, theirs[name], atol=1e-4)
    with pytest.raises(UserError, match="state of a run with another config"):
        Trainer(tmp_path, space, data(), settings(None)).run()
