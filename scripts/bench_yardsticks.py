#!/usr/bin/env python
"""The searched subnet against the networks that everybody knows, at equal measured latency, on equal terms.

    hwnas train --data cifar10 --out runs/mine … && hwnas profile                  # what this stands on
    python scripts/bench_yardsticks.py --supernet runs/mine --budget 0.15 --out runs/yardsticks    # hours, resumable

The yardsticks take the searched subnet's input, halve it as often as the space does, and are scaled in width until
their latency, measured on the device as every latency here is, comes nearest to its own.  They are trained alone: the
same data, augmentation and optimizer, the supernet's largest subnet as teacher, as many image passes as the supernet
had (a sandwich step of four subnets counts four), at the best of three learning rates by the validation images after a
short schedule.  So is the searched architecture itself, for what is its weights' and what its shape's.  Controls in the
same table: random subnets of the supernet, and a uniformly scaled one, at equal latency.

Started several times at once, it trains several networks at once.  With ``--together`` those of a seed are trained side
by side: batches and the teacher's answers are made once for all of them, and a GPU does their steps at once.

``--finetune`` goes on with the searched subnet's weights alone for so many passes, at the best of the same three rates;
all others then have so many more, too.
``--supernet`` given again is the same training with another seed: subnets are looked up in each.  Choices are made by
the validation images; the test images are read once, when no training remains.  Exit status 75 says that some do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Bench, add_arguments
from lineup import SEARCHED, Entry, Lineup, line_up
from pages import strips, write_page
from trainings import UNFINISHED, Training, run_all

from hwnas.cli.console import Bars, bars, milliseconds, percent, print_table
from hwnas.errors import HwnasError, UserError
from hwnas.report.tables import Grid
from hwnas.spaces import single_space
from hwnas.spaces.yardsticks import YARDSTICKS

ALONE, TUNED = f"{SEARCHED}, alone", f"{SEARCHED}, fine-tuned"
RATES = (0.3, 1.0, 3.0)
"""Learning rates that are tried, as factors of the supernet's."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    try:
        with bars() as progress:
            benches = [Bench(path, arguments.data, arguments.data_root) for path in arguments.supernet or [None]]
            contest = Contest(benches, line_up(benches[0], arguments, progress), arguments)
            done = contest.train(progress)
            result = contest.result(done)
    except HwnasError as error:
        print(f"bench_yardsticks: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(result, arguments.out)
    if arguments.json:
        print(json.dumps(result))
    sys.exit(0 if done else UNFINISHED)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--supernet", type=Path, action="append", help="again for other seeds; default: the one that comes with hwnas"
    )
    add_arguments(parser, out="runs/yardsticks")
    parser.add_argument("--searched", help="SEARCH_DIRECTORY:ID or a JSON file; default: a search under --budget")
    parser.add_argument("--budget", type=float, help="ms, of that search")
    parser.add_argument("--evaluations", type=int, default=48, help="of that search")
    parser.add_argument("--target", default="host-cpu")
    parser.add_argument("--tables", type=Path, default=Path("latency_tables"))
    parser.add_argument(
        "--allow-stale", action="store_true", help="search by a table of another device; all latencies are measured"
    )
    parser.add_argument("--tolerance", type=float, default=0.02, help="share by which equal latencies may differ")
    parser.add_argument("--sweep", type=float, default=0.1, help="share of the passes after which a rate is chosen")
    parser.add_argument("--finetune", type=float, default=0.0, metavar="PASSES")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--yardsticks", nargs="+", choices=sorted(YARDSTICKS), default=list(YARDSTICKS))
    arguments = parser.parse_args()
    if (arguments.searched is None) == (arguments.budget is None):
        parser.error("give either --searched or --budget")
    return arguments


