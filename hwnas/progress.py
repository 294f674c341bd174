"""How library code tells of its progress without knowing who draws it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A task of ``total`` units under way; :mod:`hwnas.cli` draws it as a bar with rate and ETA."""

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        """Begin a task of ``total`` units of which ``done`` are done already (resumed work)."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """``amount`` more units are done; ``note`` is shown beside the bar."""

    def finish(self) -> None:
        """The task has ended, all of it done or not: it shows how far it came."""


def unheard(_: str) -> None:
    """What is told here, nobody hears."""


class Silent:
    """Draws nothing."""

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        """Ignored."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""
