"""Which nodes of a model ONNX Runtime gives to another provider than the one asked for: for a refusal's sentence."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Tuple

import numpy as np

from .quiet_ort import ort

_NAMED = 3
_SILENT = 4
_TYPES: Dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def elsewhere(model: bytes, provider: str, options: Mapping[str, str]) -> str:
    """Say what of a model would be computed where, by running it once with a profile.

    Args:
        model: ONNX with static shapes.
        provider: the one asked for.
        options: of the provider.
    """
    try:
        used, placed = _placements(model, provider, options)
    except Exception as error:  # the session is made to explain another error, which stands in any case
        return "it gave no reason that can be told (%s)" % " ".join(str(error).split())[:200]
    if provider not in used:
        return "its library does not load here, so that a session would be on %s" % ", ".join(used)
    others = sorted({"%s on %s" % (node, where) for node, where in placed if where != provider})
    named = ", ".join(others[:_NAMED]) + (" and %d more" % (len(others) - _NAMED) if len(others) > _NAMED else "")
    return "it would leave nodes to others: %s" % named if others else "it would leave nodes to the CPU"


def _placements(model: bytes, provider: str, options: Mapping[str, str]) -> Tuple[List[str], List[Tuple[str, str]]]:
    """The session's providers, and each node that ran with where it did."""
    with tempfile.TemporaryDirectory() as directory:
        settings = ort.SessionOptions()
        settings.log_severity_level = _SILENT
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(directory) / "placement")
        session = ort.InferenceSession(model, settings, providers=[(provider, dict(options))])
        feeds = {
            value.name: np.zeros(value.shape, _TYPES.get(value.type, np.float32)) for value in session.get_inputs()
        }
        session.run(None, feeds)
        profile = Path(session.end_profiling())
        events = json.loads(profile.read_text(encoding="utf-8"))
    return list(session.get_providers()), list(_nodes(events))


def _nodes(events: Iterable[Mapping[str, Any]]) -> Iterable[Tuple[str, str]]:
    for event in events:
        details = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in details:
            yield "%s '%s'" % (details.get("op_name"), event["name"].replace("_kernel_time", "")), details["provider"]
