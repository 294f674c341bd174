"""Make a small detection data set out of real pictures: garments on photographs, laid out as COCO.

    python scripts/make_detection_set.py BACKGROUNDS OUT [--train 2000] [--val 300] [--test 300] [--side 96] [--seed 0]

Objects are photographs of garments (Fashion-MNIST, ten classes), cut out along their outline, tinted, scaled and put on
crops of the photographs in BACKGROUNDS, a parquet file or a folder of class folders.  So shapes, textures and
backgrounds are real and their composition is not: objects have no shadow and no context, and a detector of them is none
of garments in the wild.  No garment and no background is in two splits.  Equal arguments give equal files.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes

from hwnas.cli.console import bars
from hwnas.data import ImageSet, load_dataset
from hwnas.data.loading import source_of
from hwnas.errors import HwnasError, UserError
from hwnas.files import write_atomic, write_json
from hwnas.progress import Progress, Silent

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

SPLITS = ("train", "val", "test")
MOST_OBJECTS = 3
SIZES = (0.2, 0.6)
"""Long side of an object, as a share of the picture's."""
OVERLAP = 0.1
"""Share of the smaller of two boxes that the other may cover."""
TRIES = 20
DARK = 16
"""Grey values below are the black around a garment."""


@dataclass(frozen=True)
class Recipe:
    """Pictures of each split, and their side in pixels."""

    pictures: dict[str, int]
    side: int = 96
    seed: int = 0


@dataclass(frozen=True)
class Placed:
    """An object in a picture: its box (left, top, width, height) in pixels, its area and its class number."""

    box: Box
    area: int
    label: int


def make(backgrounds: Path, out: Path, recipe: Recipe, progress: Progress | None = None) -> None:
    """Write the data set.

    Raises:
        UserError: there are fewer backgrounds than splits, or they cannot be read; ``out`` holds a data set already.
    """
    if (out / "annotations").exists():
        raise UserError(f"{out} holds a data set already; choose another directory or delete that one.")
    garments = load_dataset("fashion-mnist")
    objects = {"train": garments.recalibration, "val": garments.validation, "test": garments.test}
    scenes = read_backgrounds(backgrounds, recipe.side * 3 // 2)
    bar = progress or Silent()
    bar.start("Composing", sum(recipe.pictures.values()), unit="pictures")
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng((recipe.seed, number))
        composed = (
            compose(scenes[number :: len(SPLITS)], objects[split], recipe.side, rng)
            for _ in range(recipe.pictures[split])
        )
        write_split(out, split, composed, garments.class_names, bar)
    bar.finish()


def read_backgrounds(path: Path, side: int) -> list[Pixels]:
    """All photographs of a source, [3, side, side]."""
    scenes = [image for part in source_of(path, side).open().parts.values() for image in part.images()]
    if len(scenes) < len(SPLITS):
        raise UserError(f"{path} holds {len(scenes)} photographs; give at least one for each of {', '.join(SPLITS)}.")
    return scenes


def compose(
    scenes: list[Pixels], garments: ImageSet, side: int, rng: np.random.Generator
) -> tuple[Pixels, list[Placed]]:
    """A crop of a photograph [side, side, 3] with one to three garments on it, none much over another."""
    scene = scenes[rng.integers(len(scenes))]
    corner = rng.integers(0, scene.shape[-1] - side + 1, 2)
    canvas = scene[:, corner[0] : corner[0] + side, corner[1] : corner[1] + side].transpose(1, 2, 0).copy()
    placed: list[Placed] = []
    for _ in range(int(rng.integers(1, MOST_OBJECTS + 1))):
        row = int(rng.integers(len(garments)))
        colours, mask = cut_out(garments.pixels[row, 0].numpy(), side, rng)
        height, width = mask.shape
        for _ in range(TRIES):
            top, left = (int(rng.integers(0, side - extent + 1)) for extent in (height, width))
            box = (left, top, width, height)
            if all(covered(box, other.box) <= OVERLAP for other in placed):
                canvas[top : top + height, left : left + width][mask] = colours[mask]
                placed.append(Placed(box, int(mask.sum()), int(garments.labels[row])))
                break
    return canvas, placed


def cut_out(image: Pixels, side: int, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A garment at a random size and in a random tint, [h, w, 3], and where it is, which fills [h, w]."""
    mask = binary_fill_holes(image > DARK)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    factor = side * rng.uniform(*SIZES) / max(mask[part].shape)
    height, width = (max(2, round(extent * factor)) for extent in mask[part].shape)
    grey = np.asarray(Image.fromarray(image[part]).resize((width, height), Image.Resampling.BICUBIC))
    outline = np.asarray(
        Image.fromarray(mask[part].astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    )
    tint = rng.uniform(0.3, 1.0, 3)
    colours = (grey[..., None] * tint).astype(np.uint8)
    found = outline > 127
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return colours[part], found[part]


def covered(one: Box, other: Box) -> float:
    """Share of the smaller box's area that both have."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height) / min(one[2] * one[3], other[2] * other[3])


def write_split(
    out: Path, split: str, composed: Iterator[tuple[Pixels, list[Placed]]], classes: tuple[str, ...], bar: Progress
) -> None:
    """Write pictures as JPEG files, and then their annotations."""
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (canvas, placed) in enumerate(composed, start=1):
        file = io.BytesIO()
        Image.fromarray(canvas).save(file, "JPEG", quality=95)
        name = f"{number:06}.jpg"
        write_atomic(out / split / name, file.getvalue())
        pictures.append({"id": number, "file_name": name, "width": canvas.shape[1], "height": canvas.shape[0]})
        for thing in placed:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": thing.label + 1,
                    "bbox": thing.box,
                    "area": thing.area,
                    "iscrowd": 0,
                }
            )
        bar.advance()
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": pictures, "annotations": annotations, "categories": categories}
    write_json(out / "annotations" / f"instances_{split}.json", content)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("out", type=Path)
    for split, count in zip(SPLITS, (2000, 300, 300), strict=True):
        parser.add_argument(f"--{split}", type=int, default=count, help="pictures")
    parser.add_argument("--side", type=int, default=96, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recipe = Recipe({split: getattr(given, split) for split in SPLITS}, given.side, given.seed)
    try:
        with bars() as progress:
            make(given.backgrounds, given.out, recipe, progress)
    except HwnasError as error:
        print(f"make_detection_set: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
