"""Supernets of detectors learn, go on where they were killed, and refuse what would do nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.data.detection import DetectionDataset, load_detection
from hwnas.errors import UserError
from hwnas.files import read_json_lines, sha256_of
from hwnas.search import SubnetEvaluator
from hwnas.training import Trainer, TrainingConfig
from tests.detectors import thin_detectors
from tests.rectangles import make_set

pytest.importorskip("pycocotools")
SPACE = thin_detectors()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def rectangles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionDataset:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    return load_detection(make_set(tmp_path / "set", train=32, val=8), side=48)


def config(**changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {"epochs": 2, "full_epochs": 0.5, "batch_size": 8, "optimizer": "adamw"}
    settings |= {"learning_rate": 5e-3, "warmup_epochs": 0.0, "ema_decay": 0.8, "random_subnets": 1}
    return TrainingConfig.model_validate(settings | changes)


def test_it_learns_to_find_rectangles(tmp_path: Path, rectangles: DetectionDataset) -> None:
    still = {"jitter": {"smallest": 1, "largest": 1}}
    run = Trainer(tmp_path / "run", SPACE, rectangles, config(epochs=25, full_epochs=5, detection=still))
    before = run.scores([SPACE.largest])[0]
    record = run.run()
    losses = [line["loss_largest"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")]
    assert losses[-1] < 0.5 * losses[0]
    assert record.metrics["validation_map_largest"] > max(0.1, 5 * before)
    assert set(record.metrics) == {"validation_map_largest", "validation_map_smallest"}
    assert record.dataset.class_names == ("red", "blue")
    found = SubnetEvaluator(run._averaged_model(), rectangles)(SPACE.largest)
    assert found == pytest.approx(record.metrics["validation_map_largest"], abs=1e-3)


def test_without_pycocotools_a_run_does_not_begin(
    tmp_path: Path, rectangles: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(UserError, match=r"hwnas\[detection\]"):
        Trainer(tmp_path / "run", SPACE, rectangles, config())


def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path: Path, rectangles: DetectionDataset) -> None:
    Trainer(tmp_path / "whole", SPACE, rectangles, config()).run()
    Trainer(tmp_path / "broken", SPACE, rectangles, config()).run_until(5)
    Trainer(tmp_path / "broken", SPACE, rectangles, config()).run()
    assert sha256_of(tmp_path / "whole" / "weights.safetensors") == sha256_of(
        tmp_path / "broken" / "weights.safetensors"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 0.2}, "'label_smoothing' does not apply to detectors"),
        ({"augmentation": {"mixup": 0.5}}, "'augmentation' does not apply to detectors"),
        ({"distillation": 0.5}, "'distillation' does not apply to detectors"),
        ({"alpha_clip": 3.0}, "'alpha_clip' does not apply to detectors"),
        ({"layer_decay": 0.9}, "'layer_decay' does not apply to detectors"),
        ({"teacher": "somewhere"}, "'teacher' does not apply to detectors"),
        ({"recipe": "progressive", "epochs": 4, "full_epochs": 1}, "use recipe sandwich"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    tmp_path: Path, rectangles: DetectionDataset, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(tmp_path / "run", SPACE, rectangles, config(**changes))
