"""The families of search spaces; a new family is a new file and one line here."""

from __future__ import annotations

import difflib
from typing import Any

from hwnas.errors import UnknownNameError
from hwnas.spaces import fire, mobilenet_v3, nasnet, proxyless, resnet
from hwnas.spaces.bifpn import detector_family
from hwnas.spaces.family import Family
from hwnas.spaces.space import Space, Task

FAMILIES: dict[str, Family[Any]] = {
    family.name: family for family in (mobilenet_v3.FAMILY, proxyless.FAMILY, resnet.FAMILY, fire.FAMILY, nasnet.FAMILY)
}
"""Of classifiers."""
DETECTORS: dict[str, Family[Any]] = {family.name: family for family in map(detector_family, FAMILIES.values())}


def space_names(task: Task = "classification") -> list[str]:
    """``family/preset`` of every space of networks for a task."""
    families = FAMILIES if task == "classification" else DETECTORS
    return [f"{name}/{preset}" for name, family in families.items() for preset in family.presets]


def get_space(name: str, num_classes: int | None = None) -> Space:
    """The space ``family/preset``, with its default number of classes or the given one.

    Raises:
        UnknownNameError: there is no such family or preset.
    """
    family, _, preset = name.partition("/")
    families = FAMILIES | DETECTORS
    if family not in families or preset not in families[family].presets:
        known = [*space_names(), *space_names("detection")]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UnknownNameError(f"There is no space '{name}': {hint}known are {', '.join(known)}.")
    return families[family].space(preset, num_classes)
