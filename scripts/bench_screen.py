#!/usr/bin/env python3
"""How many candidates a second are checked against the budgets of two devices, and whether a long search needs memory.

Both devices' tables were published with once-for-all (a phone and a Jetson); the space is that of their networks.  A
check predicts mean and spread on both devices and compares the upper sides with the limits.  The long search is the
inner one, which proposes by evolution over predictions.  With --json the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hwnas.cli.console import print_table
from hwnas.errors import HwnasError
from hwnas.latency import fit_latency_model
from hwnas.latency.importers import get_format, import_table
from hwnas.search.budget import Budget, Floats
from hwnas.search.constraints import Constraint
from hwnas.search.evolution import Effort, evolve
from hwnas.search.feasibility import require_feasible
from hwnas.search.screen import Screen
from hwnas.spaces import Genomes, Space, get_space

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIMITS_MS = {"note10": 25.0, "jetson_gpu_eager": 20.0}
CONFIDENCE = 0.5
"""The published tables hold no whole networks, so that their spread is a wide prior; half keeps the mean alone."""
CANDIDATES, ROUNDS = 100_000, 9
PROPOSALS = 1_000_000
STEPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="directory that holds latency/")
    parser.add_argument("--proposals", type=int, default=PROPOSALS, help="of the long search")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    try:
        screen = opened(arguments.data)
    except HwnasError as error:
        print(f"bench_screen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    result = checked(screen) | searched(screen, arguments.proposals)
    show(result)
    if arguments.json:
        print(json.dumps(result, allow_nan=False))


def opened(data: Path) -> Screen:
    """The budgets of both devices on the published space."""
    space = get_space("mobilenet_v3/imagenet-w1.2")
    first, second = (constraint(space, data, name, limit) for name, limit in LIMITS_MS.items())
    feasible = require_feasible(space, first.predictor, first.budget, None, (second,))
    return Screen(space, first.predictor, first.budget, feasible.start, (second,))


def constraint(space: Space, data: Path, device: str, limit_ms: float) -> Constraint:
    table = import_table(get_format("ofa"), data / "latency" / "ofa_tables" / device, device, space)
    return Constraint(Budget(device, "latency_ms", limit_ms, confidence=CONFIDENCE), fit_latency_model(table, space))


def checked(screen: Screen) -> dict[str, Any]:
    """Candidates a second, the median of some rounds."""
    genomes = screen.space.sample(np.random.default_rng(0), CANDIDATES)
    rates = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        keeps = screen.keeps(genomes)
        rates.append(len(genomes) / (time.perf_counter() - begun))
    return {
        "candidates": len(genomes),
        "kept": float(keeps.mean()),
        "checks_per_second": float(np.median(rates)),
        "slowest": min(rates),
        "fastest": max(rates),
    }


def searched(screen: Screen, proposals: int) -> dict[str, Any]:
    """Resident memory after each tenth of a search of so many proposals, each tenth an evolution of its own seed."""
    process, scored, resident = psutil.Process(), 0, []
    effort = Effort(islands=8, population=64, children=256)

    def score(genomes: Genomes) -> Floats:
        nonlocal scored
        scored += len(genomes)
        return screen.space.macs(genomes)

    begun, rng = time.perf_counter(), np.random.default_rng(0)
    start = screen.sample(rng, 1024)
    for step in range(1, STEPS + 1):
        while scored < step * proposals // STEPS:
            start = evolve(screen, score, rng, np.concatenate([start, screen.sample(rng, 512)]), effort)
        resident.append(process.memory_info().rss / 2**20)
    return {"proposals": scored, "search_seconds": time.perf_counter() - begun, "resident_mib": resident}


def show(result: dict[str, Any]) -> None:
    rates = [f"{result[name]:,.0f}" for name in ("checks_per_second", "slowest", "fastest")]
    devices = ", ".join(f"{name} {limit:g} ms" for name, limit in LIMITS_MS.items())
    print_table(f"Candidates checked a second ({devices})", ["median", "slowest", "fastest"], [rates])
    cells = [f"{mib:.0f}" for mib in result["resident_mib"]]
    title = f"Resident memory, MiB, over {result['proposals']:,} proposals in {result['search_seconds']:.1f} s"
    print_table(title, [f"{step}0 %" for step in range(1, STEPS + 1)], [cells])


if __name__ == "__main__":
    main()
