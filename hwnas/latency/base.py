"""What the latency room asks of others: a device that times models, a model that predicts latency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hwnas.devices import CompileOptions, Engine, Fingerprint, Measurement, MeasureOptions, Target
from hwnas.spaces import Architecture, BlockSpec, Genomes, Space

Floats = npt.NDArray[np.float64]


class TimingDevice(Protocol):
    """What profiling needs of :class:`hwnas.devices.Device`; a simulated device has these methods too."""

    target: Target
    tell: Callable[[str], None]
    """Is told what the device is waited for, again and again."""

    def default_options(self) -> CompileOptions:
        """How the target says that models are run."""

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:
        """The device as it is now, as a runtime with these options uses it."""

    def learn_fast_state(self, seconds: float, options: CompileOptions | None = None, canary: str = "small") -> float:
        """Run a canary for some seconds; gives its fast state in ms."""

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        """Build an engine."""

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        """Time an engine."""

    def release(self, engine: Engine) -> None:
        """Forget an engine."""


@dataclass(frozen=True)
class BlockTimes:
    """Times of blocks alone, for each of ``space.distinct_blocks``, each [blocks]."""

    ms: Floats
    std_ms: Floats
    """0 where the block was measured."""
    measured: npt.NDArray[np.bool_]
    """False where the time was interpolated."""
    relative: bool = False
    """Blocks that every architecture has are missing and count 0 ms: sums order architectures, and are no latencies."""


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What one block of an architecture costs within the network."""

    slot: str
    """Where it stands, such as ``stage1.block2``."""
    block: BlockSpec
    ms: float
    estimated: bool
    """The block was not measured: its time was interpolated between those that were."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the predicted milliseconds of an architecture go; everything together is the predicted mean."""

    overhead_ms: float
    """What a network costs beside its blocks; it may be negative where measuring a block alone costs extra."""
    blocks: tuple[BlockCost, ...]


class LatencyModel(Protocol):
    """Predicts the latency of every architecture of a space; tests/conformance holds the suite it must pass."""

    space: Space
    times: BlockTimes
    """What it knows of blocks alone."""

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms, each [n], of the architectures of a genome array [n, choices].

        A measured latency lies within mean ± 1.96·std with probability 95 %: the standard deviation contains the
        noise of measuring, the uncertainty of the fit, and that of blocks that were not measured.
        """

    def interpolated(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which architectures contain a block whose time was not measured but interpolated, [n]."""

    def blocks_ms(self, architecture: Architecture) -> Attribution:
        """The predicted mean of one architecture, block by block."""
