"""A device whose times come from a seeded cost model and are reported instead of spent.

``main`` profiles a small plan on it and logs every measurement.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from hwnas.agent.knobs import WarmUp
from hwnas.agent.sensors import Clocks
from hwnas.devices import CompileOptions, Engine, Fingerprint, Measurement, MeasureOptions, Target, load_target
from hwnas.errors import DeviceError
from hwnas.latency import ProfileOptions, profile
from hwnas.progress import unheard
from hwnas.spaces import get_space

CANARY_NS = 100_000
START_NS = 2_000
"""Of every run, alone or not."""
NODE_NS = 500
NS_PER_MAC, NS_PER_ELEMENT = 0.02, 0.05
BORDER_NS_PER_ELEMENT = 0.2
"""Converting input and output of a model."""
WEIGHT_NS = 0.05
"""A network's weights do not stay in the cache, those of a single block do."""
SLOWDOWN = 1.8


class FakeDevice:
    """Has the methods of :class:`hwnas.latency.TimingDevice`.

    Args:
        noise: relative standard deviation of a run.
        slow_share: how much of the time the device is slow, the canary too.

    ``fast_from_s``: until this time by its own clock it is slow and its agent does not know better;
    ``refuse``: SHA-256 of the models that it does not compile; ``measured``: those that it measured.
    """

    def __init__(self, noise: float = 0.01, slow_share: float = 0.0, cpu: str = "fake") -> None:
        self.target: Target = load_target("host-cpu")
        self.tell: Callable[[str], None] = unheard
        self.noise, self.slow_share, self.cpu = noise, slow_share, cpu
        self.now_s = 0.0
        self.fast_from_s = 0.0
        self.refuse: set[str] = set()
        self.measured: list[str] = []
        self._models: dict[str, bytes] = {}

    def clock(self) -> float:
        return self.now_s

    def default_options(self) -> CompileOptions:
        return CompileOptions(provider="CPUExecutionProvider")

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:
        return Fingerprint(identity={"cpu": self.cpu, "cores": 2}, context={})

    def learn_fast_state(self, seconds: float, options: CompileOptions | None = None, canary: str = "small") -> float:
        self.now_s += seconds
        return CANARY_NS / 1e6

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        self.now_s += 0.01
        sha256 = hashlib.sha256(onnx).hexdigest()
        if sha256 in self.refuse:
            raise DeviceError("the fake device refuses this model.")
        self._models[sha256] = onnx
        return Engine(sha256[:16], len(onnx), 0.01, 0.0, (), (), sha256, options or self.default_options())

    def release(self, engine: Engine) -> None:
        self._models.pop(engine.onnx_sha256, None)

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        options = options or MeasureOptions()
        model = self._models[engine.onnx_sha256]
        true_ns = true_time_ns(model)
        # The same engine gives the same samples in every process, so that a resumed profile ends with the same table.
        rng = np.random.default_rng(int(engine.onnx_sha256[:16], 16))
        samples, canaries, accepted, elapsed_ns = [], [], 0, 0.0
        while accepted < options.min_samples and elapsed_ns < options.max_seconds * 1e9:
            slow = rng.random() < self.slow_share or self.now_s < self.fast_from_s
            factor = SLOWDOWN if slow else 1.0
            runs = factor * true_ns * np.exp(self.noise * rng.standard_normal(options.runs_per_batch))
            canary = factor * CANARY_NS * np.exp(0.2 * self.noise * rng.standard_normal(2))
            samples.append(tuple(int(run) for run in runs))
            canaries.append((int(canary[0]), int(canary[1])))
            accepted += 0 if slow and self.fast_from_s == 0 else len(runs)
            elapsed_ns += runs.sum() + 2 * canary.sum()
        self.now_s += elapsed_ns / 1e9
        self.measured.append(engine.onnx_sha256)
        fast_ns = SLOWDOWN * CANARY_NS if self.now_s < self.fast_from_s else CANARY_NS
        return Measurement(
            protocol=options.as_protocol(),
            samples_ns=tuple(samples),
            canary_ns=tuple(canaries),
            clocks_moved=(False,) * len(samples),
            preempted=(False,) * len(samples),
            fast_state_ns=fast_ns,
            complete=accepted >= options.min_samples,
            warmup=WarmUp(3, 0.0, True, int(true_ns)),
            clocks=(Clocks(None, None),),
            upload_ns=(1,),
            download_ns=(1,),
            timer_overhead_ns=40,
            canary_sha256="0" * 64,
            elapsed_s=elapsed_ns / 1e9,
        )


def true_time_ns(serialized: bytes) -> float:
    """What a run of this model takes in the fast state."""
    graph = onnx.load_from_string(serialized).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    elements = {v.name: float(np.prod([d.dim_value for d in v.type.tensor_type.shape.dim])) for v in values}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    total = START_NS
    total += BORDER_NS_PER_ELEMENT * (elements[graph.input[0].name] + elements[graph.output[0].name])
    for node in graph.node:
        total += NODE_NS + NS_PER_ELEMENT * elements[node.output[0]]
        if len(node.input) > 1 and node.input[1] in weights and node.op_type in ("Conv", "Gemm"):
            shape = weights[node.input[1]].dims
            pixels = elements[node.output[0]] / shape[0]
            total += NS_PER_MAC * pixels * float(np.prod(shape))
    if graph.output[0].name == "logits":
        total += WEIGHT_NS * sum(float(np.prod(tensor.dims)) for tensor in graph.initializer)
    return total


def main(root: Path, log: Path, journal: Path | None = None, stuck_after: int = 0) -> None:
    """A profile that logs what it measures; once the journal has so many lines as said, it goes no further."""
    device = FakeDevice(slow_share=0.2)
    measure = device.measure

    def logged(engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        time.sleep(0.003)  # long enough to be killed in
        if journal is not None and journal.exists() and journal.read_bytes().count(b"\n") >= stuck_after:
            signal.pause()
        with log.open("a") as file:
            file.write(engine.onnx_sha256 + "\n")
        return measure(engine, options)

    device.measure = logged  # type: ignore[method-assign]
    options = ProfileOptions(resolutions=(24,), calibration_networks=8, validation_networks=8, builds=2)
    profile(device, get_space("mobilenet_v3/small"), root, options, clock=device.clock)
