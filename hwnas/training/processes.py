"""What makes several processes give the result of one with the same global batch."""

from __future__ import annotations

from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn

from hwnas.supernet.elastic import ElasticBatchNorm

if distributed.is_available():
    # Its defaults keep the group that is open when it is first imported, and with that the group's threads: one that
    # still holds a tensor as the interpreter ends aborts the process. So before there is any group.
    import torch.distributed.nn.functional


class SharedBatchNorm(ElasticBatchNorm):
    """Batch norm over the first channels and the images of all processes, each of which has equally many.

    Torch's own SyncBatchNorm knows neither CPUs nor a part of its channels.
    """

    processes: int

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] with any c up to the largest."""
        if not self.training:
            return super().forward(x)
        c = x.shape[1]
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        wide = x.float()
        mean = _sum(wide.mean((0, 2, 3))) / self.processes
        centred = wide - mean.view(-1, 1, 1)
        var = _sum(centred.square().mean((0, 2, 3))) / self.processes
        with torch.no_grad():
            count = self.processes * x.numel() / c
            self.running_mean[:c].lerp_(mean, self.momentum)
            self.running_var[:c].lerp_(var * count / max(count - 1, 1), self.momentum)
        scale = (self.weight[:c] * (var + self.eps).rsqrt()).view(-1, 1, 1)
        normalised: Tensor = centred * scale + self.bias[:c].view(-1, 1, 1)
        return normalised.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes, through which gradients flow back to each."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(tensor: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]


def share_batch_norms(model: nn.Module, processes: int) -> None:
    """Make every batch norm a :class:`SharedBatchNorm`; its parameters and statistics stay as they are."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.__class__ = SharedBatchNorm
            cast(SharedBatchNorm, norm).processes = processes


def equal_share(count: Tensor) -> Tensor:
    """What each process has of a count over all of them, which is taken for one at least.

    A sum over this process's images, divided by it, has the gradient of the whole batch's mean once
    :func:`average_gradients` is done.
    """
    if not distributed.is_initialized():
        return count.clamp(min=1)
    total = count.clone()
    distributed.all_reduce(total)
    return total.clamp(min=1) / distributed.get_world_size()


def average_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """Mean gradient over the processes, in one transfer.

    Torch's DistributedDataParallel is not used: it synchronises at every backward pass and wants each parameter
    in each of them, while a step here has several passes over different parts of the weights.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = accelerator.reduce(flat, reduction="mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
