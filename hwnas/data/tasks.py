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
    path = Path(source).expanduser()
    if space.task == "detection":
        if root is not None or download:
            raise UserError("A detection data set is a folder; leave out the data root and the download.")
        return load_detection(path, most=space.resolutions[-1], progress=progress)
    if is_coco(path):
        detectors = f"{space.family}{SUFFIX}/{space.preset}"
        raise UserError(f"{source} holds pictures with boxes; use the space of a detector, such as {detectors}.")
    return load_dataset(source, root=root, download=download, progress=progress)
