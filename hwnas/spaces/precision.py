"""Precision as one more choice of a space: an architecture then says in how many bits it is to be executed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hwnas.errors import UserError
from hwnas.spaces.architecture import Architecture
from hwnas.spaces.space import Choice, Genomes, Space

PRECISION = "precision"
BITS = {"int8": 8, "fp16": 16, "fp32": 32}
"""What a choice's value says: the bits of a weight.  ``int8`` has a remainder that is not quantised."""
_NAMES = {bits: name for name, bits in BITS.items()}
_BITS_OF_A_BYTE = 8


def with_precisions(space: Space, precisions: Sequence[str]) -> Space:
    """A space whose architectures choose one of several precisions as well, as the last of their choices.

    Raises:
        UserError: a precision cannot be searched, is there twice, or there are fewer than two.
    """
    unknown = [name for name in precisions if name not in BITS]
    if unknown:
        raise UserError(f"Precision '{unknown[0]}' cannot be searched; {', '.join(BITS)} can.")
    if len(set(precisions)) != len(precisions) or len(precisions) < 2:
        raise UserError(f"A search over precisions takes at least two different ones, not {', '.join(precisions)}.")
    choice = Choice(PRECISION, tuple(sorted(BITS[name] for name in precisions)))
    choices = (*space.choices, choice)
    return Space(space.family, space.preset, space.num_classes, choices, space.slots, space.norm_eps, space.task)


def precision_of(architecture: Architecture) -> str | None:
    """The precision that an architecture chooses; None where it chooses none."""
    bits = architecture.get(PRECISION)
    return None if bits is None else _NAMES[bits]


def without_precision(architecture: Architecture) -> Architecture:
    """The architecture in the space without that choice."""
    return Architecture(architecture.space, tuple(choice for choice in architecture.choices if choice[0] != PRECISION))


def precisions_of(space: Space) -> tuple[str, ...]:
    """What the architectures of a space choose from, the cheapest first; none where they do not choose."""
    return tuple(_NAMES[bits] for choice in space.choices if choice.label == PRECISION for bits in choice.values)


def bytes_per_weight(space: Space, genomes: Genomes) -> npt.NDArray[np.float64]:
    """Of each row of [n, choices], [n]: FP32's where the space has no choice of precision."""
    if not precisions_of(space):
        return np.full(len(genomes), BITS["fp32"] / _BITS_OF_A_BYTE)
    column = space.position(PRECISION)
    return np.array(space.choices[column].values)[genomes[:, column]] / _BITS_OF_A_BYTE
