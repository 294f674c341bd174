"""The agent's loop: one request at a time, one reply to each; its handlers only fetch, call and pack."""

from __future__ import annotations

import argparse
import base64
import contextlib
import gc
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Optional, Tuple

from . import arrays, memory, protocol
from .blobs import BlobStore
from .board import describe_board
from .canary import CANARY_SHA256, canary_model, canary_sha256
from .engines import EngineStore
from .fingerprint import probe
from .inference import infer_outputs
from .knobs import MeasuringProtocol
from .measuring import Canary, Measurement, learn_fast_state, prepared_canary, seeded_inputs, timer_overhead_ns
from .mlperf import run_scenario
from .power import find_sources
from .private import private_directory
from .processes import claim_stdout, end_with_host
from .protocol import AgentError, ErrorKind, Fields, Message
from .queries import measure_queries, time_loading
from .runtimes import RUNTIMES, Runtime, RuntimeOptions, TensorInfo, model_format, open_runtime
from .scenarios import ScenarioKnobs
from .sensors import Sensors
from .settings import Settings, Wish
from .settings_record import ENDS_WITHIN_S
from .slots.requests import SlotRequests
from .trtexec import TrtexecKnobs

_GRACE_SECONDS = 5.0
"""How long a request in flight may go on after the host hung up."""


