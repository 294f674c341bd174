"""What the finalists' measurements teach about networks like them, and a search that goes on from there.

A search picks the networks that the latency model takes for faster than they are (the optimizer's curse: J. E. Smith
and R. L. Winkler, Management Science 52, 2006), and it picks them from one corner of the space, where a model fitted to
the whole of it may be off.  The finalists, measured, show by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from hwnas.errors import InfeasibleBudgetError
from hwnas.files import Document, read_model, write_json
from hwnas.progress import Progress
from hwnas.search.budget import Budget, Floats, LatencyPredictor
from hwnas.search.constraints import Constraint
from hwnas.search.evaluator import Evaluator
from hwnas.search.finalists import Finalist
from hwnas.search.options import SearchOptions
from hwnas.search.record import Evaluation
from hwnas.search.search import run_search
from hwnas.spaces import Genomes, Space

REFINED_CANDIDATES, REFINED_SHARE = 8, 1 / 3
"""Most to be evaluated, and at most this share of what the first search evaluated.  Eight let some keep the budget
where each does with a fair chance."""
REFINED_CONFIDENCE = 0.6
"""Lower than the search's: these candidates are measured before anything is said of them."""
PRIOR_STD = 0.03
"""Of the correction: on the shared host a corner of a space was off by 0 to 3 per cent."""


class Correction(Document):
    """By how much networks of a corner of a space take longer than a latency model says, as a natural logarithm."""

    log_offset: float
    log_offset_std: float
    inflation: float
    """By which the stated deviations of single networks are too small there; at least 1."""

    @classmethod
    def learn(cls, mean_ms: Floats, std_ms: Floats, measured_ms: Floats) -> Self:
        """From predictions and measurements, each [n], of networks there.

        The offset has a normal prior around 0 of deviation :data:`PRIOR_STD`; n = 0 gives that back.
        """
        deviation = np.log(measured_ms / mean_ms)
        variance = (std_ms / mean_ms) ** 2
        precision = PRIOR_STD**-2 + float(np.sum(1 / variance))
        offset = float(np.sum(deviation / variance)) / precision
        # One degree of freedom beside those of the networks stands for the model's own statement.
        chi2 = float(np.sum((deviation - offset) ** 2 / variance))
        return cls(
            log_offset=offset,
            log_offset_std=precision**-0.5,
            inflation=math.sqrt(max(1.0, (chi2 + 1) / (len(measured_ms) + 1))),
        )


@dataclass(frozen=True)
class CorrectedLatency:
    """A latency model corrected for one corner of the space; is a :class:`~hwnas.search.budget.LatencyPredictor`."""

    model: LatencyPredictor
    correction: Correction

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms, each [n]."""
        mean, std = self.model.predict(genomes)
        corrected = math.exp(self.correction.log_offset) * mean
        relative = self.correction.inflation * std / mean
        return corrected, corrected * np.hypot(relative, self.correction.log_offset_std)


@dataclass(frozen=True)
class Refinement:
    """A further search near the finalists of one, in a directory of its own below that of the first.

    Attributes:
        latency_model: that of the first search.
        evaluations: all of the first search.
        others: its further budgets.
        directory: of ``correction.json`` and the search's record; what is there stands, whatever is measured again.
    """

    space: Space
    latency_model: LatencyPredictor
    budget: Budget
    evaluate: Evaluator
    evaluations: Sequence[Evaluation]
    directory: Path
    seed: int
    progress: Progress | None = None
    others: Sequence[Constraint] = ()

    def search(self, measured: Sequence[Finalist]) -> tuple[Evaluation, ...]:
        """Evaluate up to :data:`REFINED_CANDIDATES` more, which keep the budget by the corrected model with fair odds.

        None, where not even the fastest architecture does.

        Raises:
            BadFileError, UserError: as :func:`~hwnas.search.search.run_search`.
        """
        n = min(REFINED_CANDIDATES, math.ceil(REFINED_SHARE * len(self.evaluations)))
        try:
            found = run_search(
                self.space,
                CorrectedLatency(self.latency_model, self._correction(measured)),
                self.budget.with_confidence(min(self.budget.confidence, REFINED_CONFIDENCE)),
                self.evaluate,
                self.directory,
                SearchOptions(evaluations=n, batch=n, seed=self.seed),
                self.progress,
                known=self.evaluations,
                others=self.others,
            )
        except InfeasibleBudgetError:
            return ()
        return found.evaluations

    def _correction(self, measured: Sequence[Finalist]) -> Correction:
        """Learned once: measured again, the finalists would teach a little else, and the search be another."""
        path = self.directory / "correction.json"
        if path.exists():
            return read_model(path, Correction, what="correction")
        known = [(f.architecture, f.figure_ms) for f in measured if f.figure_ms is not None]
        genomes = self.space.encode([architecture for architecture, _ in known])
        correction = Correction.learn(*self.latency_model.predict(genomes), np.array([ms for _, ms in known]))
        write_json(path, correction)
        return correction
