"""Mean average precision, as COCO counts it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from hwnas.data.detection import CocoFile, DetectionSet
from hwnas.detection.scores import DetectionScores
from hwnas.detection.suppression import Detections
from hwnas.errors import UserError

STATISTICS = {"map": 0, "map50": 1, "map75": 2, "small": 3, "medium": 4, "large": 5, "recall": 8}
"""Places in ``COCOeval.stats``."""
UNDEFINED = -1.0
"""What COCOeval says where no object is counted."""
DECIMALS = 7
"""A mean over ones may be a little off."""


def evaluate(found: Sequence[Detections], split: DetectionSet, resolution: int) -> DetectionScores:
    """Score detections in all pictures of a split, in the order of the split.

    Args:
        found: with boxes in pixels of the network's input.
        resolution: side of that input in pixels.

    Raises:
        UserError: no object is counted, or pycocotools is not installed.
    """
    categories = list(split.truth.classes)
    rows = []
    for one, image_id, scale in zip(found, split.image_ids.tolist(), split.scales.tolist(), strict=True):
        boxes = one.boxes * (split.side / resolution / scale)
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True):
            rows.append({"image_id": image_id, "category_id": categories[label], "bbox": box, "score": score})
    return coco_scores(rows, split.truth)


def coco_scores(rows: Sequence[dict[str, Any]], truth: CocoFile) -> DetectionScores:
    """Score detections in COCO's result format: ``image_id``, ``category_id``, ``bbox``, ``score``.

    Raises:
        UserError: no object is counted, or pycocotools is not installed.
    """
    if all(entry.iscrowd for entry in truth.annotations):
        raise UserError(f"No object is counted in the {len(truth.images)} picture(s); give pictures with objects.")
    kind, judge = coco_tools()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        known = kind()
        known.dataset = _as_dict(truth)
        known.createIndex()
        answers = known.loadRes(list(rows)) if rows else _nothing(kind, known)
        judged = judge(known, answers, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    # Overlaps, recalls, classes, all areas, 100 detections.
    precision = judged.eval["precision"][:, :, :, 0, -1]
    each = [_share(_mean(precision[:, :, k])) for k in range(precision.shape[2])]
    figures = {name: _share(float(judged.stats[place])) for name, place in STATISTICS.items()}
    classes = dict(zip(truth.classes.values(), each, strict=True))
    return DetectionScores.model_validate({"images": len(truth.images), "classes": classes, **figures})


def coco_tools() -> tuple[type[Any], type[Any]]:
    """COCO's own classes for annotations and for their comparison.

    Raises:
        UserError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError(
            "Mean average precision needs pycocotools; install it with `pip install hwnas[detection]`."
        ) from error
    return COCO, COCOeval


def _as_dict(truth: CocoFile) -> dict[str, Any]:
    """As pycocotools wants it: lists, not tuples, and every object with its area."""
    content: dict[str, Any] = json.loads(truth.model_dump_json())
    for entry in content["annotations"]:
        if entry["area"] is None:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    return content


def _nothing(kind: type[Any], known: Any) -> Any:
    """No detections at all, which pycocotools does not take as a list."""
    empty = kind()
    empty.dataset = known.dataset | {"annotations": []}
    empty.createIndex()
    return empty


def _mean(precision: np.ndarray) -> float:
    defined = precision[precision > UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED


def _share(value: float) -> float | None:
    return None if value == UNDEFINED else round(value, DECIMALS)
