#!/usr/bin/env python3
"""How well accuracy is ranked from few evaluated subnets: our predictor beside ridge regression and MACs.

On 1,111 once-for-all subnets with measured ImageNet top-1: some are learned from, all others are ranked (Kendall's τ,
mean over seeds). With --json the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_fewshot import ridge, value
from scipy.stats import kendalltau

from hwnas.cli.console import print_table
from hwnas.errors import BadFileError, HwnasError, UserError
from hwnas.search.accuracy import PREDICTORS
from hwnas.search.budget import Floats
from hwnas.spaces import Genomes, Space, get_space

SPACE = "mobilenet_v3/imagenet-w1.0"
FILE = Path("latency/ofa_mbv3_w1.0_imagenet_top1.jsonl")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"directory that holds {FILE}")
    parser.add_argument("--networks", type=int, nargs="+", default=[50, 100, 250], help="learned from")
    parser.add_argument("--seeds", type=int, default=5, help="draws of them")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    try:
        space = get_space(SPACE)
        genomes, top1 = load(space, arguments.data / FILE)
        most = max(arguments.networks)
        if not 2 <= min(arguments.networks) <= most <= len(top1) - 2:
            raise UserError(f"--networks are from 2 to {len(top1) - 2}, since the rest is ranked.")
        rows = [row(space, genomes, top1, n, seed) for n in arguments.networks for seed in range(arguments.seeds)]
    except HwnasError as error:
        print(f"bench_predictor: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(rows, arguments.networks, len(top1))
    if arguments.json:
        print(json.dumps({"rows": rows}, allow_nan=False))


def load(space: Space, path: Path) -> tuple[Genomes, Floats]:
    """Genomes [n, choices] and top-1 as fractions, [n]; what stands there for inactive blocks is dropped."""
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [[choice.values.index(value(entry, choice.label)) for choice in space.choices] for entry in entries]
        top1 = np.array([entry["top1"] for entry in entries], np.float64) / 100
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise BadFileError(f"{path} cannot be read ({error!r}); --data names the directory it lies in.") from error
    return space.canonical(np.array(rows, np.int8)), top1


def row(space: Space, genomes: Genomes, top1: Floats, n: int, seed: int) -> dict[str, Any]:
    """τ of each predictor over all subnets that are not among the ``n`` learned from."""
    order = np.random.default_rng(seed).permutation(len(top1))
    known, unseen = order[:n], order[n:]
    found: dict[str, Any] = {"networks": n, "seed": seed, "judged": len(unseen)}
    for name, make in PREDICTORS.items():
        start = time.monotonic()
        predictor = make(space)
        predictor.fit(genomes[known], top1[known])
        predicted = predictor.predict(genomes[unseen])[0]
        found[f"{name}_seconds"] = time.monotonic() - start
        found[f"{name}_tau"] = tau(predicted, top1[unseen])
    one_hot = space.one_hot(genomes)
    found["ridge_tau"] = tau(ridge(one_hot[known], top1[known], one_hot[unseen]), top1[unseen])
    found["macs_tau"] = tau(space.macs(genomes[unseen]), top1[unseen])
    return found


def tau(predicted: Floats, measured: Floats) -> float:
    return float(kendalltau(predicted, measured).statistic)


def show(rows: list[dict[str, Any]], networks: list[int], n: int) -> None:
    names = [*PREDICTORS, "ridge", "macs"]

    def mean(key: str, known: int) -> str:
        return f"{np.mean([entry[key] for entry in rows if entry['networks'] == known]):.3f}"

    lines = [[name, *(mean(f"{name}_tau", known) for known in networks)] for name in names]
    lines += [[f"{name}: seconds", *(mean(f"{name}_seconds", known) for known in networks)] for name in PREDICTORS]
    print_table(f"Kendall's τ over the rest of {n} subnets", ["learned from", *map(str, networks)], lines)


if __name__ == "__main__":
    main()
