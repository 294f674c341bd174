from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as sklearn
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from hwnas.classification import Classification
from hwnas.supernet.metrics import BINS, ClassificationMeter


def measured(logits: Tensor, labels: Tensor, batch: int = 1000) -> Classification:
    meter = ClassificationMeter([f"class {i}" for i in range(logits.shape[1])])
    for part, its_labels in zip(logits.split(batch), labels.split(batch), strict=True):
        meter.update(part, its_labels)
    return meter.result("test")


def dense(found: Classification) -> np.ndarray:
    matrix = np.zeros((len(found.classes),) * 2, int)
    for entry in found.confusion:
        matrix[entry.actual, entry.called] = entry.images
    return matrix


@st.composite
def answers(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Random logits and labels, of which some classes have none and others are never called."""
    classes, images = draw(st.integers(2, 12)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(draw(st.integers(1, classes)), size=images)
    logits = rng.normal(size=(images, classes)) * draw(st.sampled_from([0.1, 1, 30]))
    logits[np.arange(images), labels] += draw(st.sampled_from([0, 1, 100]))
    logits[:, draw(st.integers(0, classes - 1))] -= draw(st.sampled_from([0, 1000]))
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels)


@settings(max_examples=40, deadline=None)
@given(answers(), st.sampled_from([17, 1000]))
def test_the_figures_are_those_of_scikit_learn(given: tuple[Tensor, Tensor], batch: int) -> None:
    logits, labels = given
    found = measured(logits, labels, batch)
    truth, called, every = labels.numpy(), logits.argmax(1).numpy(), range(logits.shape[1])
    assert found.images == len(labels)
    assert found.top1 == sklearn.accuracy_score(truth, called)
    assert (dense(found) == sklearn.confusion_matrix(truth, called, labels=every)).all()
    macro = sklearn.precision_recall_fscore_support(truth, called, average="macro", zero_division=0)
    assert (found.precision, found.recall, found.f1) == pytest.approx(macro[:3], abs=1e-6)
    each = sklearn.precision_recall_fscore_support(truth, called, labels=every, zero_division=np.nan)
    for i, scores in enumerate(found.classes):
        wanted = [None if np.isnan(values[i]) else pytest.approx(values[i], abs=1e-6) for values in each[:3]]
        assert [scores.precision, scores.recall, scores.f1] == wanted
        assert scores.images == each[3][i]
    if len(every) <= 5:
        assert found.top5 is None
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn: a class has no image
            wanted = sklearn.top_k_accuracy_score(truth, logits.double().numpy(), k=5, labels=every)
        assert found.top5 == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(answers())
@example((torch.tensor([[0.0, 200.0]] * 4), torch.tensor([1, 1, 1, 0])))
def test_the_calibration_error_is_that_of_its_bins(given: tuple[Tensor, Tensor]) -> None:
    logits, labels = given
    found = measured(logits, labels)
    assert len(found.bins) == BINS
    assert sum(bin_.images for bin_ in found.bins) == len(labels)
    error = 0.0
    for k, bin_ in enumerate(found.bins):
        if bin_.images:
            assert bin_.confidence is not None
            assert bin_.accuracy is not None
            assert k / BINS - 1e-9 <= bin_.confidence <= (k + 1) / BINS + 1e-9
            error += bin_.images / len(labels) * abs(bin_.accuracy - bin_.confidence)
        else:
            assert bin_.confidence is bin_.accuracy is None
    assert found.calibration_error == pytest.approx(error)


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(2000, 10, generator=generator), torch.randint(10, (2000,), generator=generator)
    wanted = multiclass_calibration_error(logits, labels, num_classes=10, n_bins=BINS)
    assert measured(logits, labels).calibration_error == pytest.approx(float(wanted), abs=1e-6)


def test_a_network_that_is_sure_and_wrong_is_off_by_one() -> None:
    found = measured(torch.tensor([[100.0, -100.0]] * 5), torch.ones(5, dtype=torch.int64))
    assert (found.top1, found.calibration_error, found.confidence) == (0.0, 1.0, 1.0)
    assert [scores.recall for scores in found.classes] == [None, 0.0]
    assert [scores.precision for scores in found.classes] == [0.0, None]
    assert found.precision == found.recall == found.f1 == 0.0
    assert [(c.actual, c.called, c.images) for c in found.mistakes] == [(1, 0, 5)]


def test_a_first_batch_without_mistakes_settles_nothing() -> None:
    logits = torch.eye(6) - torch.arange(6) / 100
    assert measured(logits, torch.tensor([0, 1, 2, 0, 1, 2]), batch=3).top1 == 0.5
    assert measured(logits, torch.tensor([0, 1, 2, 0, 0, 0]), batch=3).top5 == 1.0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"confusion": [{"actual": 0, "called": 0, "images": 2}]}, "as many images as its class"),
        ({"confusion": [{"actual": 0, "called": 2, "images": 1}]}, "a class that there is not"),
        ({"images": 2}, "must each hold all images"),
        ({"bins": []}, "must each hold all images"),
        ({"top1": float("nan")}, "top1"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(changes: dict[str, object], complaint: str) -> None:
    found = measured(torch.eye(2)[:1], torch.tensor([0]))
    assert Classification.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match=complaint):
        Classification.model_validate(found.model_dump() | changes)


def test_half_precision_is_taken_as_it_is() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert measured(logits.half(), torch.tensor([1, 0])) == measured(logits, torch.tensor([1, 0]))
