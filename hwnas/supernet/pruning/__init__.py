"""Structured pruning: whole channels of a plain network go, the least important first."""

from hwnas.supernet.pruning.importance import channel_importance
from hwnas.supernet.pruning.layout import Group, Layout
from hwnas.supernet.pruning.path import MULTIPLE, Widths, narrower, narrowest, pruning_path
from hwnas.supernet.pruning.removal import narrowed

__all__ = [
    "MULTIPLE",
    "Group",
    "Layout",
    "Widths",
    "channel_importance",
    "narrowed",
    "narrower",
    "narrowest",
    "pruning_path",
]
