"""The data set that the networks of a space are for."""

from __future__ import annotations

from pathlib import Path

from hwnas.data.dataset import Dataset
from hwnas.data.detection import DetectionDataset, is_coco, load_detection
from hwnas.data.loading import load_dataset
from hwnas.errors import UserError
from hwnas.progress import Progress
from hwnas.spaces import Space
from hwnas.spaces.bifpn import SUFFIX

AnyDataset = Dataset | DetectionDataset
"""Of any task."""


def require_task(space: Space, dataset: AnyDataset) -> None:
    """Refuse a data set that is for another task than a space, though it may have the same classes.

    Raises:
        UserError: it is.
    """
    if (space.task == "detection") != isinstance(dataset, DetectionDataset):
        raise UserError(
            f"Space {space.name} is for {space.task}, and the data set {dataset.name} is not; choose another."
        )


def load_for(
    space: Space,
    source: str | Path,
    *,
    root: Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> AnyDataset:
    """Open a data set of pictures with classes, or with boxes, as a space's task needs it.

    Args:
        source, root, download: as of :func:`hwnas.data.load_dataset`; a detection data set is a folder, whose
            pictures are stored no larger than the space's largest resolution.

    Raises:
        UserError: it is for another task, or cannot be opened.
    """
    if space.task == "detection":
        return _load_boxes(source, space.resolutions[-1], root, download, progress)
    if is_coco(Path(source).expanduser()):
        detectors = f"{space.family}{SUFFIX}/{space.preset}"
        raise UserError(f"{source} holds pictures with boxes; use the space of a detector, such as {detectors}.")
    return load_dataset(source, root=root, download=download, progress=progress)


def load_any(
    source: str | Path, most: int, *, root: Path | None = None, progress: Progress | None = None
) -> AnyDataset:
    """Open a data set of whichever task it is for.

    Args:
        source, root: as of :func:`hwnas.data.load_dataset`, or a detection data set's folder.
        most: pixels of the side that pictures with boxes are stored with at most.

    Raises:
        UserError: it cannot be opened.
    """
    if is_coco(Path(source).expanduser()):
        return _load_boxes(source, most, root, False, progress)
    return load_dataset(source, root=root, progress=progress)


def _load_boxes(
    source: str | Path, most: int, root: Path | None, download: bool, progress: Progress | None
) -> DetectionDataset:
    if root is not None or download:
        raise UserError("A detection data set is a folder; leave out the data root and the download.")
    return load_detection(Path(source).expanduser(), most=most, progress=progress)
