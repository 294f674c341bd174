"""Data sets and augmentation.

The names below are imported on first use, since torch takes seconds: ``import hwnas.data`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.data.dataset import Dataset as Dataset
    from hwnas.data.dataset import ImageSet as ImageSet
    from hwnas.data.dataset import to_input as to_input
    from hwnas.data.loading import load_dataset as load_dataset

_HOMES = {
    "Dataset": "hwnas.data.dataset",
    "ImageSet": "hwnas.data.dataset",
    "to_input": "hwnas.data.dataset",
    "load_dataset": "hwnas.data.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
