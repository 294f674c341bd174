"""In which waves a group gets a bundle, and how many of a wave may fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from hwnas.errors import UserError

_NUMBER = re.compile(r"(\d+)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Stages:
    """How far a rollout has come after each of its waves."""

    marks: tuple[str, ...]
    """Numbers of boards, ``12``, or shares of the group, ``10%``, none less than the one before."""

    @classmethod
    def parse(cls, text: str) -> Stages:
        """Stages such as ``1,10%,100%``.

        Raises:
            UserError: a stage is neither a number nor a share, or nought, or above 100 %.
        """
        marks = tuple(part.strip() for part in text.split(","))
        for mark in marks:
            share = _SHARE.fullmatch(mark)
            if not (_NUMBER.fullmatch(mark) and int(mark) > 0) and not (share and 0 < float(share[1]) <= 100):
                raise UserError(f"--stages takes numbers of boards and shares such as 1,10%,100%, not '{mark}'.")
        return cls(marks)

    def waves(self, boards: Sequence[str]) -> list[list[str]]:
        """The boards of each wave; a wave that would be empty is left out, and so are boards after the last stage.

        Raises:
            UserError: a stage is below the one before.
        """
        waves, reached = [], 0
        for mark in self.marks:
            share = _SHARE.fullmatch(mark)
            upto = min(len(boards), ceil(float(share[1]) / 100 * len(boards)) if share else int(mark))
            if upto < reached and (upto < len(boards)):
                raise UserError(
                    f"Stage {mark} is {upto} of {len(boards)} boards, fewer than the stage before; write them rising."
                )
            if upto > reached:
                waves.append(list(boards[reached:upto]))
                reached = upto
        return waves


@dataclass(frozen=True)
class FailureLimit:
    """How many boards of a wave may fail before the rollout stops."""

    text: str

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """A limit such as ``2%`` of each wave, or ``3`` boards in each.

        Raises:
            UserError: it is neither.
        """
        share = _SHARE.fullmatch(text.strip())
        if not _NUMBER.fullmatch(text.strip()) and not (share and float(share[1]) <= 100):
            raise UserError(f"--max-failures takes a number of boards or a share such as 2%, not '{text}'.")
        return cls(text.strip())

    def allowed(self, boards: int) -> int:
        """How many of ``boards`` in a wave may fail; a share is rounded down, so that one board alone may not."""
        share = _SHARE.fullmatch(self.text)
        return floor(float(share[1]) / 100 * boards) if share else int(self.text)
