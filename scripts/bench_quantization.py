#!/usr/bin/env python
"""What FP16 and INT8 cost EfficientNet-Lite0 on real pictures, and the winner of a search on Fashion-MNIST.

    python scripts/bench_quantization.py --pictures imagenet_sample_1000.parquet     # both, 10 minutes
    python scripts/bench_quantization.py --network winner --finetune 200             # without pictures

The pictures are 1,000 of ImageNet's training set, one a class: their figures are of pictures that the network was
trained on and are no ImageNet accuracy.  100 of them calibrate, on 100 the layers are chosen, 800 are scored.  The
winner (winner_small.json) is the most accurate of 100 candidates of a search for 0.08 ms.  Everything runs on one
thread of ONNX Runtime's CPU provider.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import efficientnet_lite0
import numpy as np
import torch
from onnx import ModelProto

from hwnas.cli.console import bars, print_table
from hwnas.data import ImageSet, load_dataset
from hwnas.errors import HwnasError, UserError
from hwnas.export import (
    CALIBRATIONS,
    FineTuning,
    Images,
    QuantizationOptions,
    QuantizationRecord,
    Sample,
    load_model,
    quantization_images,
    quantize,
)
from hwnas.pipeline.networks import export_subnet, open_supernet, read_architecture
from hwnas.pipeline.training import require_supernet
from hwnas.spaces import get_space

CALIBRATE, CHOOSE = 100, 100
MAX_DROP = {"lite0": 1.0, "winner": 0.5}
SPACE, DATA = "mobilenet_v3/small", "fashion-mnist"
LABEL = {
    "lite0": "EfficientNet-Lite0, training pictures, not ImageNet accuracy",
    "winner": "winner of a search, Fashion-MNIST",
}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    try:
        records = {name: measure(name, arguments) for name in arguments.network}
    except HwnasError as error:
        print(f"bench_quantization: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(records)
    if arguments.json:
        print(json.dumps({name: record.model_dump(mode="json", by_alias=True) for name, record in records.items()}))
    sys.exit(0 if all(record.kept for record in records.values()) else 1)


def measure(name: str, arguments: argparse.Namespace) -> QuantizationRecord:
    model, images = lite0(arguments) if name == "lite0" else winner(arguments)
    options = QuantizationOptions(
        remainder=arguments.remainder,
        calibration=arguments.calibration,
        max_drop=MAX_DROP[name],
        tool=arguments.tool,
        finetuning=FineTuning(steps=arguments.finetune) if arguments.finetune and images.training else None,
    )
    with bars() as progress:
        return quantize(model, images, options, progress).record


def lite0(arguments: argparse.Namespace) -> tuple[ModelProto, Images]:
    if arguments.pictures is None:
        raise UserError("EfficientNet-Lite0 needs --pictures.")
    pictures = efficientnet_lite0.pictures(arguments.pictures)
    order = torch.from_numpy(np.random.default_rng(arguments.seed).permutation(len(pictures)))

    def sample(name: str, begin: int, end: int | None) -> Sample:
        rows = order[begin:end]
        found = ImageSet(pictures.pixels[rows], pictures.labels[rows])
        return Sample(name, found, efficientnet_lite0.MEAN, efficientnet_lite0.STD)

    chosen = CALIBRATE + CHOOSE
    last = None if arguments.scored is None else chosen + arguments.scored
    images = Images(
        sample("calibration", 0, CALIBRATE), sample("choice", CALIBRATE, chosen), sample("scored", chosen, last)
    )
    return efficientnet_lite0.exported(), images


def winner(arguments: argparse.Namespace) -> tuple[ModelProto, Images]:
    dataset = load_dataset(DATA)
    space = get_space(SPACE, dataset.num_classes)
    architecture = read_architecture(space, str(Path(__file__).parent / "winner_small.json"))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "winner.onnx"
        export_subnet(open_supernet(require_supernet(SPACE, dataset), space, dataset), architecture, dataset, path)
        model = load_model(path)
    return model, quantization_images(model, dataset, scored=arguments.scored)


def show(records: dict[str, QuantizationRecord]) -> None:
    for name, record in records.items():
        rows = []
        for precision, scored in record.scores.items():
            loss = scored.loss
            figures = ["–", "–"] if loss is None else [f"{loss.points:.2f}", f"{loss.low:.2f} to {loss.high:.2f}"]
            size = f"{scored.size_bytes / 2**20:.2f} MiB"
            rows.append([precision.upper(), f"{100 * scored.top1:.2f} %", *figures, size])
        left = f"{len(record.left)} of {record.layers} layers left in higher precision"
        title = f"{LABEL[name]}; n = {record.scored_on.images}, {record.calibration}; {left}"
        print_table(title, ["", "top-1", "points lost", "95 % interval", "size"], rows)
        if record.finetuning:
            print(f"fine-tuned: {record.finetuning}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=list(MAX_DROP), default=list(MAX_DROP))
    parser.add_argument("--pictures", type=Path, help="the parquet file of ImageNet pictures")
    parser.add_argument("--calibration", choices=CALIBRATIONS, default="percentile")
    parser.add_argument("--remainder", choices=("fp16", "fp32"), default="fp16")
    parser.add_argument("--tool", choices=("auto", "onnxruntime", "nvidia-modelopt"), default="auto")
    parser.add_argument("--finetune", type=int, default=0, help="steps, if INT8 loses too much")
    parser.add_argument("--scored", type=int, help="images scored; default: all that are left, all of the test split")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the pictures")
    parser.add_argument("--json", action="store_true", help="one JSON object last")
    return parser.parse_args()


if __name__ == "__main__":
    main()
