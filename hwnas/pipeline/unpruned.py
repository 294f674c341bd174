"""The subnet that a pruned network is to be compared with: one of the space that takes as long."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwnas.errors import UserError
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.latency import find_and_open_table
from hwnas.pipeline.networks import ready_subnet
from hwnas.pipeline.pruning import Pruner
from hwnas.spaces import Architecture
from hwnas.training.validation import network_score

SAMPLE = 10_000
EVALUATED = 8


def nearest_unpruned(pruner: Pruner, chosen: Chosen, tables: Path, limit_ms: float) -> Architecture | str:
    """Of the random subnets that a latency table says are nearest to a limit, the best on the validation images.

    Args:
        tables: directory of latency tables.

    Returns:
        The architecture, or in words why there is none.
    """
    device, space, dataset = pruner.device, chosen.space, chosen.dataset
    try:
        table = find_and_open_table(device, space, tables, statistic=pruner.statistic, options=pruner.options)
    except UserError as error:
        return str(error)
    genomes = space.sample(np.random.default_rng(0), SAMPLE)
    means, _ = table.model.predict(genomes)
    nearest = space.decode(genomes[np.argsort(np.abs(means - limit_ms), kind="stable")[:EVALUATED]])
    pruner.progress.start("Unpruned subnets", len(nearest), unit="subnets")
    scores = []
    for architecture in nearest:
        network = ready_subnet(chosen.supernet, architecture, dataset)
        scores.append(network_score(network, dataset, dataset.validation))
        pruner.progress.advance(note=f"{100 * scores[-1]:.2f} %")
    pruner.progress.finish()
    return nearest[int(np.argmax(scores))]
