"""The winner beside what else could have been chosen, as the report shows it."""

from __future__ import annotations

from hwnas import report
from hwnas.files import write_json
from hwnas.pipeline.run.results import Results
from hwnas.pipeline.run.run import Run
from hwnas.search.bound import how_far_evaluated
from hwnas.search.explain import ChangedBudget, Move, explain_evaluated
from hwnas.search.screen import Screen


def explained(run: Run, results: Results) -> report.Explained | None:
    """What the winner's choices buy and cost, by what the search learned; None where it evaluated one alone."""
    found = explain_evaluated(_screen(run), results.evaluations, run.winner_architecture)
    if found is None:
        return None
    write_json(run.directory / "explanation.json", found)

    def alternative(move: Move) -> report.Alternative:
        return report.Alternative(change=str(move), top1=move.top1, latency_ms=move.latency_ms)

    def changed(at: ChangedBudget) -> report.AtAnotherBudget:
        moves = tuple(map(alternative, at.moves))
        return report.AtAnotherBudget(
            limit_ms=at.limit_ms, moves=moves, top1=at.top1, latency_ms=at.latency_ms, keeps=at.keeps
        )

    return report.Explained(
        top1=found.top1,
        top1_std=found.top1_std,
        choices=tuple(
            report.Worth(
                label=effect.label,
                value=effect.value,
                lower=alternative(effect.lower) if effect.lower else None,
                higher=alternative(effect.higher) if effect.higher else None,
            )
            for effect in found.choices
        ),
        grown=changed(found.grown),
        shrunk=changed(found.shrunk),
    )


def far_from_best(run: Run, results: Results) -> report.FarFromBest | None:
    """The winner beside the optimum of an additive fit; None where there is none."""
    found = how_far_evaluated(_screen(run), results.evaluations, run.winner_architecture)
    if found is None or found.additive is None:
        return None
    write_json(run.directory / "distance.json", found)
    return report.FarFromBest(
        predicted=found.predicted,
        optimum=found.additive.value,
        optimum_predicted=found.additive.predicted,
        proved=found.additive.proved,
        r2=found.additive.r2,
        upper_bound=found.upper_bound,
    )


def _screen(run: Run) -> Screen:
    """The budgets, all of which the winner keeps."""
    genome = run.space.encode([run.winner_architecture])
    return Screen(run.space, run.latency.model, run.budget, genome, run.constraints)
