"""The environment in which an agent runs: nothing in it changes how a runtime computes or what Python imports."""

from __future__ import annotations

import os
import sys
from typing import Dict, Mapping

_DISTURBING = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "ORT_", "MALLOC_", "PYTHON", "LD_PRELOAD")


def undisturbed(environment: Mapping[str, str]) -> Dict[str, str]:
    """``environment`` without what disturbs; the same for one that is undisturbed already."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_DISTURBING)}
    kept["OPENBLAS_NUM_THREADS"] = "1"  # NumPy only packs and unpacks there; its idle threads would be in the way
    return kept


def begin_undisturbed() -> None:
    """Start this program anew in an undisturbed environment, unless it is in one: libraries read it as they load."""
    environment = undisturbed(os.environ)
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, "-E", *sys.argv], environment)  # noqa: S606
