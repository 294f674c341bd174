"""COCO folders: what is read, and what is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hwnas.data.decoding import FILL
from hwnas.data.detection import CROWD, NO_OBJECT, is_coco, load_detection
from hwnas.errors import BadFileError, UserError
from tests.rectangles import make_set, picture, write_annotations, write_split


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))


def test_pictures_fill_a_square_and_boxes_go_with_them(tmp_path: Path) -> None:
    found = load_detection(make_set(tmp_path / "set"), side=80)
    assert (found.class_names, found.name) == (("red", "blue"), "set")
    assert [len(split) for split in (found.train, found.validation, found.test)] == [12, 4, 4]
    train = found.train
    assert train.pixels.shape == (12, 3, 80, 80)
    assert (train.pixels[:, :, 64:] == FILL).all()
    assert train.scales.tolist() == [2.0] * 12
    for pixels, boxes, labels in zip(train.pixels, train.boxes, train.labels, strict=True):
        for box, label in zip(boxes.int().tolist(), labels.tolist(), strict=True):
            if label == NO_OBJECT:
                assert box == [0, 0, 0, 0]
                continue
            inside = pixels[:, box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2].float().mean((1, 2))
            assert inside.argmax() == (0, 2)[label]
            assert inside.max() > 220


def test_the_second_opening_reads_the_store_and_notices_changed_boxes(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    first = load_detection(root)
    again = load_detection(root)
    assert first.fingerprint == again.fingerprint
    assert torch.equal(first.train.pixels, again.train.pixels)
    content = write_split(tmp_path / "other", "train", 12)
    content["annotations"][0]["bbox"][2] -= 1
    write_annotations(root, "train", content)
    assert load_detection(root).fingerprint != first.fingerprint


def test_splits_that_are_missing_are_withheld_from_training(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", train=20, val=0, test=0)
    found = load_detection(root)
    assert [len(split) for split in (found.train, found.validation, found.test)] == [14, 2, 4]
    ids = [set(split.image_ids.tolist()) for split in (found.train, found.validation, found.test)]
    assert set.union(*ids) == set(range(1, 21))
    for split, own in zip((found.train, found.validation, found.test), ids, strict=True):
        assert {entry.image_id for entry in split.truth.annotations} <= own
        assert [image.id for image in split.truth.images] == split.image_ids.tolist()


def test_a_split_that_is_drawn_without_any_object_is_refused(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", train=20, val=0, test=0)
    content = write_split(tmp_path / "other", "train", 20)
    drawn = set(load_detection(root).validation.image_ids.tolist())
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] not in drawn]
    write_annotations(root, "train", content)
    with pytest.raises(UserError, match=r"none of the 2 picture\(s\) drawn for the validation split holds an object"):
        load_detection(root)


def test_years_behind_the_names_are_cocos_own(tmp_path: Path) -> None:
    write_split(tmp_path / "set", "train2017", 3)
    write_split(tmp_path / "set", "val2017", 2)
    write_split(tmp_path / "set", "test2017", 2)
    assert is_coco(tmp_path / "set")
    assert len(load_detection(tmp_path / "set").validation) == 2


def test_grey_and_transparent_pictures_are_read_as_rgb(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    for number, mode in ((1, "L"), (2, "RGBA"), (3, "P")):
        Image.open(root / "train" / f"{number}.png").convert(mode).save(root / "train" / f"{number}.png")
    assert load_detection(root).train.pixels.shape[1] == 3


def test_crowds_are_told_from_objects_and_known_to_the_judge(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    content = write_split(tmp_path / "other", "train", 12)
    before = load_detection(root).train
    content["annotations"][0]["iscrowd"] = 1
    write_annotations(root, "train", content)
    train = load_detection(root).train
    changed = train.labels != before.labels
    assert changed.nonzero().tolist() == [[0, 0]]
    assert train.labels[0, 0] == CROWD
    assert torch.equal(train.boxes, before.boxes)
    assert sum(entry.iscrowd for entry in train.truth.annotations) == 1


@pytest.mark.parametrize("box", [[3, 2, 0, 8], [3, 2, 8, 0], [-0.5, 3, 0.5, 5], [40, 3, 0.5, 5], [3, 32, 4, 1]])
def test_boxes_without_extent_in_their_pictures_are_passed_over_and_told(
    tmp_path: Path, box: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    root = make_set(tmp_path / "set")
    content = write_split(tmp_path / "other", "train", 12)
    objects = len(content["annotations"])
    content["annotations"][0]["bbox"] = box
    write_annotations(root, "train", content)
    train = load_detection(root).train
    assert int((train.labels != NO_OBJECT).sum()) == objects - 1
    assert [entry.id for entry in train.truth.annotations if entry.iscrowd] == [content["annotations"][0]["id"]]
    assert "instances_train.json: 1 box(es) have no extent" in caplog.text


def test_a_picture_without_objects_is_kept(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    content = write_split(tmp_path / "other", "train", 12)
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1]
    write_annotations(root, "train", content)
    assert (load_detection(root).train.labels[0] == NO_OBJECT).all()


def _set(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = to

    return change


EMPTY = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [3, 2, 0, 8]}
BAD = {
    "outside": (_set("annotations", 1, "bbox", to=[30, 2, 20, 8]), r"annotations\.1\.bbox.*not within.*40×32"),
    "left of it": (_set("annotations", 1, "bbox", to=[-2, 2, 20, 8]), r"annotations\.1\.bbox.*not within"),
    "negative": (_set("annotations", 0, "bbox", to=[3, 2, 4, -8]), r"annotations\.0\.bbox.*negative side"),
    "NaN": (_set("annotations", 0, "bbox", to=[3, 2, float("nan"), 8]), r"annotations\.0\.bbox\.2.*finite"),
    "three numbers": (_set("annotations", 0, "bbox", to=[3, 2, 8]), r"annotations\.0\.bbox.*required"),
    "category": (_set("annotations", 0, "category_id", to=4), r"annotations\.0\.category_id.*no category.*4"),
    "picture": (_set("annotations", 0, "image_id", to=99), r"annotations\.0\.image_id.*no picture.*99"),
    "same box": (_set("annotations", 1, "id", to=1), r"annotations\.1\.id.*1 was given before"),
    "same picture": (_set("images", 1, "id", to=1), r"images\.1\.id.*1 was given before"),
    "same file": (_set("images", 1, "file_name", to="1.png"), r"images\.1\.file_name.*given before"),
    "same category": (_set("categories", 1, "id", to=3), r"categories\.1\.id.*3 was given before"),
    "same name": (_set("categories", 1, "name", to="red"), r"categories\.1\.name.*'red' was given before"),
    "no file": (_set("images", 0, "file_name", to="0.png"), r"images\.0\.file_name.*no file .*0\.png"),
    "elsewhere": (_set("images", 0, "file_name", to="../val/1.png"), r"images\.0\.file_name.*not below"),
    "no boxes": (_set("annotations", to=[]), r"'annotations'.*no picture has a box"),
    "empty boxes": (_set("annotations", to=[EMPTY]), r"'annotations'.*no picture has a box"),
    "no width": (_set("images", 0, "width", to=0), r"images\.0\.width"),
    "no list": (_set("annotations", to=None), r"'annotations'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_annotations_are_refused_with_file_and_field(tmp_path: Path, case: str) -> None:
    change, message = BAD[case]
    root = make_set(tmp_path / "set")
    content = write_split(tmp_path / "other", "train", 12)
    change(content)
    write_annotations(root, "train", content)
    with pytest.raises(BadFileError, match=f"instances_train.json.*{message}"):
        load_detection(root)


def test_a_fraction_of_a_pixel_outside_is_cut(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    content = write_split(tmp_path / "other", "train", 12)
    content["annotations"][0]["bbox"] = [30.5, -0.5, 10, 20]
    write_annotations(root, "train", content)
    assert load_detection(root).train.boxes[0, 0].tolist() == [30.5, 0, 40, 19.5]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"no picture"), "2.png is not a readable image"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "2.png is not a readable image"),
        (lambda path: picture([], [], (32, 40), 0).save(path), "2.png.*32×40 pixels, its annotations are for 40×32"),
    ],
)
def test_bad_pictures_are_refused_by_name(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    root = make_set(tmp_path / "set")
    spoil(root / "train" / "2.png")
    with pytest.raises(BadFileError, match=message):
        load_detection(root)


def test_turned_photographs_are_turned_upright(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    with Image.open(root / "train" / "1.png") as upright:
        turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    before = load_detection(root).train.pixels[0].clone()
    turned.save(root / "train" / "1.png", exif=exif)
    assert np.array_equal(load_detection(root).train.pixels[0].numpy(), before.numpy())


def test_folders_that_are_not_laid_out_so_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no annotations/instances_train\.json"):
        load_detection(tmp_path)
    root = make_set(tmp_path / "set")
    write_annotations(root, "pictures", {})
    with pytest.raises(UserError, match=r"instances_pictures.json bears no split's name"):
        load_detection(root)
    (root / "annotations" / "instances_pictures.json").unlink()
    write_annotations(root, "val2017", {})
    with pytest.raises(UserError, match="both the validation split"):
        load_detection(root)


def test_splits_of_other_categories_are_refused(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    content = write_split(tmp_path / "other", "val", 4)
    content["categories"] = [{"id": 3, "name": "red"}, {"id": 7, "name": "green"}]
    write_annotations(root, "val", content)
    with pytest.raises(UserError, match=r"instances_val.json has other categories"):
        load_detection(root)
    with pytest.raises(UserError, match="too few to withhold"):
        load_detection(make_set(tmp_path / "tiny", train=2, val=0, test=0))
