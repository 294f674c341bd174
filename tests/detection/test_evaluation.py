"""Mean average precision against cases worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.data.detection import CocoFile, load_detection
from hwnas.detection.evaluation import coco_scores, evaluate
from hwnas.detection.suppression import Detections
from hwnas.errors import UserError
from tests.rectangles import make_set

pytest.importorskip("pycocotools")


def truth(*annotations: dict[str, Any], images: int = 2) -> CocoFile:
    return CocoFile.model_validate(
        {
            "images": [{"id": n, "file_name": f"{n}", "width": 100, "height": 100} for n in range(1, images + 1)],
            "annotations": [{"id": n, **entry} for n, entry in enumerate(annotations, start=1)],
            "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
        }
    )


def thing(image: int, category: int, *box: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), **more}


def seen(image: int, category: int, score: float, *box: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "score": score, "bbox": list(box)}


TWO = truth(thing(1, 1, 10, 10, 20, 20), thing(2, 1, 50, 50, 40, 40))


def test_all_found_is_one_and_nothing_found_is_nought() -> None:
    perfect = coco_scores([seen(1, 1, 0.9, 10, 10, 20, 20), seen(2, 1, 0.8, 50, 50, 40, 40)], TWO)
    assert (perfect.map, perfect.map50, perfect.recall, perfect.images) == (1, 1, 1, 2)
    assert perfect.classes == {"one": 1.0, "two": None}
    assert (perfect.small, perfect.medium, perfect.large) == (1, 1, None)
    assert coco_scores([], TWO).map == 0


def test_a_false_alarm_above_the_second_hit_costs_a_third_of_the_second_half() -> None:
    """Precision is 1 up to recall 1/2, then 2/3: over COCO's 101 recalls 51 of 1 and 50 of 2/3."""
    rows = [
        seen(1, 1, 0.9, 10, 10, 20, 20),
        seen(1, 1, 0.8, 60, 60, 20, 20),
        seen(2, 1, 0.7, 50, 50, 40, 40),
    ]
    assert coco_scores(rows, TWO).map == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)


def test_an_overlap_of_two_thirds_counts_at_four_of_ten_thresholds() -> None:
    """20 × 20 seen 4 pixels off: intersection 320 of a union of 480, so right at 0.5, 0.55, 0.6 and 0.65."""
    only = truth(thing(1, 1, 10, 10, 20, 20))
    found = coco_scores([seen(1, 1, 0.9, 14, 10, 20, 20)], only)
    assert found.map == pytest.approx(0.4)
    assert (found.map50, found.map75) == (1, 0)


def test_half_of_the_objects_and_the_wrong_class() -> None:
    half = coco_scores([seen(1, 1, 0.9, 10, 10, 20, 20)], TWO)
    assert half.map == pytest.approx(51 / 101)
    assert coco_scores([seen(1, 2, 0.9, 10, 10, 20, 20)], TWO).map == 0


def test_what_is_seen_in_a_crowd_does_not_count() -> None:
    crowded = truth(thing(1, 1, 10, 10, 20, 20), thing(1, 1, 50, 0, 50, 100, iscrowd=1))
    rows = [seen(1, 1, 0.9, 60, 20, 10, 10), seen(1, 1, 0.8, 10, 10, 20, 20)]
    assert coco_scores(rows, crowded).map == 1
    assert coco_scores(rows, truth(thing(1, 1, 10, 10, 20, 20))).map == pytest.approx(0.5)


def test_areas_are_those_of_the_outline_where_there_is_one() -> None:
    outlined = truth(thing(1, 1, 10, 10, 80, 80, area=500))
    assert coco_scores([seen(1, 1, 0.9, 10, 10, 80, 80)], outlined).small == 1


def test_boxes_of_the_network_are_judged_in_pixels_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    split = load_detection(make_set(tmp_path / "set"), side=60).validation
    resolution = 90
    found = [
        Detections(
            boxes[labels >= 0] * (resolution / split.side), torch.ones(int((labels >= 0).sum())), labels[labels >= 0]
        )
        for boxes, labels in zip(split.boxes, split.labels, strict=True)
    ]
    assert evaluate(found, split, resolution).map == pytest.approx(1)


def test_pictures_without_objects_have_no_figure() -> None:
    with pytest.raises(UserError, match=r"No object is counted in the 2 picture"):
        coco_scores([], truth(thing(1, 1, 10, 10, 20, 20, iscrowd=1)))


def test_without_pycocotools_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(UserError, match=r"hwnas\[detection\]"):
        coco_scores([], TWO)
