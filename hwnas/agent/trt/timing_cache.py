"""What a builder learned by timing kernels, kept per device and precision so that the next build is short.

A cache of another TensorRT, GPU, clock or precision would choose kernels that are fast elsewhere, so each has its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from ..private import private_directory
from ..protocol import AgentError, ErrorKind
from .library import Library

DIRECTORY_VARIABLE = "HWNAS_TIMING_CACHE"
"""The environment variable that names another directory for all caches; empty: keep none."""


class TimingCache:
    """One file; builds at the same time add to it one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load_into(self, config: Any) -> None:
        """Let a build begin with what is known, or with nothing where the library does not take that."""
        known = self._path.read_bytes() if self._path.exists() else b""
        if not (known and self._set(config, known)):
            self._set(config, b"")

    def save_from(self, config: Any) -> None:
        """Keep what a build learned, and what others have saved meanwhile."""
        learned = config.get_timing_cache()
        if learned is None:
            return
        with self._locked():
            if self._path.exists():
                others = config.create_timing_cache(self._path.read_bytes())
                if others is not None:
                    learned.combine(others, False)
            content = learned.serialize()
            if content is None:
                return
            temporary = self._path.with_suffix(".part")
            with temporary.open("wb") as file:
                file.write(memoryview(content))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)

    @staticmethod
    def _set(config: Any, content: bytes) -> bool:
        """Whether the builder takes ``content``; it does not where it is damaged or another version's."""
        cache = config.create_timing_cache(content)
        return cache is not None and bool(config.set_timing_cache(cache, False))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def timing_cache_of(library: Library, device: Dict[str, Any], precision: str, fallback: Path) -> Optional[TimingCache]:
    """The cache of this library on this device.

    It lies in ``$HWNAS_TIMING_CACHE``, else in ``~/.cache/hwnas/timing``, which outlive the agent; in ``fallback``,
    the agent's own directory, where neither can be a directory that nobody else may write.

    Args:
        library: which built it; its version counts.
        device: what kernels' times depend on: GPU, clocks, power mode.
        precision: of the engines.
        fallback: a private directory.
    """
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen == "":
        return None
    key = {"library": library.trt.__name__, "version": library.version, "device": device, "precision": precision}
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"))
    stem = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    directory = _directory(chosen, fallback)
    (directory / (stem + ".json")).write_text(canonical + "\n", encoding="utf-8")
    return TimingCache(directory / (stem + ".cache"))


def _directory(chosen: Optional[str], fallback: Path) -> Path:
    if chosen is not None:
        try:
            return private_directory(Path(chosen))
        except OSError as error:
            raise AgentError(ErrorKind.DISK, "the directory of timing caches: %s" % error) from error
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return private_directory(caches.expanduser() / "hwnas" / "timing")
    except (OSError, RuntimeError):  # others may enter it, it cannot be made, or there is no home
        return private_directory(fallback / "timing")
