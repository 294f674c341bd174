"""Latency: profile a device into a table, find it again, and predict from it.

table, path = profile(device, space, Path("latency_tables"), ProfileOptions(minutes=3))
model = fit_latency_model(table, space)
mean_ms, std_ms = model.predict(space.sample(rng, 100_000))
"""

from hwnas.latency.base import Attribution, BlockCost, LatencyModel, TimingDevice
from hwnas.latency.crew import Board
from hwnas.latency.fewshot import FewShotModel
from hwnas.latency.figures import Figures, ValidationFigures, figures
from hwnas.latency.journal import journal_path
from hwnas.latency.options import ProfileOptions
from hwnas.latency.profiler import profile, profile_together
from hwnas.latency.registry import LATENCY_MODELS, fit_latency_model
from hwnas.latency.store import TableKey, check_fingerprint, find_table, load_table, save_table, table_path
from hwnas.latency.table import BlockEntry, LatencyTable, Missing, NetworkEntry, Timing
from hwnas.latency.validation import validate, validation_figures

__all__ = [
    "LATENCY_MODELS",
    "Attribution",
    "BlockCost",
    "BlockEntry",
    "Board",
    "FewShotModel",
    "Figures",
    "LatencyModel",
    "LatencyTable",
    "Missing",
    "NetworkEntry",
    "ProfileOptions",
    "TableKey",
    "Timing",
    "TimingDevice",
    "ValidationFigures",
    "check_fingerprint",
    "figures",
    "find_table",
    "fit_latency_model",
    "journal_path",
    "load_table",
    "profile",
    "profile_together",
    "save_table",
    "table_path",
    "validate",
    "validation_figures",
]
