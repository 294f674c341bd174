#!/usr/bin/env python
"""How good a supernet's subnets are, on the test images; and what the same architectures reach trained alone.

    python scripts/bench_supernet.py                              # the supernet that comes with hwnas: 3 minutes
    python scripts/bench_supernet.py --supernet runs/mine --alone 6 --seeds 2 --out runs/alone   # hours, resumable

Alone means: the same augmentation and optimizer, and as many image passes as the supernet had, where a sandwich step of
four subnets counts four; from the labels, or with --taught from the supernet's largest subnet.  Architectures that are
trained alone are drawn one from each of as many strata of multiply-accumulates, or at random.  Kendall's tau says how
far the supernet orders them as training alone does, and, with two seeds or more, how far training alone orders them as
it does itself.  The test images are read once, when no training remains; exit status 75 says that some do.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Bench, add_arguments
from rich.console import Console
from scipy.stats import kendalltau
from trainings import UNFINISHED, Training, run_all

from hwnas.cli.console import bars, percent, print_table
from hwnas.errors import HwnasError
from hwnas.progress import Progress
from hwnas.spaces import Architecture, Space, single_space

RANDOM_SUBNETS = 30
MISSED = 3
"""Exit status where all went well but an aim was not reached."""
STRATIFIED = 10_000
"""Random architectures that strata are made of."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    try:
        with bars() as progress:
            bench = Bench(arguments.supernet, arguments.data, arguments.data_root)
            drawn = draw(bench.space, arguments.alone, arguments.draw)
            trainings = {architecture: of_seeds(bench, architecture, arguments) for architecture in drawn}
            by_seed = zip(*trainings.values(), strict=True)  # so that a part tells of all architectures
            done = run_all(
                [one for row in by_seed for one in row], arguments.until, progress, together=arguments.together
            )
            result = summarise(bench, trainings, done, arguments, progress)
    except HwnasError as error:
        print(f"bench_supernet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if done and arguments.aims:
        result["aims"] = judged(result, *arguments.aims)
    show(result)
    if arguments.json:
        print(json.dumps(result))
    missed = not all(result.get("aims", {}).values())
    sys.exit(UNFINISHED if not done else MISSED if missed else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", type=Path, help="directory of weights; default: those that come with hwnas")
    add_arguments(parser, out="runs/alone")
    parser.add_argument("--alone", type=int, default=0, metavar="N", help="so many architectures are trained alone")
    parser.add_argument("--draw", choices=("stratified", "random"), default="stratified", help="how those are drawn")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each of them")
    parser.add_argument("--taught", action="store_true", help="the supernet's largest subnet teaches them")
    parser.add_argument("--subnets", type=int, default=RANDOM_SUBNETS, help="random ones with the supernet's weights")
    parser.add_argument(
        "--aims",
        type=float,
        nargs=3,
        metavar=("LARGEST", "SMALLEST", "GAP"),
        help="least test top-1 of the largest and the smallest subnet, per cent, and most points by which training "
        "alone may be better for any architecture; exit status 3 where one is missed",
    )
    arguments = parser.parse_args()
    if arguments.alone < 0 or arguments.seeds < 1 or arguments.subnets < 2:
        parser.error("--alone is at least 0, --seeds at least 1, --subnets at least 2")
    return arguments


def draw(space: Space, count: int, how: str) -> list[Architecture]:
    """Architectures to train alone, the same ones in every call."""
    rng = np.random.default_rng(0)
    if how == "random" or not count:
        return space.decode(space.sample(rng, count))
    genomes = space.sample(rng, STRATIFIED)
    strata = np.array_split(np.argsort(space.macs(genomes), kind="stable"), count)
    return space.decode(genomes[[rng.choice(stratum) for stratum in strata]])


def of_seeds(bench: Bench, architecture: Architecture, arguments: argparse.Namespace) -> list[Training]:
    """The trainings of one architecture alone."""
    space = single_space(bench.space.name, bench.space.network(architecture), bench.space.norm_eps)
    passes = arguments.passes or bench.passes
    size = f"-batch{arguments.batch_size}" if arguments.batch_size else ""
    configs = [
        bench.alone(passes, seed, taught=arguments.taught, batch_size=arguments.batch_size)
        for seed in range(arguments.seeds)
    ]
    return [
        Training(arguments.out / f"{architecture.id}-seed{config.seed}{size}", space, bench.dataset, config)
        for config in configs
    ]


def summarise(
    bench: Bench,
    trainings: dict[Architecture, list[Training]],
    done: bool,
    arguments: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """The figures, accuracies as fractions; those on the test images only when no training remains."""
    space = bench.space
    result: dict[str, Any] = {
        "supernet": str(bench.directory),
        "data": bench.dataset.name,
        **(equal_terms(bench, arguments) if trainings else {}),
        "alone": [
            {
                "architecture": architecture.id,
                "mmacs": mmacs(space, architecture),
                "supernet_validation_top1": bench.validation_top1(bench.supernet, architecture),
                "validation_top1": [one.validation_top1 for one in row],
            }
            for architecture, row in trainings.items()
        ],
    }
    if not done:
        return result
    for entry, (architecture, row) in zip(result["alone"], trainings.items(), strict=True):
        entry["supernet_test_top1"] = bench.test_top1(bench.supernet, architecture)
        entry["test_top1"] = [
            None if one.diverged else bench.test_top1(one.network(), one.space.largest) for one in row
        ]
    chosen = space.decode(space.sample(np.random.default_rng(0), arguments.subnets))
    named = {"largest": space.largest, "smallest": space.smallest}
    named |= {f"random {number}": architecture for number, architecture in enumerate(chosen)}
    progress.start("test accuracy", len(named), unit="subnets")
    result["networks"] = []
    for name, architecture in named.items():
        top1 = bench.test_top1(bench.supernet, architecture)
        progress.advance(note=f"{name}: {percent(top1)}")
        row_of = {"name": name, "architecture": architecture.id, "mmacs": mmacs(space, architecture), "top1": top1}
        result["networks"].append(row_of)
    progress.finish()
    random = np.array([row["top1"] for row in result["networks"][2:]])
    return result | {
        "largest": result["networks"][0]["top1"],
        "smallest": result["networks"][1]["top1"],
        "random_mean": float(random.mean()),
        "random_standard_error": standard_error(random),
        **compared(result["alone"]),
    }


def equal_terms(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """How the trainings alone stand to the supernet's."""
    passes = arguments.passes or bench.passes
    return {"passes": passes, "taught": arguments.taught, "supernet_passes": bench.passes}


def judged(result: dict[str, Any], largest: float, smallest: float, gap: float) -> dict[str, bool]:
    """Which aims are met; without a training alone, and with one that diverged, that of the gap is missed."""
    return {
        f"largest at least {largest:g} %": 100 * result["largest"] >= largest,
        f"smallest at least {smallest:g} %": 100 * result["smallest"] >= smallest,
        f"alone better by {gap:g} points at most": not result["alone_diverged"]
        and 100 * result.get("alone_gap_largest", float("inf")) <= gap,
    }


def mmacs(space: Space, architecture: Architecture) -> float:
    return round(float(space.macs(space.encode([architecture]))[0]) / 1e6, 3)


def compared(alone: list[dict[str, Any]]) -> dict[str, Any]:
    """The supernet against training alone, by the test images; diverged trainings are left out and counted."""
    kept = [entry for entry in alone if None not in entry["test_top1"]]
    if not kept:
        return {"alone_diverged": len(alone)}
    supernet = np.array([entry["supernet_test_top1"] for entry in kept])
    by_seed = np.array([entry["test_top1"] for entry in kept]).T
    gaps = by_seed.mean(0) - supernet
    return {
        "alone_diverged": len(alone) - len(kept),
        "alone_gap_mean": float(gaps.mean()),
        "alone_gap_standard_error": standard_error(gaps),
        "alone_gap_largest": float(gaps.max()),
        "tau_supernet_alone": mean_tau([(supernet, one) for one in by_seed]),
        "tau_between_seeds": mean_tau(list(combinations(by_seed, 2))),
    }


def standard_error(values: np.ndarray) -> float | None:
    """Of the mean; None of a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def mean_tau(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Kendall's tau-b, mean over pairs; None where there is nothing to order."""
    found = [float(kendalltau(*pair).statistic) for pair in pairs if len(pair[0]) > 1]
    found = [tau for tau in found if np.isfinite(tau)]
    return float(np.mean(found)) if found else None


def show(result: dict[str, Any]) -> None:
    console = Console()
    if result["alone"]:
        rows = [
            [
                entry["architecture"],
                f"{entry['mmacs']:.2f}",
                *(of_each(entry, f"{split}_top1") for split in ("validation", "test")),
            ]
            for entry in result["alone"]
        ]
        how = "taught by the largest subnet" if result["taught"] else "from the labels"
        passes = f"{result['passes']:g} image passes (the supernet: {result['supernet_passes']:g})"
        header = ["architecture", "MMACs", "validation top-1", "test top-1"]
        print_table(f"Supernet → alone, {how}, {passes}", header, rows)
    if "networks" not in result:
        console.print("Trainings remain, so the test images were not read; the same command goes on.")
        return
    rows = [[r["name"], r["architecture"], f"{r['mmacs']:.2f}", percent(r["top1"])] for r in result["networks"]]
    print_table("Subnets with the supernet's weights", ["", "architecture", "MMACs", "test top-1"], rows)
    console.print(
        f"Mean over {len(rows) - 2} random subnets: {percent(result['random_mean'])} "
        f"(standard error {points(result['random_standard_error'])})"
    )
    if result.get("alone_diverged"):
        console.print(f"{result['alone_diverged']} architectures are left out: a training of theirs diverged.")
    if "alone_gap_mean" in result:
        console.print(
            f"Alone is better by {points(result['alone_gap_mean'])} points (standard error "
            f"{points(result['alone_gap_standard_error'])}), at most by {points(result['alone_gap_largest'])}; "
            f"Kendall's tau between supernet and alone {decimals(result['tau_supernet_alone'])}, "
            f"between seeds {decimals(result['tau_between_seeds'])}."
        )

    for aim, met in result.get("aims", {}).items():
        console.print(f"{aim}: {'met' if met else 'missed'}")


def of_each(entry: dict[str, Any], name: str) -> str:
    """The supernet's figure and those of the trainings alone."""
    if name not in entry:
        return "–"
    return " → ".join([percent(entry[f"supernet_{name}"]), ", ".join(map(percent, entry[name]))])


def points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
