"""Where a model shall be built: which TensorRT, which GPU, how much memory.

Boards that no target describes yet stand in a table of facts; a target's own facts come first.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwnas.doctor.version import Version, compute_capability
from hwnas.errors import UserError

if TYPE_CHECKING:
    from hwnas.devices import Target

JETPACK = {
    "5.1": "8.5",
    "6.0": "8.6",
    "6.1": "10.3",
    "6.2": "10.3",
    "7.0": "10.13",
    "7.1": "10.13",
    "7.2": "10.16",
    "7.2.2": "11.4.1",
}
"""JetPack to TensorRT, from NVIDIA's Jetson documentation and jetson-containers; 7.0 and 7.1 are not confirmed."""

DLA_RELEASES = (Version(8, 5), Version(10, 7))
"""TensorRT has DLA from the first to the last, and again from 11.4.1 on (AGX Orin)."""


@dataclass(frozen=True)
class Platform:
    """One way in which a device may be set up; None is what is not known of it.

    Attributes:
        name: the device, with its JetPack if it has one.
        tensorrt: version as written, such as ``8.6.2``.
        gpu: compute capability.
        memory_bytes: of the GPU, on a Jetson of the whole board.
        shared_memory: whether the CPU and the system live in the same memory.
        dla_cores: how many deep-learning accelerators it has.
    """

    name: str
    tensorrt: str
    gpu: tuple[int, int] | None = None
    memory_bytes: int | None = None
    shared_memory: bool = False
    dla_cores: int | None = None

    @property
    def version(self) -> Version:
        """The version of TensorRT.

        Raises:
            UserError: it is none that hwnas builds for.
        """
        return Version.parse(self.tensorrt)

    @property
    def has_dla(self) -> bool:
        """Whether this TensorRT builds for the board's accelerators, as far as that is known."""
        first, last = DLA_RELEASES
        if first <= self.version <= last:
            return True
        return tuple(map(int, self.tensorrt.split("."))) >= (11, 4, 1)


@dataclass(frozen=True)
class _Board:
    gpu: str
    memory_gib: int
    jetpacks: tuple[str, ...] = ()
    dla_cores: int = 0


_ORIN = ("5.1", "6.0", "6.1", "6.2")
_BOARDS = {
    "jetson-xavier-nx-8gb": _Board("7.2", 8, ("5.1",), 2),
    "jetson-agx-xavier-32gb": _Board("7.2", 32, ("5.1",), 2),
    "jetson-orin-nano-4gb": _Board("8.7", 4, _ORIN),
    "jetson-orin-nano-8gb": _Board("8.7", 8, _ORIN),
    "jetson-orin-nx-8gb": _Board("8.7", 8, _ORIN, 1),
    "jetson-orin-nx-16gb": _Board("8.7", 16, _ORIN, 2),
    "jetson-agx-orin-32gb": _Board("8.7", 32, (*_ORIN, "7.2.2"), 2),
    "jetson-agx-orin-64gb": _Board("8.7", 64, (*_ORIN, "7.2.2"), 2),
    "jetson-agx-thor": _Board("11.0", 128, ("7.0", "7.1", "7.2")),
    "rtx-3060": _Board("8.6", 12),
    "rtx-3090": _Board("8.6", 24),
    "rtx-4070": _Board("8.9", 12),
    "rtx-4090": _Board("8.9", 24),
    "rtx-5090": _Board("12.0", 32),
    "t4": _Board("7.5", 16),
    "a100-40gb": _Board("8.0", 40),
    "h100": _Board("9.0", 80),
}
"""Compute capability, memory, JetPacks, accelerators: NVIDIA's data sheets and support matrices, jetson_stats."""


@dataclass(frozen=True)
class Overrides:
    """What is known better than by the tables; None for what is not."""

    tensorrt: str | None = None
    jetpack: str | None = None
    gpu: str | None = None
    memory_gib: float | None = None
    dla_cores: int | None = None


def board_names() -> list[str]:
    """The boards of the table of facts."""
    return sorted(_BOARDS)


def platforms(name: str, target: Target | None, overrides: Overrides) -> list[Platform]:
    """Every way in which the device may be set up; one alone where a version is given.

    Args:
        name: of a target or of a board in the table.
        target: the target of that name, if there is one.
        overrides: what is given on the command line.

    Raises:
        UserError: neither a target nor a board has the name, or no version of TensorRT is known for it.
    """
    if target is None and name not in _BOARDS:
        near = difflib.get_close_matches(name, _BOARDS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known boards: {', '.join(board_names())}."
        raise UserError(f"There is neither a target nor a board '{name}'; {hint}")
    base, versions = _of_board(name) if target is None else _of_target(target)
    if overrides.gpu is not None:
        base = replace(base, gpu=compute_capability(overrides.gpu))
    if overrides.memory_gib is not None:
        base = replace(base, memory_bytes=int(overrides.memory_gib * 2**30))
    if overrides.dla_cores is not None:
        base = replace(base, dla_cores=overrides.dla_cores)
    versions = _chosen(name, versions, overrides)
    found = [replace(base, name=f"{name}, {label}" if label else name, tensorrt=text) for label, text in versions]
    for platform in found:
        Version.parse(platform.tensorrt)
    return found


def _chosen(name: str, versions: list[tuple[str, str]], overrides: Overrides) -> list[tuple[str, str]]:
    """Label and version of each way."""
    if overrides.tensorrt is not None:
        return [("", overrides.tensorrt)]
    if overrides.jetpack is not None:
        if overrides.jetpack not in JETPACK:
            raise UserError(f"JetPack {overrides.jetpack} is unknown; known are {', '.join(JETPACK)}.")
        return [(f"JetPack {overrides.jetpack}", JETPACK[overrides.jetpack])]
    if not versions:
        raise UserError(f"It is not known which TensorRT '{name}' has; give --tensorrt VERSION.")
    return versions


def _of_board(name: str) -> tuple[Platform, list[tuple[str, str]]]:
    board = _BOARDS[name]
    jetson = name.startswith("jetson-")
    base = Platform(
        name=name,
        tensorrt="",
        gpu=compute_capability(board.gpu),
        memory_bytes=board.memory_gib * 2**30,
        shared_memory=jetson,
        dla_cores=board.dla_cores,
    )
    return base, [(f"JetPack {jetpack}", JETPACK[jetpack]) for jetpack in board.jetpacks]


def _of_target(target: Target) -> tuple[Platform, list[tuple[str, str]]]:
    """By the target's facts ``compute_capability``, ``memory_gib``, ``dla_cores`` and ``tensorrt``."""
    facts = {key: fact.value for key, fact in target.facts.items()}
    gpu, memory = facts.get("compute_capability"), facts.get("memory_gib")
    dla = facts.get("dla_cores")
    base = Platform(
        name=target.name,
        tensorrt="",
        gpu=compute_capability(str(gpu)) if gpu is not None else None,
        memory_bytes=int(memory * 2**30) if isinstance(memory, int | float) else None,
        shared_memory=target.kind == "jetson",
        dla_cores=dla if isinstance(dla, int) else None,
    )
    version = facts.get("tensorrt")
    return base, [("", str(version))] if version is not None else []
