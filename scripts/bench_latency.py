#!/usr/bin/env python3
"""How well latency is predicted on held-out networks, beside what MACs alone and the plain sum of blocks say.

Profiles presets of `mobilenet_v3` on a target, or takes the tables given. Figures are those of the networks that no
fit has seen; those that a search proposed are judged apart. With --json the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.cli.console import bars, print_table, share
from hwnas.devices import load_target, open_device
from hwnas.errors import HwnasError, UserError
from hwnas.latency import Figures, LatencyTable, ProfileOptions, fit_latency_model, load_table, profile, validate
from hwnas.latency.figures import SHARES
from hwnas.latency.revalidation import RevalidationOptions
from hwnas.pipeline.validation import PROPOSED, validate_table
from hwnas.spaces import Space, get_space

FAMILY = "mobilenet_v3"
LABELS = {
    "interpolated": "interpolated",
    "proposed": "proposed by a search",
    "block_sum": "block sum",
    "macs": "MACs alone",
}
COLUMNS = ("mape", "within_5pct", "within_10pct", "kendall_tau", "spearman", "rmse_ms", "coverage_95", "n")
INTERVALS = tuple(f"{name}_interval" for name in SHARES)
UNITS = {"mape": "per cent", **dict.fromkeys(SHARES, "share"), **dict.fromkeys(INTERVALS, "share, 95 % by Wilson")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["small"], help="presets to profile (default: small)")
    parser.add_argument("--table", nargs="+", type=Path, default=[], help="tables to take instead of profiling")
    parser.add_argument("--target", default="host-cpu")
    parser.add_argument("--minutes", type=float, help="of measuring, a preset (default: the whole plan)")
    parser.add_argument(
        "--resolutions", type=int, nargs="+", help="px whose blocks are measured (default: by the size)"
    )
    parser.add_argument(
        "--proposed", type=int, default=PROPOSED, help="networks proposed by a search, of a preset, to judge apart"
    )
    parser.add_argument("--root", type=Path, default=Path("runs/bench_latency"), help="where tables are written")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    try:
        tables = [load_table(path) for path in arguments.table] or [
            profiled(preset, arguments) for preset in arguments.preset
        ]
        rows = [row(table) for table in tables]
    except HwnasError as error:
        print(f"bench_latency: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(rows)
    if arguments.json:
        print(json.dumps({"units": UNITS, "presets": rows}, allow_nan=False))


def profiled(preset: str, arguments: argparse.Namespace) -> LatencyTable:
    resolutions = None if arguments.resolutions is None else tuple(arguments.resolutions)
    options = ProfileOptions(minutes=arguments.minutes, resolutions=resolutions, fresh=arguments.fresh)
    space = get_space(f"{FAMILY}/{preset}")
    with open_device(load_target(arguments.target)) as device, bars() as progress:
        table, path = profile(device, space, arguments.root, options, progress)
        if len(table.with_role("proposed")) >= arguments.proposed:
            return table
        return validate_table(device, path, RevalidationOptions(networks=0), arguments.proposed, progress).table


def row(table: LatencyTable) -> dict[str, Any]:
    """The figures of one table, by today's model."""
    space = get_space(table.space, table.num_classes)
    validation = validate(table, space)
    if validation is None:
        raise UserError(f"The table of {table.space} holds fewer than two validation networks; profile it for longer.")
    return {
        "preset": space.preset,
        "target": table.target,
        "identity8": table.fingerprint.identity8,
        **values(validation),
        "interpolated": prefixed({"interpolated": validation.interpolated}),
        "proposed": prefixed({"proposed": validate(table, space, "proposed")}),
        "resolutions": table.resolutions,
        "blocks": len(table.blocks),
        "calibration_networks": len(table.with_role("calibration")),
        "profile_seconds": table.profile_seconds,
        "predictions_per_second": predictions_per_second(table, space),
        "baselines": prefixed(validation.baselines),
    }


def predictions_per_second(table: LatencyTable, space: Space) -> float:
    """Architectures a second, mean and standard deviation of each: the median of a few rounds over a million."""
    model = fit_latency_model(table, space)
    genomes = space.sample(np.random.default_rng(0), 1_000_000)
    rates = []
    for _ in range(5):
        begun = time.perf_counter()
        model.predict(genomes)
        rates.append(len(genomes) / (time.perf_counter() - begun))
    return float(np.median(rates))


def values(figures: Figures) -> dict[str, Any]:
    return {column: getattr(figures, column) for column in COLUMNS + INTERVALS}


def prefixed(predictors: Mapping[str, Figures | None]) -> dict[str, Any]:
    """``<predictor>_<figure>``: other names than the model's own figures have."""
    return {
        f"{name}_{column}": value
        for name, figures in predictors.items()
        if figures is not None
        for column, value in values(figures).items()
        if value is not None
    }


def show(rows: list[dict[str, Any]]) -> None:
    lines = []
    for entry in rows:
        lines.append(line(f"{entry['preset']}: model", entry))
        others = entry["interpolated"] | entry["proposed"] | entry["baselines"]
        for name, label in LABELS.items():
            figures = {column: others.get(f"{name}_{column}") for column in COLUMNS + INTERVALS}
            if figures["n"]:
                lines.append(line(f"  {label}", figures))
    header = ["", "n", "MAPE %", "±5 %", "±10 %", "τ", "ρ", "in 95 %"]
    print_table("Predicted against measured latency of held-out networks", header, lines)
    for entry in rows:
        print(
            f"{entry['preset']}: {entry['blocks']} blocks and {entry['calibration_networks']} calibration networks, "
            f"measured in {entry['profile_seconds']:.0f} s at {', '.join(map(str, entry['resolutions']))} px; "
            f"{entry['predictions_per_second'] / 1e6:.2f} million predictions a second"
        )


def line(label: str, figures: Mapping[str, Any]) -> list[str]:
    def number(name: str, digits: int) -> str:
        return "–" if figures[name] is None else f"{figures[name]:.{digits}f}"

    shares = {name: share(figures[name], figures[f"{name}_interval"]) for name in SHARES}
    within = [shares["within_5pct"], shares["within_10pct"]]
    ranks = [number("kendall_tau", 3), number("spearman", 3)]
    return [label, str(figures["n"]), number("mape", 2), *within, *ranks, shares["coverage_95"]]


if __name__ == "__main__":
    main()
