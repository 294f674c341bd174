"""A simulated board as a profile sees a device: the agent's own measuring protocol on simulated engines."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hwnas.agent import cooling, runtimes
from hwnas.agent.arrays import Array
from hwnas.agent.canary import CANARY_SHA256, canary_onnx
from hwnas.agent.cooling import cool_down
from hwnas.agent.knobs import MeasuringProtocol
from hwnas.agent.measuring import Canary, learn_fast_state, prepared_canary
from hwnas.agent.measuring import Measurement as AgentMeasurement
from hwnas.devices.errors import RefusedError, TooHotError
from hwnas.devices.fingerprint import Fingerprint
from hwnas.devices.measurement import Measurement
from hwnas.devices.records import CompileOptions, Engine, MeasureOptions, Tensor
from hwnas.devices.settings import ChangedSettings, DeviceSettings
from hwnas.devices.simulated.cost import CostModel
from hwnas.devices.simulated.machine import UNDISTURBED, Conditions, Machine
from hwnas.devices.target import Target
from hwnas.errors import UserError
from hwnas.graphs import Operators
from hwnas.progress import unheard

RUNTIME, PROVIDER = "simulated", "cpu"
POWER_MODES = {"MAXN": 1.0, "15W": 0.6}
"""Share of the full clock that each allows arithmetic."""
_DEFAULT_MODE = "MAXN"
_BUILD_S = 0.02
_NS_PER_S = 1e9
_S_PER_COPIED_ELEMENT = 1e-9
_TARGET: dict[str, Any] = {
    "schema": 1,
    "name": "simulated",
    "description": "A board that reports time instead of spending it",
    "kind": "cpu",
    "connection": {"kind": "local"},
    "runtimes": {RUNTIME: {"providers": [PROVIDER], "precisions": ["fp32"]}},
    "defaults": {"runtime": RUNTIME, "provider": PROVIDER},
    "shared": True,
}


class SimulatedBoard:
    """Times models as :class:`hwnas.devices.Device` does, in virtual time.

    ``board.clock`` is its clock, which whoever measures on it must use too.
    """

    def __init__(
        self,
        seed: int = 0,
        day: int = 0,
        conditions: Conditions = UNDISTURBED,
        temperature_limit_c: float | None = None,
    ) -> None:
        """
        Args:
            seed: of the board's coefficients: the same seed is the same board.
            day: of what disturbs it and of its builds' spread.
            conditions: how much that is.
            temperature_limit_c: of its target.
        """
        self.target = Target.model_validate({**_TARGET, "limits": {"temperature_c": temperature_limit_c}})
        self.tell: Callable[[str], None] = unheard
        """Is told what the board is waited for, again and again."""
        self._mode, self._settings = _DEFAULT_MODE, dict[str, Any]()
        self.machine = Machine(conditions, day)
        self.clock = self.machine.clock
        self._seed, self._costs, self._conditions = seed, CostModel(seed), conditions
        self._builds = np.random.default_rng([day, 1])
        self._engines: dict[str, _SimulatedEngine] = {}
        self._canaries: dict[tuple[str, str], Canary] = {}
        self._built = 0

    def true_ms(self, content: bytes) -> float:
        """What one run of an ONNX model takes in the board's fast state, with nothing that disturbs it."""
        return 1e3 * self._conditions.slowness * self._costs.seconds(content, POWER_MODES[self._mode])

    def true_fast_state_ms(self, canary: str = "small") -> float:
        """What a canary takes then."""
        return self.true_ms(canary_onnx(canary))

    def default_options(self) -> CompileOptions:
        """The only ones there are."""
        return CompileOptions(RUNTIME, "fp32", 1, PROVIDER)

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:
        """The board as it is, which is always the same but for its power mode.

        Raises:
            RefusedError: ``options`` are not those of this board.
        """
        self._require_known(options)
        identity = {"cpu": f"simulated {self._seed}", "power_mode": self._mode, "runtime": {"name": RUNTIME}}
        clocks = {**self.machine.read_clocks().as_record(), "throttled": list(self.machine.heat().slowed_by)}
        return Fingerprint(identity=identity, context={"clocks": clocks, "settings": dict(self._settings)})

    @contextlib.contextmanager
    def changed(self, settings: DeviceSettings) -> Iterator[ChangedSettings]:
        """Have another power mode while entered; clocks are locked anyway, which is told.

        Raises:
            UserError: the mode is unknown.
        """
        before = self._mode
        mode = settings.power_mode or before
        if mode not in POWER_MODES:
            raise UserError(f"the simulated board has no power mode '{mode}', but {', '.join(POWER_MODES)}.")
        self._set_mode(mode)
        if settings.power_mode is not None:
            self._settings["power_mode"] = mode
        if settings.lock_clocks:
            self._settings["clocks"] = {"cpu_mhz": self.machine.read_clocks().limit_mhz}
        try:
            yield ChangedSettings.model_validate(self._settings)
        finally:
            self._settings = {}
            self._set_mode(before)

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        """Build an engine; builds of one model differ.

        Raises:
            RefusedError: ``onnx`` is no model of static shapes, or ``options`` are not those of this board.
        """
        self._require_known(options)
        engine = self._build(onnx, float(np.exp(self._conditions.build_spread * self._builds.standard_normal())))
        self._built += 1
        self.machine.now_s += _BUILD_S
        identity = f"{self._built:016x}"
        self._engines[identity] = engine
        return Engine(
            id=identity,
            size_bytes=len(onnx),
            build_s=_BUILD_S,
            load_s=0.0,
            inputs=_tensors(engine.inputs),
            outputs=_tensors(engine.outputs),
            onnx_sha256=hashlib.sha256(onnx).hexdigest(),
            options=options or self.default_options(),
        )

    def release(self, engine: Engine) -> None:
        """Forget an engine."""
        self._engines.pop(engine.id, None)

    def learn_fast_state(self, seconds: float, options: CompileOptions | None = None, canary: str = "small") -> float:
        """Run a canary alone for some virtual seconds; gives its fast state in ms.

        Raises:
            RefusedError: ``options`` are not those of this board.
        """
        self._require_known(options)
        learning = self._canary(canary, None)
        learn_fast_state(learning, seconds, self.clock)
        assert learning.state.value_ns is not None
        return learning.state.value_ns / 1e6

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        """Time an engine by the measuring protocol of the agent.

        Raises:
            RefusedError: the engine was released.
            TooHotError: the board does not cool down.
        """
        options = options or MeasureOptions()
        if engine.id not in self._engines:
            raise RefusedError("unknown-engine", f"engine {engine.id} was released; compile it.")
        limit_c, machine = self.target.limits.temperature_c, self.machine
        try:
            pause = cool_down(machine.heat, limit_c, options.most_pause_s, self.tell, machine.sleep, machine.clock)
        except cooling.TooHotError as error:
            raise TooHotError(f"the simulated board: {error}.") from error
        options = replace(options, temperature_limit_c=options.temperature_limit_c or limit_c or 0.0)
        protocol = MeasuringProtocol(**options.as_protocol())
        canary = self._canary(protocol.canary, options.fast_state_ms) if protocol.gate else None
        sensors = (machine.clock, machine.read_clocks, machine.preemptions, machine.sleep)
        reply = AgentMeasurement(self._engines[engine.id], canary, protocol, *sensors).run()
        sha256 = CANARY_SHA256[protocol.canary]
        return Measurement.model_validate({**reply, "timer_overhead_ns": 0, "canary_sha256": sha256, "pause": pause})

    def _require_known(self, options: CompileOptions | None) -> None:
        known = self.default_options()
        if options is not None and replace(options, timeout_s=known.timeout_s) != known:
            raise RefusedError("bad-request", f"the simulated board runs {known}, not {options}.")

    def _build(self, content: bytes, factor: float) -> _SimulatedEngine:
        try:
            share = POWER_MODES[self._mode]
            seconds = self._costs.seconds(content, share)
            throttled = self._costs.seconds(content, share * self._conditions.throttled_clock)
        except ValueError as error:
            raise RefusedError("model-refused", f"the simulated board refused the model: {error}.") from error
        model = self._costs.operators(content)
        return _SimulatedEngine(self.machine, model, factor * seconds, factor * throttled)

    def _canary(self, name: str, fast_state_ms: float | None) -> Canary:
        """Built and warmed on first use, kept for the session, as the agent does."""
        key = (self._mode, name)
        if key not in self._canaries:
            initial = None if fast_state_ms is None else 1e6 * fast_state_ms
            self._canaries[key] = prepared_canary(self._build(canary_onnx(name), 1.0), initial, self.clock)
        return self._canaries[key]

    def _set_mode(self, mode: str) -> None:
        self._mode, self.machine.clock_share = mode, POWER_MODES[mode]


