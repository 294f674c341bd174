"""The steps of a run, in order."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from hwnas.detection.evaluation import coco_tools
from hwnas.devices import RuntimeChoice
from hwnas.errors import UserError
from hwnas.latency import load_table
from hwnas.pipeline.documents import Summary
from hwnas.pipeline.run.benchmarks import benchmark_winner
from hwnas.pipeline.run.finetuning import check_finetuning, finetune_winner
from hwnas.pipeline.run.preparation import choose_budget, provide_supernet, provide_table
from hwnas.pipeline.run.reporting import report_results
from hwnas.pipeline.run.run import Run
from hwnas.pipeline.run.search import RunSearch
from hwnas.pipeline.run.winner import choose_winner
from hwnas.spaces import get_space
from hwnas.training.tasks import task_of

log = logging.getLogger(__name__)


def execute(run: Run) -> Summary:
    """Do what is not done yet of a run, and return its figures.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budget.
        UserError: a name or file that the configuration gives is wrong; nothing is left half-written.
    """
    _check(run)
    # The idle threads of torch spin, and would take the cores from ONNX Runtime and from whatever is measured.
    torch.set_num_threads(run.config.threads)
    with run.opened():
        log.info("run: %s on %s with %s", run.space.name, run.target.name, run.dataset.name)
        provide_supernet(run)
        provide_table(run)
        choose_budget(run)
        search = RunSearch(run)
        search.execute()
        choose_winner(run, search)
        benchmark_winner(run)
        finetune_winner(run)
        return report_results(run, search)


def _check(run: Run) -> None:
    """Look at every name and file of the configuration.

    This is before anything is written, so that a typing error leaves no directory behind.
    """
    config = run.config
    options = RuntimeChoice(precision=config.precision).options(run.target)
    check_finetuning(config)
    if get_space(config.space).task == "detection":
        coco_tools()
        if options.precision != "fp32":
            raise UserError(
                f"Detectors are searched and measured in fp32 alone, and {config.target} would run them in "
                f"{options.precision}; give --precision fp32."
            )
    run.search_options  # noqa: B018
    if config.supernet and config.options:
        raise UserError("Tuned options are for training a supernet; give either them or a trained supernet.")
    if run.trains_supernet:
        task_of(run.space, run.dataset, run.training_config)
    else:
        run.supernet  # noqa: B018
    if config.table:
        load_table(Path(config.table))
    run.constraints  # noqa: B018
