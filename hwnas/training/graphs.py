"""Steps that a GPU replays: passes of subnets and the update, recorded as CUDA graphs.

A small network's step is hundreds of kernels of a few microseconds, which Python launches more slowly than they run; a
replay launches them all at once.  A graph has fixed shapes, hence one for each subnet that comes again: the largest,
the smallest, and those of a pool (``TrainingConfig.subnet_pool``).
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

import torch
from torch import Tensor

from hwnas.training.optimization import average_share, set_learning_rate
from hwnas.training.step import Run, Step, Work

Record = Callable[[Work], Work]
"""Gives what does a work again, without doing it now."""

_KEPT = 4
"""Recordings beside those of a pool and of the one before it: update, teacher, largest and smallest subnet."""


class Recordings:
    """Works by name: done as they are at first, which loads their kernels, recorded the second time, then replayed.

    Args:
        kept: so many; the one that was used longest ago is dropped first.
    """

    def __init__(self, record: Record, kept: int) -> None:
        self._record, self._kept = record, kept
        self._seen: set[Hashable] = set()
        self._replays: OrderedDict[Hashable, Work] = OrderedDict()

    def run(self, name: Hashable, work: Work) -> None:
        """Do a work."""
        if name not in self._seen:
            self._seen.add(name)
            work()
            return
        if name not in self._replays:
            self._replays[name] = self._record(work)
            if len(self._replays) > self._kept:
                self._seen.discard(self._replays.popitem(last=False)[0])
        self._replays.move_to_end(name)
        self._replays[name]()


class ReplayedStep(Step):
    """Each operation out of recordings, in one process, for a task that distils.

    Gradients stay where they are between steps, so weights that no subnet of a step has learn a gradient of zero where
    they would be left out otherwise: they decay, and move on by their momentum.

    Args:
        record: how works are recorded, on a device whose current stream does all of them.
    """

    def __init__(self, run: Run, autocast: Callable[[], AbstractContextManager[None]], record: Record) -> None:
        super().__init__(run, autocast, Tensor.backward)
        self._recordings = Recordings(record, _KEPT + 2 * run.config.subnet_pool)
        for parameter in self._parameters:
            parameter.grad = torch.zeros_like(parameter)
        _complete_momenta(self._optimizer, self._parameters)
        self._loss, self._share = (self._parameters[0].new_zeros(()) for _ in range(2))

    def update(self, rate: float, since_begin: int) -> None:
        """As :meth:`Step.update`."""
        set_learning_rate(self._optimizer, rate)
        self._share.fill_(average_share(self._config.ema_decay, since_begin))
        self._do("update", self._update, again=True)

    def _do(self, name: Hashable, work: Work, *, again: bool) -> None:
        self._recordings.run(name, work) if again else work()

    def _take(self, images: Tensor, targets: Sequence[Tensor]) -> None:
        if not self._targets:
            device = self._loss.device
            self._images, *self._targets = (
                torch.empty(given.shape, dtype=given.dtype, device=device) for given in (images, *targets)
            )
            self._soft = torch.empty(len(images), self._model.space.num_classes, device=device)
        for kept, given in zip((self._images, *self._targets), (images, *targets), strict=True):
            kept.copy_(given, non_blocking=True)

    def _of_all_images(self, losses: Tensor) -> Tensor:
        return losses

    def _keep_loss(self, loss: Tensor) -> None:
        self._loss.copy_(loss)

    def _keep_soft(self, answers: Tensor) -> None:
        self._soft.copy_(answers)

    @torch.no_grad()
    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_clip, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        difference = torch._foreach_sub(self._parameters, self._averages)
        torch._foreach_mul_(difference, self._share)
        torch._foreach_add_(self._averages, difference)


def _complete_momenta(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Give weights without a momentum one of zero where others have theirs, as after steps that were not replayed."""
    if any("momentum_buffer" in optimizer.state.get(parameter, {}) for parameter in parameters):
        for parameter in parameters:
            optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


def cuda_graphs() -> Record:
    """Records on the current stream, which is not the default one; all recordings share memory.

    They may since they are replayed one after the other and leave nothing in it that another reads.
    """
    pool = torch.cuda.graph_pool_handle()
    first: list[torch.cuda.CUDAGraph] = []  # kept, for the pool ends with the last of its graphs

    def record(work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        collects = gc.isenabled()
        gc.disable()  # what a collection frees on the device would be recorded, too
        try:
            # Other threads may go on meanwhile.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        finally:
            if collects:
                gc.enable()
        if not first:
            first.append(graph)
        return graph.replay

    return record


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, do what follows on a stream of its own: the default one cannot be recorded."""
    if device.type != "cuda":
        yield
        return
    before, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)
