"""What a fine-tuning's networks are measured to be worth, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwnas.data.tasks import AnyDataset
from hwnas.pipeline.finetuned import Made, NetworkFigures, Timed
from hwnas.pipeline.network_steps import Stage
from hwnas.pipeline.networks import export_network
from hwnas.pipeline.pruning import Pruner
from hwnas.search import ExportedCandidate
from hwnas.search.finalists import PROMISE_BUILDS
from hwnas.training.validation import network_score


def figures_of(stages: Sequence[Stage], pruner: Pruner, dataset: AnyDataset, directory: Path) -> list[NetworkFigures]:
    """Accuracy and latency of each network, all measured in one sitting; the test images are read here alone.

    They are exported into ``directory`` in the precision of the target and measured on builds that had no part in any
    choice.
    """
    options, loaded, candidates = pruner.options, [stage.load() for stage in stages], []
    for stage, (network, record) in zip(stages, loaded, strict=True):
        path = model_path(directory, stage.made)
        export_network(network, record, dataset, path, options.precision, options.remainder)
        candidates.append(ExportedCandidate(record.identity, path.read_bytes(), record.score_validation))
    apart = replace(pruner, journal=directory / "promises.jsonl")
    measured = apart.measure(candidates, builds=promise_builds(pruner))
    return [
        NetworkFigures(
            made=stage.made,
            id=finalist.architecture.id,
            macs=sum(block.macs for block in record.network.blocks),
            params=sum(block.params for block in record.network.blocks),
            score_validation=record.score_validation,
            score_test=network_score(network, dataset, dataset.test),
            latency=Timed.of(finalist, gated=pruner.device.target.shared),
        )
        for stage, (network, record), finalist in zip(stages, loaded, measured, strict=True)
    ]


def promise_builds(pruner: Pruner) -> int:
    """Fresh ones of each network."""
    return max(pruner.builds, PROMISE_BUILDS)


def model_path(directory: Path, made: Made) -> Path:
    """The exported network."""
    return directory / "models" / f"{made}.onnx"
