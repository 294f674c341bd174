"""What a profile measures once its base is measured: held-out networks, and those that teach the model most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from hwnas.latency.base import Floats
from hwnas.latency.context import Context
from hwnas.latency.judging import Judge
from hwnas.latency.model import context_prior
from hwnas.latency.plan import Plan, Unit, varied_architectures
from hwnas.latency.regression import Posterior, fit_robustly
from hwnas.latency.selection import leave_one_out, most_informative
from hwnas.spaces import Genomes, Space

PIECE = 20
"""Networks of each role that are measured in turn before the next are chosen."""
_CANDIDATES, _REFERENCE = 4000, 1000


class Extension:
    """Gives piece after piece; with the same journal it gives the same."""

    def __init__(
        self,
        space: Space,
        plan: Plan,
        judge: Judge,
        block_ms: Floats,
        good_enough_percent: float | None = None,
    ) -> None:
        """
        Args:
            block_ms: time of each distinct block of the space, [blocks]; the base is measured.
            good_enough_percent: no further ones are chosen once the model predicts each of them from all others with
                this mean absolute error.
        """
        self._space, self._plan, self._judge = space, plan, judge
        self._context = Context.of(space, block_ms)
        self._good_enough = good_enough_percent
        self._held_out = iter([plan.held_out[i : i + PIECE] for i in range(0, len(plan.held_out), PIECE)])

    def pieces(self) -> Iterator[tuple[Unit, ...]]:
        """Measured ones first, so that a profile goes on where it was interrupted; ends when nothing is left."""
        known = self.measured_before()
        if known:
            yield known
        while True:
            piece = (*self._chosen(), *next(self._held_out, ()))
            if not piece:
                return
            yield piece

    def measured_before(self) -> tuple[Unit, ...]:
        """The candidates that the journal knows."""
        return tuple(unit for unit in self._candidates if self._judge.journal.knows(unit.key))

    def _chosen(self) -> tuple[Unit, ...]:
        """The next calibration networks, or none."""
        before = self.measured_before()
        known = [unit for unit in self._plan.base if unit.role == "calibration"] + list(before)
        room = self._plan.further - len(before)
        features, targets = self._evidence(known)
        posterior = fit_robustly(context_prior(self._context), features, targets)
        if room <= 0 or self._is_good_enough(posterior, features, targets):
            return ()
        free = [i for i, unit in enumerate(self._candidates) if not self._judge.journal.knows(unit.key)]
        relative = self._relative(self._genomes[free])
        picked = most_informative(posterior, relative, self._reference, min(PIECE, room))
        return tuple(self._candidates[free[i]] for i in picked)

    def _is_good_enough(self, posterior: Posterior, features: Floats, targets: Floats) -> bool:
        if self._good_enough is None or not len(targets):
            return False
        deviations = leave_one_out(posterior, features, targets)
        return bool(100 * np.mean(np.abs(deviations) / targets) <= self._good_enough)

    def _evidence(self, units: list[Unit]) -> tuple[Floats, Floats]:
        """Features [n, k] and measured latencies [n] of calibration networks, both per ms of their plain sum."""
        timings = {unit: self._judge.timing(unit.key) for unit in units}
        known: Mapping[Unit, float] = {unit: t.median_ms for unit, t in timings.items() if t is not None}
        genomes = self._space.encode([unit.architecture for unit in known if unit.architecture is not None])
        features = self._context.features(genomes)
        plain = features[:, 1]
        return features / plain[:, None], np.array(list(known.values())) / plain

    def _relative(self, genomes: Genomes) -> Floats:
        features = self._context.features(genomes)
        return np.asarray(features / features[:, 1:2])

    @cached_property
    def _genomes(self) -> Genomes:
        return self._plan.pool[:_CANDIDATES]

    @cached_property
    def _candidates(self) -> tuple[Unit, ...]:
        architectures = self._space.decode(self._genomes)
        return tuple(Unit.of_network(self._space, each, "calibration") for each in architectures)

    @cached_property
    def _reference(self) -> Floats:
        """Architectures as a search looks at them: at first all over the space, in the end in its corners."""
        rng = np.random.default_rng(1)
        everywhere = self._space.sample(rng, _REFERENCE // 2)
        corners = varied_architectures(self._space, rng, _REFERENCE // 2)
        return self._relative(np.concatenate([everywhere, corners]))
