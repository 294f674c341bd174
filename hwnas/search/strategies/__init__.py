"""Strategies: what proposes candidates.  Each is an NNI ``Strategy`` and deterministic given its seed and the metrics.

A search is resumed by running its strategy from the start and answering from the record what was evaluated before, so
a strategy keeps no state on disk.  A new strategy is a new file and one line in :data:`hwnas.search.STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from hwnas.search.options import STRATEGIES, SearchOptions

if TYPE_CHECKING:
    from hwnas.search.nni_setup import Strategy


def make_strategy(options: SearchOptions) -> Strategy:
    """The strategy that the options name."""
    module, _, function = STRATEGIES[options.strategy].partition(":")
    factory: Callable[[SearchOptions], Strategy] = getattr(import_module(module), function)
    return factory(options)
