"""The lines of ``metrics.jsonl`` as curves in TensorBoard, to be watched while training goes on.

The event file is a copy: it is written anew whenever training begins or goes on, so that neither a kill nor a step
that is done twice leaves a mark in it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.files import explain_os_errors

EVENT_FILES = "events.out.tfevents.*"
NO_CURVES = ("step", "epoch", "seconds")

Line = Mapping[str, Any]


def restart_curves(directory: Path, lines: Sequence[Line]) -> None:
    """Draw the lines so far, in place of whatever was drawn in the directory.

    A TensorBoard that is watching drops what it has read of the run and reads this instead.

    Args:
        lines: ``step`` from 1, ``seconds`` of training until then, and each number that has a curve.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    from tensorboard.compat.proto import event_pb2

    now = time.time()
    begun = now - (lines[-1]["seconds"] if lines else 0.0)
    started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events = [
        event_pb2.Event(wall_time=begun, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=begun, step=0, session_log=started),
        *(_event(line, begun + line["seconds"]) for line in lines),
    ]
    outdated = list(directory.glob(EVENT_FILES))
    # TensorBoard reads event files in the order of their names.
    path = directory / EVENT_FILES.replace("*", f"{time.time_ns():020d}.hwnas")
    with explain_os_errors(path):
        path.write_bytes(_records(events))
        # A TensorBoard that is watching goes on from a file that ends, and stays at one that is gone.
        for other in outdated:
            other.write_bytes(b"")


def extend_curves(directory: Path, line: Line) -> None:
    """Add a line to what :func:`restart_curves` drew.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    path = max(directory.glob(EVENT_FILES))
    with explain_os_errors(path), path.open("ab") as file:
        file.write(_records([_event(line, time.time())]))


def _event(line: Line, wall_time: float) -> Any:
    """The curves' points at a step; ``loss_largest`` and its like share the group ``loss``."""
    from tensorboard.compat.proto import event_pb2, summary_pb2

    points = [
        summary_pb2.Summary.Value(tag=name.replace("_", "/", 1), simple_value=value)
        for name, value in line.items()
        if name not in NO_CURVES and isinstance(value, int | float)
    ]
    return event_pb2.Event(wall_time=wall_time, step=line["step"], summary=summary_pb2.Summary(value=points))


def _records(events: Iterable[Any]) -> bytes:
    """Events as an event file holds them."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    written = io.BytesIO()
    writer = RecordWriter(written)
    for event in events:
        writer.write(event.SerializeToString())
    return written.getvalue()
