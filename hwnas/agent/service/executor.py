"""A slot's engines on a thread of their own, which does one job at a time in the order in which they came."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional, TypeVar

from ..arrays import Array
from ..inference import infer_outputs
from ..slots.slot_files import SlotFiles
from .expected import Exclusive
from .loading import close_models, load_models

T = TypeVar("T")


class LoadedSlot:
    """The models of a slot.  An engine belongs to the thread that loads it, so it runs and is closed there too."""

    def __init__(self, files: SlotFiles, exclusive: Exclusive) -> None:
        """
        Args:
            files: the slot, verified.
            exclusive: keeps the requests of the slot that serves waiting, while this one is measured.

        Raises:
            AgentError: it cannot be loaded; nothing of it is left.
        """
        self.manifest = files.manifest
        self._thread = ThreadPoolExecutor(1, "slot-" + files.manifest.digest[:8])
        self._busy_since: Optional[float] = None
        try:
            self.models = self._thread.submit(load_models, files, exclusive).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self.expected_ms = [loaded.expected.ms for loaded in self.models]

    def infer(self, place: int, images: Array) -> "Future[Dict[str, Array]]":
        """The outputs of a model for ``images`` [N, ...] by name, to be: those that its golden answers vouch for."""
        model, engine, _ = self.models[place]
        names = [output.name for output in model.golden.outputs]
        return self.do(lambda: infer_outputs(engine, images, names))

    def do(self, job: Callable[[], T]) -> "Future[T]":
        """Have a job done behind all others."""
        return self._thread.submit(self._timed, job)

    def retire(self) -> None:
        """Unload it behind all of its jobs; nothing may be asked of it any more."""
        self._thread.submit(close_models, self.models)
        self._thread.shutdown(wait=False)

    def join(self) -> None:
        """Wait until it is unloaded, after :meth:`retire`."""
        self._thread.shutdown(wait=True)

    @property
    def busy_s(self) -> float:
        """For how long the job that is being done has been so."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _timed(self, job: Callable[[], Any]) -> Any:
        self._busy_since = time.monotonic()
        try:
            return job()
        finally:
            self._busy_since = None
