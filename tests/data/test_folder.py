from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hwnas.data import load_dataset
from hwnas.data.decoding import Encoded, decode
from hwnas.data.splits import SplitConfig
from hwnas.errors import BadFileError, UserError

MakeFolder = Callable[..., Path]
Encode = Callable[..., bytes]


def test_class_folders_are_split_and_keep_every_image_once(make_folder: MakeFolder, encode: Encode) -> None:
    root = make_folder({"cat": 20, "dog": 10})
    ds = load_dataset(root)
    assert (ds.name, ds.class_names, ds.num_classes) == ("pictures", ("cat", "dog"), 2)
    assert [split.labels.bincount().tolist() for split in (ds.train, ds.validation, ds.test)] == [
        [14, 7],
        [2, 1],
        [4, 2],
    ]
    everything = torch.cat([ds.train.pixels, ds.validation.pixels, ds.test.pixels])
    expected = {decode(Encoded("", encode(seed)), 12).tobytes() for seed in range(30)}
    assert {image.numpy().tobytes() for image in everything} == expected
    cats = {decode(Encoded("", encode(seed)), 12).tobytes() for seed in range(20)}
    for split in (ds.train, ds.validation, ds.test, ds.recalibration):
        for image, label in zip(split.pixels, split.labels, strict=True):
            assert (image.numpy().tobytes() in cats) == (label == 0)


def test_statistics_are_those_of_the_training_images(make_folder: MakeFolder) -> None:
    ds = load_dataset(make_folder({"cat": 8, "dog": 8}))
    scaled = ds.train.pixels.double() / 255
    assert ds.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert ds.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())


def test_split_folders_are_taken_as_they_are(make_folder: MakeFolder) -> None:
    make_folder({"cat": 5, "dog": 5}, "set/train")
    make_folder({"cat": 1, "dog": 2}, "set/val", first_seed=50)
    root = make_folder({"dog": 3}, "set/test", first_seed=60).parent
    ds = load_dataset(root)
    assert (len(ds.train), len(ds.validation), len(ds.test)) == (10, 3, 3)
    assert ds.test.labels.tolist() == [1, 1, 1]
    assert ds.repeated == {"validation": 0, "test": 0}


def test_test_images_that_were_trained_on_are_counted(make_folder: MakeFolder) -> None:
    make_folder({"cat": 10, "dog": 10}, "set/train")
    root = make_folder({"cat": 3, "dog": 1}, "set/test", first_seed=0).parent
    ds = load_dataset(root)
    seen = {image.numpy().tobytes() for image in ds.train.pixels}
    assert ds.repeated["test"] == sum(image.numpy().tobytes() in seen for image in ds.test.pixels) > 0


def test_a_class_called_train_is_a_class(make_folder: MakeFolder) -> None:
    assert load_dataset(make_folder({"plane": 4, "train": 4})).class_names == ("plane", "train")


def test_images_are_stored_at_the_size_asked_for(make_folder: MakeFolder, encode: Encode) -> None:
    root = make_folder({"cat": 4, "dog": 4})
    (root / "cat" / "wide.png").write_bytes(encode(99, (60, 30)))
    assert load_dataset(root).train.pixels.shape[1:] == (3, 12, 12)
    assert load_dataset(root, storage_size=20).train.pixels.shape[1:] == (3, 20, 20)
    with pytest.raises(UserError, match="at least 1 pixel"):
        load_dataset(root, storage_size=0)


def test_other_files_and_hidden_ones_are_passed_over(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 4, "dog": 4})
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / "._000.png").write_bytes(b"not an image")
    (root / ".cache").mkdir()
    (root / "README.md").write_text("about")
    (root / "cat" / "more").mkdir()
    (root / "cat" / "000.png").rename(root / "cat" / "more" / "000.PNG")
    ds = load_dataset(root)
    assert len(ds.train) + len(ds.validation) + len(ds.test) == 8


def test_the_name_of_an_unreadable_image_is_told(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 4, "dog": 4})
    bad = root / "dog" / "002.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(BadFileError, match=r"dog/002\.png is not a readable image"):
        load_dataset(root, storage_size=8)
    assert [path.name for path in (cache / "decoded").iterdir() if path.suffix != ".lock"] == []
    picture = io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "PNG")
    bad.write_bytes(picture.getvalue())
    assert load_dataset(root, storage_size=8).num_classes == 2


def test_bad_folders_are_refused_by_name(make_folder: MakeFolder, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"empty holds no class folders"):
        load_dataset(empty)
    with pytest.raises(UserError, match="all training images are of one class, 'cat'"):
        load_dataset(make_folder({"cat": 5}, "lonely"))
    with pytest.raises(UserError, match=r"hollow/dog holds no image"):
        load_dataset(make_folder({"cat": 5, "dog": 0}, "hollow"))
    with pytest.raises(UserError, match=r"class 'dog' has 2 training image\(s\)"):
        load_dataset(make_folder({"cat": 5, "dog": 2}, "small"))
    with pytest.raises(UserError, match=r"neither a data set nor a path '.*nowhere'"):
        load_dataset(tmp_path / "nowhere")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match=r"file\.txt is no parquet file"):
        load_dataset(tmp_path / "file.txt")


def test_bad_split_folders_are_refused_by_name(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder({"cat": 5, "dog": 5}, "a/train")
    make_folder({"cat": 5, "fox": 5}, "a/test")
    with pytest.raises(UserError, match="the test split has a class 'fox' that the training split lacks"):
        load_dataset(tmp_path / "a")
    make_folder({"cat": 5, "dog": 5}, "b/test")
    with pytest.raises(UserError, match="holds test but no folder 'train'"):
        load_dataset(tmp_path / "b")
    for name in ("train", "val", "validation"):
        make_folder({"cat": 5, "dog": 5}, f"c/{name}")
    with pytest.raises(UserError, match="are both the validation split"):
        load_dataset(tmp_path / "c")
    make_folder({"cat": 5, "dog": 5}, "d/train")
    (tmp_path / "d" / "test").mkdir()
    with pytest.raises(UserError, match=r"d/test holds no class folders"):
        load_dataset(tmp_path / "d")


def test_options_that_would_do_nothing_are_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 5, "dog": 5})
    options: dict[str, Any]
    for options in ({"download": True}, {"root": tmp_path}, {"image_column": "x"}, {"label_column": "y"}):
        with pytest.raises(UserError, match="does not apply"):
            load_dataset(root, **options)
    for options in ({"storage_size": 9}, {"label_column": "y"}, {"splits": SplitConfig()}):
        with pytest.raises(UserError, match="does not apply"):
            load_dataset("fashion-mnist", **options)
