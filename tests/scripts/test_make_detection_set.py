"""The detection data set that is made out of pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwnas.data import load_dataset
from hwnas.data.detection import NO_OBJECT, load_detection
from hwnas.errors import UserError
from hwnas.files import sha256_of
from tests.rectangles import make_set

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import make_detection_set as script


@pytest.fixture
def backgrounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("sand", "sea") * 3):
        (tmp_path / "scenes" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "scenes" / name / f"{number}.png")
    return tmp_path / "scenes"


RECIPE = script.Recipe({"train": 6, "val": 3, "test": 3}, side=48)


def test_it_is_a_detection_data_set_and_the_same_again(backgrounds: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        script.make(backgrounds, tmp_path / name, RECIPE)
    found = load_detection(tmp_path / "one")
    assert found.class_names == load_dataset("fashion-mnist").class_names
    assert [len(split) for split in (found.train, found.validation, found.test)] == [6, 3, 3]
    present = found.train.boxes[found.train.labels != NO_OBJECT]
    assert len(present) >= 6
    sides = (present[:, 2:] - present[:, :2]).max(1).values / 48
    assert ((sides > 0.15) & (sides < 0.65)).all()
    for file in sorted((tmp_path / "one").rglob("*.*")):
        assert sha256_of(file) == sha256_of(tmp_path / "two" / file.relative_to(tmp_path / "one"))
    other = script.Recipe(RECIPE.pictures, RECIPE.side, seed=1)
    script.make(backgrounds, tmp_path / "three", other)
    assert not torch.equal(load_detection(tmp_path / "three").train.pixels, found.train.pixels)


def test_boxes_touch_the_garment_on_all_sides() -> None:
    rng = np.random.default_rng(0)
    garment = np.zeros((28, 28), np.uint8)
    garment[5:20, 8:15] = 200
    garment[8:10, 10:12] = 0  # a hole is part of the garment
    for _ in range(20):
        colours, mask = script.cut_out(garment, 64, rng)
        assert colours.shape[:2] == mask.shape
        assert mask.all()
        assert mask.shape[0] / mask.shape[1] == pytest.approx(15 / 7, rel=0.15)


def test_it_does_not_write_over_a_set_and_wants_enough_scenes(backgrounds: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a data set already"):
        script.make(backgrounds, tmp_path / "out", RECIPE)
    for file in sorted(backgrounds.rglob("*.png"))[:-2]:
        file.unlink()
    (backgrounds / "sand").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=r"holds no image|at least one for each|needs at least two"):
        script.make(backgrounds, tmp_path / "new", RECIPE)


@pytest.mark.parametrize(
    ("backgrounds", "message"),
    [("nowhere", "is no parquet file; give"), ("boxes", "is a detection data set, and only data of classifiers")],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backgrounds: str,
    message: str,
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    make_set(tmp_path / "boxes")
    monkeypatch.setattr(sys, "argv", ["make_detection_set", str(tmp_path / backgrounds), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        script.main()
    told = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert told.startswith(f"make_detection_set: {tmp_path / backgrounds} {message}")
    assert "\n" not in told
    assert not (tmp_path / "out").exists()
