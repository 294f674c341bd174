"""How many requests may wait, and how much memory they may hold: the bound of the queue."""

from __future__ import annotations

import contextlib
import threading
from typing import Iterator

from ..protocol import AgentError, ErrorKind


class Admission:
    """Lets requests in before their bodies are read, and refuses the rest."""

    def __init__(self, most_requests: int, most_bytes: int) -> None:
        """``most_bytes`` is for all bodies together; one alone is always let in."""
        self._most_requests, self._most_bytes = most_requests, most_bytes
        self._lock = threading.Lock()
        self._bytes = 0
        self.waiting = 0
        """Requests that are in."""

    @contextlib.contextmanager
    def entered(self, size: int) -> Iterator[None]:
        """Be in with a body of ``size`` bytes.

        Raises:
            AgentError: ``busy``.
        """
        with self._lock:
            full = self.waiting >= self._most_requests or self._bytes + size > self._most_bytes
            if self.waiting and full:
                raise AgentError(ErrorKind.BUSY, "%d requests wait already; try again in a second" % self.waiting)
            self.waiting += 1
            self._bytes += size
        try:
            yield
        finally:
            with self._lock:
                self.waiting -= 1
                self._bytes -= size
