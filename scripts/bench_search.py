#!/usr/bin/env python3
"""The inner search beside the once-for-all finder, on the published note10 table and ImageNet predictor.

All get the same table and the same predictor, in one process: the finder of the package ofa (population 100, 500
generations), the same algorithm on arrays with our predictor and latency model, random search, and ours.  The finder
is fetched by `pip install --no-deps --target DIRECTORY ofa`, and --ofa DIRECTORY names it; without it those columns
stay empty.  All accuracies are the predictor's.  A bound of the predictor over all architectures within each budget is
proved apart, by branch and bound; it stands in the table where it is within 0.01 of what was found.  With --json the
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_fewshot import value
from published_finder import (
    POPULATION,
    RESOLUTIONS,
    Finder,
    PublishedAccuracy,
    PublishedLatency,
    space_of,
    specification,
)

from hwnas.cli.console import print_table
from hwnas.errors import HwnasError
from hwnas.search.additive import AdditiveTerms
from hwnas.search.bound import how_far, informative
from hwnas.search.budget import Budget, Floats
from hwnas.search.evolution import THOROUGH, evolve
from hwnas.search.feasibility import fastest
from hwnas.search.optimum import Limit
from hwnas.search.relu_bound import Proof, ReluBound
from hwnas.search.screen import Screen
from hwnas.spaces import Genomes, Space

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
START = 2048
PARENTS, PROBABILITY = 25, 0.1
EVALUATIONS = (1_000, 10_000, 50_000, 100_000)
SECONDS = (0.1, 0.3, 1.0, 2.0, 10.0, 50.0)
CHECKED = 200


@dataclass
class Trace:
    """Everything that one search evaluated and when; what is over the budget does not count."""

    score: Callable[[Genomes], Floats]
    batches: list[tuple[float, Genomes, Floats]] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)

    def __call__(self, genomes: Genomes) -> Floats:
        found = self.score(genomes)
        self.add(genomes, found)
        return found

    def add(self, genomes: Genomes, found: Floats) -> None:
        self.batches.append((time.perf_counter() - self.start, genomes, found))

    def curve(self, screen: Screen) -> dict[str, dict[str, float | None]]:
        """Best accuracy after so many evaluations and after so many seconds; None where the search was over before."""
        counts = np.cumsum([len(genomes) for _, genomes, _ in self.batches])
        bests = [np.where(screen.keeps(genomes), found, -np.inf).max() for _, genomes, found in self.batches]
        best, seconds = np.maximum.accumulate(bests), np.array([s for s, _, _ in self.batches])

        def at(reached: Any, limits: tuple[float, ...]) -> dict[str, float | None]:
            last = [int(np.searchsorted(reached, limit, side="right")) for limit in limits]
            known = [float(best[i - 1]) if 0 < i < len(best) else None for i in last]
            return {
                f"{limit:g}": b if b is not None and b > 0 else None for limit, b in zip(limits, known, strict=True)
            }

        return {"evaluations": at(counts, EVALUATIONS), "seconds": at(seconds, SECONDS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="directory that holds latency/")
    parser.add_argument("--ofa", type=Path, help="directory into which the package ofa was installed")
    parser.add_argument("--budgets", type=float, nargs="+", default=[15, 20, 25, 30], help="ms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bound-seconds", type=float, default=55, help="most that proving a bound takes")
    parser.add_argument("--generations", type=int, default=500, help="of the finder")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    try:
        rows = benchmark(arguments)
    except HwnasError as error:
        print(f"bench_search: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(rows)
    if arguments.json:
        print(json.dumps({"rows": rows}, allow_nan=False))


def benchmark(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    space = space_of(*RESOLUTIONS)
    latency, score = PublishedLatency(space, arguments.data), PublishedAccuracy(space, arguments.data)
    finder = None
    if arguments.ofa is None:
        print("The finder is left out: --ofa names the directory where it lies (see --help).", file=sys.stderr)
    else:
        finder = Finder.load(arguments.ofa, arguments.data)
        check(space, latency, score, finder)
    start = space.encode([fastest(space, latency)[0]])
    rows = []
    for limit in arguments.budgets:
        screen = Screen(space, latency, Budget("note10", "latency_ms", limit, confidence=0.5), start)
        proof = proved(screen, score, limit, arguments.bound_seconds)
        for seed in range(arguments.seeds):
            rows.append(bounded(row(screen, score, finder, limit, seed, arguments.generations), proof))
            print(f"{limit:g} ms, seed {seed}: {rows[-1]['accuracy']:.4f}", file=sys.stderr)
    return rows


def proved(screen: Screen, score: PublishedAccuracy, limit: float, seconds: float) -> Proof:
    """What branch and bound proves of the predictor over all architectures within a limit on the latency, in ms."""
    terms = AdditiveTerms.of(screen.space, screen.latency)
    assert terms is not None, "the published latency is a sum over blocks"
    return ReluBound(screen.space, score.network, seconds=seconds).prove([Limit(terms, limit)])


def bounded(found: dict[str, Any], proof: Proof) -> dict[str, Any]:
    """A row with the bound, where it says something, and what it took."""
    bound = {
        "upper_bound": informative(proof.upper_bound, found["accuracy"]),
        "proved": proof.upper_bound,
        "proved_regions": proof.regions,
        "bound_seconds": proof.seconds,
    }
    return found | bound


def check(space: Space, latency: PublishedLatency, score: PublishedAccuracy, finder: Finder) -> None:
    """The published predictors and ours say the same of the same architectures."""
    genomes = space.sample(np.random.default_rng(0), CHECKED)
    specs = [specification(space, genomes[i : i + 1]) for i in range(CHECKED)]
    ms = [finder.latency.predict_efficiency(spec) for spec in specs]
    np.testing.assert_allclose(latency.predict(genomes)[0], ms, rtol=1e-9)
    np.testing.assert_allclose(score(genomes), finder.accuracy.predict_accuracy(specs)[:, 0].numpy(), atol=1e-5)
    print(f"Both predict the same latency and accuracy of {CHECKED} random architectures.", file=sys.stderr)


def row(
    screen: Screen, score: PublishedAccuracy, finder: Finder | None, limit: float, seed: int, generations: int
) -> dict[str, Any]:
    """One budget and seed by every search."""
    ours = Trace(score)
    rng = np.random.default_rng(seed)
    best = evolve(screen, ours, rng, screen.sample(rng, START), THOROUGH)[:1]
    seconds = time.perf_counter() - ours.start
    evaluations = sum(len(genomes) for _, genomes, _ in ours.batches)
    arrays, drawn = Trace(score), Trace(score)
    on_arrays(screen, arrays, np.random.default_rng(seed), generations)
    arrays_seconds = time.perf_counter() - arrays.start
    at_random(screen, drawn, np.random.default_rng(seed), evaluations, seconds)
    start = time.perf_counter()
    far = how_far(screen, score, best, limit, np.random.default_rng(seed))
    distance_seconds = time.perf_counter() - start
    found = {
        "budget_ms": limit,
        "seed": seed,
        "ofa_accuracy": None,
        "ofa_seconds": None,
        "accuracy": far.predicted,
        "latency_ms": float(screen.latency(best)[0]),
        "seconds": seconds,
        "evaluations": evaluations,
        "additive_optimum": far.additive.value if far.additive else None,
        "additive_proved": far.additive.proved if far.additive else None,
        "additive_r2": far.additive.r2 if far.additive else None,
        "additive_predicted": far.additive.predicted if far.additive else None,
        "distance_seconds": distance_seconds,
        "finder_on_arrays_accuracy": highest(screen, arrays),
        "finder_on_arrays_seconds": arrays_seconds,
        "random_accuracy": highest(screen, drawn),
        "curves": {name: t.curve(screen) for name, t in (("ours", ours), ("arrays", arrays), ("random", drawn))},
    }
    if finder is not None:
        watched = Trace(score)
        raw: list[tuple[float, Any, Floats]] = []
        finder.search(limit, seed, generations, lambda s, a: raw.append((time.perf_counter() - watched.start, s, a)))
        found["ofa_seconds"] = time.perf_counter() - watched.start
        watched.batches = [(s, genomes_of(screen.space, specs), accuracy) for s, specs, accuracy in raw]
        found["ofa_accuracy"] = highest(screen, watched)
        found["curves"]["ofa"] = watched.curve(screen)
    return found


def highest(screen: Screen, trace: Trace) -> float:
    return float(max(np.where(screen.keeps(g), found, -np.inf).max() for _, g, found in trace.batches))


def genomes_of(space: Space, specs: list[dict[str, Any]]) -> Genomes:
    entries = [spec | {"r": spec["r"][0]} for spec in specs]
    genes = [[c.values.index(value(entry, c.label)) for c in space.choices] for entry in entries]
    return space.canonical(np.array(genes, np.int8))


def on_arrays(screen: Screen, score: Trace, rng: np.random.Generator, generations: int) -> None:
    """The finder's algorithm on arrays: 25 parents, 50 mutants, 50 crossings, drawn again while over the budget."""
    genomes = screen.sample(rng, POPULATION)
    scores = score(genomes)
    for _ in range(generations):
        best = np.argsort(-scores, kind="stable")[:PARENTS]
        genomes, scores = genomes[best], scores[best]
        half = POPULATION // 2
        children = [
            kept(screen, half, lambda n, g=genomes: screen.space.mutate(rng, drawn_of(rng, g, n), PROBABILITY)),
            kept(
                screen,
                half,
                lambda n, g=genomes: screen.space.crossover(rng, drawn_of(rng, g, n), drawn_of(rng, g, n)),
            ),
        ]
        fresh = np.concatenate(children)
        genomes, scores = np.concatenate([genomes, fresh]), np.concatenate([scores, score(fresh)])


