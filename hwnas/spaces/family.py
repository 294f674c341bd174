"""What a family of spaces is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from hwnas.spaces.space import NORM_EPS, Choice, Reads, Slot, Space, Task


class HasClasses(Protocol):
    """A preset, as far as all families have it."""

    @property
    def num_classes(self) -> int:
        """Classes of the preset's own data set."""


Preset = TypeVar("Preset", bound=HasClasses)


@dataclass(frozen=True, slots=True)
class Family(Generic[Preset]):
    """A family: its presets, and the choices and slots that follow from one of them and a number of classes."""

    name: str
    presets: Mapping[str, Preset]
    choices: Callable[[Preset], Sequence[Choice]]
    slots: Callable[[Preset, int], Sequence[Slot]]
    norm_eps: float = NORM_EPS
    task: Task = "classification"
    """Like ``norm_eps`` as of :class:`hwnas.spaces.Space`."""

    def space(self, preset: str, num_classes: int | None = None) -> Space:
        """The space of a preset; ``num_classes`` defaults to that of the preset's own data set."""
        chosen = self.presets[preset]
        classes = chosen.num_classes if num_classes is None else num_classes
        choices, slots = self.choices(chosen), self.slots(chosen, classes)
        return Space(self.name, preset, classes, choices, slots, self.norm_eps, self.task)


def always(*labels: str) -> Reads:
    """What a slot reads that reads the same slots whatever is chosen (:attr:`Slot.reads`)."""
    return partial(_labels, labels)


def _labels(labels: tuple[str, ...], _: Mapping[str, int]) -> tuple[str, ...]:
    return labels


def reduced(resolution: int, reduction: int) -> int:
    """Feature map size after strided layers with "same" padding: each halves, rounding up."""
    return -(-resolution // reduction)


def depth_choices(stage: str, depths: Sequence[int], inside: Mapping[str, tuple[int, ...]]) -> list[Choice]:
    """How many blocks a stage has, and what is chosen in each of them.

    Args:
        stage: label of the stage.
        depths: ascending.
        inside: values by kind of choice, such as ``kernel``.
    """
    parent = f"{stage}.depth"
    choices = [Choice(parent, tuple(depths))]
    for b in range(1, max(depths) + 1):
        active_from = next(index for index, depth in enumerate(depths) if depth >= b)
        choices += [Choice(f"{stage}.block{b}.{kind}", values, parent, active_from) for kind, values in inside.items()]
    return choices