class Agent:
    """What the requests act upon: blobs and engines on disk, canaries and sensors in memory."""

    def __init__(self, home: Path, slots: Optional[SlotRequests] = None) -> None:
        """``slots``: how installed bundles are seen to; a simulated board has its own way."""
        self._blobs = BlobStore(home / "blobs")
        self._engines = EngineStore(home / "engines")
        self._canaries: Dict[Tuple[str, str, str], Canary] = {}
        self._sensors: Dict[bool, Sensors] = {}
        self._settings = Settings()
        self.finished = False
        self._handlers: Dict[str, Callable[[Fields], Message]] = {
            "hello": self._hello,
            "fingerprint": self._fingerprint,
            "board": self._board,
            "blob-status": self._blob_status,
            "put-blob": self._put_blob,
            "compile": self._compile,
            "explain": self._explain,
            "get-engine": self._get_engine,
            "measure": self._measure,
            "measure-queries": self._measure_queries,
            "time-loading": self._time_loading,
            "learn-fast-state": self._learn_fast_state,
            "scenario": self._scenario,
            "heat": self._heat,
            "change-settings": self._change_settings,
            "restore-settings": self._restore_settings,
            "infer": self._infer,
            "peak-memory": self._peak_memory,
            "release": self._release,
            "quit": self._quit,
            **(slots or SlotRequests()).handlers(),
        }

    def close(self) -> None:
        """End what was started beside, and set back what was set; calling it again does nothing."""
        self._close_sensors()
        try:
            self._settings.restore()
        except (AgentError, OSError) as error:
            sys.stderr.write("%s\n" % error)

    def restore_settings(self) -> None:
        """Set back what an agent set that was killed."""
        try:
            self._settings.restore_left()
        except (AgentError, OSError, RuntimeError) as error:  # the last where nobody has a home
            sys.stderr.write("%s\n" % error)

    def answer(self, line: bytes) -> Message:
        """The reply to one line; whatever goes wrong with it becomes a refusal."""
        identity = None
        try:
            message = protocol.decode(line)
            identity = message.get("id") if isinstance(message.get("id"), (int, str)) else None
            fields = Fields(message)
            return protocol.success(identity, self._handler(fields.text("request"))(fields))
        except AgentError as error:
            return protocol.failure(identity, error)
        except MemoryError:
            return protocol.failure(identity, AgentError(ErrorKind.OUT_OF_MEMORY, "the device is out of memory"))
        except OSError as error:
            return protocol.failure(identity, AgentError(ErrorKind.DISK, "the device's disk failed: %s" % error))
        except Exception as error:  # the agent outlives a bug in one request; the trace goes to the log
            traceback.print_exc(file=sys.stderr)
            reason = "%s: %s" % (type(error).__name__, error)
            return protocol.failure(identity, AgentError(ErrorKind.INTERNAL, reason))

    def _handler(self, request: str) -> Callable[[Fields], Message]:
        if request not in self._handlers:
            known = ", ".join(self._handlers)
            raise AgentError(
                ErrorKind.BAD_REQUEST, "request '%s' is unknown; this agent has %s" % (request[:40], known)
            )
        return self._handlers[request]

    def _hello(self, _: Fields) -> Message:
        return {
            "protocol": protocol.VERSION,
            "python": ".".join(map(str, sys.version_info[:3])),
            "runtimes": sorted(RUNTIMES),
            "canary_sha256": CANARY_SHA256,
            "pid": os.getpid(),
        }

    def _fingerprint(self, fields: Fields) -> Message:
        runtime = open_runtime(fields.text("runtime"))
        options = _options(fields, runtime)
        return probe(runtime, options, self._sensors_of(options).read(), self._settings.told)

    def _board(self, _: Fields) -> Message:
        return describe_board()

    def _blob_status(self, fields: Fields) -> Message:
        sha256 = fields.text("sha256")
        return {"received": self._blobs.received(sha256)}

    def _put_blob(self, fields: Fields) -> Message:
        received = self._blobs.put(
            fields.text("sha256"), fields.integer("offset"), fields.integer("size"), fields.text("data")
        )
        return {"received": received}

    def _compile(self, fields: Fields) -> Message:
        """Build and load an engine; with ``load`` false only build it, as for another device."""
        runtime = open_runtime(fields.text("runtime"))
        options = _options(fields, runtime)
        onnx = self._blobs.read(fields.text("sha256"))
        start = time.perf_counter()
        identity = self._engines.build(runtime, onnx, options)
        built = time.perf_counter()
        inputs, outputs = self._tensors_of(identity) if fields.flag("load", True) else ([], [])
        loaded = time.perf_counter()
        entry = self._engines.entry(identity)
        return {
            "engine": identity,
            "bytes": entry["bytes"],
            "sha256": entry["sha256"],
            "runtime_version": entry["runtime_version"],
            "options": entry["options"],
            "build_s": built - start,
            "load_s": loaded - built,
            "inputs": [tensor.as_record() for tensor in inputs],
            "outputs": [tensor.as_record() for tensor in outputs],
        }

    def _tensors_of(self, identity: str) -> Tuple[List[TensorInfo], List[TensorInfo]]:
        """Inputs and outputs of an engine; one that cannot be loaded is dropped."""
        try:
            engine = self._engines.open(identity)
        except BaseException:
            self._engines.drop(identity)
            raise
        return engine.inputs, engine.outputs

    def _explain(self, fields: Fields) -> Message:
        """What the runtime told of an engine when it built it, null if nothing."""
        return {"explanation": self._engines.explanation(fields.text("engine"))}

    def _get_engine(self, fields: Fields) -> Message:
        """A piece of an engine file."""
        content, offset = self._engines.content(fields.text("engine")), fields.integer("offset")
        return {"data": base64.b64encode(content[offset : offset + protocol.CHUNK_BYTES]).decode("ascii")}

    def _measure(self, fields: Fields) -> Message:
        identity = fields.text("engine")
        knobs = MeasuringProtocol.from_message(fields.record("protocol"))
        engine = self._engines.open(identity)
        runtime, options = self._engines.origin(identity)
        canary = self._canary(runtime, options, knobs.canary, fields) if knobs.gate else None
        result = Measurement(engine, canary, knobs, clocks=self._sensors_of(options).read).run()
        result["timer_overhead_ns"] = timer_overhead_ns()
        result["canary_sha256"] = canary_sha256(knobs.canary, model_format(runtime.name))
        return result

    def _measure_queries(self, fields: Fields) -> Message:
        """Measure as trtexec does."""
        given = fields.record("knobs", {})
        knobs = TrtexecKnobs.like(fields.text("like"), given)
        engine = self._engines.open(fields.text("engine"))
        return measure_queries(engine.queries(knobs, seeded_inputs(engine.inputs, seed=0)), given)

    def _time_loading(self, fields: Fields) -> Message:
        identity = fields.text("engine")
        runtime, options = self._engines.origin(identity)
        content = self._engines.content(identity)
        return {"load_ns": time_loading(lambda: runtime.load(content, options))}

    def _learn_fast_state(self, fields: Fields) -> Message:
        """Run the canary alone for a while."""
        runtime = open_runtime(fields.text("runtime"))
        knobs = MeasuringProtocol.from_message({"canary": fields.text("canary", "small")})
        canary = self._canary(runtime, _options(fields, runtime), knobs.canary, fields)
        runs = learn_fast_state(canary, fields.number("seconds"))
        return {"fast_state_ns": canary.state.value_ns, "runs": runs}

    def _scenario(self, fields: Fields) -> Message:
        """One of MLPerf's scenarios, with the energy that it took."""
        identity = fields.text("engine")
        knobs = ScenarioKnobs.from_message(fields.record("knobs"))
        engine = self._engines.open(identity)
        _, options = self._engines.origin(identity)
        return run_scenario(engine, knobs, *find_sources(gpu=options.on_gpu))

    def _heat(self, fields: Fields) -> Message:
        """How hot it is now."""
        runtime = open_runtime(fields.text("runtime"))
        return self._sensors_of(_options(fields, runtime)).heat().as_record()

    def _change_settings(self, fields: Fields) -> Message:
        """Set the power mode and lock clocks, until the agent ends or is told to set them back."""
        runtime = open_runtime(fields.text("runtime"))
        wish = Wish.from_message(fields, gpu=_options(fields, runtime).on_gpu)
        self._close_sensors()  # they know which clocks were locked when they were looked for
        return {"settings": self._settings.change(wish)}

    def _restore_settings(self, _: Fields) -> Message:
        self._close_sensors()
        return {"restored": self._settings.restore() + self._settings.restore_left(ENDS_WITHIN_S)}

    def _infer(self, fields: Fields) -> Message:
        """The outputs that are named."""
        engine, names = self._engines.open(fields.text("engine")), fields.items("outputs")
        if not names or not all(isinstance(name, str) for name in names):
            raise AgentError(ErrorKind.BAD_REQUEST, "field 'outputs' must be names of outputs")
        found = infer_outputs(engine, arrays.unpack(fields.record("input")), names)
        return {"outputs": {name: arrays.pack(array) for name, array in found.items()}}

    def _peak_memory(self, fields: Fields) -> Message:
        identity = fields.text("engine")
        runtime, options = self._engines.origin(identity)
        return memory.measure_peak(self._engines.content(identity), runtime.name, options)

    def _release(self, fields: Fields) -> Message:
        """Forget an engine, its ONNX, or both."""
        if fields.has("engine"):
            self._engines.drop(fields.text("engine"))
        if fields.has("sha256"):
            self._blobs.drop(fields.text("sha256"))
        return {}

    def _quit(self, _: Fields) -> Message:
        self.finished = True
        return {}

    def _canary(self, runtime: Runtime, options: RuntimeOptions, name: str, fields: Fields) -> Canary:
        """A canary of a runtime and provider: one thread, built and warmed on first use, kept for the session."""
        key = (runtime.name, options.provider, name)
        if key not in self._canaries:
            initial = fields.number("fast_state_ns") if fields.has("fast_state_ns") else None
            model = canary_model(name, model_format(runtime.name))
            identity = self._engines.build(runtime, model, runtime.canary_options(options))
            self._canaries[key] = prepared_canary(self._engines.open(identity), initial)
        return self._canaries[key]

    def _close_sensors(self) -> None:
        while self._sensors:
            self._sensors.popitem()[1].close()

    def _sensors_of(self, options: RuntimeOptions) -> Sensors:
        """The sensors of what executes an engine: looked for on first use, kept for the session."""
        gpu = options.on_gpu
        if gpu not in self._sensors:
            self._sensors[gpu] = Sensors(gpu=gpu)
        return self._sensors[gpu]


