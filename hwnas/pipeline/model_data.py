"""The data set that an exported model is judged on."""

from __future__ import annotations

from pathlib import Path

from hwnas.data.tasks import AnyDataset, load_any
from hwnas.export import input_resolution, read_metadata
from hwnas.export.metadata import PREFIX
from hwnas.progress import Progress
from hwnas.spaces import get_space, space_names


def load_for_model(
    model: Path, source: str | Path, *, root: Path | None = None, progress: Progress | None = None
) -> AnyDataset:
    """Open a data set, its pictures as large as while the model was trained: what is scored is then the same.

    That is as large as the model's space has them; of a model of no known space, as its own input.

    Raises:
        BadFileError: there is no such model.
        UserError: the data set cannot be opened.
    """
    space = read_metadata(model).get(f"{PREFIX}space", "")
    most = get_space(space).resolutions[-1] if space in space_names("detection") else input_resolution(model)
    return load_any(source, most, root=root, progress=progress)
