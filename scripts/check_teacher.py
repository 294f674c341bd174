#!/usr/bin/env python
"""How well EfficientNet-Lite2 tells classes apart once its classifier is fitted to them, as a teacher's is.

    python scripts/check_teacher.py --data my_photos/ --images 100 --validation 500

Prints a line: accuracy on validation images, and on the training images that were held out while fitting.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from hwnas.cli.console import bars
from hwnas.data import Dataset, ImageSet, load_dataset
from hwnas.supernet.importing import LITE2
from hwnas.training.probe import Probe, external_teacher

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="cifar10, fashion-mnist, a folder or a parquet file")
    parser.add_argument("--data-root", type=Path, help="where the files of a named data set lie")
    parser.add_argument("--images", type=int, default=100, help="training images of each class, at the most")
    parser.add_argument("--validation", type=int, default=500, help="validation images, at the most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with bars() as progress, tempfile.TemporaryDirectory() as directory:
        dataset = fewer(load_dataset(arguments.data, root=arguments.data_root, progress=progress), arguments.images)
        accelerator = Accelerator(cpu=not torch.accelerator.is_available())
        found, _ = external_teacher(LITE2, dataset, accelerator.device)
        teacher = found.fit(Path(directory), accelerator, progress) if isinstance(found, Probe) else found
        pixels, labels = (
            part[: arguments.validation] for part in (dataset.validation.pixels, dataset.validation.labels)
        )
        progress.start("validation", len(labels), unit="image")
        right = 0.0
        for images, classes in zip(pixels.split(BATCH), labels.split(BATCH), strict=True):
            right += (teacher(images.to(accelerator.device)).argmax(1).cpu() == classes).sum().item()
            progress.advance(len(classes))
        progress.finish()
    held_out = "" if teacher.held_out_top1 is None else f", {teacher.held_out_top1:.1%} of those held out"
    print(
        f"{LITE2} on {dataset.name}: {right / len(labels):.1%} of {len(labels)} validation images{held_out}; "
        f"fitted to {len(dataset.train)} training images of {dataset.num_classes} classes"
    )


def fewer(dataset: Dataset, images_a_class: int) -> Dataset:
    """With the first so many training images of each class."""
    labels = dataset.train.labels
    rows = torch.cat([(labels == c).nonzero()[:images_a_class, 0] for c in range(dataset.num_classes)])
    train = ImageSet(dataset.train.pixels[rows], labels[rows])
    return replace(dataset, readers={**dataset.readers, "train": lambda: train})


if __name__ == "__main__":
    main()
