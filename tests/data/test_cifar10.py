from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.data import cifar10, load_dataset
from hwnas.errors import BadFileError, UserError
from hwnas.files import sha256_of


def write_archive(directory: Path, monkeypatch: pytest.MonkeyPatch, *, records: int = 20) -> np.ndarray:
    """An archive of the official layout with few random images; returns its records [5 or 1 batches, n, 3073]."""
    rng = np.random.default_rng(0)
    batches = rng.integers(0, 256, (6, records, 3073), dtype=np.uint8)
    batches[:, :, 0] = np.arange(records) % 10
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    path = directory / cifar10.ARCHIVE.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, batch in zip(names, batches, strict=True):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = batch.nbytes
            archive.addfile(member, io.BytesIO(batch.tobytes()))
    monkeypatch.setattr(cifar10, "ARCHIVE", replace(cifar10.ARCHIVE, sha256=sha256_of(path)))
    monkeypatch.setattr(cifar10, "_RECORDS", 20)
    return batches


def test_the_binary_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = write_archive(tmp_path, monkeypatch)
    ds = load_dataset("cifar10", root=tmp_path)
    assert (ds.name, ds.num_classes, ds.class_names[6]) == ("cifar10", 10, "frog")
    assert torch.equal(ds.test.pixels, torch.from_numpy(batches[5, :, 1:].reshape(-1, 3, 32, 32)))
    assert ds.test.labels.tolist() == [n % 10 for n in range(20)]
    assert ds.train.labels.bincount().tolist() == [9] * 10
    assert ds.validation.labels.bincount().tolist() == [1] * 10
    images = {record[1:].tobytes(): int(record[0]) for record in batches[:5].reshape(-1, 3073)}
    for split in (ds.train, ds.validation):
        for image, label in zip(split.pixels, split.labels, strict=True):
            assert images.pop(image.numpy().tobytes()) == label
    assert images == {}


def test_an_earlier_download_is_found(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(cache / "cifar10", monkeypatch)
    assert len(load_dataset("cifar10").test) == 20


def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path, monkeypatch)
    with (tmp_path / cifar10.ARCHIVE.name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BadFileError, match="is not the official archive"):
        load_dataset("cifar10", root=tmp_path)


def test_short_batches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path, monkeypatch, records=19)
    with pytest.raises(BadFileError, match=r"data_batch_1\.bin has 58387 bytes, not 61460"):
        load_dataset("cifar10", root=tmp_path)


def test_what_is_absent_is_told_with_the_ways_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--download.*--data-root"):
        load_dataset("cifar10")
    with pytest.raises(BadFileError, match=r"holds neither cifar-10-binary\.tar\.gz nor parquet files"):
        load_dataset("cifar10", root=tmp_path)
