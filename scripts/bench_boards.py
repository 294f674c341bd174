"""One board against several of its kind at the same profile: how much sooner, and is it the same table?

    python scripts/bench_boards.py --boards 4 --json

Boards are simulated ones in a disturbed room (``SHARED``), whose times differ by the factors given: wall-clock time is
simulated, and what every network truly takes is known.  The board alone is the kind's mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.devices.simulated import SHARED, SimulatedBoard
from hwnas.graphs import network_graph
from hwnas.latency import Board, LatencyTable, ProfileOptions, fit_latency_model, profile_together
from hwnas.latency.difference import table_difference
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
KIND = 3
PREDICTED = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=4)
    parser.add_argument("--apart", type=float, default=0.03, help="the slowest is so much slower than the kind")
    parser.add_argument("--networks", type=int, default=60, help="for the fit, and as many held out")
    parser.add_argument("--resolutions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    arguments = parser.parse_args()
    middle = np.linspace(0, len(SPACE.resolutions) - 1, arguments.resolutions).round().astype(int)
    options = ProfileOptions(
        resolutions=tuple(SPACE.resolutions[i] for i in middle),
        calibration_networks=arguments.networks,
        validation_networks=arguments.networks,
    )
    factors = np.exp(np.linspace(-1, 1, arguments.boards) * np.log1p(arguments.apart))
    one, one_s = profiled([1.0], 10, options)
    again, _ = profiled([1.0], 20, options)
    several, several_s = profiled(list(factors), 30, options)
    report = {
        "boards": arguments.boards,
        "profile_s": {"one": round(one_s), "several": round(several_s)},
        "speedup": round(one_s / several_s, 2),
        "factors": [
            {
                "true": round(float(true), 4),
                "found": round(board.factor or 0.0, 4),
                "spread": round(board.spread or 0.0, 4),
            }
            for true, board in zip(factors, several.boards, strict=True)
        ],
        "board_spread": {
            "true": round(float(np.std(np.log(factors), ddof=1)), 4),
            "found": round(several.board_spread, 4),
        },
        "one_again": agreement(one, again),
        "several": agreement(one, several),
        "held_out": {"one": held_out(one), "several": held_out(several)},
    }
    print(json.dumps(report, indent=None if arguments.json else 1))


def profiled(factors: list[float], day: int, options: ProfileOptions) -> tuple[LatencyTable, float]:
    """A table and the simulated seconds that it took; each board has a day of its own."""
    conditions = [replace(SHARED, slowness=float(factor)) for factor in factors]
    simulated = [SimulatedBoard(KIND, day + number, each) for number, each in enumerate(conditions)]
    boards = [Board(f"board{number}", board, board.clock) for number, board in enumerate(simulated)]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        table, _ = profile_together(boards, SPACE, Path(root), options)
    print(f"{len(boards)} boards: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return table, table.profile_seconds


def agreement(first: LatencyTable, second: LatencyTable) -> dict[str, Any]:
    """How far the tables' entries differ, and how far their predictions differ from the kind's truth, per cent."""
    found = table_difference(first, second)
    genomes = SPACE.sample(np.random.default_rng(5), PREDICTED)
    kind = SimulatedBoard(KIND)
    models = [network_graph(SPACE.blocks(each)).SerializeToString() for each in SPACE.decode(genomes)]
    true = np.array([kind.true_ms(model) for model in models])
    mean, _ = fit_latency_model(second, SPACE).predict(genomes)
    return {
        "blocks_median_percent": percent(found.blocks.median),
        "blocks_p95_percent": percent(found.blocks.p95),
        "networks_median_percent": percent(found.networks.median),
        "networks_p95_percent": percent(found.networks.p95),
        "common": [len(found.blocks.common), len(found.networks.common)],
        "predictions_off_truth_percent": percent(float(np.abs(mean / true - 1).mean())),
    }


def held_out(table: LatencyTable) -> dict[str, Any]:
    """What the table says of its own error."""
    assert table.validation is not None
    return {"mape_percent": round(table.validation.mape, 2), "coverage_95": table.validation.coverage_95}


def percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


if __name__ == "__main__":
    main()
