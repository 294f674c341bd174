from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from hwnas.data import fashion_mnist, load_dataset
from hwnas.data.download import RemoteFile
from hwnas.data.fashion_mnist import DEBIAN_DIRECTORY, EMBEDDED_DIRECTORY, IDX_FILES
from hwnas.errors import BadFileError, UserError
from hwnas.files import sha256_of


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


needs_full = pytest.mark.skipif(
    not DEBIAN_DIRECTORY.exists(), reason="the Debian package dataset-fashion-mnist is not installed"
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the full set."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "absent")


@pytest.mark.usefixtures("nowhere")
def test_the_sample_serves_everything_but_training() -> None:
    ds = load_dataset("fashion-mnist")
    assert (ds.num_classes, ds.class_names[9]) == (10, "Ankle boot")
    for images, per_class in ((ds.validation, 500), (ds.recalibration, 200), (ds.test, 1000)):
        assert images.pixels.shape == (10 * per_class, 1, 28, 28)
        assert images.labels.bincount().tolist() == [per_class] * 10
    with pytest.raises(UserError, match=r"dataset-fashion-mnist.*--download"):
        _ = ds.train


def test_the_sample_is_small() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_DIRECTORY.iterdir()) <= 9_000_000


@needs_full
def test_the_sample_equals_the_full_set() -> None:
    ds = load_dataset("fashion-mnist")
    record = fashion_mnist.embedded_record()
    train = fashion_mnist.read_official(DEBIAN_DIRECTORY, fashion_mnist.TRAIN_IMAGES, fashion_mnist.TRAIN_LABELS)
    test = fashion_mnist.read_official(DEBIAN_DIRECTORY, fashion_mnist.TEST_IMAGES, fashion_mnist.TEST_LABELS)
    for images, chosen in ((ds.validation, record.validation), (ds.recalibration, record.recalibration)):
        assert torch.equal(images.pixels, train.pixels[chosen])
        assert torch.equal(images.labels, train.labels[chosen])
    assert torch.equal(ds.test.pixels, test.pixels)
    assert torch.equal(ds.test.labels, test.labels)


@needs_full
def test_committed_splits_are_the_seeded_ones() -> None:
    official = fashion_mnist.read_official(DEBIAN_DIRECTORY, fashion_mnist.TRAIN_IMAGES, fashion_mnist.TRAIN_LABELS)
    drawn = fashion_mnist.draw_splits(official.labels.numpy())
    record = fashion_mnist.embedded_record()
    assert drawn["validation"].tolist() == record.validation
    assert drawn["recalibration"].tolist() == record.recalibration
    assert set(record.validation).isdisjoint(record.recalibration)
    ds = load_dataset("fashion-mnist")
    assert torch.equal(ds.train.pixels, official.pixels[torch.from_numpy(drawn["train"])])
    assert torch.equal(ds.train.labels, official.labels[torch.from_numpy(drawn["train"])])
    assert len(ds.train) == 55_000


@needs_full
def test_mean_and_std_are_those_of_the_training_images() -> None:
    ds = load_dataset("fashion-mnist")
    scaled = ds.train.pixels.to(torch.float64) / 255
    assert ds.mean == pytest.approx([float(scaled.mean())] * 3, abs=1e-6)
    assert ds.std == pytest.approx([float(scaled.std(correction=0))] * 3, abs=1e-6)


@needs_full
@pytest.mark.parametrize(
    ("file", "written_at"), list(zip(IDX_FILES, (1504176606, 1504176606, 1504176627, 1504176627), strict=True))
)
def test_published_hashes_belong_to_the_packaged_content(file: fashion_mnist.IdxFile, written_at: int) -> None:
    """Debian took name and time out of the gzip headers; with both put back, the files are the published ones."""
    packed = (DEBIAN_DIRECTORY / file.remote.name).read_bytes()
    name = file.remote.name.removesuffix(".gz").encode() + b"\0"
    original = b"\x1f\x8b\x08\x08" + struct.pack("<I", written_at) + b"\x00\x03" + name + packed[10:]
    assert len(original) == file.remote.size
    assert hashlib.sha256(original).hexdigest() == file.remote.sha256


def test_training_images_are_not_read_unless_asked_for(tmp_path: Path) -> None:
    for file in IDX_FILES:
        (tmp_path / file.remote.name).write_bytes(b"not gzip")
    ds = load_dataset("fashion-mnist", root=tmp_path)
    assert len(ds.validation) == 5000
    with pytest.raises(BadFileError, match=r"train-images-idx3-ubyte\.gz is no whole gzip file"):
        _ = ds.train


@needs_full
def test_other_content_under_an_official_name_is_refused(tmp_path: Path) -> None:
    for file in IDX_FILES:
        (tmp_path / file.remote.name).symlink_to(DEBIAN_DIRECTORY / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(BadFileError, match="does not hold the official content"):
        _ = load_dataset("fashion-mnist", root=tmp_path).train


def test_a_root_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"holds no train-images-idx3-ubyte\.gz"):
        load_dataset("fashion-mnist", root=tmp_path)


def test_a_damaged_sample_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bytearray((EMBEDDED_DIRECTORY / "fashion_mnist.parquet").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "fashion_mnist.parquet").write_bytes(damaged)
    shutil.copy(EMBEDDED_DIRECTORY / "fashion_mnist.json", tmp_path)
    monkeypatch.setattr(fashion_mnist, "EMBEDDED_DIRECTORY", tmp_path)
    with pytest.raises(BadFileError, match=r"fashion_mnist\.parquet is damaged"):
        _ = load_dataset("fashion-mnist").validation


def test_the_fingerprint_does_not_depend_on_what_is_present(nowhere: None, tmp_path: Path) -> None:
    without = load_dataset("fashion-mnist").fingerprint
    for file in IDX_FILES:
        (tmp_path / file.remote.name).touch()
    assert load_dataset("fashion-mnist", root=tmp_path).fingerprint == without
    assert len(bytes.fromhex(without)) == 32


@needs_full
@pytest.mark.usefixtures("nowhere")
def test_the_full_set_is_downloaded_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(DEBIAN_DIRECTORY))) as server:
        for file in IDX_FILES:
            packaged = DEBIAN_DIRECTORY / file.remote.name
            url = f"http://127.0.0.1:{server.server_port}/{file.remote.name}"
            remote = RemoteFile(file.remote.name, (url,), sha256_of(packaged), packaged.stat().st_size)
            files.append(replace(file, remote=remote))
        monkeypatch.setattr(fashion_mnist, "IDX_FILES", tuple(files))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ds = load_dataset("fashion-mnist", download=True)
        server.shutdown()
        thread.join()
    assert sorted(path.name for path in (cache / "fashion-mnist").glob("*.gz")) == sorted(f.remote.name for f in files)
    assert len(ds.train) == 55_000
    assert len(load_dataset("fashion-mnist").train) == 55_000


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, hwnas.data; print([m for m in ('torch', 'pyarrow', 'PIL', 'kornia', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
