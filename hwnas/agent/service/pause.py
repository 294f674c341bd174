"""A pause in a slot's work: a job that does nothing until it is told to end, or its time is over."""

from __future__ import annotations

import threading
import time

MOST_S = 2.0
"""Requests wait for a pause at most so long."""


class Pause:
    """Callable as a job; everything before it in the queue is done when it is quiet."""

    def __init__(self, seconds: float = MOST_S) -> None:
        self._seconds = seconds
        self._resumed = threading.Event()
        self._began = self._until = 0.0
        self.quiet = threading.Event()
        self.over = threading.Event()

    def __call__(self) -> None:
        if not self._resumed.is_set():
            self.begin()
            self._resumed.wait(self._until - time.monotonic())
        self.over.set()

    def begin(self) -> None:
        """Be quiet from now on; for one where nothing runs that it would hold up."""
        self._began = time.monotonic()
        self._until = self._began + self._seconds
        self.quiet.set()

    def resume(self) -> "tuple[float, bool]":
        """End it; gives for how long it was quiet, in s, and whether it had ended by itself before."""
        now = time.monotonic()
        self._resumed.set()
        if not self.quiet.is_set():
            return 0.0, True
        return min(now, self._until) - self._began, now > self._until

    @property
    def in_force(self) -> bool:
        """Whether it is quiet now, or will be."""
        return not self._resumed.is_set() and (not self.quiet.is_set() or time.monotonic() < self._until)
