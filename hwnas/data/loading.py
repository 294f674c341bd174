"""Opening a data set by its name or its path."""

from __future__ import annotations

from pathlib import Path

from hwnas.data.dataset import Dataset
from hwnas.data.fashion_mnist import load_fashion_mnist
from hwnas.errors import UnknownNameError
from hwnas.progress import Progress, Silent


def load_dataset(
    source: str | Path, *, root: Path | None = None, download: bool = False, progress: Progress | None = None
) -> Dataset:
    """Open a data set; its splits are read when first asked for."""
    if str(source) == "fashion-mnist":
        return load_fashion_mnist(root, download=download, progress=progress or Silent())
    raise UnknownNameError(f"There is no data set named {str(source)!r}.")
