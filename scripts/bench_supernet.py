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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from hwnas.cli.console import Bars, bars, print_table
from hwnas.data import Dataset, ImageSet, load_dataset, to_input
from hwnas.data.augmentation import Augmentation
from hwnas.errors import HwnasError, UserError
from hwnas.pipeline.networks import open_supernet, ready_subnet
from hwnas.pipeline.training import find_supernet
from hwnas.spaces import Architecture, Space, get_space
from hwnas.supernet import ElasticNetwork, PlainNetwork, SupernetRecord, load_record, recalibrate, top1
from hwnas.training import TrainingConfig
from hwnas.training.optimization import learning_rate, make_optimizer, update_average
from hwnas.training.state import Progress, State, read_progress

BATCH = 250
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
            Alone(space, chosen[i], i, supernet, dataset, load_record(directory), arguments.out).run(progress)
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
    accuracy = test_top1(ready_subnet(supernet, architecture, dataset), architecture.resolution, dataset)
    progress.advance(note=f"{name}: {100 * accuracy:.2f} %")
    macs = float(supernet.space.macs(supernet.space.encode([architecture]))[0])
    return {"name": name, "architecture": architecture.id, "mmacs": round(macs / 1e6, 3), "top1": accuracy}


def test_top1(network: PlainNetwork, resolution: int, dataset: Dataset) -> float:
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return top1(network, inputs(dataset.test, resolution, dataset))


def inputs(split: ImageSet, resolution: int, dataset: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    for pixels, labels in zip(torch.split(split.pixels, BATCH), torch.split(split.labels, BATCH), strict=True):
        x = to_input(pixels, resolution, dataset.mean, dataset.std)
        yield x.contiguous(memory_format=torch.channels_last), labels


class Alone:
    """Training of one architecture with weights of its own, resumable."""

    def __init__(
        self,
        space: Space,
        architecture: Architecture,
        index: int,
        teacher: ElasticNetwork,
        dataset: Dataset,
        record: SupernetRecord,
        out: Path,
    ) -> None:
        self.space, self.architecture, self.dataset, self.index = space, architecture, dataset, index
        config = TrainingConfig.model_validate(record.training["config"])
        teacher_sha256 = record.weights_sha256
        sandwich = config.epochs - min(config.full_epochs, config.epochs)
        passes = min(config.full_epochs, config.epochs) + sandwich * (config.random_subnets + 2)
        self.config = config.model_copy(update={"epochs": passes, "full_epochs": 0, "random_subnets": 0})
        self.teacher = ready_subnet(teacher, space.largest, dataset).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.manual_seed(config.seed + index)
        self.model = PlainNetwork.of(space, architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.state = State(self.model, make_optimizer(self.model, self.config), average)
        # Another teacher's students are others.
        self.path = out / f"{architecture.id}-{teacher_sha256[:8]}.safetensors"

    def run(self, bar: Bars) -> dict[str, Any]:
        config, train = self.config, self.dataset.train
        per_epoch = len(train) // config.batch_size
        total = config.epochs * per_epoch
        step = 0
        if self.path.exists():
            saved = read_progress(self.path)
            if saved.model_copy(update={"step": 0}) != self._progress(0):
                raise UserError(f"{self.path} is of another training; delete it, or give another --out.")
            step = saved.step
            self.state.restore(self.path)
        bar.start(f"alone {self.index}", total, step, "step")
        augment = Augmentation(config.augmentation)
        while step < total:
            epoch, position = divmod(step, per_epoch)
            order = torch.from_numpy(np.random.default_rng((config.seed, epoch)).permutation(len(train)))
            rows = order[position * config.batch_size : (position + 1) * config.batch_size]
            images = augment(train.pixels[rows].float().div_(255), seed=config.seed * total + step)
            self._step(images, train.labels[rows], step, per_epoch, total)
            step += 1
            bar.advance()
            if step % config.checkpoint_steps == 0 or step == total:
                self.state.save(self.path, self._progress(step))
        bar.finish()
        return {
            "index": self.index,
            "architecture": self.architecture.id,
            "top1": self._accuracy(),
            "passes": config.epochs,
        }

    def _step(self, images: Tensor, labels: Tensor, step: int, per_epoch: int, total: int) -> None:
        """The loss of a sandwich's subnets: the teacher's soft labels, and the rest cross entropy."""
        config = self.config
        self.model.train()
        with torch.no_grad():
            target = self.teacher(self._input(images, self.space.largest.resolution)).softmax(1)
        logits = self.model(self._input(images, self.architecture.resolution))
        loss = config.distillation * functional.cross_entropy(logits, target)
        if config.distillation < 1:
            hard = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            loss = loss + (1 - config.distillation) * hard
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        for group in self.state.optimizer.param_groups:
            group["lr"] = learning_rate(config, step, per_epoch, total)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        update_average(self.state.average, self.model, config.ema_decay, step)

    def _input(self, images: Tensor, resolution: int) -> Tensor:
        x = to_input(images, resolution, self.dataset.mean, self.dataset.std)
        return x.contiguous(memory_format=torch.channels_last)

    def _progress(self, step: int) -> Progress:
        return Progress(
            step=step,
            seconds=0.0,
            space=self.space.name,
            num_classes=self.space.num_classes,
            dataset_fingerprint=self.dataset.fingerprint,
            config=self.config,
        )

    def _accuracy(self) -> float:
        self.model.load_state_dict(self.model.state_dict() | self.state.average)
        recalibrate(
            self.model, (x for x, _ in inputs(self.dataset.recalibration, self.architecture.resolution, self.dataset))
        )
        return test_top1(self.model, self.architecture.resolution, self.dataset)


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
