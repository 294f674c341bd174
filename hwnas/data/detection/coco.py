"""Folders as COCO has them: ``annotations/instances_<split>.json`` and the pictures in ``<split>/``.

``<split>`` begins with a split's name (``train``, ``val``, ``test``); a year may follow, as in ``train2017``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hwnas.data.dataset import ImageSet
from hwnas.data.decoding import Encoded, Pixels, letterbox, on_all_cores
from hwnas.data.detection.annotations import CocoFile, Picture, read_annotations
from hwnas.data.detection.dataset import CROWD, NO_OBJECT, DetectionDataset, DetectionSet
from hwnas.data.source import SPLIT_OF_NAME, Contents, Part, Source, identity_of
from hwnas.data.splits import Selection, SplitConfig, SplitPlan
from hwnas.data.store import load_stored
from hwnas.errors import UserError
from hwnas.files import read_bytes
from hwnas.progress import Progress, Silent

ANNOTATIONS = "annotations"
PREFIX = "instances_"
DEFAULT_SIDE = 512
"""Pixels; the resolution of EfficientDet-D0 (Tan et al. 2020, Table 1)."""

_SPLITS = ("train", "validation", "test")

Files = Mapping[str, CocoFile]


def is_coco(path: Path) -> bool:
    """Whether a folder is a detection data set."""
    return any((path / ANNOTATIONS).glob(f"{PREFIX}*.json"))


def load_detection(
    root: Path,
    *,
    side: int | None = None,
    most: int = DEFAULT_SIDE,
    splits: SplitConfig | None = None,
    progress: Progress | None = None,
) -> DetectionDataset:
    """Open a detection data set; its pictures are decoded once into the cache directory.

    Args:
        root: a folder as the module describes it.
        side: of the square that each picture is scaled and filled up to, in pixels; by default the longest side of a
            training picture, at most ``most``.
        splits: how pictures are withheld from training for a split that the folder lacks.

    Raises:
        UserError: there is no such folder, a split is double, missing, without objects or knows other categories, an
            annotation is wrong (file and field are named), or a picture cannot be read or has another size.
    """
    config = splits or SplitConfig()
    folders = _split_folders(root)
    files = {split: read_annotations(_annotations_of(folder), folder) for split, folder in folders.items()}
    for split, file in files.items():
        if file.classes != files["train"].classes:
            raise UserError(f"{_annotations_of(folders[split])} has other categories than the training split.")
    longest = max(max(picture.width, picture.height) for picture in files["train"].images)
    side = side or min(longest, most)
    plan = _plan({split: len(file.images) for split, file in files.items()}, config, root)
    _require_objects(files, plan, root)
    paths = [_annotations_of(folder) for folder in folders.values()]
    paths += [folder / picture.file_name for split, folder in folders.items() for picture in files[split].images]
    identity = identity_of(paths, {"side": side, "task": "detection"})
    source = Source(root.resolve().name, str(root), identity, partial(_contents, folders, files, side, plan))
    stored = load_stored(source, config, progress or Silent())
    readers = {split: partial(_split, stored.readers[split], files[plan.selections[split].part]) for split in _SPLITS}
    readers["recalibration"] = partial(_split, stored.readers["recalibration"], files["train"])
    digest = hashlib.sha256(stored.fingerprint.encode())
    for file in files.values():
        digest.update(file.model_dump_json().encode())
    fingerprint = digest.hexdigest()
    return DetectionDataset(
        stored.name, stored.class_names, stored.mean, stored.std, fingerprint, readers, stored.repeated
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of pictures of each split."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}; a detection data set is a folder that is laid out as COCO.")
    found: dict[str, Path] = {}
    for path in sorted((root / ANNOTATIONS).glob(f"{PREFIX}*.json")):
        name = path.stem.removeprefix(PREFIX)
        split = SPLIT_OF_NAME.get(name.rstrip("0123456789").lower())
        if split is None:
            raise UserError(f"{path} bears no split's name; call it {PREFIX}train.json, {PREFIX}val.json or the like.")
        if split in found:
            raise UserError(f"{path} and {_annotations_of(found[split])} are both the {split} split; keep one.")
        found[split] = root / name
    if "train" not in found:
        raise UserError(f"{root} holds no {ANNOTATIONS}/{PREFIX}train.json; a detection data set is laid out as COCO.")
    return found


def _annotations_of(folder: Path) -> Path:
    return folder.parent / ANNOTATIONS / f"{PREFIX}{folder.name}.json"


def _plan(sizes: Mapping[str, int], config: SplitConfig, root: Path) -> SplitPlan:
    """The splits there are; pictures for those that are missing are drawn from the training split."""
    order = np.random.default_rng(config.seed).permutation(sizes["train"])
    selections = {}
    for name in ("validation", "test"):
        if name in sizes:
            selections[name] = Selection(name, np.arange(sizes[name]))
        else:
            count = max(1, round(getattr(config, name) * sizes["train"]))
            drawn, order = order[:count], order[count:]
            selections[name] = Selection("train", np.sort(drawn))
    if not len(order):
        raise UserError(f"{root}: {sizes['train']} training picture(s) are too few to withhold some; add pictures.")
    selections["train"] = Selection("train", np.sort(order))
    # Positions within the split; the order of `order` is random, so its first ones are a random draw.
    recalibration = np.sort(np.argsort(order)[: config.recalibration])
    return SplitPlan(selections, recalibration)


def _require_objects(files: Files, plan: SplitPlan, root: Path) -> None:
    """Pictures that were drawn may all be without objects."""
    for split, selection in plan.selections.items():
        file = files[selection.part]
        ids = {file.images[row].id for row in selection.indices.tolist()}
        if not any(entry.image_id in ids and not entry.iscrowd for entry in file.annotations):
            raise UserError(
                f"{root}: none of the {len(ids)} picture(s) drawn for the {split} split holds an object; add pictures, "
                "or give that split."
            )


def _contents(folders: Mapping[str, Path], files: Files, side: int, plan: SplitPlan) -> Contents:
    """Labels are the rows of the annotations' pictures: what is in a picture is no single number."""
    parts = {
        split: Part(np.arange(len(file.images)), partial(_decoded, folders[split], file.images, side))
        for split, file in files.items()
    }
    return Contents(tuple(files["train"].classes.values()), parts, side, plan)


