"""Stochastic depth for the largest subnet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.errors import UserError
from hwnas.supernet import ElasticNetwork
from hwnas.training.seeds import torch_seed

_ENDS = ("project_norm", "project", "widen", "norm")
"""What the modules are called whose output a block adds to its input, as it is or rectified; of two the first."""


class DropConnect:
    """Leaves residuals out for some images and scales them up for the others.

    The probability rises linearly with depth (Huang et al. 2016, "Deep Networks with Stochastic Depth", Sec. 3), as
    "drop connect" of EfficientNet (Tan and Le 2019).  As in BigNAS (Yu et al. 2020, Sec. 3.1), only the largest subnet,
    which alone can overfit, is regularised.

    Args:
        rate: probability for the last block, in 0..1.

    Raises:
        UserError: no block of the space adds its input to its output.
    """

    def __init__(self, supernet: ElasticNetwork, rate: float) -> None:
        network, modules = supernet.active(supernet.space.largest)
        blocks = list(zip(modules, network.blocks, strict=True))
        self._residuals = [
            (end, rate * (index + 1) / len(blocks))
            for index, (block, spec) in enumerate(blocks)
            if spec.skip and (end := _last_of_residual(block))
        ]
        if rate and not self._residuals:
            raise UserError(f"Space {supernet.space.name} has no residual to leave out; set drop_connect to 0.")

    @contextmanager
    def __call__(self, seed: tuple[int, ...], batch: int, share: slice) -> Iterator[None]:
        """Active for the largest subnet's forward pass.

        Args:
            seed: equal seeds leave out equal residuals.
            batch, share: images of all processes, and those of them that this process has.
        """
        generator = torch.Generator().manual_seed(torch_seed(*seed))
        kept = torch.rand(len(self._residuals), batch, generator=generator)[:, share]
        hooks = [
            module.register_forward_hook(_masked((draw >= rate).float() / (1 - rate)))
            for (module, rate), draw in zip(self._residuals, kept, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _last_of_residual(block: nn.Module) -> nn.Module | None:
    children = dict(block.named_children())
    return next((children[name] for name in _ENDS if name in children), None)


def _masked(factor: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output * factor.to(output.device, output.dtype, non_blocking=True)[:, None, None, None]

    return hook
