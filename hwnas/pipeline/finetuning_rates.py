"""The learning rate of a fine-tuning, found by short trainings.

How far a supernet was trained decides it: weights that are still far from good want a rate as high as the supernet's
or a higher one, good ones are harmed by that.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.errors import DivergedError
from hwnas.pipeline.finetuned import TriedRate
from hwnas.training import TrainingConfig

FACTORS = (0.2, 1.0, 3.0)
"""Of the supernet's learning rate."""
SHARE = 0.1
"""Of the epochs, for each rate."""
LEAST_STEPS = 50
"""Fewer tell nothing, unless the whole has no more."""


def short(config: TrainingConfig, rate: float, images: int) -> TrainingConfig:
    """The training by which a rate is judged: the same schedule in little.

    Args:
        config: of the whole.
        images: of the training split.
    """
    steps_per_epoch = max(images // config.batch_size, 1)
    epochs = min(config.epochs, max(SHARE * config.epochs, LEAST_STEPS / steps_per_epoch))
    warmup = config.warmup_epochs * epochs / config.epochs
    changes = {"learning_rate": rate, "epochs": epochs, "full_epochs": epochs, "warmup_epochs": warmup}
    return config.model_copy(update=changes)


def best_rate(tried: Sequence[TriedRate]) -> float:
    """The one that came to most on the validation images; of equals the lowest.

    Raises:
        DivergedError: each of them diverged.
    """
    sound = [(each.score_validation, -each.learning_rate) for each in tried if each.score_validation is not None]
    if not sound:
        rates = ", ".join(f"{each.learning_rate:g}" for each in tried)
        raise DivergedError(
            f"Fine-tuning diverged at each learning rate that was tried ({rates}); set a lower one and give another "
            "directory."
        )
    return -max(sound)[1]
