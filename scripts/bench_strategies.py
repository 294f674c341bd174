#!/usr/bin/env python3
"""Every search strategy on the supernet that comes with hwnas, with the same number of real evaluations.

    python scripts/bench_strategies.py --root runs/strategies      # two hours on one core; goes on where it stopped

All search for the most accurate architecture within one latency budget.  Candidates are scored on the same 1,000
validation images; what one search evaluated, no other evaluates again.  The winner of each search, chosen on those
images, is judged on the test images.  The difference of a strategy to `hwnas` is that of the hits on each test image,
both averaged over the seeds, and its interval from resampled images; 'tied' where that interval holds 0.  With --json
the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from hwnas.cli.console import bars, print_table
from hwnas.data import Dataset, ImageSet, load_dataset
from hwnas.errors import HwnasError, UserError
from hwnas.files import append_json_line, read_json_lines
from hwnas.latency import fit_latency_model, load_table
from hwnas.latency.store import table_stem
from hwnas.latency.table import Statistic
from hwnas.pipeline.networks import open_supernet
from hwnas.pipeline.training import require_supernet
from hwnas.search import Budget, SearchOptions, SearchResult, SubnetEvaluator, run_search
from hwnas.search.budget import Floats
from hwnas.search.options import DEFAULT_STRATEGY, STRATEGIES
from hwnas.search.record import Evaluation
from hwnas.spaces import Architecture, Space, get_space
from hwnas.supernet import ElasticNetwork

Hits = npt.NDArray[np.bool_]
VALIDATION_IMAGES = 1000
RESAMPLES = 10_000


@dataclass(frozen=True)
class Found:
    """One search and its winner's hits on the test images, [images]."""

    strategy: str
    seed: int
    result: SearchResult
    hits: Hits

    @property
    def winner(self) -> Evaluation:
        """The best on the validation images."""
        return self.result.finalists(1)[0]


@dataclass
class Known:
    """Which images architectures hit, on disk as it becomes known; evaluates what is not.

    Args:
        evaluator: on whose validation split the images are.
        images: how many.
        path: JSON lines of architectures and their hits, by the identity of the evaluator.
    """

    evaluator: SubnetEvaluator
    images: int
    path: Path

    def __post_init__(self) -> None:
        self.identity = self.evaluator.identity
        lines = [line for line in read_json_lines(self.path) if line["evaluator"] == self.identity]
        self._hits = {line["architecture"]: line["hits"] for line in lines}

    def hits(self, architecture: Architecture) -> Hits:
        """[images]."""
        if architecture.id not in self._hits:
            packed = b64encode(np.packbits(self.evaluator.hits(architecture).numpy()).tobytes()).decode()
            append_json_line(self.path, {"evaluator": self.identity, "architecture": architecture.id, "hits": packed})
            self._hits[architecture.id] = packed
        packed_hits = np.frombuffer(b64decode(self._hits[architecture.id]), np.uint8)
        return np.unpackbits(packed_hits, count=self.images).astype(np.bool_)

    def __call__(self, architecture: Architecture) -> float:
        """Top-1, in 0..1."""
        return float(self.hits(architecture).mean())


def main() -> None:
    arguments = parse()
    try:
        result = summary(arguments.budget, list(searched(arguments)))
    except HwnasError as error:
        print(f"bench_strategies: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(result)
    if arguments.json:
        print(json.dumps(result, allow_nan=False))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="directory of the searches and what they evaluated")
    parser.add_argument("--space", default="mobilenet_v3/small")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--table", type=Path, help="latency table; default: that of host-cpu which comes with hwnas")
    parser.add_argument("--budget", type=float, default=0.08, help="ms")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), metavar="STRATEGY")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100, help="of each search")
    parser.add_argument("--threads", type=int, default=1, help="of each evaluation")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser.parse_args()


def searched(arguments: argparse.Namespace) -> list[Found]:
    dataset = load_dataset(arguments.data)
    space = get_space(arguments.space, dataset.num_classes)
    table = load_table(arguments.table or shipped_table(space))
    latency = fit_latency_model(table, space, statistic=Statistic("p50", gated=True))
    supernet = open_supernet(require_supernet(arguments.space, dataset), space, dataset)
    scored = spread(dataset.validation, VALIDATION_IMAGES)
    validation = known_on(scored, supernet, dataset, arguments.threads, arguments.root / "validation.jsonl")
    test = known_on(dataset.test, supernet, dataset, arguments.threads, arguments.root / "test.jsonl")
    budget = Budget(table.target, "latency_ms", arguments.budget)
    found = []
    with bars() as progress:
        # Seed by seed, so that what is done of a bench broken off can be compared.
        for seed in range(arguments.seeds):
            for strategy in arguments.strategies:
                options = SearchOptions(strategy=strategy, evaluations=arguments.evaluations, seed=seed)
                directory = arguments.root / f"{strategy}-{seed}"
                print(f"{strategy}, seed {seed}", file=sys.stderr)
                result = run_search(space, latency, budget, validation, directory, options, progress)
                found.append(Found(strategy, seed, result, test.hits(result.finalists(1)[0].architecture)))
    return found


def spread(images: ImageSet, n: int) -> ImageSet:
    """``n`` images at equal distances: the first thousand happen to favour low resolutions by a point."""
    chosen = np.linspace(0, len(images) - 1, n).round().astype(np.int64)
    return ImageSet(images.pixels[chosen], images.labels[chosen])


