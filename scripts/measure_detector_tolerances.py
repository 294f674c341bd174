#!/usr/bin/env python
"""How far two right ways of computing the same detector lie apart: what its bundles' tolerances rest on.

    python scripts/measure_detector_tolerances.py runs/garments garments     # 4 subnets on 30 pictures

Every figure is the largest difference of a number in any output of a kind, as a share of that output's root mean
square; of probabilities, which may be off by a share of their own besides, of both together.  Right ways are, in FP32,
with and without ONNX Runtime's optimisations, and in 11 bits (FP16; TF32 keeps as many) FP16 and FP32.  Beside them
stand ways that are wrong: pixels that are 10 % brighter, and another picture.  Everything runs on one thread of ONNX
Runtime's CPU provider; no figure is of TensorRT.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from computed import outputs
from onnx import ModelProto

from hwnas.cli.console import bars, print_table
from hwnas.data import to_input
from hwnas.data.tasks import load_for
from hwnas.deploy.golden import DETECTORS_ELEVEN_BITS, EXACT
from hwnas.export.detections import with_detections
from hwnas.export.half import half_precision
from hwnas.export.metadata import load_model
from hwnas.export.samples import spread_rows
from hwnas.pipeline.networks import export_subnet, open_supernet
from hwnas.spaces import get_space
from hwnas.supernet import load_record

RIGHT = {"FP32, not optimised": EXACT, "FP16 and FP32": DETECTORS_ELEVEN_BITS}
WRONG = ("brighter by 10 %", "another picture")
KINDS = ("class maps", "box maps", "boxes", "scores")
Figures = dict[str, dict[str, float]]
"""By the names of ``KINDS`` and of the ways."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    found = measure(arguments.supernet, arguments.data, arguments.random, arguments.pictures)
    worst = {way: {kind: max(each[kind][way] for each in found.values()) for kind in KINDS} for way in RIGHT}
    least = {way: {kind: min(each[kind][way] for each in found.values()) for kind in KINDS} for way in WRONG}
    kept = all(2 * figure <= RIGHT[way] for way, figures in worst.items() for figure in figures.values())
    if arguments.json:
        print(json.dumps({"subnets": found, "largest_right": worst, "least_wrong": least, "kept": kept}))
        return
    rows = [
        [way, *(f"{figures[kind]:.2g}" for kind in KINDS), f"{RIGHT[way]:g}" if way in RIGHT else "-"]
        for way, figures in (worst | least).items()
    ]
    title = f"Largest differences in {len(found)} subnets, {arguments.pictures} pictures; of wrong ways the least"
    print_table(title, ["way", *KINDS, "tolerated"], rows)
    print(f"Every tolerance is at least twice the largest difference: {'yes' if kept else 'no'}.")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", type=Path, help="directory of a supernet of detectors")
    parser.add_argument("data", type=Path, help="folder of the pictures with boxes that it was trained on")
    parser.add_argument("--random", type=int, default=2, help="subnets beside the smallest and the largest")
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(directory: Path, data: Path, random: int, pictures: int) -> dict[str, Figures]:
    """The differences of each subnet, by its id."""
    record = load_record(directory)
    space = get_space(record.space, record.num_classes)
    dataset = load_for(space, data)
    supernet = open_supernet(directory, space, dataset)
    pixels = dataset.validation.pixels[spread_rows(len(dataset.validation), pictures)]
    found = {}
    with bars() as progress, TemporaryDirectory() as scratch:
        progress.start("comparing", 2 + random, unit="subnets")
        drawn = space.decode(space.sample(np.random.default_rng(1), random))
        for architecture in (space.smallest, space.largest, *drawn):
            images = to_input(pixels, architecture.resolution, dataset.mean, dataset.std).numpy()
            maps = load_model(export_subnet(supernet, architecture, dataset, Path(scratch) / "maps.onnx").path)
            forms = (differences(maps, images), differences(with_detections(maps, "boxes"), images))
            found[architecture.id] = {kind: figures for form in forms for kind, figures in form.items()}
            progress.advance(note=architecture.id)
        progress.finish()
    return found


def differences(exact: ModelProto, images: npt.NDArray[np.float32]) -> Figures:
    """The largest of each kind of output."""
    plain, half = outputs(exact, images, 1), half_precision(exact)[0]
    ways = {
        "FP32, not optimised": outputs(exact, images, 1, optimised=False),
        "FP16 and FP32": outputs(half, images, 1),
        "brighter by 10 %": outputs(exact, images * np.float32(1.1), 1),
        "another picture": {name: values[::-1] for name, values in plain.items()},
    }
    found: Figures = {}
    for name, values in plain.items():
        size = np.sqrt(np.mean(values**2)) + (np.abs(values) if name == "scores" else 0.0)
        figures = found.setdefault(_kind(name), dict.fromkeys(ways, 0.0))
        for way, others in ways.items():
            figures[way] = max(figures[way], float(np.max(np.abs(others[name] - values) / size)))
    return found


def _kind(name: str) -> str:
    return f"{name.partition('.')[0]} maps" if "." in name else name


if __name__ == "__main__":
    main()
