"""What a run was asked for, frozen in its directory."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hwnas.errors import UserError
from hwnas.files import Document, read_model, write_json

CONFIG_FILE = "config.json"


class RunConfig(Document):
    """Everything that the result of ``hwnas run`` depends on, beside the device itself."""

    target: str
    space: str
    dataset: str
    data_root: str | None = None
    download: bool = False
    supernet: str | None = None
    """Directory of trained weights; None: those that come with hwnas if they fit, else they are trained."""
    train_epochs: int = Field(default=30, ge=1)
    options: str | None = None
    """``options.json`` of a tuning, to train with; then shipped weights are not used."""
    table: str | None = None
    """Latency table to search with; None: the device is profiled."""
    minutes: float = Field(default=10.0, gt=0)
    """Time for profiling."""
    budget_ms: float | None = Field(default=None, gt=0)
    """Limit on the latency; None: the median prediction over random architectures."""
    budgets: tuple[tuple[str, Annotated[float, Field(gt=0)]], ...] = ()
    """Further limits: of a quantity of the architecture, or of the latency (ms) on another target."""
    tables: str = "latency_tables"
    """Directory of the latency tables of other targets."""
    precision: str | None = None
    """In which networks are profiled, searched, exported and measured; None: the target's."""
    statistic: Literal["p50", "p99"] = "p50"
    """Of the latency, that the budget limits."""
    fps: float = Field(default=0.0, ge=0)
    """Frames a second that arrive; 0: runs back to back."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    strategy: str = "hwnas"
    evaluations: int = Field(default=48, ge=1)
    finalists: int = Field(default=5, ge=1)
    builds: int = Field(default=3, ge=1)
    """Fresh compilations of each finalist; the chosen one's promise rests on as many more, and on at least three."""
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    """CPU threads of torch in every step; accuracies depend on it in the last digit."""
    workers: int = Field(default=0, ge=0)
    """Processes that evaluate candidates at once; 0: the run's own alone.  What is found does not depend on it."""
    machines: str | None = None
    """YAML list of machines with workers, in place of ``workers``."""
    finetune_epochs: float = Field(default=0.0, ge=0)
    """Of further training of the winner alone; 0: none."""
    prune: str | None = None
    """What its latency is to come to by pruning, ms, or the share of it that is to go, such as ``30%``."""
    allow_stale: bool = False

    def searched_tables(self, run: Path) -> Path:
        """Directory of the latency tables that the run in a directory searches with."""
        return Path(self.table).parents[1] if self.table else run / "latency_tables"


FROZEN = ("target", "space", "dataset", "supernet", "seed")
"""What a run is of; everything else may be changed and redoes the steps that depend on it."""

_OPTION_NAMES = {"dataset": "data", "budget_ms": "budget"}


def freeze_config(directory: Path, config: RunConfig) -> None:
    """Write the configuration of a run, and check that an old run is still of the same thing.

    Raises:
        UserError: the directory holds a run of another target, space, data set, supernet or seed.
    """
    path = directory / CONFIG_FILE
    if path.exists():
        before = read_model(path, RunConfig, what="run configuration")
        for name in FROZEN:
            if getattr(before, name) != getattr(config, name):
                raise UserError(
                    f"{directory} is a run with {name} = {getattr(before, name)}, not {getattr(config, name)}; "
                    "give another --name to begin a new one."
                )
    write_json(path, config)


def command_line(name: str, config: RunConfig) -> str:
    """The command that gives this configuration."""
    words = ["hwnas", "run", "--name", name]
    defaults = RunConfig(target="", space="", dataset="")
    for field in RunConfig.model_fields:
        value = getattr(config, field)
        if value == getattr(defaults, field):
            continue
        if field == "budgets":
            words += [word for what, limit in config.budgets for word in ("--budget", f"{what}={limit:g}")]
            continue
        option = "--" + _OPTION_NAMES.get(field, field).replace("_", "-")
        words += [option] if value is True else [option, str(value)]
    return shlex.join(words)
