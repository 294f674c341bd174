"""Peak resident memory of a process that does nothing but load and run one engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

from . import sensors
from .measuring import seeded_inputs
from .processes import module_command, module_environment
from .protocol import AgentError, ErrorKind
from .runtimes import RuntimeOptions, open_runtime

_RUNS = 3


def measure_peak(engine: bytes, runtime: str, options: RuntimeOptions) -> Dict[str, Any]:
    """Resident bytes of a fresh process: at its peak (``peak_bytes``), before loading the engine (``baseline_bytes``).

    Raises:
        AgentError: ``out-of-memory`` when the kernel killed the process, ``internal`` when it failed otherwise.
    """
    finished = subprocess.run(
        module_command(__name__, runtime, json.dumps(options.as_record())),
        input=engine,
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
    """Child process: engine on stdin, result on stdout."""
    content = sys.stdin.buffer.read()
    name, options = sys.argv[1], RuntimeOptions.from_message(json.loads(sys.argv[2]))
    runtime = open_runtime(name)
    _forget_peak()
    baseline = sensors.memory_bytes("VmHWM")
    engine = runtime.load(content, options)
    engine.upload(seeded_inputs(engine.inputs, seed=0))
    for _ in range(_RUNS):
        engine.run()
    engine.download()
    peak = sensors.memory_bytes("VmHWM")
    sys.stdout.write(json.dumps({"peak_bytes": peak, "baseline_bytes": baseline}) + "\n")


def _forget_peak() -> None:
    """Set the process's recorded peak to what is resident now, where the kernel lets us (Linux; see proc(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    main()
