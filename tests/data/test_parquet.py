from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from hwnas.data import load_dataset
from hwnas.errors import BadFileError, UserError

Encode = Callable[..., bytes]
SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(
    path: Path, encode: Encode, labels: Sequence[Any], *, struct: bool = True, metadata: dict[str, str] | None = None
) -> Path:
    data = [encode(seed) for seed in range(len(labels))]
    images = [{"bytes": image, "path": None} for image in data] if struct else data
    path.parent.mkdir(parents=True, exist_ok=True)
    table = arrow.table({"image": images, "label": labels})
    parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
    return path


def hugging_face(names: Sequence[str]) -> dict[str, str]:
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


@pytest.mark.parametrize("struct", [True, False])
def test_numbers_strings_and_named_labels(tmp_path: Path, encode: Encode, struct: bool) -> None:
    numbers = [0, 1] * 10
    words = ["cat", "ant"] * 10
    plain = load_dataset(write(tmp_path / "plain.parquet", encode, numbers, struct=struct))
    assert plain.class_names == ("0", "1")
    named = load_dataset(write(tmp_path / "named.parquet", encode, numbers, metadata=hugging_face(["cat", "ant"])))
    assert named.class_names == ("cat", "ant")
    lines = load_dataset(write(tmp_path / "lines.parquet", encode, numbers, metadata={"label_names": "cat\nant"}))
    assert lines.class_names == ("cat", "ant")
    spelt = load_dataset(write(tmp_path / "spelt.parquet", encode, words, struct=struct))
    assert spelt.class_names == ("ant", "cat")
    assert (named.train.labels == 1 - spelt.train.labels).sum() > 0
    assert len(plain.train) + len(plain.validation) + len(plain.test) == 20
    assert plain.name == "plain"


def test_dictionary_and_gapped_labels(tmp_path: Path, encode: Encode) -> None:
    images = [encode(seed) for seed in range(10)]
    table = arrow.table({"image": images, "label": arrow.array(["b", "a"] * 5).dictionary_encode()})
    parquet.write_table(table, tmp_path / "d.parquet")
    assert load_dataset(tmp_path / "d.parquet").class_names == ("a", "b")
    gaps = load_dataset(write(tmp_path / "g.parquet", encode, [3, 7] * 5))
    assert gaps.class_names == ("3", "7")
    assert set(gaps.train.labels.tolist()) == {0, 1}


def test_a_folder_of_split_files(tmp_path: Path, encode: Encode) -> None:
    write(tmp_path / "set/data/train-00000-of-00002.parquet", encode, [0, 1] * 5)
    write(tmp_path / "set/data/train-00001-of-00002.parquet", encode, [0, 1] * 6)
    write(tmp_path / "set/data/test-00000-of-00001.parquet", encode, [1, 0, 1])
    ds = load_dataset(tmp_path / "set", storage_size=6)
    assert ds.name == "set"
    assert (len(ds.train) + len(ds.validation), len(ds.test)) == (22, 3)
    assert ds.test.labels.tolist() == [1, 0, 1]
    assert ds.test.pixels.shape == (3, 3, 6, 6)


def test_columns_can_be_named(tmp_path: Path, encode: Encode) -> None:
    images = [encode(seed) for seed in range(12)]
    columns = {"left": images, "right": images[::-1], "kind": [0, 1] * 6, "size": [5, 6] * 6}
    parquet.write_table(arrow.table(columns), tmp_path / "two.parquet")
    with pytest.raises(BadFileError, match=r"two\.parquet has several possible image columns \(left, right\)"):
        load_dataset(tmp_path / "two.parquet")
    with pytest.raises(BadFileError, match=r"two\.parquet has several possible label columns \(kind, size\)"):
        load_dataset(tmp_path / "two.parquet", image_column="left")
    with pytest.raises(BadFileError, match="has no image column 'kind'"):
        load_dataset(tmp_path / "two.parquet", image_column="kind")
    ds = load_dataset(tmp_path / "two.parquet", image_column="right", label_column="size")
    assert ds.class_names == ("5", "6")


