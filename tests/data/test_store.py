"""The cache of decoded images: quick the second time, whole or not there, made anew when the files change."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.data import load_dataset, store
from hwnas.data.decoding import Pixels
from hwnas.data.splits import SplitConfig
from hwnas.errors import BadFileError, UserError

MakeFolder = Callable[..., Path]


def stores(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "decoded").iterdir() if path.suffix != ".lock")


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    return make_folder({"cat": 12, "dog": 12})


def no_decoding(*_: object) -> None:
    raise AssertionError("decoded again")


def test_the_second_load_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset(root)
    monkeypatch.setattr("hwnas.data.folder.decode_all", no_decoding)
    second = load_dataset(root)
    assert second.fingerprint == first.fingerprint
    assert (second.mean, second.std) == (first.mean, first.std)
    for split in ("train", "validation", "recalibration", "test"):
        assert torch.equal(getattr(first, split).pixels, getattr(second, split).pixels)
        assert torch.equal(getattr(first, split).labels, getattr(second, split).labels)


def test_changed_files_and_options_are_decoded_anew(root: Path, cache: Path) -> None:
    first = load_dataset(root)
    os.utime(root / "cat" / "000.png", (1, 1))
    touched = load_dataset(root)
    assert touched.fingerprint == first.fingerprint
    (root / "cat" / "000.png").unlink()
    assert load_dataset(root).fingerprint != first.fingerprint
    assert load_dataset(root, splits=SplitConfig(seed=5)).fingerprint != first.fingerprint
    assert len(stores(cache)) == 4


def test_the_fingerprint_is_of_content_not_of_place(root: Path, make_folder: MakeFolder) -> None:
    copy = make_folder({"cat": 12, "dog": 12}, name="elsewhere")
    assert load_dataset(copy).fingerprint == load_dataset(root).fingerprint
    other = make_folder({"cat": 12, "dog": 12}, name="others", first_seed=1)
    assert load_dataset(other).fingerprint != load_dataset(root).fingerprint


def test_splits_are_read_one_by_one(root: Path, cache: Path) -> None:
    load_dataset(root)
    (stores(cache)[0] / "train.pixels.npy").write_bytes(b"torn")
    ds = load_dataset(root)
    assert len(ds.validation) == 2
    with pytest.raises(BadFileError, match=r"train\.pixels\.npy is damaged.*delete the directory"):
        _ = ds.train


def test_writing_to_the_images_leaves_the_cache_alone(root: Path) -> None:
    ds = load_dataset(root)
    before = ds.train.pixels.clone()
    ds.train.pixels.zero_()
    assert torch.equal(load_dataset(root).train.pixels, before)


@pytest.mark.parametrize("damage", ["cut", "pickle", "other shape", "manifest"])
def test_damaged_stores_are_refused(root: Path, cache: Path, damage: str) -> None:
    load_dataset(root)
    path = stores(cache)[0] / "test.pixels.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "other shape":
        np.save(path, np.zeros((1, 3, 12, 12), np.uint8))
    else:
        (path.parent / "manifest.json").write_text('{"schema": 2}')
    with pytest.raises(BadFileError, match=r"delete the directory|manifest\.json"):
        _ = load_dataset(root).test


def test_a_full_disk_leaves_nothing_behind(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, room = store._SplitWriter.add, [5]

    def add_until_full(self: store._SplitWriter, image: Pixels) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, image)

    monkeypatch.setattr(store._SplitWriter, "add", add_until_full)
    with pytest.raises(UserError, match="is full; free some space"):
        load_dataset(root)
    assert stores(cache) == []


def test_progress_counts_every_image(root: Path) -> None:
    told: list[float] = []

    class Recorder:
        def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
            told.extend([total, 0])

        def advance(self, amount: float = 1.0, note: str = "") -> None:
            told[1] += amount

        def finish(self) -> None:
            told.append(-1)

    load_dataset(root, progress=Recorder())
    assert told == [24, 24, -1]


KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from hwnas.data import load_dataset, store
    add, left = store._SplitWriter.add, [int(sys.argv[2])]
    def add_until_killed(self, image):
        add(self, image)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    store._SplitWriter.add = add_until_killed
    load_dataset(sys.argv[1])
    """
)


def test_a_killed_process_leaves_nothing_that_is_taken_for_a_store(root: Path, cache: Path) -> None:
    for survived in (1, 13, 24):
        done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(survived)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert all(path.suffix == ".part" for path in stores(cache))
    ds = load_dataset(root)
    assert len(ds.train) + len(ds.validation) + len(ds.test) == 24
    assert len(stores(cache)) == 1


def test_processes_that_start_together_agree(root: Path, cache: Path) -> None:
    code = "import sys; from hwnas.data import load_dataset; print(load_dataset(sys.argv[1]).fingerprint)"
    command = [sys.executable, "-c", code, str(root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate()[0] for process in running}
    assert found == {load_dataset(root).fingerprint + "\n"}
    assert len(stores(cache)) == 1
