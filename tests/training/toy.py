"""A training run that takes seconds; as a program: ``python toy.py DIRECTORY``."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from hwnas.data import Dataset, ImageSet
from hwnas.files import write_atomic
from hwnas.spaces import Space, get_space
from hwnas.spaces.inverted_residuals import Preset, Stage, choices, slots
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.graphs import Record
from hwnas.training.state import STATE_FILE

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.forked import begun

CLASSES = ("left", "middle", "right")


def images(n: int, seed: int) -> ImageSet:
    """Noise with a bright column whose place is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    pixels = torch.randint(0, 80, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[:, :, label * 9 : label * 9 + 9] += 150
    return ImageSet(pixels, labels)


def dataset(fingerprint: str = "toy") -> Dataset:
    """96 training images of three classes."""
    train = images(96, 0)
    splits = {"train": train, "recalibration": train, "validation": images(30, 1), "test": images(30, 2)}
    readers = {name: (lambda split=split: split) for name, split in splits.items()}
    return Dataset("toy", CLASSES, (0.4,) * 3, (0.3,) * 3, fingerprint, readers)


def config(**changes: object) -> TrainingConfig:
    settings: dict[str, object] = {"epochs": 3, "full_epochs": 1, "batch_size": 16, "checkpoint_steps": 4}
    settings |= {"ema_decay": 0.8, "augmentation": {"crop": "none", "horizontal_flip": 0}} | changes
    return TrainingConfig.model_validate(settings)


THIN = Preset(
    stem_width=8,
    stem_activation="h_swish",
    first_width=8,
    first_activation="relu",
    first_skip=True,
    stages=(
        Stage(8, stride=2, se=False, activation="relu", depths=(1, 2, 3)),
        Stage(16, stride=2, se=True, activation="h_swish", depths=(1, 2, 3)),
    ),
    final_width=32,
    final_activation="h_swish",
    feature_width=32,
    resolutions=(16, 20, 24),
    kernels=(3, 5),
    expansions=(2, 3, 4),
    num_classes=3,
)


def thin_space() -> Space:
    """A space like any other, but quick; its norms are not those of most."""
    return Space("mobilenet_v3", "thin", len(CLASSES), choices(THIN), slots(THIN, len(CLASSES)), norm_eps=1e-3)


def trainer(directory: Path, **changes: object) -> Trainer:
    return Trainer(directory, get_space("mobilenet_v3/small", len(CLASSES)), dataset(), config(**changes))


def thin(directory: Path, *, workers: int | None = None, record: Record | None = None, **changes: object) -> Trainer:
    return Trainer(directory, thin_space(), dataset(), config(**changes), workers=workers, record=record)


def main(directory: Path, stuck_after: int | None = None, **changes: object) -> None:
    """A run, whose weights are told by their hash; after the step ``stuck_after`` it goes no further."""
    torch.set_num_threads(1)
    follow(trainer(directory, **changes), directory, stuck_after)


def thin_main(directory: Path, stuck_after: int | None = None, **changes: object) -> None:
    """:func:`main` in the thin space."""
    torch.set_num_threads(1)
    follow(thin(directory, **changes), directory, stuck_after)


def follow(run: Trainer, directory: Path, stuck_after: int | None) -> None:
    if stuck_after is not None:
        run.run_until(stuck_after)
        signal.pause()
    run.run()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in run.model.parameters())).hexdigest()
    write_atomic(directory / f"rank{run.accelerator.process_index}.sha256", digest)
    end(run)


def end(run: Trainer) -> None:
    """What is left of the group of processes at its end may abort this one."""
    run.accelerator.end_training()
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert not [name for name in threads if "gloo" in name], threads


def saved_anew(directory: Path) -> Callable[[], bool]:
    """Whether a run has saved its state since this was called."""

    def written() -> int:
        state = directory / STATE_FILE
        return state.stat().st_mtime_ns if state.exists() else 0

    before = written()
    return lambda: written() != before


def by_torchrun(directory: Path) -> None:
    """This file as a program in two processes that train together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "127.0.0.1:0", __file__, str(directory)]
    subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


def in_two_processes(function: Callable[..., None], *arguments: object, **settings: Any) -> None:
    """A module's function in two processes that train together, told so as torchrun tells its own."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    processes = [begun(_as_rank, rank, port, function, *arguments, **settings) for rank in range(2)]
    while (running := [process.sentinel for process in processes if process.is_alive()]) and not any(
        process.exitcode for process in processes
    ):
        wait(running)
    for process in processes:
        process.kill()  # which waits in vain where the other has failed
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def _as_rank(rank: int, port: int, function: Callable[..., None], *arguments: object, **settings: Any) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    function(*arguments, **settings)


def thin_until(directory: Path, last_step: int, **changes: object) -> None:
    """A run in the thin space that goes no further than a step."""
    run = thin(directory, **changes)
    run.run_until(last_step)
    end(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), random_subnets=1)
