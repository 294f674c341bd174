"""What is fine-tuned: an architecture of a supernet, however it is named."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hwnas.data.tasks import AnyDataset, load_for
from hwnas.errors import UserError
from hwnas.files import read_model
from hwnas.pipeline.config import CONFIG_FILE, RunConfig
from hwnas.pipeline.documents import WinnerDocument
from hwnas.pipeline.networks import open_supernet, read_architecture
from hwnas.pipeline.training import DEFAULT_SPACE, require_supernet
from hwnas.progress import Progress
from hwnas.spaces import Architecture, Space, get_space, without_precision
from hwnas.supernet import ElasticNetwork

DEFAULT_DATA = "fashion-mnist"
WINNER_FILE = "winner.json"


@dataclass(frozen=True)
class Chosen:
    """An architecture, the weights that it has, and the data that both are for."""

    space: Space
    architecture: Architecture
    supernet_directory: Path
    dataset: AnyDataset
    tables: Path = Path("latency_tables")
    """Directory of the latency tables that it was searched with."""

    @cached_property
    def supernet(self) -> ElasticNetwork:
        """The trained weights.

        Raises:
            BadFileError: they are missing or corrupt.
            UserError: they are of another space, or were trained on other classes.
        """
        return open_supernet(self.supernet_directory, self.space, self.dataset)


def choose(
    text: str,
    progress: Progress,
    *,
    space: str | None = None,
    data: str | None = None,
    data_root: Path | None = None,
    supernet: Path | None = None,
) -> Chosen:
    """The architecture that users name, with its weights and data.

    Args:
        text: as of :func:`read_architecture`, or the directory of a finished run, whose winner it then is.
        space, data, data_root, supernet: by default those of the run, or the ones of a first try.

    Raises:
        BadFileError: a file is missing or wrong.
        UnknownNameError: there is no such space or data set.
        UserError: there is no such candidate, or no weights for the space and the data.
    """
    directory = Path(text)
    if not directory.is_dir():
        named = space or DEFAULT_SPACE
        dataset = load_for(get_space(named), data or DEFAULT_DATA, root=data_root, progress=progress)
        searched = get_space(named, dataset.num_classes)
        architecture = without_precision(read_architecture(searched, text))
        return Chosen(searched, architecture, supernet or require_supernet(searched.name, dataset), dataset)
    if not (directory / WINNER_FILE).exists():
        raise UserError(f"{directory} is no finished run (it has no {WINNER_FILE}); finish it, or give SEARCH:ID.")
    run = read_model(directory / CONFIG_FILE, RunConfig, what="run configuration")
    winner = read_model(directory / WINNER_FILE, WinnerDocument, what="winner")
    root = data_root or (Path(run.data_root) if run.data_root else None)
    named = space or run.space
    dataset = load_for(get_space(named), data or run.dataset, root=root, progress=progress)
    searched = get_space(named, dataset.num_classes)
    trained = directory / "supernet"
    own = Path(run.supernet) if run.supernet else trained if trained.is_dir() else None
    weights = supernet or own or require_supernet(searched.name, dataset)
    architecture = searched.decode(searched.encode([Architecture.from_json(winner.architecture)]))[0]
    return Chosen(searched, architecture, weights, dataset, run.searched_tables(directory))