def _options(fields: Fields, runtime: Runtime) -> RuntimeOptions:
    options = RuntimeOptions.from_message(fields.message, runtime.default_provider)
    if options.precision not in runtime.precisions:
        raise AgentError(
            ErrorKind.BAD_REQUEST,
            "runtime %s runs %s here, not %s" % (runtime.name, ", ".join(runtime.precisions), options.precision[:20]),
        )
    return options


def serve(requests: BinaryIO, replies: BinaryIO, agent: Agent) -> None:
    """Answer line after line until ``quit`` or the end of ``requests``."""
    while not agent.finished:
        line = requests.readline(protocol.MAX_LINE_BYTES)
        if not line:
            return
        if not line.endswith(b"\n"):
            error = AgentError(ErrorKind.BAD_REQUEST, "the line is torn or exceeds %d bytes" % protocol.MAX_LINE_BYTES)
            replies.write(protocol.encode(protocol.failure(None, error)))
            replies.flush()
            return  # there is no telling where the next message begins
        if line.strip():
            replies.write(protocol.encode(agent.answer(line)))
            replies.flush()


def main(arguments: Optional[List[str]] = None) -> int:
    """Serve on stdin and stdout until the host says ``quit`` or hangs up."""
    parser = argparse.ArgumentParser(prog="hwnas.agent", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="directory for blobs and engines, yours alone")
    parser.add_argument("--ephemeral", action="store_true", help="remove the directory in the end")
    options = parser.parse_args(arguments)
    try:
        home = private_directory(options.home)
    except PermissionError as error:
        raise SystemExit(str(error)) from error
    os.environ["TMPDIR"] = str(home)  # compilers keep what they made, and load it as code

    def leave() -> None:
        agent.close()
        if options.ephemeral:
            shutil.rmtree(str(home), ignore_errors=True)

    replies = claim_stdout()
    agent = Agent(home)
    agent.restore_settings()
    end_with_host(sys.stdin.fileno(), leave, _GRACE_SECONDS)
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, replies, agent)
    leave()  # not after a crash: the next agent goes on in the same directory
    return 0