def shipped_table(space: Space) -> Path:
    """The table of this machine's kind that comes with the repository."""
    directory = Path(__file__).resolve().parents[1] / "latency_tables" / "host-cpu"
    found = sorted(directory.glob(f"{table_stem(space)}.*.json"))
    if not found:
        raise UserError(f"There is no table of {space.name} in {directory}; give one with --table.")
    return found[0]


def known_on(images: ImageSet, supernet: ElasticNetwork, dataset: Dataset, threads: int, path: Path) -> Known:
    """What subnets hit of ``images``."""
    split = replace(dataset, readers={**dataset.readers, "validation": lambda: images})
    return Known(SubnetEvaluator(supernet, split, threads=threads), len(images), path)


def summary(budget: float, found: Sequence[Found]) -> dict[str, Any]:
    """One row of each strategy, the best first, and one of each search."""
    everything = [e for f in found for e in f.result.evaluations]
    box = (
        min(e.predicted_ms for e in everything),
        budget,
        min(e.top1 for e in everything),
        max(e.top1 for e in everything),
    )
    reference = {f.seed: f.winner.top1 for f in found if f.strategy == "random"}
    searches = [
        {
            "strategy": f.strategy,
            "seed": f.seed,
            "winner": f.winner.architecture.id,
            "validation_top1": f.winner.top1,
            "test_top1": float(f.hits.mean()),
            "predicted_ms": f.winner.predicted_ms,
            "evaluations": len(f.result.evaluations),
            "evaluations_to_winner": f.winner.index + 1,
            "evaluations_to_random": reached(f.result.evaluations, reference.get(f.seed)),
            "hypervolume": hypervolume(f.result.front, box),
        }
        for f in found
    ]
    names = list(dict.fromkeys(f.strategy for f in found))
    ours = np.mean([f.hits for f in found if f.strategy == DEFAULT_STRATEGY], axis=0)
    rows = []
    for name in names:
        mine = [s for s in searches if s["strategy"] == name]
        hits = np.mean([f.hits for f in found if f.strategy == name], axis=0)
        to_random = [s["evaluations_to_random"] for s in mine if s["evaluations_to_random"] is not None]
        rows.append(
            {
                "strategy": name,
                "searches": len(mine),
                "test_top1": mean(mine, "test_top1"),
                "test_top1_deviation": deviation(mine, "test_top1"),
                "validation_top1": mean(mine, "validation_top1"),
                "evaluations_to_winner": mean(mine, "evaluations_to_winner"),
                "reached_random": len(to_random),
                "evaluations_to_random": float(np.mean(to_random)) if to_random else None,
                "hypervolume": mean(mine, "hypervolume"),
                **difference(hits - ours),
            }
        )
    return {"budget_ms": budget, "rows": sorted(rows, key=lambda row: -row["test_top1"]), "searches": searches}


def mean(searches: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.mean([search[name] for search in searches]))


def deviation(searches: Sequence[dict[str, Any]], name: str) -> float:
    """Standard deviation of the searches of one strategy; 0 of a single one."""
    return float(np.std([search[name] for search in searches], ddof=1)) if len(searches) > 1 else 0.0


def reached(evaluations: Sequence[Evaluation], top1: float | None) -> int | None:
    """After how many evaluations one was as good; None where none was."""
    return next((e.index + 1 for e in evaluations if top1 is not None and e.top1 >= top1), None)


def hypervolume(front: Sequence[Evaluation], box: tuple[float, float, float, float]) -> float:
    """Share of the box (fastest ms, budget ms, lowest and highest top-1) that a front, fastest first, dominates."""
    fastest, budget, lowest, highest = box
    ends = [e.predicted_ms for e in front[1:]] + [budget]
    area = sum((end - e.predicted_ms) * (e.top1 - lowest) for e, end in zip(front, ends, strict=True))
    whole = (budget - fastest) * (highest - lowest)
    return area / whole if whole > 0 else 0.0


def difference(hits: Floats) -> dict[str, Any]:
    """Mean over the images [n] with the 95 % interval of resampled images."""
    if not hits.any():
        return {"difference": 0.0, "interval": [0.0, 0.0], "tied": True}
    low, high = bootstrap(
        (hits,), np.mean, n_resamples=RESAMPLES, batch=100, method="percentile", random_state=0
    ).confidence_interval
    return {"difference": float(hits.mean()), "interval": [float(low), float(high)], "tied": bool(low <= 0 <= high)}


def show(result: dict[str, Any]) -> None:
    header = [
        "",
        "test ± seeds",
        f"less {DEFAULT_STRATEGY}",
        "95 % interval",
        "valid.",
        "found at",
        "random's at",
        "volume",
    ]
    lines = []
    for row in result["rows"]:
        low, high = (100 * end for end in row["interval"])
        at = "never" if row["evaluations_to_random"] is None else f"{row['evaluations_to_random']:.0f}"
        lines.append(
            [
                row["strategy"],
                f"{100 * row['test_top1']:.2f} ± {100 * row['test_top1_deviation']:.2f} %",
                f"{100 * row['difference']:+.2f}" + (" tied" if row["tied"] else ""),
                f"{low:+.2f} to {high:+.2f}",
                f"{100 * row['validation_top1']:.2f} %",
                f"{row['evaluations_to_winner']:.0f}",
                f"{at} ({row['reached_random']} of {row['searches']})",
                f"{row['hypervolume']:.3f}",
            ]
        )
    print_table(f"Strategies under {result['budget_ms']:g} ms, mean of the seeds", header, lines)
    print("± seeds: standard deviation of the searches, which the interval over the images does not contain.")
    print("found at: evaluations up to the winner; random's at: up to the top-1 that random search ended with.")


if __name__ == "__main__":
    main()