def drawn_of(rng: np.random.Generator, genomes: Genomes, n: int) -> Genomes:
    return np.asarray(genomes[rng.integers(len(genomes), size=n)])


def kept(screen: Screen, n: int, draw: Callable[[int], Genomes]) -> Genomes:
    """``n`` of those drawn that keep the budget."""
    found: list[Genomes] = []
    while sum(map(len, found)) < n:
        trial = draw(2 * n)
        found.append(trial[screen.keeps(trial)])
    return np.concatenate(found)[:n]


def at_random(screen: Screen, score: Trace, rng: np.random.Generator, evaluations: int, seconds: float) -> None:
    """Random architectures within the budget, until both so many and so long."""
    done = 0
    while done < evaluations or time.perf_counter() - score.start < seconds:
        genomes = screen.sample(rng, START)
        score(genomes)
        done += len(genomes)


def show(rows: list[dict[str, Any]]) -> None:
    def cell(entry: dict[str, Any], name: str, digits: int) -> str:
        return "–" if entry[name] is None else f"{entry[name]:.{digits}f}"

    names = {"ofa_accuracy": 4, "ofa_seconds": 1, "accuracy": 4, "latency_ms": 2, "seconds": 2}
    names |= {"finder_on_arrays_accuracy": 4, "finder_on_arrays_seconds": 2, "random_accuracy": 4}
    names |= {"upper_bound": 4, "additive_optimum": 4, "additive_r2": 2}
    header = ["budget, seed", "finder", "s", "ours", "ms", "s", "finder on arrays", "s", "random", "bound"]
    header += ["additive optimum", "R²"]
    lines = [[f"{r['budget_ms']:g} ms, {r['seed']}", *(cell(r, n, d) for n, d in names.items())] for r in rows]
    print_table("Accuracy by the published predictor", header, lines)
    for kind in ("evaluations", "seconds"):
        limits = EVALUATIONS if kind == "evaluations" else SECONDS
        lines = []
        for budget in dict.fromkeys(r["budget_ms"] for r in rows):
            for method in rows[0]["curves"]:
                curves = [r["curves"][method][kind] for r in rows if r["budget_ms"] == budget]
                known = [[c[f"{limit:g}"] for c in curves] for limit in limits]
                cells = ["–" if None in each else f"{np.mean(each):.4f}" for each in known]
                lines.append([f"{budget:g} ms {method}", *cells])
        print_table(f"Best after so many {kind}, mean of the seeds", ["", *(f"{limit:g}" for limit in limits)], lines)


if __name__ == "__main__":
    main()
