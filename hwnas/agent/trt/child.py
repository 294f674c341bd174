"""The process in which engines are built: one task on stdin, one reply on stdout.

Its stdin stays open as long as its parent lives, and it ends with it.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from .. import protocol
from ..cuda import Cuda, open_cuda
from ..processes import claim_stdout, end_with_host
from ..protocol import AgentError, ErrorKind, Fields, Message
from ..runtimes.base import RuntimeOptions
from .building import build_plan, known_compute_capabilities
from .explanation import explain
from .gpu import gpu_identity
from .library import Library, open_library
from .timing_cache import TimingCache, timing_cache_of


def build(fields: Fields) -> Message:
    """Build the model at ``onnx`` into ``output``; gives what is known of the engine.

    With ``caches``, a directory for timing caches where there is no better one, the library times kernels and keeps
    what it learns.
    """
    library = open_library(fields.text("library"))
    options = RuntimeOptions.from_message(fields.record("options"))
    cuda = _gpu_if_any()
    options = replace(options, build=replace(options.build, compute_capabilities=_capabilities(library, cuda, options)))
    cache = _timing_cache(fields, library, cuda, options)
    plan = build_plan(library, Path(fields.text("onnx")).read_bytes(), options, cache)
    content = bytes(memoryview(plan))
    Path(fields.text("output")).write_bytes(content)
    return {
        "version": library.version,
        "workspace_mib": options.build.workspace_mib,
        "compute_capabilities": options.build.compute_capabilities,
        **_explanation(library, cuda, content, options),
    }


def _gpu_if_any() -> Optional[Cuda]:
    try:
        return open_cuda()
    except AgentError as error:
        if error.kind != ErrorKind.NO_DEVICE:
            raise
        return None


def _capabilities(library: Library, cuda: Optional[Cuda], options: RuntimeOptions) -> Tuple[str, ...]:
    """For which GPUs to build: those asked for, this one, or all; TensorRT builds for this one without being told."""
    known = known_compute_capabilities(library)
    if options.build.compute_capabilities or not known:
        return options.build.compute_capabilities
    return known if cuda is None else ("%d.%d" % cuda.device().compute_capability,)


def _timing_cache(
    fields: Fields, library: Library, cuda: Optional[Cuda], options: RuntimeOptions
) -> Optional[TimingCache]:
    if cuda is None or not fields.has("caches"):
        return None
    return timing_cache_of(library, gpu_identity(cuda), options.precision, Path(fields.text("caches")))


def _explanation(library: Library, cuda: Optional[Cuda], plan: bytes, options: RuntimeOptions) -> Dict[str, Any]:
    """Layers and their times, or why there are none: an engine is of use without, and may be for another GPU."""
    if cuda is None:
        return {"unexplained": "there is no GPU here to load it on"}
    if not options.build.profiling:
        return {"unexplained": "it was built without profiling"}
    try:
        return explain(library, cuda, plan, options)
    except AgentError as error:
        return {"unexplained": error.message}


def main() -> None:
    """Perform the task and answer."""
    replies = claim_stdout()
    with contextlib.suppress(OSError):  # if the system must kill a process for memory, it is this one, not the agent
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    line = sys.stdin.buffer.readline()
    end_with_host(sys.stdin.fileno(), lambda: None)
    try:
        reply = protocol.success(None, build(Fields(protocol.decode(line))))
    except AgentError as error:
        reply = protocol.failure(None, error)
    except MemoryError:
        reply = protocol.failure(None, AgentError(ErrorKind.OUT_OF_MEMORY, "the process ran out of memory"))
    except Exception as error:  # a bug, or a native library's own exceptions; the trace goes to the log
        traceback.print_exc(file=sys.stderr)
        reason = "%s: %s" % (type(error).__name__, error)
        reply = protocol.failure(None, AgentError(ErrorKind.INTERNAL, reason))
    replies.write(protocol.encode(reply))
    replies.flush()


if __name__ == "__main__":
    main()
