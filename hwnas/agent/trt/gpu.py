"""The GPU as far as the times of an engine, and of the kernels that a builder chooses from, depend on it."""

from __future__ import annotations

from typing import Any, Dict

from ..cuda import Cuda
from ..sensors import Sensors, power_mode


def gpu_identity(cuda: Cuda) -> Dict[str, Any]:
    """Model, size, driver, highest clock and power mode."""
    facts = cuda.device()
    with Sensors(gpu=True) as sensors:
        limit_mhz = sensors.read().gpu_limit_mhz
    return {
        "name": facts.name,
        "compute_capability": "%d.%d" % facts.compute_capability,
        "multiprocessors": facts.multiprocessors,
        "memory_bytes": facts.memory_bytes,
        "driver": facts.driver_version,
        "max_clock_mhz": limit_mhz,
        "power_mode": power_mode(),
    }
