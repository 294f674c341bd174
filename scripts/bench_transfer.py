#!/usr/bin/env python
"""What a supernet gains by beginning with EfficientNet-Lite0's ImageNet weights: accuracy against epochs.

    python scripts/bench_transfer.py --out runs/transfer                      # the pictures of Tux Paint
    python scripts/bench_transfer.py --out runs/mine --data my_photos/        # any data of your own

Both trainings are of ``proxyless/efficientnet-lite0`` with the same settings, batches and image passes; one begins with
the published weights, one with random ones, each with every seed.  A fifth of each class is withheld, and nothing is
chosen by it: no training is stopped or picked.  The curves are its accuracies as training goes on.  Run again after an
interruption, the same command goes on; exit status 75 says that trainings remain.

The pictures of Tux Paint are those of the Debian package ``tuxpaint-stamps-default``: nine kinds of things, most of
them photographs cut out, some of them drawn, 18 to 67 of each.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import judged_by_test
from pages import curves, write_page
from trainings import UNFINISHED, Training, run_all

from hwnas.cli.console import bars, percent, print_table
from hwnas.data import Dataset, load_dataset
from hwnas.data.splits import SplitConfig
from hwnas.errors import HwnasError, UserError
from hwnas.files import atomic_path, read_json_lines
from hwnas.report.tables import Grid
from hwnas.spaces import get_space
from hwnas.supernet.importing.efficientnet_lite import LITE0, LITE0_SPACE
from hwnas.training import TrainingConfig
from hwnas.training.history import METRICS_FILE

STAMPS = Path("/usr/share/tuxpaint/stamps")
KINDS = {
    "birds": "animals/birds",
    "insects": "animals/insects",
    "mammals": "animals/mammals",
    "fruit": "food/fruit",
    "vegetables": "food/vegetables",
    "flowers": "plants/flowers",
    "houses": "town/houses",
    "vehicles": "vehicles",
    "money": "symbols/money",
}
STARTS = {"EfficientNet-Lite0": LITE0, "random weights": None}
WITHHELD = 0.2
EVALUATED = 2
"""Epochs between two looks at the withheld images."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    try:
        with bars() as progress:
            source = arguments.data or stamps(arguments.out / "pictures", arguments.stamps)
            found = load_dataset(source, storage_size=arguments.pixels, splits=splits(), progress=progress)
            dataset = judged_by_test(found)
            trainings = {
                start: [training(arguments, dataset, start, seed) for seed in range(arguments.seeds)]
                for start in STARTS
            }
            done = run_all(
                [one for row in zip(*trainings.values(), strict=True) for one in row], arguments.until, progress
            )
    except HwnasError as error:
        print(f"bench_transfer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(summarise(trainings, dataset), arguments)
    sys.exit(0 if done else UNFINISHED)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--data", help="a folder of class folders or a parquet file; default: Tux Paint's pictures")
    parser.add_argument("--stamps", type=Path, default=STAMPS, help="where those lie")
    parser.add_argument("--pixels", type=int, default=128, help="side at which pictures are stored")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--random-subnets", type=int, default=0, help="of a step, beside the largest and the smallest")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--until", type=float, metavar="MINUTES", help="end after so many, to go on later")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args()


def stamps(folder: Path, root: Path) -> Path:
    """A folder of class folders with links to Tux Paint's pictures.

    Raises:
        UserError: the package is not installed.
    """
    if not root.is_dir():
        raise UserError(f"{root} does not exist; install the Debian package tuxpaint-stamps-default, or give --data.")
    for kind, below in KINDS.items():
        for picture in sorted((root / below).rglob("*.png")):
            if "mirror" in picture.stem:  # of a picture that is there already
                continue
            link = folder / kind / "-".join(picture.relative_to(root / below).parts)
            if not link.exists():
                with atomic_path(link) as temporary:
                    temporary.write_bytes(picture.read_bytes())
    return folder


