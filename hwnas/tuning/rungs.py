"""How many configurations successive halving trains, and how far (Jamieson and Talwalkar 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.errors import UserError


@dataclass(frozen=True)
class Rungs:
    """Of ``configurations`` on the first rung one in ``eta`` goes on to each next one, where it is trained further.

    Attributes:
        configurations: on the first rung.
        eta: how many times fewer configurations, and how many times more steps, a rung has than the one below.
        count: of rungs.
        steps: optimizer steps at the end of the last rung, counted from the beginning of the training.

    Raises:
        UserError: there are too few configurations or steps for so many rungs.
    """

    configurations: int
    eta: int
    count: int
    steps: int

    def __post_init__(self) -> None:
        if self.configurations < 2 or self.eta < 2 or self.count < 1:
            raise UserError(
                f"Successive halving needs at least 2 configurations, an eta of at least 2 and 1 rung, not "
                f"{self.configurations}, {self.eta} and {self.count}."
            )
        least = self.eta ** (self.count - 1)
        if self.configurations < least:
            raise UserError(
                f"{self.count} rungs with eta {self.eta} need at least {least} configurations, not "
                f"{self.configurations}; give more, or fewer rungs."
            )
        if self.steps < least:
            raise UserError(
                f"{self.count} rungs with eta {self.eta} need at least {least} steps, and the longest run has "
                f"{self.steps}; give more epochs, or fewer rungs."
            )

    @staticmethod
    def most(configurations: int, eta: int) -> int:
        """The number of rungs after which one configuration in ``eta`` is less than one."""
        count = 1
        while eta > 1 and configurations >= eta**count:
            count += 1
        return count

    @property
    def widths(self) -> tuple[int, ...]:
        """Configurations on each rung."""
        return tuple(self.configurations // self.eta**rung for rung in range(self.count))

    @property
    def ends(self) -> tuple[int, ...]:
        """The step at which each rung ends; equal parts of the last one, rounded."""
        return tuple(round(self.steps / self.eta ** (self.count - 1 - rung)) for rung in range(self.count))

    def begin(self, rung: int) -> int:
        """The step at which a rung begins: where the one below ended."""
        return self.ends[rung - 1] if rung else 0

    def total_steps(self, extra: int = 0) -> int:
        """Steps of all runs, with ``extra`` configurations more on every rung but the first."""
        wide = [width + (extra if rung else 0) for rung, width in enumerate(self.widths)]
        return sum(width * (self.ends[rung] - self.begin(rung)) for rung, width in enumerate(wide))
