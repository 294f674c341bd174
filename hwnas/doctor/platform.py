"""Where a model shall be built: which TensorRT, which GPU, how much memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwnas.doctor.version import Version, compute_capability
from hwnas.errors import UserError

if TYPE_CHECKING:
    from hwnas.devices import FactsOnly, Target

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
class Overrides:
    """What is known better than by a target's facts; None for what is not."""

    tensorrt: str | None = None
    jetpack: str | None = None
    gpu: str | None = None
    memory_gib: float | None = None
    dla_cores: int | None = None


def platforms(target: Target | FactsOnly, overrides: Overrides) -> list[Platform]:
    """Every way in which the device may be set up; one alone where a version is given.

    Args:
        target: the device, by whose facts it is known.
        overrides: what is given on the command line.

    Raises:
        UserError: no version of TensorRT is known for it, or one that hwnas does not build for.
    """
    base = _described(target)
    if overrides.gpu is not None:
        base = replace(base, gpu=compute_capability(overrides.gpu))
    if overrides.memory_gib is not None:
        base = replace(base, memory_bytes=int(overrides.memory_gib * 2**30))
    if overrides.dla_cores is not None:
        base = replace(base, dla_cores=overrides.dla_cores)
    found = [
        replace(base, name=f"{target.name}, JetPack {jetpack}" if jetpack else target.name, tensorrt=version)
        for jetpack, version in _versions(target, overrides).items()
    ]
    for platform in found:
        Version.parse(platform.tensorrt)
    return found


def _described(target: Target | FactsOnly) -> Platform:
    facts = target.facts
    return Platform(
        name=target.name,
        tensorrt="",
        gpu=None if facts.compute_capability is None else compute_capability(facts.compute_capability.value),
        memory_bytes=None if facts.memory_gib is None else int(facts.memory_gib.value * 2**30),
        shared_memory=target.kind == "jetson",
        dla_cores=None if facts.dla_cores is None else facts.dla_cores.value,
    )


def _versions(target: Target | FactsOnly, overrides: Overrides) -> dict[str, str]:
    """JetPack to TensorRT; the JetPack is empty where it does not say the version."""
    facts = target.facts
    if overrides.tensorrt is not None:
        return {"": overrides.tensorrt}
    if overrides.jetpack is not None:
        return {overrides.jetpack: _of_jetpack(overrides.jetpack)}
    if facts.tensorrt is not None:
        return {"": facts.tensorrt.value}
    if facts.jetpacks is not None:
        return {jetpack: _of_jetpack(jetpack) for jetpack in facts.jetpacks.value}
    raise UserError(f"It is not known which TensorRT '{target.name}' has; give --tensorrt VERSION.")


def _of_jetpack(jetpack: str) -> str:
    if jetpack not in JETPACK:
        raise UserError(f"JetPack {jetpack} is unknown; known are {', '.join(JETPACK)}.")
    return JETPACK[jetpack]
