"""The augmented batch of a step, or this process's share of it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from hwnas.data.tasks import AnyDataset
from hwnas.errors import HwnasError, UserError
from hwnas.training.config import TrainingConfig
from hwnas.training.seeds import torch_seed

Make = Callable[[Tensor, int, slice], tuple[Tensor, ...]]
"""From rows of the training images, a seed that all of them share, and which of them are wanted, to augmented images
[n, c, h, w] between 0 and 1 of those, and their targets."""

AUGMENTED_TOGETHER = 64
"""Images.  What is drawn for them is a function of seed, step and place in the batch, so that the batch is the same in
however many processes it is made.  Kornia changes all of them or none: a process whose share of a batch of labelled
images is 32, say, changes 64.  Pictures with boxes are changed by the process that learns from them alone."""
HANDED_OVER = 4
"""Steps whose batches a worker hands over at once."""
AHEAD = 2
"""Such handfuls that each worker makes ahead."""
MOST_WORKERS = 12
"""By default; more than keep a GPU busy only take memory."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- a file system of memory, where nothing of ours has a name
"""Through which batches are handed over."""
SHARED_SHARE = 0.5
"""Of what is free there, by default."""
RESIDENT_SHARE = 0.25
"""Of the device's free memory: training images up to so much are kept there."""


def require_batches(dataset: AnyDataset, config: TrainingConfig, processes: int) -> None:
    """Refuse a batch size that cannot be shared out between processes or filled by the training images.

    Raises:
        UserError: it is so.
    """
    if config.batch_size % processes:
        raise UserError(
            f"A batch of {config.batch_size} cannot be split between {processes} processes; choose a multiple."
        )
    if config.batch_size == processes:
        raise UserError("Batch norm needs at least two images in each process; choose a larger batch.")
    if len(dataset.train) < config.batch_size:
        raise UserError(
            f"Data set {dataset.name} has {len(dataset.train)} training images, fewer than one batch of "
            f"{config.batch_size}; choose a smaller batch."
        )


def share_of(batch_size: int, process: int, processes: int) -> slice:
    """Which images of a batch a process has."""
    share = batch_size // processes
    return slice(process * share, (process + 1) * share)


class Batches:
    """Random access to the batches of a run.

    Args:
        images: in the training split.
        make: gives the images and targets of some rows, on the device.
        process, processes: which share of each batch, and of how many.
    """

    def __init__(self, images: int, make: Make, config: TrainingConfig, process: int = 0, processes: int = 1) -> None:
        self.config, self._images, self._make = config, images, make
        self.steps_per_epoch = images // config.batch_size
        self.share = share_of(config.batch_size, process, processes)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """Images [n, c, h, w] between 0 and 1, and their targets, on the device."""
        epoch, index = divmod(step, self.steps_per_epoch)
        size = self.config.batch_size
        rows = self._shuffled(epoch)[index * size : (index + 1) * size]
        first = self.share.start // AUGMENTED_TOGETHER * AUGMENTED_TOGETHER
        parts = [
            self._make(
                rows[start : start + AUGMENTED_TOGETHER],
                torch_seed(self.config.seed, step, start // AUGMENTED_TOGETHER),
                slice(max(0, self.share.start - start), min(AUGMENTED_TOGETHER, self.share.stop - start)),
            )
            for start in range(first, self.share.stop, AUGMENTED_TOGETHER)
        ]
        return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            order = np.random.default_rng((self.config.seed, epoch)).permutation(self._images)
            self._order = (epoch, torch.from_numpy(order))
        return self._order[1]


class _Steps(TorchDataset[list[tuple[Tensor, ...]] | HwnasError]):
    """The batches of steps, or the error that there is instead: what a worker raises, the loader words anew."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, steps: range) -> list[tuple[Tensor, ...]] | HwnasError:
        try:
            return [self._batches(step) for step in steps]
        except HwnasError as error:
            return error


def stream(batches: Batches, first: int, end: int, workers: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """The batches of steps in order, on a device; ``workers`` processes make them ahead, 0: this one when asked.

    Workers are forks, so ``batches`` makes them on the CPU then.

    Raises:
        HwnasError: ``batches`` raised it, in whichever process.
    """
    if not workers or first >= end:
        yield from map(batches, range(first, end))
        return
    loader = DataLoader(
        _Steps(batches),
        batch_size=None,
        sampler=[range(start, min(start + HANDED_OVER, end)) for start in range(first, end, HANDED_OVER)],
        num_workers=workers,
        prefetch_factor=AHEAD,
        multiprocessing_context="fork",
        worker_init_fn=_end_with_parent,
        generator=torch.Generator(),  # else it draws from the global one
    )
    # Memory is not pinned: the thread for it and this one would wait for each other more than it saves.  A copy that
    # does not wait for the device is safe all the same, since CUDA has read memory that is not pinned when it returns.
    for made in loader:
        if isinstance(made, HwnasError):
            raise made
        for batch in made:
            yield tuple(tensor.to(device, non_blocking=True) for tensor in batch)


def _end_with_parent(_: int) -> None:
    """A killed run's directory is free at once, though its workers have inherited the lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1


def default_workers(device: torch.device, processes: int, batch_bytes: int) -> int:
    """Processes that make batches for each process that trains; none but for an NVIDIA GPU.

    Args:
        processes: that train on this machine.
        batch_bytes: of one's share of a batch.
    """
    if device.type != "cuda" or not SHARED_MEMORY.is_dir():
        return 0
    cores = len(os.sched_getaffinity(0))
    space = os.statvfs(SHARED_MEMORY)
    room = SHARED_SHARE * space.f_bavail * space.f_frsize / (processes * AHEAD * HANDED_OVER * batch_bytes)
    return max(0, min(MOST_WORKERS, cores // processes - 1, int(room)))


def resident(pixels: Tensor, device: torch.device) -> Tensor:
    """The images on the device, where they are small beside its memory."""
    if device.type != "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes < RESIDENT_SHARE * free else pixels
