#!/usr/bin/env python
"""Images a second of one training step of a subnet, against the dynamic network of the PyPI package ``ofa``.

Both networks are the once-for-all MobileNetV3 of width 1.0; in each round both do a step (forward, cross entropy,
backward, SGD with momentum) of the same random subnet on the same images, in turn.  A row is a subnet: the fastest of
its rounds of each counts, so that what else the machine does is left out.  ``arithmetic`` is the share of the time of
our step that torch spends in convolutions, matrix products and batch norms, forward and backward.

On a GPU our step is replayed as ``hwnas train`` replays there, a CUDA graph (:mod:`hwnas.training.graphs`) that is
recorded in the rounds that warm up; ``eager`` says how fast it is without.  Feature maps lie in channels-last, as those
of one architecture do in a training.  ``--precision`` is that of both.

Both have what ``hwnas train`` sets for its process, that freed memory is kept; ``--returned-memory`` leaves that out.

With ``--compile`` forward and backward of each subnet are compiled for its shapes as well, in a mode of
``torch.compile`` (``reduce-overhead`` records CUDA graphs): how much faster that makes our step, and the seconds before
the first, which a training would spend on every subnet that it draws.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from once_for_all import activate, published
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from hwnas.cli.console import print_table
from hwnas.spaces import Architecture, get_space
from hwnas.supernet import ElasticNetwork
from hwnas.supernet.memory import keep_freed_memory
from hwnas.training import TrainingConfig
from hwnas.training.graphs import Recordings, cuda_graphs, own_stream
from hwnas.training.optimization import make_optimizer

SPACE, NETWORK = "mobilenet_v3/imagenet-w1.0", "ofa_mbv3_d234_e346_k357_w1.0"
ARITHMETIC = ("conv", "mm", "batch_norm")
WARM_UP = 3
"""Rounds: the first loads kernels, the second records."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if not arguments.returned_memory:
        keep_freed_memory()
    with own_stream(torch.device(arguments.device)):
        peers = Peers(arguments)
        rng = np.random.default_rng(arguments.seed)
        drawn = peers.space.decode(peers.space.sample(rng, arguments.subnets))
        show([row(peers, architecture, arguments) for architecture in drawn], arguments)


class Peers:
    """Both networks, their optimizers and the batch that both learn from."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = device = torch.device(arguments.device)
        self.on_gpu = device.type == "cuda"
        self.space = get_space(SPACE, arguments.classes)
        config = TrainingConfig()
        self.theirs = published(NETWORK, n_classes=arguments.classes, dropout_rate=0).train().to(device)
        self.their_optimizer = torch.optim.SGD(
            self.theirs.parameters(),
            config.learning_rate,
            config.momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        self.ours = ElasticNetwork(self.space).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.our_optimizer = make_optimizer(self.ours, config, replayed=self.on_gpu)
        if self.on_gpu:
            for parameter in self.ours.parameters():
                parameter.grad = torch.zeros_like(parameter)
        self.images = torch.randn(arguments.batch, 3, arguments.pixels, arguments.pixels, device=device)
        self.labels = torch.arange(arguments.batch, device=device) % arguments.classes
        self.autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=arguments.precision == "bf16")

    def their_step(self, architecture: Architecture) -> None:
        activate(self.theirs, self.space, architecture)
        with self.autocast():
            logits = self.theirs(self.images)
        step(logits, self.labels, self.their_optimizer, to_none=True)

    def our_step(self, architecture: Architecture) -> None:
        self.our_step_by(lambda images: self.ours(images, architecture))

    def our_step_by(self, forward: Callable[[Tensor], Tensor]) -> None:
        with self.autocast():
            logits = forward(self.images.contiguous(memory_format=torch.channels_last))
        step(logits, self.labels, self.our_optimizer, to_none=not self.on_gpu)


def row(peers: Peers, architecture: Architecture, arguments: argparse.Namespace) -> dict[str, Any]:
    """One subnet's figures."""
    eager_step = partial(peers.our_step, architecture)
    steps = [partial(peers.their_step, architecture), eager_step]
    if peers.on_gpu:
        steps.append(partial(Recordings(cuda_graphs(), kept=1).run, architecture.id, eager_step))
    ofa_seconds, eager_seconds, *replayed = fastest(steps, arguments.rounds, peers.device)
    hwnas_seconds = replayed[0] if replayed else eager_seconds
    return {
        "subnet": architecture.id,
        "ofa_images_per_second": arguments.batch / ofa_seconds,
        "hwnas_images_per_second": arguments.batch / hwnas_seconds,
        "speedup": ofa_seconds / hwnas_seconds,
        "eager": ofa_seconds / eager_seconds,
        "arithmetic": arithmetic(eager_step, peers.device),
        **(compiling(peers, architecture, eager_step, arguments) if arguments.compile else {}),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--subnets", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--returned-memory", action="store_true", help="the C library's own way with freed memory")
    parser.add_argument("--compile", choices=["default", "reduce-overhead", "max-autotune"])
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args()


