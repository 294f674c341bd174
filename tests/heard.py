"""A progress bar's notes, kept."""

from __future__ import annotations

from hwnas.progress import Silent


class Heard(Silent):
    """Keeps the notes beside the bar."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.notes.append(note)
