"""A target with an agent running on it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import TypeAdapter

from hwnas.agent import cooling, protocol
from hwnas.agent.cooling import Heat, Pause, cool_down
from hwnas.agent.protocol import Fields
from hwnas.agent.scenarios import ScenarioKnobs
from hwnas.devices.base import Connection
from hwnas.devices.board import BoardRecord
from hwnas.devices.dialogue import SHORT_S, Dialogue, Reply
from hwnas.devices.errors import AgentLostError, RefusedError, TooHotError
from hwnas.devices.fingerprint import Fingerprint
from hwnas.devices.inference import inferred
from hwnas.devices.local import LocalConnection
from hwnas.devices.measurement import Measurement
from hwnas.devices.records import Built, CompileOptions, Engine, MeasureOptions, PeakMemory
from hwnas.devices.scenario import ScenarioResult, patience_s
from hwnas.devices.settings import ChangedSettings, DeviceSettings
from hwnas.devices.target import Ssh, Target
from hwnas.errors import DeviceError, UserError
from hwnas.progress import Progress, unheard
from hwnas.questions import answering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hwnas.devices.queries import QueryMeasurement

_SETTING_S = 300.0
_NS_PER_MS = 1e6
_HEAT = TypeAdapter(Heat)


class Device:
    """A target and the agent on it.

    An agent that dies or does not answer costs the request in flight, which raises; the next request starts another
    in the same directory, where the engines built before are found again.  Not for several threads at once.
    """

    def __init__(self, target: Target, connection: Connection) -> None:
        self.target = target
        self._dialogue = Dialogue(target.name, connection)
        self._request = self._dialogue.request
        self._fast_states_ms: dict[tuple[str, str | None, str], float] = {}
        self.tell: Callable[[str], None] = unheard
        """Is told what the device is waited for, again and again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the agent and let go of the device."""
        self._dialogue.close()

    def interrupt(self) -> None:
        """End the request that another thread waits for; from now on only the thread that called this may make one."""
        self._dialogue.interrupt()

    def default_options(self) -> CompileOptions:
        """How the target's description says that models are run."""
        default = self.target.defaults
        return CompileOptions(default.runtime, default.precision, default.threads, default.provider)

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:
        """The device as it is now, as a runtime with these options uses it."""
        options = self.target.limited(options or self.default_options())
        return self._request("fingerprint", "probing it", SHORT_S, Fingerprint.model_validate, **options.as_request())

    def board(self) -> BoardRecord:
        """What the device tells of itself, whatever it is."""
        return self._request("board", "asking it what it is", SHORT_S, BoardRecord.model_validate)

    def compile(self, onnx: bytes, options: CompileOptions | None = None, *, load: bool = True) -> Engine:
        """Compile an ONNX model of static shapes; every call is a separate build.

        Args:
            onnx: the model.
            options: how; ``None`` is the target's way.  What they leave open of memory, the target's limits say.
            load: load the engine, too; one for another device may not be loaded here, and then tells no tensors.

        Raises:
            RefusedError: the runtime refused the model, or would have executed it elsewhere than was asked.
            AgentLostError: the agent died or took longer than the options' ``timeout_s``.
        """
        options = self.target.limited(options or self.default_options())
        sha256 = self._send_blob(self._in_form(onnx, options))

        def engine(reply: Reply) -> Engine:
            built = Built.model_validate(reply)
            if load and not (built.inputs and built.outputs):
                raise ValueError("an engine without inputs or outputs")
            return Engine(
                **dict(built), onnx_sha256=hashlib.sha256(onnx).hexdigest(), options=options, sent_sha256=sha256
            )

        return self._request(
            "compile", "compiling a model", options.timeout_s, engine, sha256=sha256, load=load, **options.as_request()
        )

    def explanation(self, engine: Engine) -> dict[str, Any] | None:
        """What the runtime told of an engine when it built it - its layers, their times - or ``None``."""

        def explanation(reply: Reply) -> dict[str, Any] | None:
            told = reply["explanation"]
            return None if told is None else dict(told)

        return self._request("explain", "explaining an engine", SHORT_S, explanation, engine=engine.id)

    def engine_content(self, engine: Engine) -> bytes:
        """The engine file, as it was built.

        Raises:
            DeviceError: what arrived is not what was built.
        """
        content = b""
        while len(content) < engine.size_bytes:
            piece = self._request(
                "get-engine",
                "sending an engine",
                SHORT_S,
                lambda reply: base64.b64decode(reply["data"]),
                engine=engine.id,
                offset=len(content),
            )
            if not piece:
                break
            content += piece
        if hashlib.sha256(content).hexdigest() != engine.sha256:
            raise DeviceError(f"target '{self.target.name}' sent another engine than it built; build it again.")
        return content

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        """Time an engine by the measuring protocol.

        A device at the temperature limit of its target, or one that slows down for heat, is waited for beforehand.  The
        fast state learned earlier by this device object, or given in ``options``, is handed on to the agent.

        Raises:
            TooHotError: the device does not cool down.
        """
        options = options or MeasureOptions()
        options = replace(options, temperature_limit_c=options.temperature_limit_c or self._limit_c or 0.0)
        pause = self._cool_down(engine.options, options.most_pause_s)
        key = (engine.options.runtime, engine.options.provider, options.canary)
        known_ms = options.fast_state_ms or self._fast_states_ms.get(key)
        measurement = self._request(
            "measure",
            "measuring an engine",
            options.patience_s,
            Measurement.model_validate,
            engine=engine.id,
            protocol=options.as_protocol(),
            **_fast_state_field(known_ms),
        )
        if measurement.fast_state_ms is not None:
            self._fast_states_ms[key] = measurement.fast_state_ms
        return measurement.model_copy(update={"pause": pause})

    @contextlib.contextmanager
    def changed(self, settings: DeviceSettings, options: CompileOptions | None = None) -> Iterator[ChangedSettings]:
        """Set the device's power mode and lock its clocks while entered; gives what was really set.

        The board remembers how things were, and sets them back by itself where neither this process nor the agent can.

        Raises:
            UserError: the device has no such settings, this user may not, or a mode takes a restart of it.
            DeviceError: they could not be set back.
        """
        if not settings.any:
            yield ChangedSettings()
            return
        fields = {**(options or self.default_options()).as_request(), **settings.as_request(self.target)}

        def read(reply: Reply) -> ChangedSettings:
            return ChangedSettings.model_validate(reply["settings"])

        def change() -> ChangedSettings:
            return self._request("change-settings", "changing its settings", _SETTING_S, read, **fields)

        try:
            found = change()
        except RefusedError as error:
            raise UserError(str(error)) from error
        self._dialogue.resume = change  # what the agent before had set was set back as it ended
        try:
            yield found
        except BaseException:
            with contextlib.suppress(DeviceError):  # the board does it by itself
                self._restore_settings()
            raise
        self._restore_settings()

    def measure_like_trtexec(
        self, engine: Engine, like: str, given: Mapping[str, Any] | None = None
    ) -> QueryMeasurement:
        """Time an engine as trtexec does.

        Args:
            engine: compiled on this device.
            like: whose defaults: ``trtexec-10`` or ``trtexec-11``.
            given: what shall be otherwise, by trtexec's names (:class:`hwnas.agent.trtexec.TrtexecKnobs`).

        Raises:
            UserError: a knob is unknown or wrong, or cannot be met with this engine.
        """
        from hwnas.agent.trtexec import TrtexecKnobs
        from hwnas.devices.queries import QueryMeasurement, patience_s

        given = dict(given or {})
        try:
            knobs = TrtexecKnobs.like(like, given)
            return self._request(
                "measure-queries",
                "measuring an engine like trtexec",
                patience_s(knobs),
                lambda reply: QueryMeasurement.of(like, reply),
                engine=engine.id,
                like=like,
                knobs=given,
            )
        except protocol.AgentError as error:
            raise UserError(f"Measuring {like.replace('-', ' ')}'s way: {error.message}.") from error
        except RefusedError as error:
            if error.kind != protocol.ErrorKind.BAD_REQUEST:
                raise
            raise UserError(str(error)) from error

    def time_loading(self, engine: Engine, timeout_s: float = 600.0) -> list[float]:
        """Seconds of loading an engine from the device's memory 21 times, the first one first."""
        return self._request(
            "time-loading",
            "loading an engine",
            timeout_s,
            lambda reply: [float(ns) / 1e9 for ns in Fields(reply).items("load_ns")],
            engine=engine.id,
        )

    def fast_state_ms(self, canary: str = "small") -> float | None:
        """A canary's fast state with the target's default options, as far as it is known."""
        options = self.default_options()
        return self._fast_states_ms.get((options.runtime, options.provider, canary))

    def recall_fast_state(
        self, fast_state_ms: float, options: CompileOptions | None = None, canary: str = "small"
    ) -> None:
        """Tell of a canary's fast state (ms) in an earlier session; a faster one that is known already stays."""
        options = options or self.default_options()
        key = (options.runtime, options.provider, canary)
        self._fast_states_ms[key] = min(fast_state_ms, self._fast_states_ms.get(key, fast_state_ms))

    def learn_fast_state(self, seconds: float, options: CompileOptions | None = None, canary: str = "small") -> float:
        """Run a canary alone for a while, and give its fast state in ms."""
        options = options or self.default_options()
        key = (options.runtime, options.provider, canary)
        state_ns = self._request(
            "learn-fast-state",
            "learning its fast state",
            2 * SHORT_S + seconds,
            lambda reply: Fields(reply).number("fast_state_ns"),
            seconds=seconds,
            canary=canary,
            **_fast_state_field(self._fast_states_ms.get(key)),
            **options.as_request(),
        )
        self._fast_states_ms[key] = state_ns / _NS_PER_MS
        return self._fast_states_ms[key]

    def run_scenario(self, engine: Engine, knobs: ScenarioKnobs) -> ScenarioResult:
        """Run one of MLPerf's scenarios on the device; :func:`hwnas.devices.scenario_knobs` gives the usual knobs.

        Raises:
            RefusedError: the engine's batch does not fit, or LoadGen is asked for and not on the device.
        """
        return self._request(
            "scenario",
            f"running {knobs.scenario}",
            patience_s(knobs),
            ScenarioResult.model_validate,
            engine=engine.id,
            knobs=asdict(knobs),
        )

    def infer(
        self, engine: Engine, images: NDArray[Any], progress: Progress | None = None, timeout_s: float = 600.0
    ) -> NDArray[Any]:
        """The engine's first output [N, ...]; arguments as of :meth:`infer_all`."""
        first = engine.outputs[0]
        return inferred(self._request, engine, [first], images, progress, timeout_s)[first.name]

    def infer_all(
        self, engine: Engine, images: NDArray[Any], progress: Progress | None = None, timeout_s: float = 600.0
    ) -> dict[str, NDArray[Any]]:
        """The engine's outputs by name, each [N, ...], for ``images`` [N, ...].

        They pass through the static batch in turn; ``timeout_s`` is for each piece of a few MiB.
        """
        return inferred(self._request, engine, engine.outputs, images, progress, timeout_s)

    def peak_memory(self, engine: Engine, timeout_s: float = 600.0) -> PeakMemory:
        """Peak resident memory of a fresh process on the device that loads and runs the engine.

        Raises:
            DeviceError: the device's system does not tell (it is not Linux).
        """

        def peak(reply: Reply) -> PeakMemory | None:
            if reply["peak_bytes"] is None or reply["baseline_bytes"] is None:
                return None
            told = Fields(reply)
            return PeakMemory(told.integer("peak_bytes"), told.integer("baseline_bytes"))

        found = self._request(
            "peak-memory",
            "measuring an engine's memory",
            timeout_s,
            peak,
            engine=engine.id,
        )
        if found is None:
            raise DeviceError(f"target '{self.target.name}' does not tell a process's peak memory.")
        return found

    def slots(self, request: str, doing: str, timeout_s: float = SHORT_S, **fields: Any) -> Reply:
        """The reply to one of the agent's requests about installed bundles, ``slots-status`` being ``status``.

        Raises:
            RefusedError: the device refused; its ``kind`` says for which reason.
        """
        return self._request(f"slots-{request}", doing, timeout_s, dict, **fields)

    def release(self, engine: Engine) -> None:
        """Remove an engine and its ONNX from the device."""
        self._request("release", "releasing an engine", SHORT_S, dict, engine=engine.id, sha256=engine.sent_sha256)

    def _restore_settings(self) -> None:
        self._dialogue.resume = None

        def restore() -> None:
            self._request("restore-settings", "setting its settings back", _SETTING_S, dict)

        try:
            restore()
        except AgentLostError:  # another one does what it left
            restore()

    @property
    def _limit_c(self) -> float | None:
        return self.target.limits.temperature_c

    def _cool_down(self, options: CompileOptions, most_s: float) -> Pause | None:
        def heat() -> Heat:
            return self._request("heat", "asking how hot it is", SHORT_S, _HEAT.validate_python, **options.as_request())

        try:
            return cool_down(heat, self._limit_c, most_s, self.tell)
        except cooling.TooHotError as error:
            raise TooHotError(f"target '{self.target.name}': {error}.") from error

    def _in_form(self, onnx: bytes, options: CompileOptions) -> bytes:
        """The model in the form that the runtime takes."""
        from hwnas.agent.runtimes import model_format

        if model_format(options.runtime) == "onnx":
            return onnx
        from hwnas.graphs import UntranslatableError, as_node_file

        try:
            return as_node_file(onnx)
        except UntranslatableError as error:
            raise RefusedError(
                protocol.ErrorKind.MODEL_REFUSED,
                f"target '{self.target.name}', compiling a model: runtime {options.runtime} cannot have it: {error}.",
            ) from error

    def _send_blob(self, content: bytes) -> str:
        """Send ``content`` in chunks, from where an earlier attempt broke off; gives its SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        offset = self._request(
            "blob-status", "receiving a model", SHORT_S, lambda reply: Fields(reply).integer("received"), sha256=sha256
        )
        while offset < len(content):
            chunk = content[offset : offset + protocol.CHUNK_BYTES]
            data = base64.b64encode(chunk).decode("ascii")
            chunk_fields = {"sha256": sha256, "offset": offset, "size": len(content), "data": data}
            self._request("put-blob", "receiving a model", SHORT_S, dict, **chunk_fields)
            offset += len(chunk)
        return sha256


def _ssh(target: Target) -> Connection:
    from hwnas.devices.ssh import SshConnection

    assert isinstance(target.connection, Ssh)
    return SshConnection(target.connection, answering())


CONNECTIONS: dict[str, Callable[[Target], Connection]] = {
    "local": lambda _: LocalConnection(),
    "ssh": _ssh,
}
"""Kind of a target's connection to what makes one."""


def open_device(target: Target) -> Device:
    """A device for the target; the agent starts with the first request."""
    return Device(target, CONNECTIONS[target.connection.kind](target))


def _fast_state_field(milliseconds: float | None) -> dict[str, float]:
    return {} if milliseconds is None else {"fast_state_ns": milliseconds * _NS_PER_MS}
