"""How a search is run."""

from __future__ import annotations

import difflib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwnas.errors import UnknownNameError, UserError

STRATEGIES: dict[str, str] = {
    "hwnas": "hwnas.search.strategies.surrogate:surrogate_evolution",
    "bayesian_optimisation": "hwnas.search.strategies.bayesian_optimisation:bayesian_optimisation",
    "gradient": "hwnas.search.strategies.gradient:gradient",
    "grid": "hwnas.search.strategies.grid:grid",
    "nsga2": "hwnas.search.strategies.nsga2:nsga2",
    "particle_swarm": "hwnas.search.strategies.particle_swarm:particle_swarm",
    "random": "hwnas.search.strategies.random:random",
    "regularized_evolution": "hwnas.search.strategies.regularized_evolution:regularized_evolution",
    "reinforcement_learning": "hwnas.search.strategies.reinforcement_learning:reinforcement_learning",
    "tpe": "hwnas.search.strategies.tpe:tree_parzen",
}
"""Name of each strategy to its factory, ``module:function``, imported when the search starts."""

DEFAULT_STRATEGY = "hwnas"

Objective = Literal["accuracy", "front"]
SEEK_FRONT = ("hwnas", "grid", "nsga2", "random")
"""Strategies that look for the whole Pareto front, if that is the objective; the others look for accuracy alone."""


class SearchOptions(BaseModel):
    """Everything that the candidates of a search depend on beside space, latency model and budget.

    Raises:
        UnknownNameError: there is no such strategy.
        UserError: the seed is negative, there is nothing to evaluate, or the strategy does not seek a front.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str = DEFAULT_STRATEGY
    objective: Objective = "accuracy"
    """The most accurate architecture within the budgets, or all that are best for some of what the budgets limit."""
    evaluations: int = 48
    """Candidates to evaluate with real weights."""
    seed: int = 0
    initial: int = Field(default=16, ge=2)
    """Candidates that a strategy evaluates before it learns."""
    batch: int = Field(default=8, ge=1)
    """Candidates that a strategy proposes at a time, before it learns from any of them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.strategy not in STRATEGIES:
            near = difflib.get_close_matches(self.strategy, STRATEGIES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UnknownNameError(
                f"There is no search strategy '{self.strategy}': {hint}known are {', '.join(STRATEGIES)}."
            )
        if self.objective == "front" and self.strategy not in SEEK_FRONT:
            raise UserError(
                f"Strategy '{self.strategy}' seeks the most accurate architecture alone; a front is sought by "
                f"{', '.join(SEEK_FRONT)}."
            )
        if self.evaluations < 1:
            raise UserError(f"A search evaluates at least one candidate, not {self.evaluations}.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"The seed of a search is between 0 and 2**32 - 1, not {self.seed}.")
        return self
