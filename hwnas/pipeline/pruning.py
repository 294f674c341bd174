"""How narrow a network is made for a latency budget: the device says, network by network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field
from torch import Tensor

from hwnas.devices import CompileOptions, Device
from hwnas.errors import DeviceError, InfeasibleBudgetError, UserError
from hwnas.files import Document
from hwnas.latency.plan import Unit
from hwnas.latency.unit_model import unit_model
from hwnas.pipeline.latency import promise_protocol
from hwnas.progress import Progress
from hwnas.search import Budget, ExportedCandidate, Finalist, Percentile, measure_finalists
from hwnas.spaces import Network, Space, single_space
from hwnas.supernet.pruning import Layout, Widths, narrower, narrowest, pruning_path

WITHOUT_LIMIT_MS = 1e9
"""What a network is compared with that is only to be measured."""
MARGIN = 0.01
"""Share of the last limit that is left free when widths are chosen: other builds are a little slower or faster."""
MOST_ATTEMPTS = 4
"""At a network of which a busy device gives too few samples; each builds it twice more."""


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
class Pruner:
    """Measures networks on a device and chooses widths by what they take.

    Networks are measured whole, by their graphs alone, since latency does not depend on weights.

    Attributes:
        space: that they come from.
        options: how they are compiled and run.
        statistic: of the latency, that limits are of.
        builds: fresh ones of a network that is to keep the last limit.
        multiple: of which widths become.
        journal: everything measured; what is there is not measured again.
    """

    device: Device
    space: Space
    options: CompileOptions
    statistic: Percentile
    builds: int
    multiple: int
    journal: Path
    progress: Progress

    def candidate(self, network: Network) -> ExportedCandidate:
        """A network with random weights."""
        single = single_space(self.space.name, network)
        unit = Unit.of_network(single, single.largest, "proposed")
        return ExportedCandidate(single.largest, unit_model(unit, 1, self.options), 0.0)

    def measure(
        self, candidates: Sequence[ExportedCandidate], limit_ms: float = WITHOUT_LIMIT_MS, builds: int = 1
    ) -> list[Finalist]:
        """Fresh builds of whole networks, by one fast state, compared with a limit.

        One of which a busy device gave too few samples is built and measured again and again, for a while.

        Raises:
            DeviceError: the device failed, or gave too few samples in all that time.
        """
        lacking = list(candidates)
        for attempt in range(MOST_ATTEMPTS):
            self._measured(lacking, limit_ms, (2 * attempt + 1) * builds)
            found = self._measured(candidates, limit_ms, builds)
            lacking = [each for each, told in zip(candidates, found, strict=True) if told.figure_ms is None]
            if not lacking:
                return found
        raise DeviceError(
            f"target '{self.device.target.name}' gave too few samples to state a {self.statistic}; give the same "
            "command again when it is quieter, which goes on from here."
        )

    def _measured(self, candidates: Sequence[ExportedCandidate], limit_ms: float, builds: int) -> list[Finalist]:
        return measure_finalists(
            self.device,
            candidates,
            Budget.on(self.device.target, limit_ms, statistic=self.statistic),
            journal=self.journal,
            builds=builds,
            compile_options=self.options,
            measure_options=promise_protocol(self.device, self.space),
            progress=self.progress,
        )

    def savings(self, network: Network, limit: Limit) -> Savings:
        """What narrower groups of a network save."""
        layout = Layout(network)
        widths = tuple(group.width for group in layout.groups)
        halved = [narrower(layout, widths, number, width // 2, self.multiple) for number, width in enumerate(widths)]
        chosen = [widths, narrowest(layout, self.multiple), *(each or widths for each in halved)]
        found = self.measure([self.candidate(layout.narrowed(each)) for each in chosen])
        whole_ms, narrowest_ms, *halved_ms = map(figure_of, found)
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


def figure_of(finalist: Finalist) -> float:
    """The statistic in ms of what :meth:`Pruner.measure` gave."""
    assert finalist.figure_ms is not None
    return finalist.figure_ms