def splits() -> SplitConfig:
    """A fifth withheld; the validation split, which nobody needs here, is as small as can be."""
    return SplitConfig(validation=1e-9, test=WITHHELD)


def training(arguments: argparse.Namespace, dataset: Dataset, start: str, seed: int) -> Training:
    config = TrainingConfig(
        init=STARTS[start],
        epochs=arguments.epochs,
        full_epochs=0,
        random_subnets=arguments.random_subnets,
        resolution="step",
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        warmup_epochs=min(1.0, arguments.epochs / 2),
        ema_decay=0.95,  # a run has few steps
        evaluate_epochs=EVALUATED,
        seed=seed,
    )
    directory = arguments.out / f"{start.replace(' ', '-')}-seed{seed}"
    return Training(directory, get_space(LITE0_SPACE, dataset.num_classes), dataset, config)


def summarise(trainings: dict[str, list[Training]], dataset: Dataset) -> dict[str, Any]:
    """Accuracies on the withheld images, as fractions, of each run."""
    runs = {start: [curve(one.directory) for one in row] for start, row in trainings.items()}
    first = next(iter(trainings.values()))[0]
    return {
        "data": dataset.name,
        "classes": list(dataset.class_names),
        "train_images": len(dataset.train),
        "withheld_images": len(dataset.test),
        "chance": float(np.bincount(dataset.test.labels.numpy()).max() / len(dataset.test)),
        "config": first.config.model_dump(mode="json", exclude={"init", "seed"}),
        "torch": torch.__version__,
        "runs": runs,
    }


def curve(directory: Path) -> list[dict[str, float]]:
    """The accuracies so far."""
    lines = [line for line in read_json_lines(directory / METRICS_FILE) if "top1_largest" in line]
    return [{name: line[name] for name in ("epoch", "top1_largest", "top1_smallest", "seconds")} for line in lines]


def show(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    heads = ["begun with", *(f"epoch {epoch}" for epoch in shown_epochs(result))]
    tables = []
    for size in ("largest", "smallest"):
        rows = [
            [start, *(mean_and_spread(lines, epoch, f"top1_{size}") for epoch in shown_epochs(result))]
            for start, lines in result["runs"].items()
        ]
        title = f"Withheld top-1 of the {size} subnet, mean over seeds and their range"
        print_table(title, heads, rows)
        tables.append(Grid(title, tuple(heads), tuple(map(tuple, rows))))
    figures = [
        curves(
            size,
            f"The {size} subnet",
            f"{result['withheld_images']} withheld pictures, {percent(result['chance'])} of which are of one class.",
            ("epoch", "withheld top-1, %"),
            {
                start: [[(line["epoch"], 100 * line[f"top1_{size}"]) for line in lines] for lines in runs]
                for start, runs in result["runs"].items()
            },
        )
        for size in ("largest", "smallest")
    ]
    lead = (
        f"{result['data']}: {result['train_images']} pictures of {len(result['classes'])} classes to learn from. "
        "Each line is a training; all have the same settings, batches and image passes."
    )
    write_page(arguments.out / "transfer.html", "Transfer against training from nothing", lead, figures, tables)
    print(f"Plot: {arguments.out / 'transfer.html'}")
    if arguments.json:
        print(json.dumps(result))


def shown_epochs(result: dict[str, Any]) -> list[int]:
    """Those after which the withheld images were looked at."""
    return sorted({round(line["epoch"]) for runs in result["runs"].values() for lines in runs for line in lines})


def mean_and_spread(runs: list[list[dict[str, float]]], epoch: int, name: str) -> str:
    found = [line[name] for lines in runs for line in lines if round(line["epoch"]) == epoch]
    if not found:
        return "–"
    middle = percent(float(np.mean(found)))
    return middle if len(found) == 1 else f"{middle}\n{100 * min(found):.1f}–{100 * max(found):.1f}"


if __name__ == "__main__":
    main()
