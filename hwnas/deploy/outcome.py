"""What became of one board."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Fate = Literal["updated", "unchanged", "rolled-back", "refused", "unconfirmed", "unreachable", "broken"]
"""``updated``: it runs the bundle. ``unchanged``: it did so before. ``rolled-back``: the bundle was not fit, and what
ran before runs. ``refused``: it never got so far. ``unconfirmed``: it runs the bundle and can neither confirm it nor go
back at the moment; it goes back when it starts anew. ``unreachable``: nobody answers, or no longer. ``broken``: it runs
neither the bundle nor what ran before."""
SUCCESSES: tuple[Fate, ...] = ("updated", "unchanged")


class Outcome(BaseModel):
    """What became of a board that should get a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    board: str
    fate: Fate
    why: str | None = None
    """What went wrong, as a sentence."""
    digest: str | None = None
    """Of the slot that is current there now; ``None``: nobody knows, or there is none."""
    seconds: float = Field(default=0.0, ge=0)
    health: dict[str, Any] | None = None
    """What the board's health check found."""

    @property
    def succeeded(self) -> bool:
        """Whether the board runs the bundle."""
        return self.fate in SUCCESSES
