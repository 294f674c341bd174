"""The data set that a space's networks are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.data import Dataset, load_dataset
from hwnas.data.tasks import load_any, load_for, require_task
from hwnas.errors import UserError
from hwnas.spaces import get_space
from tests.rectangles import make_set, write_split

DETECTORS = get_space("mobilenet_v3-bifpn/small")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))


def test_pictures_are_as_large_as_the_space_takes_them_and_no_larger(tmp_path: Path) -> None:
    assert load_for(DETECTORS, make_set(tmp_path / "small")).train.pixels.shape[2:] == (40, 40)
    for split in ("train", "val", "test"):
        write_split(tmp_path / "large", split, 2, size=(720, 60))
    assert load_for(DETECTORS, tmp_path / "large").train.pixels.shape[2:] == (96, 96)
    large = get_space("mobilenet_v3-bifpn/imagenet-w1.0")
    assert load_for(large, tmp_path / "large").train.pixels.shape[2:] == (640, 640)


def test_data_of_another_task_is_refused_with_what_to_take(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    with pytest.raises(UserError, match="use the space of a detector, such as mobilenet_v3-bifpn/small"):
        load_for(get_space("mobilenet_v3/small"), root)
    with pytest.raises(UserError, match="Space mobilenet_v3/small is for classification, and the data set set is not"):
        require_task(get_space("mobilenet_v3/small"), load_for(DETECTORS, root))
    with pytest.raises(UserError, match=r"There is no folder .*nowhere; a detection data set is a folder"):
        load_for(DETECTORS, tmp_path / "nowhere")


def test_data_of_detectors_is_none_of_classifiers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set is a detection data set, and only data of classifiers is of use here"):
        load_dataset(make_set(tmp_path / "set"))


def test_data_of_any_task_is_told_by_its_folder(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    assert load_any(root, 32).train.pixels.shape[2:] == (32, 32)
    with pytest.raises(UserError, match="leave out the data root"):
        load_any(root, 32, root=tmp_path)
    assert isinstance(load_any("fashion-mnist", 32), Dataset)
