"""The JSON file of COCO's object detection task (Lin et al. 2014; cocodataset.org, "Data format"), checked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwnas.errors import BadFileError
from hwnas.files import describe, read_bytes

ROUNDING = 1.0
"""Pixels by which a box may reach out of its picture; COCO's own do, by fractions."""

log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
Side = Annotated[int, Field(ge=1)]


class _Entry(BaseModel):
    """What COCO's files hold besides (licences, outlines) is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Picture(_Entry):
    """``width`` and ``height`` are in pixels; ``file_name`` is below the folder of the split."""

    id: int
    file_name: Annotated[str, Field(min_length=1)]
    width: Side
    height: Side


class Annotation(_Entry):
    """An object.

    Attributes:
        bbox: left, top, width and height in pixels of the picture.
        area: of the object's outline in square pixels, by which COCO tells small ones from large; None: that of the
            box.
        iscrowd: 1 for a group of objects that were not told apart: in there nothing is learned, and what is found
            there counts neither for nor against a detector.
    """

    id: int
    image_id: int
    category_id: int
    bbox: Box
    area: Annotated[float, Field(ge=0)] | None = None
    iscrowd: Literal[0, 1] = 0


class Category(_Entry):
    """A class of objects."""

    id: int
    name: Annotated[str, Field(min_length=1)]


class CocoFile(_Entry):
    """One split's annotations."""

    images: tuple[Picture, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]

    @property
    def classes(self) -> dict[int, str]:
        """Names by category number, ascending: their order is that of the class numbers."""
        return {category.id: category.name for category in sorted(self.categories, key=lambda c: c.id)}


def read_annotations(path: Path, folder: Path) -> CocoFile:
    """Read a COCO file whose pictures are in ``folder``.

    Boxes without extent in their pictures, two of which are in COCO's own, are marked ``iscrowd``, so that pycocotools
    passes over them; as a crowd that is nowhere they are nothing to learn from either.

    Raises:
        BadFileError: with the file, the field and what is wrong with it: a number is given twice, a box has a negative
            side or is not in its picture, a category, a picture or its file is missing, a picture lies elsewhere, or
            there is no object at all.
    """
    try:
        found = CocoFile.model_validate_json(read_bytes(path, what="annotations"))
    except ValidationError as error:
        raise BadFileError(f"annotations {path}: {describe(error)}.") from error
    fault = next(_faults(found, folder), None)
    if fault is None:
        found = _without_empty_boxes(found, path)
        if all(entry.iscrowd for entry in found.annotations):
            fault = "field 'annotations': no picture has a box around a single object"
    if fault is not None:
        raise BadFileError(f"annotations {path}: {fault}; mend or remove it.")
    return found


def _without_empty_boxes(found: CocoFile, path: Path) -> CocoFile:
    """The same, boxes of which nothing is in their pictures marked ``iscrowd``."""
    pictures = {picture.id: picture for picture in found.images}

    def empty(entry: Annotation) -> bool:
        left, top, width, height = entry.bbox
        picture = pictures[entry.image_id]
        return min(left + width, picture.width) <= max(left, 0) or min(top + height, picture.height) <= max(top, 0)

    numbers = {entry.id for entry in found.annotations if empty(entry)}
    if not numbers:
        return found
    log.warning("annotations %s: %d box(es) have no extent in their pictures and are passed over.", path, len(numbers))
    entries = (entry.model_copy(update={"iscrowd": 1}) if entry.id in numbers else entry for entry in found.annotations)
    return found.model_copy(update={"annotations": tuple(entries)})


def _faults(found: CocoFile, folder: Path) -> Iterator[str]:
    """What is wrong, each as a clause that begins with the field."""
    for field in ("images", "annotations", "categories"):
        yield from _repeated(field, "id", [entry.id for entry in getattr(found, field)])
    yield from _repeated("images", "file_name", [picture.file_name for picture in found.images])
    yield from _repeated("categories", "name", [category.name for category in found.categories])
    for index, picture in enumerate(found.images):
        name = PurePosixPath(picture.file_name)
        if name.is_absolute() or ".." in name.parts:
            yield f"field 'images.{index}.file_name': '{name}' is not below {folder}"
        elif not (folder / name).is_file():
            yield f"field 'images.{index}.file_name': there is no file {folder / name}"
    pictures = {picture.id: picture for picture in found.images}
    categories = {category.id for category in found.categories}
    for index, annotation in enumerate(found.annotations):
        where = f"field 'annotations.{index}"
        if annotation.image_id not in pictures:
            yield f"{where}.image_id': no picture has the number {annotation.image_id}"
        elif annotation.category_id not in categories:
            yield f"{where}.category_id': no category has the number {annotation.category_id}"
        else:
            yield from _box_faults(f"{where}.bbox'", annotation.bbox, pictures[annotation.image_id])


def _repeated(field: str, key: str, values: Sequence[int | str]) -> Iterator[str]:
    seen: set[int | str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield f"field '{field}.{index}.{key}': {value!r} was given before"
        seen.add(value)


def _box_faults(where: str, box: Box, picture: Picture) -> Iterator[str]:
    left, top, width, height = box
    shown = f"[{', '.join(f'{value:g}' for value in box)}]"
    if width < 0 or height < 0:
        yield f"{where}: the box {shown} has a negative side"
    elif (
        min(left, top) < -ROUNDING
        or left + width > picture.width + ROUNDING
        or top + height > picture.height + ROUNDING
    ):
        yield f"{where}: the box {shown} is not within its picture of {picture.width}×{picture.height} pixels"
