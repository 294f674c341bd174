"""Small detection data sets of noise with bright rectangles, one tint a class."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]


def picture(boxes: list[tuple[int, int, int, int]], labels: list[int], size: tuple[int, int], seed: int) -> Image.Image:
    """Noise of ``size`` (width, height) with rectangles (left, top, width, height)."""
    pixels = np.random.default_rng(seed).integers(60, 120, (size[1], size[0], 3), dtype=np.uint8)
    for (left, top, width, height), label in zip(boxes, labels, strict=True):
        pixels[top : top + height, left : left + width] = (230, 20, 20) if label == 3 else (20, 20, 230)
    return Image.fromarray(pixels)


def write_split(root: Path, split: str, count: int, size: tuple[int, int] = (40, 32), seed: int = 0) -> dict[str, Any]:
    """``count`` pictures with one or two rectangles each; returns what was written as annotations."""
    rng = np.random.default_rng((seed, len(split)))
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [dict(category) for category in CATEGORIES],
    }
    (root / split).mkdir(parents=True)
    for number in range(1, count + 1):
        boxes, labels = [], []
        for column in range(int(rng.integers(1, 3))):
            width, height = (int(side) for side in rng.integers(8, 17, 2))
            left = column * size[0] // 2 + int(rng.integers(0, size[0] // 2 - width + 1))
            boxes.append((left, int(rng.integers(0, size[1] - height + 1)), width, height))
            labels.append(int(rng.choice([3, 7])))
        file = io.BytesIO()
        picture(boxes, labels, size, number).save(file, "PNG")
        (root / split / f"{number}.png").write_bytes(file.getvalue())
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
        for box, label in zip(boxes, labels, strict=True):
            entry = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": label, "bbox": list(box)}
            content["annotations"].append(entry)
    write_annotations(root, split, content)
    return content


def write_annotations(root: Path, split: str, content: Any) -> None:
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def make_set(root: Path, train: int = 12, val: int = 4, test: int = 4) -> Path:
    for number, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        if count:
            write_split(root, split, count, seed=number)
    return root
