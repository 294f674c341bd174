"""How a training that cannot go on says so."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hwnas.errors import DivergedError, UserError
from hwnas.training.config import TrainingConfig

BLOWN_UP = 10.0
"""Times the loss of a network that knows nothing."""
BLOWN_UP_STEPS = 20
"""A few steps may well be worse than knowing nothing; so many in a row do not come back."""
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "could not create a primitive")
"""The last is how oneDNN puts it where it finds no room for the code of a convolution."""


class LossWatch:
    """Keeps the losses of steps where they were computed and looks at them when asked to.

    A look waits for the device, so the loop asks only where it must know: at a line of metrics, at a saved state.

    Args:
        knows_nothing: the loss of a network that knows nothing, at least.

    Attributes:
        first: loss of the run's first step, which knows nothing either; 0 before it.
    """

    def __init__(self, config: TrainingConfig, knows_nothing: float) -> None:
        self.first = 0.0
        self._config = config
        self._knows_nothing = knows_nothing
        self._pending: list[tuple[int, Tensor]] = []
        self._last: deque[float] = deque(maxlen=BLOWN_UP_STEPS)

    def add(self, step: int, losses: Tensor) -> None:
        """The losses of a step's subnets, [subnets] on any device."""
        self._pending.append((step, losses))

    def look(self) -> list[float]:
        """The losses of the last step, all since the last look being sound.

        Raises:
            DivergedError: one is not finite, or they have grown and do not come back.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return []
        flat = torch.cat([losses for _, losses in pending]).tolist()
        values = iter(flat)
        latest: list[float] = []
        for step, losses in pending:
            latest = [next(values) for _ in losses]
            self._judge(step, latest)
        return latest

    def judge_weights(self, step: int, losses: list[float], *, finite: bool) -> None:
        """The weights that the last step left.

        Args:
            losses: of its subnets with these weights, on one batch more.
            finite: whether all weights are.

        Raises:
            DivergedError: one is not finite, or the first subnet's loss is of weights that have blown up.
        """
        wrong = next((loss for loss in losses if not math.isfinite(loss)), losses[0])
        if not finite or not wrong <= BLOWN_UP * self._ignorance:
            which = (
                f"cost {wrong:.3g}, while knowing nothing costs {self._ignorance:.2g}" if finite else "are not finite"
            )
            raise DivergedError(f"Training diverged at step {step}: the weights that it left {which}; {self._mend}.")

    @property
    def _ignorance(self) -> float:
        return max(self._knows_nothing, self.first)

    @property
    def _mend(self) -> str:
        rate = self._config.learning_rate
        return f"lower the learning rate ({rate:g}), for example to {rate / 3:.2g}, and begin in another directory"

    def _judge(self, step: int, losses: list[float]) -> None:
        wrong = next((loss for loss in losses if not math.isfinite(loss)), None)
        if wrong is not None:
            raise DivergedError(f"Training diverged at step {step} (loss {wrong}); {self._mend}.")
        if step == 1:
            self.first = losses[0]
        self._last.append(losses[0])
        if len(self._last) == BLOWN_UP_STEPS and min(self._last) > BLOWN_UP * self._ignorance:
            raise DivergedError(
                f"Training diverged: at step {step} the loss has been above {min(self._last):.3g} for "
                f"{BLOWN_UP_STEPS} steps, while knowing nothing costs {self._ignorance:.2g}; {self._mend}."
            )


@contextmanager
def memory_explained(config: TrainingConfig, processes: int) -> Iterator[None]:
    """Turn a lack of memory into advice.

    Raises:
        UserError: the memory of the device does not hold the batch.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _lacks_memory(error):
            raise
        half = max(processes, config.batch_size // 2 // processes * processes)
        advice = (
            f"try a batch of {half} and, in proportion, a learning rate of {config.learning_rate / 2:.3g}"
            if half < config.batch_size
            else "train on a device with more"
        )
        raise UserError(f"A batch of {config.batch_size} images does not fit into memory; {advice}.") from error


@contextmanager
def evaluation_explained() -> Iterator[None]:
    """Turn a lack of memory while subnets are evaluated, in batches that no setting changes, into advice.

    Raises:
        UserError: the memory of the device does not hold such a batch beside the training.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _lacks_memory(error):
            raise
        raise UserError(
            "There is too little memory to evaluate subnets, and a smaller batch of the training would not help, for "
            "these batches are of a fixed size; end what else is in the device's memory, or take a device with more, "
            "and give the same command again: it goes on from the last saved state."
        ) from error


def _lacks_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(hint in str(error).lower() for hint in OUT_OF_MEMORY)
