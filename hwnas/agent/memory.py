"""Peak resident memory of a process that does nothing but load and run engines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO, Dict, NamedTuple, Sequence

from . import sensors
from .measuring import seeded_inputs
from .processes import module_command, module_environment
from .protocol import AgentError, ErrorKind
from .runtimes import RuntimeOptions, open_runtime

_RUNS = 3


class StoredEngine(NamedTuple):
    """An engine as it lies on the disk, and what loads it."""

    content: bytes
    runtime: str
    options: RuntimeOptions


def measure_peak(
    engine: bytes, runtime: str, options: RuntimeOptions, beside: Sequence[StoredEngine] = ()
) -> Dict[str, Any]:
    """Resident bytes of a fresh process: at its peak (``peak_bytes``), before loading the engine (``baseline_bytes``).

    Args:
        engine: the content of its file.
        runtime: the name of what loads it.
        options: how it was built.
        beside: engines that are loaded together with it.

    Raises:
        AgentError: ``out-of-memory`` when the kernel killed the process, ``internal`` when it failed otherwise.
    """
    engines = (StoredEngine(engine, runtime, options), *beside)
    described = [(len(one.content), one.runtime, one.options.as_record()) for one in engines]
    finished = subprocess.run(
        module_command(__name__, json.dumps(described)),
        input=b"".join(one.content for one in engines),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=module_environment(),
        check=False,
    )
    if finished.returncode == -9:
        raise AgentError(ErrorKind.OUT_OF_MEMORY, "the kernel killed the process that loaded the engine: out of memory")
    try:
        result: Dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = finished.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise AgentError(
            ErrorKind.INTERNAL, "the process that loaded the engine ended with %d: %s" % (finished.returncode, last[0])
        ) from error
    return result


def main() -> None:
    """Child process: engines on stdin, result on stdout."""
    _be_killed_first()
    stored = [_read(sys.stdin.buffer, *described) for described in json.loads(sys.argv[1])]
    runtimes = [open_runtime(one.runtime) for one in stored]
    _forget_peak()
    baseline = sensors.memory_bytes("VmHWM")
    engines = [runtime.load(one.content, one.options) for runtime, one in zip(runtimes, stored)]
    for engine in engines:
        engine.upload(seeded_inputs(engine.inputs, seed=0))
        for _ in range(_RUNS):
            engine.run()
        engine.download()
    peak = sensors.memory_bytes("VmHWM")
    sys.stdout.write(json.dumps({"peak_bytes": peak, "baseline_bytes": baseline}) + "\n")


def _read(source: BinaryIO, size: int, runtime: str, options: Dict[str, Any]) -> StoredEngine:
    return StoredEngine(source.read(size), runtime, RuntimeOptions.from_message(options))


def _be_killed_first() -> None:
    """Let the kernel, when memory runs out, choose this process and not the one that serves (Linux; see proc(5))."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _forget_peak() -> None:
    """Set the process's recorded peak to what is resident now, where the kernel lets us (Linux; see proc(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    main()
