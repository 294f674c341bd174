"""The open connections of a server that ends without leaving a request unanswered."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Set

_GRACE_S = 0.5
"""So long the end goes on reading, for connections that were just made and clients that ask often."""


class Connections:
    """Which connections wait for a request, and which are at work on one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: Set[socket.socket] = set()
        self._waiting: Set[socket.socket] = set()
        self._deaf = False
        self.ending = False
        """Whether each connection is closed behind the next answer."""

    def opened(self, connection: socket.socket) -> int:
        """It was accepted; gives how many are open."""
        with self._changed:
            self._open.add(connection)
            return len(self._open)

    def closed(self, connection: socket.socket) -> None:
        """It is gone."""
        with self._changed:
            self._open.discard(connection)
            self._waiting.discard(connection)
            self._changed.notify_all()

    def waits(self, connection: socket.socket) -> None:
        """It waits for a request."""
        with self._changed:
            self._waiting.add(connection)
            if self._deaf:
                _hear_no_more(connection)

    def works(self, connection: socket.socket) -> None:
        """A request has come."""
        with self._changed:
            self._waiting.discard(connection)

    def end(self, within_s: float) -> bool:
        """Let those that wait go and those at work finish; gives whether all did in time."""
        with self._changed:
            self.ending = True
            self._changed.wait_for(lambda: not self._open, _GRACE_S)
            self._deaf = True
            for connection in self._waiting:
                _hear_no_more(connection)
            return self._changed.wait_for(lambda: not self._open, within_s)


def _hear_no_more(connection: socket.socket) -> None:
    """End the reading; a request that has arrived already is still read."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