@dataclass(frozen=True)
class Contest:
    """The networks of a line-up and their trainings; the first supernet teaches."""

    benches: list[Bench]
    lineup: Lineup
    arguments: argparse.Namespace

    def train(self, progress: Bars) -> bool:
        """Whether all is trained: first the sweeps, which decide the rates of the rest."""
        minutes = self.arguments.until
        begun = time.monotonic()
        sweeps = [one for entry in self._trained for one in self._sweep(entry)]
        if not run_all(sweeps, minutes, progress, together=self.arguments.together):
            return False
        by_seed = zip(*self._trainings().values(), strict=True)  # so that a part tells of all networks
        left = None if minutes is None else minutes - (time.monotonic() - begun) / 60
        return run_all([one for row in by_seed for one in row], left, progress, together=self.arguments.together)

    def result(self, done: bool) -> dict[str, Any]:
        """The figures, accuracies as fractions; those on the test images only when no training remains."""
        rows = [self._subnet_row(entry, done) for entry in self.lineup.entries if entry.choices is not None]
        if done:
            rows += [self._trained_row(name, row) for name, row in self._trainings().items()]
        return {
            "supernets": [str(bench.directory) for bench in self.benches],
            "data": self.benches[0].dataset.name,
            "target": self.lineup.target,
            "identity8": self.lineup.identity8,
            "passes": self._passes,
            "supernet_passes": self.benches[0].passes,
            "finetune_passes": self.arguments.finetune,
            "tolerance": self.arguments.tolerance,
            "done": done,
            "lineup": [entry.model_dump(include={"name", "width", "latency_ms"}) for entry in self.lineup.entries],
            "rows": rows,
        }

    # --- trainings --------------------------------------------------------------------------------------------

    @property
    def _passes(self) -> float:
        passes = self.arguments.passes or self.benches[0].passes
        return float(passes + self.arguments.finetune)

    @property
    def _rate(self) -> float:
        return self.benches[0].rate(self.arguments.batch_size)

    @property
    def _trained(self) -> list[Entry]:
        """Those with weights of their own."""
        names = [ALONE, TUNED] if self.arguments.finetune else [ALONE]
        searched = [self.lineup[SEARCHED].model_copy(update={"name": name}) for name in names]
        return [*(entry for entry in self.lineup.entries if entry.choices is None), *searched]

    def _sweep(self, entry: Entry) -> list[Training]:
        """One short training for each learning rate."""
        passes = self._passes * self.arguments.sweep
        return [self._training(entry, passes, 0, self._rate * factor) for factor in RATES]

    def _trainings(self) -> dict[str, list[Training]]:
        """One for each seed, of each network with weights of its own, at its best rate."""
        seeds = range(self.arguments.seeds)
        passes = {TUNED: self.arguments.finetune}
        return {
            entry.name: [
                self._training(entry, passes.get(entry.name, self._passes), seed, self._best_rate(entry))
                for seed in seeds
            ]
            for entry in self._trained
        }

    def _best_rate(self, entry: Entry) -> float:
        reached = {one.config.learning_rate: one.validation_top1 for one in self._sweep(entry)}
        sound = {rate: top1 for rate, top1 in reached.items() if top1 is not None}
        if not sound:
            raise UserError(f"{entry.name} diverged at each learning rate ({', '.join(map(str, reached))}).")
        return max(sound, key=lambda rate: sound[rate])

    def _training(self, entry: Entry, passes: float, seed: int, rate: float) -> Training:
        bench = self.benches[0]
        directory = self.arguments.out / entry.slug / f"passes{passes:g}-rate{rate:g}-seed{seed}"
        config = bench.alone(passes, seed, rate, batch_size=self.arguments.batch_size)
        space = single_space(bench.space.name, entry.network(bench.space), bench.space.norm_eps)
        beginning = bench.supernet.extract(entry.architecture) if entry.name == TUNED else None
        return Training(directory, space, bench.dataset, config, beginning)

    # --- figures ----------------------------------------------------------------------------------------------

    def _subnet_row(self, entry: Entry, done: bool) -> dict[str, Any]:
        """With the weights of each supernet."""
        of = entry.architecture
        row = {
            "name": entry.name,
            "weights": "supernet",
            **self._sizes(entry),
            "validation_top1": [bench.validation_top1(bench.supernet, of) for bench in self.benches],
        }
        return row | ({"test_top1": [bench.test_top1(bench.supernet, of) for bench in self.benches]} if done else {})

    def _trained_row(self, name: str, trainings: list[Training]) -> dict[str, Any]:
        """With the weights of each of its trainings; one that diverged has no accuracy."""
        bench = self.benches[0]
        sound = [one for one in trainings if not one.diverged]
        return {
            "name": name,
            "weights": "own",
            **self._sizes(self.lineup[SEARCHED if name in (ALONE, TUNED) else name]),
            "learning_rate": trainings[0].config.learning_rate,
            "diverged": len(trainings) - len(sound),
            "validation_top1": [one.validation_top1 for one in sound],
            "test_top1": [bench.test_top1(one.network(), one.space.largest) for one in sound],
        }

    def _sizes(self, entry: Entry) -> dict[str, Any]:
        """Latency, whether it counts as the searched subnet's, and what does not depend on the device."""
        blocks = entry.network(self.benches[0].space).blocks
        own, searched = entry.latency_ms, self.lineup[SEARCHED].latency_ms
        relative = own / searched if own is not None and searched is not None else None
        return {
            "latency_ms": own,
            "relative_latency": relative,
            "equal": relative is not None and abs(relative - 1) <= self.arguments.tolerance,
            "width": entry.width,
            "macs": sum(block.macs for block in blocks),
            "params": sum(block.params for block in blocks),
        }


def show(result: dict[str, Any], out: Path) -> None:
    heads = ["network", "weights", "p50", "relative", "MMACs", "validation top-1", "test top-1"]
    rows = [
        [
            row["name"],
            row["weights"],
            milliseconds(row["latency_ms"]),
            "–"
            if row["relative_latency"] is None
            else f"{row['relative_latency']:.3f}{'' if row['equal'] else ' (!)'}",
            f"{row['macs'] / 1e6:.2f}",
            mean_and_deviation(row["validation_top1"]),
            mean_and_deviation(row.get("test_top1", [])),
        ]
        for row in result["rows"]
    ]
    title = (
        f"At equal measured latency on {result['target']}, {result['data']}, {result['passes']:g} image passes; (!): "
        f"farther than {percent(result['tolerance'])} from the searched subnet's latency"
    )
    print_table(title, heads, rows)
    if not result["done"]:
        print("Trainings remain, so the test images were not read; the same command goes on.")
        return
    figure = strips(
        "accuracy",
        "Accuracy at equal measured latency",
        "A dot for each seed.",
        "test top-1, %",
        {f"{row['name']} ({row['weights']})": [100 * top1 for top1 in row["test_top1"]] for row in result["rows"]},
    )
    lead = (
        f"Latencies are gated p50s on {result['target']}, measured in turn. Networks with weights of their own had the "
        f"supernet's largest subnet as teacher and {result['passes']:g} passes of the images; the supernet had "
        f"{result['supernet_passes']:g}."
    )
    grid = Grid(title, tuple(heads), tuple(map(tuple, rows)))
    write_page(out / "yardsticks.html", "The searched subnet against what everybody knows", lead, [figure], [grid])
    print(f"Plot: {out / 'yardsticks.html'}")


def mean_and_deviation(top1s: list[float]) -> str:
    if not top1s:
        return "–"
    deviation = f" ± {100 * np.std(top1s, ddof=1):.2f}" if len(top1s) > 1 else ""
    return f"{percent(float(np.mean(top1s)))}{deviation}"


if __name__ == "__main__":
    main()