class _SimulatedEngine(runtimes.Engine):
    """Spends virtual time."""

    def __init__(self, machine: Machine, model: Operators, full_clock_s: float, throttled_s: float) -> None:
        self._machine, self._seconds = machine, (full_clock_s, throttled_s)
        self.inputs = [runtimes.TensorInfo(name, "float32", model.shapes[name]) for name in model.inputs]
        self.outputs = [runtimes.TensorInfo(name, "float32", model.shapes[name]) for name in model.outputs]
        weights = sum(operator.weights for operator in model.operators)
        self._elements = weights + max(model.elements(operator.output) for operator in model.operators)

    def upload(self, arrays: Sequence[Array]) -> None:
        """Takes the time of a copy."""
        self._machine.now_s += _S_PER_COPIED_ELEMENT * sum(array.size for array in arrays)

    def run(self) -> None:
        """Takes the time of a run."""
        self.timed_runs(1)

    def download(self) -> list[Array]:
        """Zeros: what would be computed is of no account."""
        outputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in self.outputs]
        self._machine.now_s += _S_PER_COPIED_ELEMENT * sum(array.size for array in outputs)
        return outputs

    def timed_runs(self, count: int) -> list[int]:
        """What ``count`` runs take, ns."""
        machine, seconds = self._machine, self._seconds
        machine.enter(self, self._elements)
        return [round(machine.run(*seconds) * _NS_PER_S) for _ in range(count)]

    def timed_transfers(self, arrays: Sequence[Array], count: int) -> tuple[list[int], list[int]]:
        """What ``count`` uploads and downloads take, ns."""
        uploads, downloads = [], []
        for _ in range(count):
            start = self._machine.now_s
            self.upload(arrays)
            middle = self._machine.now_s
            self.download()
            uploads.append(round((middle - start) * _NS_PER_S))
            downloads.append(round((self._machine.now_s - middle) * _NS_PER_S))
        return uploads, downloads


def _tensors(tensors: Sequence[runtimes.TensorInfo]) -> tuple[Tensor, ...]:
    return tuple(Tensor(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)
