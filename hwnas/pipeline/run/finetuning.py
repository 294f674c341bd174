"""``hwnas run --finetune-epochs``: its winner, trained further alone and made narrower, beside what was promised."""

from __future__ import annotations

from hwnas import report
from hwnas.errors import UserError
from hwnas.files import read_model, sha256_of
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.finetuned import FineTuningResult
from hwnas.pipeline.finetuning import FineTuning
from hwnas.pipeline.finetuning_options import Pruning, training_plan
from hwnas.pipeline.pruning import Limit
from hwnas.pipeline.run.run import Run
from hwnas.spaces import without_precision

PRUNING_ROUNDS = 3


def check_finetuning(config: RunConfig) -> Limit | None:
    """What is left of the winner's latency by pruning, if it is pruned.

    Raises:
        UserError: that is no limit, or what is asked for cannot be had together.
    """
    if config.finetune_epochs and config.fps:
        raise UserError("Fine-tuned networks are measured back to back; give --finetune-epochs without --fps.")
    if config.prune is None:
        return None
    if not config.finetune_epochs:
        raise UserError("A pruned network must learn again; give --prune with --finetune-epochs.")
    return Limit.parse(config.prune)


def finetune_winner(run: Run) -> None:
    """The step, where it is asked for: the winner trained further alone, and pruned, with a promise of its own."""
    config = run.config
    if not config.finetune_epochs:
        return
    tuning = _fine_tuning(run)
    inputs = {
        "winner": sha256_of(run.winner_path),
        "weights": sha256_of(run.weights_path),
        "training": tuning.plan.model_dump(mode="json"),
        "prune": config.prune,
        "builds": config.builds,
        "device": run.device.fingerprint(run.options).identity8,
        **run.precise,
        **run.limited,
    }
    run.steps.do("finetuning", inputs, lambda: tuning.outputs, tuning.execute)


def _fine_tuning(run: Run) -> FineTuning:
    """The fine-tuning of a run's winner, in a directory of its own."""
    config, limit = run.config, check_finetuning(run.config)
    plan = training_plan(run.supernet_directory, run.space.task, config.finetune_epochs, {"seed": config.seed})
    weights = sha256_of(run.weights_path)
    return FineTuning(
        run.directory / "finetuned" / f"{run.winner.id}-{weights[:8]}-{config.finetune_epochs:g}",
        Chosen(run.space, without_precision(run.winner_architecture), run.supernet_directory, run.dataset),
        plan,
        run.device,
        None if limit is None else Pruning(limit, PRUNING_ROUNDS, plan.config),
        statistic=config.statistic,
        builds=config.builds,
        tables=config.searched_tables(run.directory),
        options=run.options,
        progress=run.progress,
    )


def finetuned(run: Run) -> FineTuningResult | None:
    """What came of it; None where it was not asked for."""
    if not run.config.finetune_epochs:
        return None
    return read_model(_fine_tuning(run).result_path, FineTuningResult, what="result of a fine-tuning")


def finetuned_networks(result: FineTuningResult) -> tuple[report.FineTuned, ...]:
    """The networks for the page."""
    return tuple(
        report.FineTuned(
            made=network.made,
            id=network.id,
            figure_ms=network.latency.figure_ms,
            interval_ms=network.latency.interval_ms,
            ungated_p50_ms=network.latency.ungated_p50_ms,
            top1_validation=network.score_validation,
            top1_test=network.score_test,
            macs=network.macs,
            params=network.params,
        )
        for network in result.networks
    )