def step(logits: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, *, to_none: bool) -> None:
    functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=to_none)


def fastest(steps: list[Callable[[], None]], rounds: int, device: torch.device) -> list[float]:
    """Seconds of each, in turn round after round; some rounds warm up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + WARM_UP):
        for taken, one in zip(seconds, steps, strict=True):
            begun = time.perf_counter()
            one()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - begun)
    return [min(taken[WARM_UP:]) for taken in seconds]


def compiling(
    peers: Peers, architecture: Architecture, eager_step: Callable[[], None], arguments: argparse.Namespace
) -> dict[str, float]:
    """What a subnet compiled for its shapes gains over the same eagerly, both in turn."""
    forward = torch.compile(lambda x: peers.ours(x, architecture), dynamic=False, mode=arguments.compile)
    compiled_step = partial(peers.our_step_by, forward)
    begun = time.perf_counter()
    compiled_step()
    seconds = time.perf_counter() - begun
    eager, compiled = fastest([eager_step, compiled_step], arguments.rounds, peers.device)
    return {"compiling_seconds": seconds - compiled, "compiled_speedup": eager / compiled}


def arithmetic(one: Callable[[], None], device: torch.device) -> float:
    """Share of a step's time in kernels that compute what the network is defined by."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiled:
        one()
    times = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiled.key_averages()
        if event.device_type == DeviceType.CPU  # operations, with the time of the kernels that they launch
    }
    return sum(t for name, t in times.items() if any(part in name for part in ARITHMETIC)) / sum(times.values())


def show(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    speedup = statistics.median(row["speedup"] for row in rows)
    cells = [
        [
            row["subnet"],
            f"{row['ofa_images_per_second']:.1f}",
            f"{row['hwnas_images_per_second']:.1f}",
            f"{row['speedup']:.2f}",
            f"{row['eager']:.2f}",
            f"{100 * row['arithmetic']:.0f} %",
            *([f"{row['compiled_speedup']:.2f}", f"{row['compiling_seconds']:.0f}"] if arguments.compile else []),
        ]
        for row in rows
    ]
    title = f"Training steps of {arguments.batch} images of {arguments.pixels} px, median speedup {speedup:.2f}"
    columns = ["subnet", "ofa, images/s", "hwnas, images/s", "speedup", "eager", "arithmetic"]
    columns += ["compiled, times as fast", "s to compile"] if arguments.compile else []
    print_table(title, columns, cells)
    if arguments.json:
        name = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else arguments.device
        settings = {"batch": arguments.batch, "pixels": arguments.pixels, "precision": arguments.precision}
        print(json.dumps({"rows": rows, "speedup": speedup, "torch": torch.__version__, "device": name, **settings}))


if __name__ == "__main__":
    main()
