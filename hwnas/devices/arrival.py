"""How the runs of a network follow each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwnas.errors import UserError


@dataclass(frozen=True, slots=True)
class Arrival:
    """Back to back, or as frames that arrive at a rate with idle between them, when clocks fall and caches cool.

    Attributes:
        fps: frames a second; 0 for back to back.

    Raises:
        UserError: the rate is negative or not finite.
    """

    fps: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps >= 0):
            raise UserError(f"Frames arrive at a positive number a second, or back to back (0), not {self.fps:g}.")

    def __str__(self) -> str:
        """Such as ``back-to-back`` or ``30 fps``."""
        return f"{self.fps:g} fps" if self.fps else "back-to-back"


BACK_TO_BACK = Arrival()
