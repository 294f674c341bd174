"""The steps that give what a search needs: a supernet, a latency table and a budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwnas.files import sha256_of, write_json
from hwnas.latency import ProfileOptions, profile
from hwnas.pipeline.documents import BudgetChoice
from hwnas.pipeline.run.run import Run
from hwnas.pipeline.training import train_supernet
from hwnas.supernet.checkpoint import RECORD_FILE

BUDGET_SAMPLE = 10_000


def provide_supernet(run: Run) -> None:
    """Train a supernet, unless there is one."""
    if not run.trains_supernet:
        return
    directory, config = run.supernet_directory, run.training_config
    run.steps.do(
        "supernet",
        {"space": run.space.name, "dataset": run.dataset.fingerprint, "config": config.model_dump(mode="json")},
        lambda: [run.weights_path, directory / RECORD_FILE],
        lambda: train_supernet(directory, run.space.name, run.dataset, config, run.progress),
    )


def provide_table(run: Run) -> None:
    """Profile the device, unless there is a table.

    Raises:
        UserError, StaleTableError: the table that there is, is a wrong one.
    """
    config = run.config
    if config.table:
        run.latency  # noqa: B018 - a wrong table is refused now
        return
    written: list[Path] = []

    def measure() -> None:
        options = ProfileOptions(
            minutes=config.minutes,
            seed=config.seed,
            statistic=config.statistic,
            fps=config.fps,
            compile=run.options,
        )
        root = run.directory / "latency_tables"
        written.append(profile(run.device, run.space, root, options, run.progress)[1])

    inputs = {
        "space": run.space.name,
        "classes": run.space.num_classes,
        "minutes": config.minutes,
        "seed": config.seed,
        "device": run.device.fingerprint(run.options).identity8,
        **run.precise,
        **run.limited,
    }
    run.steps.do("profile", inputs, lambda: written, measure)


def choose_budget(run: Run) -> None:
    """Take the latency budget that was given, or what the median architecture takes."""
    config = run.config

    def choose() -> None:
        if config.budget_ms is not None:
            choice = BudgetChoice(limit_ms=config.budget_ms, source="given")
        else:
            genomes = run.space.sample(np.random.default_rng(config.seed), BUDGET_SAMPLE)
            median = float(np.median(run.latency.model.predict(genomes)[0]))
            source = f"median prediction for {BUDGET_SAMPLE} random architectures"
            choice = BudgetChoice(limit_ms=float(f"{median:.3g}"), source=source)
        write_json(run.budget_path, choice)

    inputs = {
        "budget_ms": config.budget_ms,
        "table": sha256_of(run.latency.path),
        "seed": config.seed,
        **run.limited,
    }
    run.steps.do("budget", inputs, lambda: [run.budget_path], choose)
