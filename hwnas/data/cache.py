"""Where downloads and decoded images are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """``$HWNAS_CACHE``, else ``hwnas`` in the user's cache directory; it may not exist yet."""
    if chosen := os.environ.get("HWNAS_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hwnas"
