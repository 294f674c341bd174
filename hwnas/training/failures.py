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

    def _judge(self, step: int, losses: list[float]) -> None:
        rate = self._config.learning_rate
        mend = f"lower the learning rate ({rate:g}), for example to {rate / 3:.2g}, and begin in another directory"
        wrong = next((loss for loss in losses if not math.isfinite(loss)), None)
        if wrong is not None:
            raise DivergedError(f"Training diverged at step {step} (loss {wrong}); {mend}.")
        if step == 1:
            self.first = losses[0]
        self._last.append(losses[0])
        knows_nothing = max(self._knows_nothing, self.first)
        if len(self._last) == BLOWN_UP_STEPS and min(self._last) > BLOWN_UP * knows_nothing:
            raise DivergedError(
                f"Training diverged: at step {step} the loss has been above {min(self._last):.3g} for "
                f"{BLOWN_UP_STEPS} steps, while knowing nothing costs {knows_nothing:.2g}; {mend}."
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
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            hint in str(error).lower() for hint in OUT_OF_MEMORY
        )
        if not lacking:
            raise
        half = max(processes, config.batch_size // 2 // processes * processes)
        advice = (
            f"try a batch of {half} and, in proportion, a learning rate of {config.learning_rate / 2:.3g}"
            if half < config.batch_size
            else "train on a device with more"
        )
        raise UserError(f"A batch of {config.batch_size} images does not fit into memory; {advice}.") from error
