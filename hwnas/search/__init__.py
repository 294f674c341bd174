"""Search: candidates that keep a latency budget, proposed by a strategy, evaluated with the supernet's weights.

NNI runs the experiment in this process; what was evaluated is on disk as it happens.  The names below are imported
on first use, since NNI, scikit-learn and torch take seconds: ``import hwnas.search`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.search.accuracy import AccuracyPredictor as AccuracyPredictor
    from hwnas.search.accuracy import GaussianProcess as GaussianProcess
    from hwnas.search.budget import Budget as Budget
    from hwnas.search.budget import LatencyPredictor as LatencyPredictor
    from hwnas.search.budget import Percentile as Percentile
    from hwnas.search.evaluator import Evaluator as Evaluator
    from hwnas.search.evaluator import SubnetEvaluator as SubnetEvaluator
    from hwnas.search.feasibility import fastest as fastest
    from hwnas.search.finalists import Choice as Choice
    from hwnas.search.finalists import ExportedCandidate as ExportedCandidate
    from hwnas.search.finalists import Finalist as Finalist
    from hwnas.search.finalists import choose_and_promise as choose_and_promise
    from hwnas.search.finalists import forget_measurements as forget_measurements
    from hwnas.search.finalists import keepers as keepers
    from hwnas.search.finalists import measure_finalists as measure_finalists
    from hwnas.search.options import STRATEGIES as STRATEGIES
    from hwnas.search.options import SearchOptions as SearchOptions
    from hwnas.search.record import Evaluation as Evaluation
    from hwnas.search.refinement import Refinement as Refinement
    from hwnas.search.search import SearchResult as SearchResult
    from hwnas.search.search import run_search as run_search

_HOMES = {
    "AccuracyPredictor": "accuracy",
    "Budget": "budget",
    "Choice": "finalists",
    "ExportedCandidate": "finalists",
    "Evaluation": "record",
    "Evaluator": "evaluator",
    "Finalist": "finalists",
    "GaussianProcess": "accuracy",
    "LatencyPredictor": "budget",
    "Percentile": "budget",
    "Refinement": "refinement",
    "STRATEGIES": "options",
    "SearchOptions": "options",
    "SearchResult": "search",
    "SubnetEvaluator": "evaluator",
    "choose_and_promise": "finalists",
    "fastest": "feasibility",
    "forget_measurements": "finalists",
    "keepers": "finalists",
    "measure_finalists": "finalists",
    "run_search": "search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
