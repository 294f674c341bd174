"""Boards of one kind that differ in speed, disturb their own builds, and die.

As a program, ``python crews.py ROOT NAME…``, boards of these names profile :data:`SMALL` together, slowly.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from hwnas.devices import CompileOptions, Engine, Fingerprint, Measurement, MeasureOptions
from hwnas.devices.errors import UnreachableError
from hwnas.latency import LatencyTable, ProfileOptions, profile_together
from hwnas.latency import attempt as attempt_module
from hwnas.latency.crew import Board
from hwnas.progress import Progress
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parent))
import fake_device
from fake_device import FakeDevice

SPACE = get_space("mobilenet_v3/small")
QUICK = MeasureOptions(max_seconds=1.0, min_samples=16)
SMALL = ProfileOptions(
    networks_only=6, validation_networks=4, builds=2, network_builds=2, block_protocol=QUICK, network_protocol=QUICK
)
"""Ten networks, each built twice."""


class Mate(FakeDevice):
    """One of a kind.

    Args:
        slowness: its times over those of the kind.
        build_spread: standard deviation of the logarithm of what builds of one model take, drawn by ``seed``.
        dies_at: number of the request at which, and ever after, nobody reaches it.
    """

    def __init__(
        self,
        slowness: float = 1.0,
        build_spread: float = 0.0,
        seed: int = 0,
        dies_at: float = float("inf"),
        throttles_at: float = float("inf"),
        cpu: str = "fake",
    ) -> None:
        super().__init__(noise=0.0, cpu=cpu)
        self.slowness, self.build_spread = slowness, build_spread
        self.dies_at, self.throttles_at, self.requests = dies_at, throttles_at, 0
        self._rng = np.random.default_rng(seed)

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:
        if self.requests >= self.dies_at:
            raise UnreachableError("it cannot be reached.")
        return super().fingerprint(options)

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        self._live()
        return super().compile(onnx, options)

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        self._live()
        start_s = self.now_s
        found = super().measure(engine, options)
        build = float(np.exp(self.build_spread * self._rng.standard_normal()))
        self.now_s = start_s + self.slowness * (self.now_s - start_s)
        assert found.fast_state_ns is not None
        scaled = {
            "samples_ns": [[round(self.slowness * build * ns) for ns in batch] for batch in found.samples_ns],
            "canary_ns": [both and [round(self.slowness * ns) for ns in both] for both in found.canary_ns],
            "fast_state_ns": self.slowness * found.fast_state_ns,
            "clocks_moved": [self.requests >= self.throttles_at] * len(found.samples_ns),
        }
        return Measurement.model_validate(found.model_dump() | scaled)

    def _live(self) -> None:
        self.requests += 1
        if self.requests >= self.dies_at:
            raise UnreachableError("it cannot be reached.")


def together(
    boards: dict[str, Mate], root: Path, options: ProfileOptions = SMALL, progress: Progress | None = None
) -> tuple[LatencyTable, Path]:
    """Their table and where it lies."""
    crew = [Board(name, device, device.clock) for name, device in boards.items()]
    with fast_models():
        return profile_together(crew, SPACE, root, options, progress)


def fast_models() -> mock._patch[object]:
    """What models are and take is computed once."""
    return mock.patch.multiple(attempt_module, unit_model=_unit_model)


_unit_model = functools.cache(attempt_module.unit_model)
fake_device.true_time_ns = functools.cache(fake_device.true_time_ns)


def main(root: str, names: Sequence[str]) -> None:
    class Slow(Mate):
        def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
            time.sleep(0.02)  # long enough to be killed in
            return super().measure(engine, options)

    together({name: Slow() for name in names}, Path(root))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
