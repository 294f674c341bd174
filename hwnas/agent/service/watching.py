"""What the service keeps an eye on: where ``current`` points, and heat."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Optional

from ..protocol import AgentError
from ..slots.disk import Disk
from ..slots.layout import Layout, digest_of
from ..slots.slot_files import open_slot
from .metrics import Metrics
from .service import Service

_LOOK_EVERY_S = 0.2
_RETRY_AFTER_S = 30.0


class Watcher:
    """A thread that loads what ``current`` points at, whenever that is another slot than before."""

    def __init__(self, root: Path, service: Service, metrics: Metrics) -> None:
        self._root, self._service, self._metrics = root, service, metrics
        self._tried: Optional[str] = None
        self._retry_at = 0.0
        self._wake = threading.Event()
        self._stopping = self._again = False
        self._thread = threading.Thread(target=self._watch, name="watching", daemon=True)
        self.looked = threading.Event()
        """Set when ``current`` was looked at once, and loaded if it could be."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def read_again(self) -> None:
        """Look at once, also at the budget, and try again what could not be loaded; for a handler of signals."""
        self._again = True
        self._wake.set()

    def stop(self, within_s: float) -> bool:
        """End; gives whether it did in time: a slot that is being loaded may take longer."""
        self._stopping = True
        self._wake.set()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _watch(self) -> None:
        while not self._stopping:
            if self._again:
                self._again, self._tried = False, None
                self._service.read_budget()
            self._look()
            self.looked.set()
            self._wake.wait(_LOOK_EVERY_S)
            self._wake.clear()

    def _look(self) -> None:
        try:
            target = digest_of(Disk().readlink(Layout(self._root).current))
        except OSError as error:
            self._service.problem = "'current' cannot be read: %s" % error
            return
        serving = self._service.serving
        if target is None:
            self._tried = None
            self._service.problem = None
            if serving is not None:
                self._service.stop()
        elif serving is not None and target == serving.slot.manifest.digest:
            self._tried = target
            self._service.problem = None
        elif target != self._tried or (serving is None and time.monotonic() >= self._retry_at):
            self._tried = target
            self._load(target)

    def _load(self, target: str) -> None:
        try:
            self._service.load(open_slot(self._root, target))
        except Exception as error:  # whatever is wrong with a slot, the old one goes on
            if not isinstance(error, AgentError):
                traceback.print_exc(file=sys.stderr)
            self._retry_at = time.monotonic() + _RETRY_AFTER_S
            self._metrics.refused_slot()
            sentence = "slot %s cannot be served: %s" % (target[:12], str(error) or type(error).__name__)
            self._service.problem = sentence
            sys.stderr.write(sentence + "\n")
