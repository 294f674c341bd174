#!/usr/bin/env python
"""How far two right ways of computing the same network lie apart: what the tolerances of bundles rest on.

    python scripts/measure_tolerances.py            # 6 subnets of mobilenet_v3/small on 200 pictures, two minutes

Every figure is the largest difference of a logit, as a share of the logits' root mean square.  Right ways are, in FP32:
with and without ONNX Runtime's optimisations; in 11 bits (FP16; TF32 keeps as many): FP16 and FP32; in INT8: Q and DQ
as they are written and with integer kernels, and for pixels that differ by what FP16 rounds.  Beside them stand ways
that are wrong: pixels that are 10 % brighter, INT8 and FP32, and the answers to another picture.  Everything runs on
one thread of ONNX Runtime's CPU provider; no figure is of TensorRT.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from computed import Array, outputs
from onnx import ModelProto

from hwnas.cli.console import bars, print_table
from hwnas.data import load_dataset
from hwnas.deploy.golden import ELEVEN_BITS, EXACT, STEPS
from hwnas.pipeline.networks import open_supernet
from hwnas.pipeline.precision import folded_graph, in_precision, sample_of
from hwnas.pipeline.training import require_supernet
from hwnas.search import SubnetEvaluator
from hwnas.spaces import get_space

SPACE, DATA, BATCH = "mobilenet_v3/small", "fashion-mnist", 50
RIGHT = {
    "FP32, not optimised": EXACT,
    "FP16 and FP32": ELEVEN_BITS,
    "INT8, integer kernels": STEPS,
    "INT8, rounded pixels": STEPS,
}
WRONG = ("brighter by 10 %", "INT8 and FP32", "another picture")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    found = measure(arguments.random, arguments.pictures)
    worst = {name: max(each[name] for each in found.values()) for name in RIGHT}
    least = {name: min(each[name] for each in found.values()) for name in WRONG}
    kept = all(2 * worst[name] <= tolerated for name, tolerated in RIGHT.items())
    if arguments.json:
        print(json.dumps({"subnets": found, "largest_right": worst, "least_wrong": least, "kept": kept}))
        return
    print_table(
        f"Differences of logits by their root mean square, {len(found)} subnets, {arguments.pictures} pictures",
        ["way", "largest", "tolerated"],
        [[name, f"{worst[name]:.2g}", f"{tolerated:g}"] for name, tolerated in RIGHT.items()],
    )
    print_table("Wrong", ["way", "least"], [[name, f"{least[name]:.2g}"] for name in WRONG])
    print(f"Every tolerance is at least twice the largest difference: {'yes' if kept else 'no'}.")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=4, help="subnets beside the smallest and the largest")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(random: int, pictures: int) -> dict[str, dict[str, float]]:
    """The differences of each subnet, by its id."""
    dataset = load_dataset(DATA)
    space = get_space(SPACE, dataset.num_classes)
    subnets = SubnetEvaluator(open_supernet(require_supernet(SPACE, dataset), space, dataset), dataset, threads=1)
    chosen = space.decode(space.sample(np.random.default_rng(1), random))
    sample = sample_of(dataset, "validation", pictures)
    found = {}
    with bars() as progress:
        progress.start("comparing", 2 + random, unit="subnets")
        for architecture in (space.smallest, space.largest, *chosen):
            images = torch.cat(list(sample.batches(architecture.resolution, BATCH))).numpy()
            exact = folded_graph(subnets.ready(architecture), batch=BATCH)
            half, eight = (in_precision(exact, name, "fp32", dataset) for name in ("fp16", "int8"))
            found[architecture.id] = differences(exact, half, eight, images)
            progress.advance(note=architecture.id)
        progress.finish()
    return found


def differences(
    exact: ModelProto, half: ModelProto, eight: ModelProto, images: npt.NDArray[np.float32]
) -> dict[str, float]:
    """By the names of ``RIGHT`` and ``WRONG``."""
    plain, written = logits(exact, images), logits(eight, images)
    noise = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    rounded = images * (1 + np.float32(2**-11) * noise)
    size = float(np.sqrt(np.mean(plain**2)))
    pairs: dict[str, Sequence[Array]] = {
        "FP32, not optimised": (plain, logits(exact, images, optimised=False)),
        "FP16 and FP32": (logits(half, images), plain),
        "INT8, integer kernels": (logits(eight, images, integers=True), written),
        "INT8, rounded pixels": (logits(eight, rounded), written),
        "brighter by 10 %": (logits(exact, images * np.float32(1.1)), plain),
        "INT8 and FP32": (written, plain),
        "another picture": (plain[::-1], plain),
    }
    return {name: float(np.abs(one - other).max() / size) for name, (one, other) in pairs.items()}


def logits(
    model: ModelProto, images: npt.NDArray[np.float32], *, optimised: bool = True, integers: bool = False
) -> Array:
    (found,) = outputs(model, images, BATCH, optimised=optimised, integers=integers).values()
    return found


if __name__ == "__main__":
    main()
