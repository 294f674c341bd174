"""Images made on the spot, and a cache directory of each test's own."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EncodeImage = Callable[..., bytes]
MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("HWNAS_CACHE", str(directory))
    return directory


@pytest.fixture
def encode() -> EncodeImage:
    """An image of random pixels as a PNG file's bytes; the seed decides the pixels."""

    def encode(seed: int = 0, size: tuple[int, int] = (12, 12)) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture
def make_folder(tmp_path: Path, encode: EncodeImage) -> MakeFolder:
    """A folder of class folders; ``classes`` says how many images each class has."""

    def make(classes: dict[str, int], name: str = "pictures", first_seed: int = 0) -> Path:
        root = tmp_path / name
        seed = first_seed
        for class_name, count in classes.items():
            (root / class_name).mkdir(parents=True)
            for number in range(count):
                (root / class_name / f"{number:03}.png").write_bytes(encode(seed))
                seed += 1
        return root

    return make
