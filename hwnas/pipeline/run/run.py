"""What a run is asked for, and what its steps share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from hwnas.data.tasks import AnyDataset, load_for
from hwnas.devices import Arrival, CompileOptions, Device, RuntimeChoice, Target, informed, load_target, open_device
from hwnas.files import locked, read_model
from hwnas.pipeline.budgets import open_constraints
from hwnas.pipeline.chosen import WINNER_FILE
from hwnas.pipeline.config import RunConfig, freeze_config
from hwnas.pipeline.documents import BudgetChoice, WinnerDocument
from hwnas.pipeline.latency import LoadedTable, open_table
from hwnas.pipeline.logs import log_file
from hwnas.pipeline.networks import open_supernet
from hwnas.pipeline.precision import CALIBRATION
from hwnas.pipeline.steps import Steps
from hwnas.pipeline.training import find_supernet, read_settings, training_config
from hwnas.progress import Progress, Silent
from hwnas.search import Budget, SearchOptions
from hwnas.search.constraints import Constraint
from hwnas.spaces import Architecture, Space, get_space
from hwnas.supernet import ElasticNetwork
from hwnas.supernet.checkpoint import WEIGHTS_FILE
from hwnas.training import TrainingConfig


class Run:
    """One run in a directory; what it works with is opened when it is first needed.

    Attributes:
        device: the target's, while the run is :meth:`opened`.
    """

    device: Device

    def __init__(self, directory: Path, config: RunConfig, progress: Progress | None = None) -> None:
        self.directory = directory
        self.config = config
        self.progress = progress or Silent()
        self.steps = Steps(directory)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the directory and the device for this process alone.

        Raises:
            UserError: another process holds the directory, or it is of another run.
        """
        with locked(self.directory), log_file(self.directory / "log.txt"), open_device(self.target) as self.device:
            freeze_config(self.directory, self.config)
            yield

    # --- what is searched -----------------------------------------------------------------------------------

    @cached_property
    def dataset(self) -> AnyDataset:
        """The data set, which is for the space's task."""
        config = self.config
        root = Path(config.data_root) if config.data_root else None
        space = get_space(config.space)
        return load_for(space, config.dataset, root=root, download=config.download, progress=self.progress)

    @cached_property
    def space(self) -> Space:
        """The space, with the data set's number of classes."""
        return get_space(self.config.space, self.dataset.num_classes)

    @cached_property
    def search_options(self) -> SearchOptions:
        """How candidates are proposed."""
        config = self.config
        return SearchOptions(strategy=config.strategy, evaluations=config.evaluations, seed=config.seed)

    @cached_property
    def supernet_directory(self) -> Path:
        """Where the weights are, or will be when they are trained."""
        own = self.directory / "supernet"
        if self.config.supernet:
            return Path(self.config.supernet)
        if self.config.options:
            return own
        return find_supernet(self.space.name, self.dataset) or own

    @property
    def trains_supernet(self) -> bool:
        """Whether the weights are the run's own."""
        return self.supernet_directory == self.directory / "supernet"

    @cached_property
    def training_config(self) -> TrainingConfig:
        """How a supernet is trained, if one is."""
        options = Path(self.config.options) if self.config.options else None
        settings = read_settings(None, options) | {"epochs": self.config.train_epochs, "seed": self.config.seed}
        return training_config(settings, options)

    @property
    def weights_path(self) -> Path:
        """The file of the trained weights."""
        return self.supernet_directory / WEIGHTS_FILE

    @cached_property
    def supernet(self) -> ElasticNetwork:
        """The trained weights."""
        return open_supernet(self.supernet_directory, self.space, self.dataset)

    # --- on what, and within which limits -------------------------------------------------------------------

    @cached_property
    def target(self) -> Target:
        """What is searched for."""
        return load_target(self.config.target)

    @cached_property
    def options(self) -> CompileOptions:
        """How models are compiled and run."""
        asked = RuntimeChoice(precision=self.config.precision).options(self.device.target)
        return informed(asked, self.device.fingerprint(asked))

    @cached_property
    def arrival(self) -> Arrival:
        """How runs follow each other."""
        return Arrival(self.config.fps)

    @cached_property
    def latency(self) -> LoadedTable:
        """The table and the model fitted to it."""
        path = Path(self.config.table) if self.config.table else self.steps.output("profile", ".json")
        return open_table(
            self.device,
            self.space,
            path,
            statistic=self.config.statistic,
            arrival=self.arrival,
            allow_stale=self.config.allow_stale,
            options=self.options,
        )

    @property
    def budget_path(self) -> Path:
        """The file of the latency budget."""
        return self.directory / "budget.json"

    @cached_property
    def budget_choice(self) -> BudgetChoice:
        """The limit on the latency, and where it is from, once it is chosen."""
        return read_model(self.budget_path, BudgetChoice, what="budget")

    @cached_property
    def budget(self) -> Budget:
        """The latency budget."""
        return Budget.on(
            self.device.target,
            self.budget_choice.limit_ms,
            statistic=self.config.statistic,
            confidence=self.config.confidence,
            arrival=self.arrival,
        )

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """Further budgets; only predictions are known of them."""
        config = self.config
        return open_constraints(
            config.budgets, self.space, Path(config.tables), statistic=config.statistic, confidence=config.confidence
        )

    # --- what was found -------------------------------------------------------------------------------------

    @property
    def winner_path(self) -> Path:
        """The file of the winner."""
        return self.directory / WINNER_FILE

    @cached_property
    def winner(self) -> WinnerDocument:
        """The winner and what is promised of it, once it is chosen."""
        return read_model(self.winner_path, WinnerDocument, what="winner")

    @cached_property
    def winner_architecture(self) -> Architecture:
        """The winner's choices."""
        return Architecture.from_json(self.winner.architecture)

    # --- what steps depend on -------------------------------------------------------------------------------

    @property
    def limited(self) -> dict[str, object]:
        """What the budget limits."""
        return {"statistic": self.config.statistic, "fps": self.config.fps, "gated": self.device.target.shared}

    @property
    def precise(self) -> dict[str, object]:
        """What is other than in FP32; nothing in FP32."""
        return self.converted(self.options.precision)

    def converted(self, precision: str) -> dict[str, object]:
        """What a network's form in a precision depends on; nothing in FP32."""
        if precision == "fp32":
            return {}
        return {"precision": precision, "remainder": self.options.remainder, "calibration": CALIBRATION}
