"""What is tuned, and between which bounds; written as NNI's search space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.errors import BadFileError
from hwnas.files import read_json
from hwnas.training import TrainingConfig

LIMITS = {
    "learning_rate": (1e-12, math.inf),
    "weight_decay": (0.0, math.inf),
    "augmentation_strength": (0.0, 10.0),
    "distillation": (0.0, 1.0),
}
"""What can be tuned, and which values a training takes."""

Ranges = dict[str, dict[str, Any]]
"""NNI's search-space JSON: name to ``{"_type": "uniform" or "loguniform", "_value": [low, high]}``."""

_RATES = {
    "sgd": {"learning_rate": (0.01, 1.0), "weight_decay": (1e-6, 1e-3)},
    "adamw": {"learning_rate": (1e-4, 1e-2), "weight_decay": (1e-4, 0.3)},
}


def default_ranges(config: TrainingConfig) -> Ranges:
    """Wide bounds for an optimizer."""
    ranges = {name: {"_type": "loguniform", "_value": [*bounds]} for name, bounds in _RATES[config.optimizer].items()}
    ranges["augmentation_strength"] = {"_type": "uniform", "_value": [0.0, 2.0]}
    ranges["distillation"] = {"_type": "uniform", "_value": [0.0, 1.0]}
    return ranges


def read_ranges(path: Path) -> Ranges:
    """Bounds from a file in NNI's format; what is not named in it is not tuned.

    Raises:
        BadFileError: the file is missing or no JSON, a name is unknown, or bounds make no sense.
    """
    ranges = read_json(path, what="search space")
    if not isinstance(ranges, dict) or not ranges:
        raise BadFileError(f"search space {path} is not a JSON object of what is to be tuned; see docs/tuning.md.")
    for name, entry in ranges.items():
        complaint = _complaint(name, entry)
        if complaint:
            raise BadFileError(f"search space {path}: field '{name}': {complaint}.")
    return {name: {"_type": entry["_type"], "_value": entry["_value"]} for name, entry in ranges.items()}


def _complaint(name: str, entry: Any) -> str | None:
    if name not in LIMITS:
        return f"cannot be tuned, only {', '.join(LIMITS)} can"
    if not isinstance(entry, dict) or set(entry) != {"_type", "_value"}:
        return "expected {'_type': …, '_value': [low, high]}"
    kind, bounds = entry["_type"], entry["_value"]
    if kind not in ("uniform", "loguniform"):
        return f"_type is uniform or loguniform, found {kind!r}"
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(_is_number(bound) for bound in bounds):
        return f"_value is two numbers, found {bounds!r}"
    return _complaint_of_bounds(kind, LIMITS[name], bounds[0], bounds[1])


def _complaint_of_bounds(kind: str, limits: tuple[float, float], low: float, high: float) -> str | None:
    if not low < high or (kind == "loguniform" and low <= 0):
        return f"the bounds rise, those of loguniform from above 0, found {[low, high]}"
    if low < limits[0] or high > limits[1]:
        return f"the training takes values from {limits[0]:g} to {limits[1]:g}, found {[low, high]}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def values_of(config: TrainingConfig) -> dict[str, float]:
    """What a training does of that which can be tuned."""
    strength = config.augmentation.strength
    rates = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    return rates | {"augmentation_strength": strength, "distillation": config.distillation}


def with_values(settings: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """Training settings, as :class:`TrainingConfig` takes them, with tuned values in place of their own."""
    changed = dict(settings) | {name: value for name, value in values.items() if name != "augmentation_strength"}
    if "augmentation_strength" in values:
        changed["augmentation"] = {**settings.get("augmentation", {}), "strength": values["augmentation_strength"]}
    return changed
