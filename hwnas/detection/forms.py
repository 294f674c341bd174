"""The forms in which models give detections, and what each tells."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from torch import Tensor

from hwnas.detection.anchors import anchors
from hwnas.detection.answers import answers_of, level_sizes
from hwnas.detection.suppression import Detections, Suppression, detections, suppressed
from hwnas.spaces.bifpn import ANCHORS
from hwnas.spaces.space import Metric

Form = Literal["maps", "boxes", "nms"]
"""The network's own feature maps, decoded boxes, or what is left of these after NMS (docs/detection.md)."""


def form_of(names: Collection[str]) -> Form | None:
    """The form of a model whose outputs are called so; None where it is no detector's."""
    if set(names) == {"boxes", "scores", "labels"}:
        return "nms"
    if set(names) == {"boxes", "scores"}:
        return "boxes"
    levels = {kind: _levels(names, kind) for kind in ("class", "box")}
    whole = levels["class"] == levels["box"] and 2 * len(levels["box"]) == len(names)
    return "maps" if names and whole else None


def metric_of(names: Collection[str]) -> Metric:
    """What says how good a model is whose outputs are called so."""
    return "top-1" if form_of(names) is None else "mAP"


def classes_of(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many classes a detector's model tells apart by the shapes of its outputs; None where they do not say."""
    form = form_of(shapes)
    if form == "maps":
        return shapes[_maps(shapes)[0]][1] // ANCHORS
    return shapes["scores"][-1] if form == "boxes" else None


def read_detections(
    outputs: Mapping[str, Tensor], resolution: int, rule: Suppression | None = None
) -> list[Detections]:
    """What a detector's model has found in each picture.

    Args:
        outputs: of n pictures by name, in one of the forms, on the CPU.
        resolution: side of the pictures in pixels.
        rule: by which ``maps`` and ``boxes`` are thinned out; ``nms`` has done so.

    Raises:
        ValueError: the outputs are of none of the forms.
    """
    form, rule = form_of(outputs), rule or Suppression()
    if form == "maps":
        maps = [outputs[name] for name in _maps(outputs)]
        return detections(answers_of(maps), anchors(resolution, level_sizes(maps)), resolution, rule)
    if form == "boxes":
        return [suppressed(*picture, rule) for picture in zip(outputs["boxes"], outputs["scores"], strict=True)]
    if form == "nms":
        listed = zip(outputs["boxes"], outputs["scores"], outputs["labels"].long(), strict=True)
        return [
            Detections(*(column[labels >= 0] for column in (boxes, scores, labels))) for boxes, scores, labels in listed
        ]
    raise ValueError(f"outputs {', '.join(outputs)} are no detector's")


def _maps(names: Collection[str]) -> list[str]:
    """The names of feature maps, classes before boxes and the finest level first."""
    levels = _levels(names, "class")
    return [f"{kind}.p{reduction}" for kind in ("class", "box") for reduction in levels]


def _levels(names: Collection[str], kind: str) -> list[int]:
    found = (re.fullmatch(rf"{kind}\.p(\d+)", name) for name in names)
    return sorted(int(match[1]) for match in found if match)
