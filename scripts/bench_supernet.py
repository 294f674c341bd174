#!/usr/bin/env python
"""How good a supernet's subnets are, on the test images; and what the same architectures reach trained alone.

    python scripts/bench_supernet.py                          # the supernet that comes with hwnas: 3 minutes
    python scripts/bench_supernet.py --alone 5 --out runs/alone   # and five subnets trained alone: hours, resumable

Alone means: the same teacher (the supernet's largest subnet), augmentation and optimizer, and as many image passes as
the supernet had, where a sandwich step of four subnets counts four.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hwnas.cli.console import Bars, bars, print_table
from hwnas.data import Dataset, load_dataset
from hwnas.errors import HwnasError, UserError
from hwnas.pipeline.networks import open_supernet, ready_subnet
from hwnas.pipeline.training import find_supernet
from hwnas.spaces import Architecture, Space, get_space, single_space
from hwnas.supernet import ElasticNetwork, load_record
from hwnas.training import TrainingConfig
from hwnas.training.alone import alone, train_alone
from hwnas.training.validation import network_top1

RANDOM_SUBNETS = 30


def main() -> None:
    arguments = parse()
    try:
        result = measure(arguments)
    except HwnasError as error:
        print(f"bench_supernet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(result)
    if arguments.json:
        print(json.dumps(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    dataset = load_dataset(arguments.data)
    space = get_space(arguments.space, dataset.num_classes)
    directory = arguments.supernet or find_supernet(arguments.space, dataset)
    if directory is None:
        raise UserError(f"No weights for {arguments.space} on {dataset.name} come with hwnas; give --supernet.")
    supernet = open_supernet(directory, space, dataset)
    chosen = space.decode(space.sample(np.random.default_rng(0), RANDOM_SUBNETS))
    named = {"largest": space.largest, "smallest": space.smallest}
    named |= {f"random {i}": architecture for i, architecture in enumerate(chosen)}
    with bars() as progress:
        rows = [
            row(name, architecture, supernet, dataset, progress, len(named)) for name, architecture in named.items()
        ]
        progress.finish()
        alone = [
            trained_alone(i, chosen[i], space, directory, dataset, arguments.out, progress)
            for i in range(arguments.alone)
        ]
    return summarise(rows, alone)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenet_v3/small")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--supernet", type=Path, help="directory of weights; default: those that come with hwnas")
    parser.add_argument(
        "--alone",
        type=int,
        default=0,
        choices=range(RANDOM_SUBNETS + 1),
        metavar="N",
        help="so many of the random subnets are trained alone",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/alone"), help="where those trainings go on from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args()


def row(
    name: str, architecture: Architecture, supernet: ElasticNetwork, dataset: Dataset, progress: Bars, total: int
) -> dict[str, Any]:
    """One subnet with the supernet's weights, on the test images."""
    if name == "largest":
        progress.start("test accuracy", total, unit="subnets")
    network = ready_subnet(supernet, architecture, dataset)
    accuracy = network_top1(network, architecture.resolution, dataset, dataset.test)
    progress.advance(note=f"{name}: {100 * accuracy:.2f} %")
    macs = float(supernet.space.macs(supernet.space.encode([architecture]))[0])
    return {"name": name, "architecture": architecture.id, "mmacs": round(macs / 1e6, 3), "top1": accuracy}


def trained_alone(
    index: int,
    architecture: Architecture,
    space: Space,
    supernet: Path,
    dataset: Dataset,
    out: Path,
    progress: Bars,
) -> dict[str, Any]:
    """An architecture with weights of its own; the training is resumable."""
    record = load_record(supernet)
    config = TrainingConfig.model_validate(record.training["config"])
    full = min(config.full_epochs, config.epochs)
    passes = full + (config.epochs - full) * (config.random_subnets + 2)
    taught = {"teacher": str(supernet), "seed": config.seed + index}
    network = train_alone(
        out / f"{architecture.id}-{record.weights_sha256[:8]}",  # another teacher's students are others
        single_space(space.name, space.network(architecture), space.norm_eps),
        dataset,
        TrainingConfig.model_validate(alone(config.model_dump() | taught, passes)),
        progress,
    )
    accuracy = network_top1(network, architecture.resolution, dataset, dataset.test)
    return {"index": index, "architecture": architecture.id, "top1": accuracy, "passes": passes}


def summarise(rows: list[dict[str, Any]], alone: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures, accuracies as fractions; standard errors over subnets."""
    random = np.array([row["top1"] for row in rows if row["name"].startswith("random")])
    result: dict[str, Any] = {
        "networks": rows,
        "largest": rows[0]["top1"],
        "smallest": rows[1]["top1"],
        "random_mean": float(random.mean()),
        "random_standard_error": float(random.std(ddof=1) / np.sqrt(len(random))),
        "alone": alone,
    }
    if alone:
        gaps = np.array([a["top1"] - random[a["index"]] for a in alone])
        result["alone_gap_mean"] = float(gaps.mean())
        result["alone_gap_standard_error"] = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else None
    return result


def show(result: dict[str, Any]) -> None:
    rows = [[r["name"], r["architecture"], f"{r['mmacs']:.2f}", f"{100 * r['top1']:.2f} %"] for r in result["networks"]]
    print_table("Subnets with the supernet's weights", ["", "architecture", "MMACs", "test top-1"], rows)
    console = Console()
    mean, error = 100 * result["random_mean"], 100 * result["random_standard_error"]
    console.print(f"Mean over {RANDOM_SUBNETS} random subnets: {mean:.2f} % (standard error {error:.2f})")
    for a in result["alone"]:
        console.print(f"Random {a['index']} trained alone over {a['passes']} passes: {100 * a['top1']:.2f} %")
    if result["alone"]:
        error_text = result["alone_gap_standard_error"]
        error_text = "–" if error_text is None else f"{100 * error_text:.2f}"
        console.print(f"Alone is better by {100 * result['alone_gap_mean']:.2f} points (standard error {error_text})")


if __name__ == "__main__":
    main()
