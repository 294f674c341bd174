"""Successive halving as a tuner of NNI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy.stats import qmc

from hwnas.search.nni_setup import Tuner, deformat_parameters, format_search_space, nni
from hwnas.tuning.rungs import Rungs

DIGITS = 4
"""Significant digits of a proposed value: what is written down is what was trained."""


@dataclass(frozen=True)
class Run:
    """One configuration to be trained to the end of one rung.

    Attributes:
        configuration: its number; 0 are the settings before tuning.
        rung: from 0.
        values: by name.
        begin, end: steps of the training, counted from its beginning.
    """

    configuration: int
    rung: int
    values: dict[str, float]
    begin: int
    end: int


class SuccessiveHalving(Tuner):  # type: ignore[misc]
    """Trains all configurations a little, and the best ones on.

    The first configuration is what there was before tuning, the others are a scrambled Sobol sequence (Owen 1998) over
    the ranges, which covers them evenly even with few.  A rung begins when all results of the one below are known; of
    equal results the one proposed first is better.  So neither the order nor the time in which results come matters.

    Args:
        rungs: how many, how far.
        untuned: values before tuning, within the ranges or not.
        baseline: whether the settings before tuning are trained to the end even if they are not among the best, beside
            those that are.
        seed: of the configurations.
    """

    def __init__(self, rungs: Rungs, untuned: dict[str, float], *, baseline: bool, seed: int) -> None:
        self._rungs = rungs
        self._untuned = untuned
        self._baseline = baseline
        self._seed = seed
        self.configurations: list[dict[str, float]] = []
        self._proposed: dict[int, Run] = {}
        self._waiting: list[Run] = []
        self._open: dict[int, list[int]] = {}
        self._results: dict[int, dict[int, float]] = {}

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Draw the configurations and open the first rung."""
        space = format_search_space(search_space)
        count = self._rungs.configurations - 1
        # A whole power of two of points is balanced; the rest is left out.
        points = qmc.Sobol(len(space), seed=self._seed).random_base2(max(count - 1, 0).bit_length())[:count]
        self.configurations = [{name: self._untuned[name] for name in search_space}]
        for point in points.tolist():
            inner = {
                key: spec.low + share * (spec.high - spec.low)
                for (key, spec), share in zip(space.items(), point, strict=True)
            }
            values = deformat_parameters(inner, space)
            self.configurations.append({name: float(f"{value:.{DIGITS}g}") for name, value in values.items()})
        self._begin_rung(0, list(range(self._rungs.configurations)))

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """What the next trial is to do.

        Raises:
            nni.NoMoreTrialError: nothing can be proposed before more results are known, or ever.
        """
        del kwargs
        if not self._waiting:
            raise nni.NoMoreTrialError
        run = self._proposed[parameter_id] = self._waiting.pop(0)
        return {"configuration": run.configuration, "rung": run.rung, "steps": run.end, **run.values}

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: float, **kwargs: Any) -> None:
        """The accuracy at the end of a proposed run; the last of a rung opens the next one."""
        del parameters, kwargs
        run = self._proposed[parameter_id]
        results = self._results[run.rung]
        results[run.configuration] = value
        if len(results) < len(self._open[run.rung]) or run.rung + 1 == self._rungs.count:
            return
        chosen = self.ranking(run.rung)[: self._rungs.widths[run.rung + 1]]
        if self._baseline and 0 not in chosen:
            chosen.append(0)
        self._begin_rung(run.rung + 1, sorted(chosen))

    def run(self, parameter_id: int) -> Run:
        """What was proposed by this number."""
        return self._proposed[parameter_id]

    def ranking(self, rung: int) -> list[int]:
        """Configurations of a rung whose results are known, the best first."""
        results = self._results.get(rung, {})
        return sorted(results, key=lambda configuration: (-results[configuration], configuration))

    @property
    def finished(self) -> bool:
        """Whether all results are known."""
        last = self._rungs.count - 1
        return last in self._open and len(self._results[last]) == len(self._open[last])

    def dropped(self) -> set[int]:
        """Configurations that will not be trained on."""
        newest = max(self._open)
        return set(range(self._rungs.configurations)) - set(self._open[newest])

    def _begin_rung(self, rung: int, configurations: list[int]) -> None:
        self._open[rung] = configurations
        self._results[rung] = {}
        begin, end = self._rungs.begin(rung), self._rungs.ends[rung]
        self._waiting += [Run(number, rung, self.configurations[number], begin, end) for number in configurations]