def test_bad_rows_are_told(tmp_path: Path, encode: Encode) -> None:
    names = hugging_face(["cat", "ant"])
    with pytest.raises(BadFileError, match=r"high\.parquet, row 4 has the label 2, which is none of the 2 classes"):
        load_dataset(write(tmp_path / "high.parquet", encode, [0, 1, 0, 1, 2], metadata=names))
    with pytest.raises(BadFileError, match=r"low\.parquet, row 0 has the label -1"):
        load_dataset(write(tmp_path / "low.parquet", encode, [-1, 1, 0, 1], metadata=names))
    with pytest.raises(BadFileError, match=r"none\.parquet, row 2 has no label"):
        load_dataset(write(tmp_path / "none.parquet", encode, [0, 1, None, 1]))
    for name, cell, complaint in (("gone", None, "holds no image bytes"), ("torn", b"\x89PNG", "not a readable image")):
        images: list[bytes | None] = [encode(seed) for seed in range(300)]
        images[299] = cell
        parquet.write_table(arrow.table({"image": images, "label": [0, 1] * 150}), tmp_path / f"{name}.parquet")
        with pytest.raises(BadFileError, match=rf"{name}\.parquet, row 299.*{complaint}"):
            load_dataset(tmp_path / f"{name}.parquet")


def test_bad_files_are_told(tmp_path: Path, encode: Encode) -> None:
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(BadFileError, match=r"text\.parquet is not a readable parquet file"):
        load_dataset(tmp_path / "text.parquet")
    parquet.write_table(arrow.table({"label": [0, 1]}), tmp_path / "blind.parquet")
    with pytest.raises(BadFileError, match=r"blind\.parquet has no image column; its columns are label"):
        load_dataset(tmp_path / "blind.parquet")
    parquet.write_table(arrow.table({"image": [encode(0)]}), tmp_path / "mute.parquet")
    with pytest.raises(BadFileError, match=r"mute\.parquet has no label column"):
        load_dataset(tmp_path / "mute.parquet")
    with pytest.raises(UserError, match="one class, '5'"):
        load_dataset(write(tmp_path / "single.parquet", encode, [5] * 9))
    empty = arrow.table({"image": arrow.array([], arrow.binary()), "label": arrow.array([], arrow.int64())})
    parquet.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(UserError, match=r"empty\.parquet: the train split holds no image"):
        load_dataset(tmp_path / "empty.parquet")


def test_bad_sets_of_files_are_told(tmp_path: Path, encode: Encode) -> None:
    write(tmp_path / "a/train.parquet", encode, [0, 1] * 5)
    write(tmp_path / "a/test.parquet", encode, [0, 2])
    with pytest.raises(BadFileError, match=r"test\.parquet, row 1 has the label 2, which is none of the 2 classes"):
        load_dataset(tmp_path / "a")
    parquet.write_table(arrow.table({"picture": [encode(0)], "label": [0]}), tmp_path / "a/test.parquet")
    with pytest.raises(BadFileError, match=r"test\.parquet has no column 'image' as the training files do"):
        load_dataset(tmp_path / "a")
    empty = arrow.table({"image": arrow.array([], arrow.binary()), "label": arrow.array([], arrow.int64())})
    parquet.write_table(empty, tmp_path / "a/test.parquet")
    with pytest.raises(UserError, match="the test split holds no image"):
        load_dataset(tmp_path / "a")
    write(tmp_path / "a/more.parquet", encode, [0, 1])
    with pytest.raises(UserError, match=r"more\.parquet bears no split's name"):
        load_dataset(tmp_path / "a")
    write(tmp_path / "b/test-0.parquet", encode, [0, 1])
    write(tmp_path / "b/val-0.parquet", encode, [0, 1])
    with pytest.raises(UserError, match="no parquet file for training"):
        load_dataset(tmp_path / "b")


def test_a_damaged_page_names_the_file(tmp_path: Path, encode: Encode) -> None:
    path = write(tmp_path / "torn.parquet", encode, [0, 1] * 100)
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"torn\.parquet"):
        load_dataset(path, storage_size=8)


@pytest.mark.skipif(not (SHARED / "cifar10").exists(), reason="../shared/data/cifar10 is absent")
def test_cifar10_parquet_files() -> None:
    ds = load_dataset("cifar10", root=SHARED / "cifar10")
    assert (ds.name, ds.class_names[0], ds.class_names[9]) == ("cifar10", "airplane", "truck")
    for images, per_class in ((ds.train, 4500), (ds.validation, 500), (ds.recalibration, 200), (ds.test, 1000)):
        assert images.pixels.shape == (per_class * 10, 3, 32, 32)
        assert images.labels.bincount().tolist() == [per_class] * 10
    assert ds.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.002)
