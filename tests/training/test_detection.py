"""Supernets of detectors learn, go on where they were killed, and refuse what would do nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.data.detection import CROWD, NO_OBJECT, DetectionDataset, load_detection
from hwnas.detection.anchors import anchors
from hwnas.detection.assignment import IGNORED, assign
from hwnas.errors import UserError
from hwnas.files import read_json_lines, sha256_of
from hwnas.search import SubnetEvaluator
from hwnas.spaces.bifpn import ANCHORS
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.tasks import Detection
from tests.detectors import thin_detectors
from tests.forked import killed_when
from tests.rectangles import make_set
from tests.training import toy, toy_detector

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
    before = run.judge.scores([SPACE.largest])[0]
    record = run.run()
    losses = [line["loss_largest"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")]
    assert losses[-1] < 0.5 * losses[0]
    assert record.metrics["validation_map_largest"] > max(0.1, 5 * before)
    assert set(record.metrics) == {"validation_map_largest", "validation_map_smallest"}
    assert record.dataset.class_names == ("red", "blue")
    found = SubnetEvaluator(run.judge.averaged(), rectangles)(SPACE.largest)
    assert found == pytest.approx(record.metrics["validation_map_largest"], abs=1e-3)


def test_without_pycocotools_a_run_does_not_begin(
    tmp_path: Path, rectangles: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(UserError, match=r"hwnas\[detection\]"):
        Trainer(tmp_path / "run", SPACE, rectangles, config())


def test_a_killed_run_ends_with_the_same_bits_as_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken, cache = tmp_path / "whole", tmp_path / "broken", tmp_path / "cache"
    monkeypatch.setenv("HWNAS_CACHE", str(cache))
    pictures = make_set(tmp_path / "set", train=16, val=4)
    settings = {"epochs": 3, "checkpoint_steps": 2, "evaluate_epochs": 3}
    toy_detector.trainer(whole, pictures, **settings).run()
    # Killed as soon as it has saved its second step, the first one of several subnets, or a few steps on.
    killed_when(toy.saved_anew(broken), toy_detector.main, broken, pictures, cache, stuck_after=4, **settings)
    assert not (broken / "record.json").exists()
    toy_detector.trainer(broken, pictures, **settings).run()
    assert sha256_of(broken / "weights.safetensors") == sha256_of(whole / "weights.safetensors")
    assert steps(broken) == steps(whole)


def steps(directory: Path) -> list[dict[str, Any]]:
    return [line | {"seconds": 0} for line in read_json_lines(directory / "metrics.jsonl")]


def test_in_a_crowd_nothing_is_learned(tmp_path: Path, rectangles: DetectionDataset) -> None:
    """The loss of answers that find an object which is only known to be in a crowd is that of such that find none."""
    task = Detection(rectangles, config())
    sizes = (12, 6, 3)
    start = anchors(48, sizes)
    crowd = torch.tensor([[[0.0, 0, 48, 48]]])
    inside = assign(crowd, torch.tensor([[CROWD]]), start)[0][0] == IGNORED

    def cost(label: int, found: float) -> float:
        """Of answers that are all ``found`` in the crowd, and sure of nothing elsewhere."""
        by_anchor = torch.where(inside, found, -5.0)[:, None].expand(-1, 2)
        maps, outputs = by_anchor.split([ANCHORS * size**2 for size in sizes]), []
        for part, size in zip(maps, sizes, strict=True):
            outputs.append(part.reshape(1, size, size, -1).permute(0, 3, 1, 2))
        boxes = [torch.zeros(1, 4 * ANCHORS, size, size) for size in sizes]
        targets = (crowd / 48, torch.tensor([[label]]))
        return float(task.loss((*outputs, *boxes), targets, 48, None))

    assert inside.any()
    assert cost(CROWD, 3.0) == cost(CROWD, -5.0)
    assert cost(NO_OBJECT, 3.0) > cost(NO_OBJECT, -5.0)


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
