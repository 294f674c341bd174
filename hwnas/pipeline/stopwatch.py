"""Whole networks, measured on a device as finalists are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.devices import CompileOptions, Device
from hwnas.errors import DeviceError
from hwnas.latency.plan import Unit
from hwnas.latency.unit_model import unit_model
from hwnas.pipeline.latency import promise_protocol
from hwnas.progress import Progress
from hwnas.search import Budget, ExportedCandidate, Finalist, Percentile, measure_finalists
from hwnas.spaces import Network, Space, single_space

WITHOUT_LIMIT_MS = 1e9
"""What a network is compared with that is only to be measured."""
MOST_ATTEMPTS = 4
"""At a network of which a busy device gives too few samples; each builds it twice more."""


@dataclass(frozen=True)
class Stopwatch:
    """Measures networks of a space on a device.

    Networks are measured whole, by their graphs alone, since latency does not depend on weights.

    Attributes:
        space: that they come from, or are compared with.
        options: how they are compiled and run.
        statistic: of the latency, that is measured.
        journal: everything measured; what is there is not measured again.
    """

    device: Device
    space: Space
    options: CompileOptions
    statistic: Percentile
    journal: Path
    progress: Progress

    def candidate(self, network: Network) -> ExportedCandidate:
        """A network with random weights."""
        single = single_space(self.space.name, network)
        unit = Unit.of_network(single, single.largest, "proposed")
        return ExportedCandidate(single.largest, unit_model(unit, 1, self.options), 0.0)

    def figures_ms(self, networks: Sequence[Network], builds: int = 1) -> list[float]:
        """The statistic of each over all its builds, which are measured in turn.

        Raises:
            DeviceError: as of :meth:`measure`.
        """
        found = self.measure([self.candidate(network) for network in networks], builds=builds)
        return [finalist.figure_ms for finalist in found if finalist.figure_ms is not None]

    def measure(
        self, candidates: Sequence[ExportedCandidate], limit_ms: float = WITHOUT_LIMIT_MS, builds: int = 1
    ) -> list[Finalist]:
        """Fresh builds of whole networks, by one fast state, compared with a limit; each has a figure.

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
