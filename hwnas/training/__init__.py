"""Training of weight-sharing networks."""

from hwnas.training.config import TrainingConfig
from hwnas.training.trainer import Trainer

__all__ = ["Trainer", "TrainingConfig"]
