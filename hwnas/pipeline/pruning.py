"""How narrow a network is made for a latency budget: the device says, network by network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import Field
from torch import Tensor

from hwnas.errors import InfeasibleBudgetError, UserError
from hwnas.files import Document
from hwnas.pipeline.stopwatch import Stopwatch
from hwnas.search import Percentile
from hwnas.supernet.pruning import Layout, Widths, narrower, narrowest, pruning_path

MARGIN = 0.01
"""Share of the last limit that is left free when widths are chosen: other builds are a little slower or faster."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What is left of the latency: so many ms, or all but a share of what the network took."""

    ms: float | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """A limit as users write it: ``0.06`` (ms) or ``30%``, which are to go.

        Raises:
            UserError: it is neither, or out of range.
        """
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = float("nan")
        if text.endswith("%") and 0 < number < 100:
            return cls(share=number / 100)
        if not text.endswith("%") and 0 < number < float("inf"):
            return cls(ms=number)
        raise UserError(f"--prune takes milliseconds, such as 0.06, or the share that is to go, as 30%, not '{text}'.")

    def of(self, latency_ms: float) -> float:
        """The limit in ms for a network that takes so long."""
        if self.ms is not None:
            return self.ms
        assert self.share is not None
        return latency_ms * (1 - self.share)


class Savings(Document):
    """What was measured before any channel went, ms."""

    latency_ms: float = Field(gt=0)
    """Of the network as it is."""
    narrowest_ms: float = Field(gt=0)
    limit_ms: float = Field(gt=0)
    per_channel_ms: tuple[float, ...]
    """What a channel less of each group saves: measured where half of the group is gone."""

    def require_feasible(self, statistic: Percentile) -> None:
        """
        Raises:
            InfeasibleBudgetError: no pruning keeps the limit.
            UserError: the network keeps it as it is.
        """
        if self.latency_ms <= self.limit_ms:
            raise UserError(
                f"Nothing is to be pruned: the network takes {self.latency_ms:.4g} ms ({statistic}) and keeps "
                f"{self.limit_ms:.4g} ms; give --prune a lower limit."
            )
        if self.narrowest_ms > self.limit_ms:
            raise InfeasibleBudgetError(
                f"No pruning keeps {self.limit_ms:.4g} ms ({statistic}): the network takes {self.latency_ms:.4g} ms, "
                f"and with all its widths at their smallest still {self.narrowest_ms:.4g} ms; raise the limit, or "
                "choose an architecture of fewer blocks or a lower resolution."
            )

    def limits_ms(self, rounds: int) -> list[float]:
        """The limit of each round, each the same share of the one before it."""
        share = self.limit_ms / self.latency_ms
        return [self.latency_ms * share ** (number / rounds) for number in range(1, rounds)] + [self.limit_ms]


@dataclass(frozen=True)
class Pruner(Stopwatch):
    """Chooses widths by what networks are measured to take.

    Attributes:
        builds: fresh ones of a network that is to keep the last limit.
        multiple: of which widths become.
    """

    builds: int
    multiple: int

    def savings(self, layout: Layout, limit: Limit) -> Savings:
        """What narrower groups of a network save."""
        widths = tuple(group.width for group in layout.groups)
        halved = [narrower(layout, widths, number, width // 2, self.multiple) for number, width in enumerate(widths)]
        chosen = [widths, narrowest(layout, self.multiple), *(each or widths for each in halved)]
        whole_ms, narrowest_ms, *halved_ms = self.figures_ms([layout.narrowed(each) for each in chosen])
        gone = [sum(widths) - sum(each or ()) for each in halved]
        return Savings(
            latency_ms=whole_ms,
            narrowest_ms=narrowest_ms,
            limit_ms=limit.of(whole_ms),
            per_channel_ms=tuple((whole_ms - ms) / less for ms, less in zip(halved_ms, gone, strict=True)),
        )

    def choose(self, layout: Layout, importance: Mapping[int, Tensor], savings: Savings, limit_ms: float) -> Widths:
        """The widest network on the pruning path that is measured to keep a limit, by bisection.

        The last limit is a promise, and is kept with the whole interval of the figure and a margin.

        Raises:
            InfeasibleBudgetError: none keeps it.
        """
        path = pruning_path(layout, importance, savings.per_channel_ms, self.multiple)
        last = limit_ms == savings.limit_ms
        aim_ms = limit_ms * (1 - MARGIN) if last else limit_ms

        def keeps(widths: Widths) -> bool:
            candidate = self.candidate(layout.narrowed(widths))
            (found,) = self.measure([candidate], aim_ms, self.builds if last else 1)
            return found.surely if last else found.keeps

        index = bisect_left(path, True, key=keeps)
        if index == len(path):
            raise InfeasibleBudgetError(
                f"No pruning of {self.space.name} keeps {limit_ms:.4g} ms ({self.statistic}) surely as measured; raise "
                "the limit, or try again when the device is quieter."
            )
        return path[index]