def _decoded(folder: Path, pictures: tuple[Picture, ...], side: int) -> Iterator[Pixels]:
    def decoded(picture: Picture) -> Pixels:
        path = folder / picture.file_name
        encoded = Encoded(str(path), read_bytes(path, what="picture"))
        return letterbox(encoded, side, (picture.width, picture.height))

    return on_all_cores(decoded, pictures)


def _split(read: Callable[[], ImageSet], file: CocoFile) -> DetectionSet:
    images = read()
    rows = images.labels
    pictures = [file.images[row] for row in rows.tolist()]
    side = images.pixels.shape[-1]
    scales = torch.tensor([side / max(picture.width, picture.height) for picture in pictures])
    boxes, labels = _targets(file, pictures)
    kept = {picture.id for picture in pictures}
    truth = file.model_copy(
        update={
            "images": tuple(pictures),
            "annotations": tuple(entry for entry in file.annotations if entry.image_id in kept),
        }
    )
    image_ids = torch.tensor([picture.id for picture in pictures])
    return DetectionSet(images.pixels, boxes * scales[:, None, None], labels, scales, image_ids, truth)


def _targets(file: CocoFile, pictures: list[Picture]) -> tuple[Tensor, Tensor]:
    """Boxes [N, M, 4] in pixels of the pictures, cut at their borders, and labels [N, M]."""
    number = {category: index for index, category in enumerate(file.classes)}
    borders = {picture.id: torch.tensor([picture.width, picture.height] * 2) for picture in pictures}
    found: dict[int, list[tuple[Tensor, int]]] = {picture.id: [] for picture in pictures}
    for entry in file.annotations:
        if entry.image_id not in found:
            continue
        left, top, width, height = entry.bbox
        box = torch.tensor([left, top, left + width, top + height]).clamp(min=0).minimum(borders[entry.image_id])
        if not entry.iscrowd:
            found[entry.image_id].append((box, number[entry.category_id]))
        elif (box[2:] > box[:2]).all():  # boxes without extent are marked so, too
            found[entry.image_id].append((box, CROWD))
    most = max(1, *map(len, found.values()))
    boxes = torch.zeros(len(pictures), most, 4)
    labels = torch.full((len(pictures), most), NO_OBJECT)
    for row, picture in enumerate(pictures):
        for column, (box, label) in enumerate(found[picture.id]):
            boxes[row, column], labels[row, column] = box, label
    return boxes, labels
