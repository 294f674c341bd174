"""Devices as the host sees them: a target's description, a connection to it, and the agent that runs there.

with open_device(load_target("host-cpu")) as device:
    engine = device.compile(onnx_bytes)
    measurement = device.measure(engine)
"""

from __future__ import annotations

from hwnas.devices.arrival import BACK_TO_BACK, Arrival
from hwnas.devices.base import AgentProcess, Connection
from hwnas.devices.choice import RuntimeChoice, boards_at, informed
from hwnas.devices.device import Device, open_device
from hwnas.devices.errors import AgentLostError, AgentTimeoutError, RefusedError
from hwnas.devices.fingerprint import Fingerprint
from hwnas.devices.measurement import Measurement, Statistics, fast_state_ms, fast_states_ms
from hwnas.devices.records import CompileOptions, Engine, MeasureOptions, PeakMemory, Tensor
from hwnas.devices.scenario import ScenarioResult, scenario_knobs
from hwnas.devices.settings import DeviceSettings
from hwnas.devices.target import FactsOnly, Target
from hwnas.devices.target_files import list_targets, load_description, load_target, target_directories

__all__ = [
    "BACK_TO_BACK",
    "AgentLostError",
    "AgentProcess",
    "AgentTimeoutError",
    "Arrival",
    "CompileOptions",
    "Connection",
    "Device",
    "DeviceSettings",
    "Engine",
    "FactsOnly",
    "Fingerprint",
    "MeasureOptions",
    "Measurement",
    "PeakMemory",
    "RefusedError",
    "RuntimeChoice",
    "ScenarioResult",
    "Statistics",
    "Target",
    "Tensor",
    "boards_at",
    "fast_state_ms",
    "fast_states_ms",
    "informed",
    "list_targets",
    "load_description",
    "load_target",
    "open_device",
    "scenario_knobs",
    "target_directories",
]
