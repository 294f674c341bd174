"""What a run tells of itself while it goes on: the lines of ``metrics.jsonl``, and the same as curves."""

from __future__ import annotations

import json
from pathlib import Path

from hwnas.files import append_json_line, read_json_lines, write_atomic
from hwnas.training.curves import Line, extend_curves, restart_curves

METRICS_FILE = "metrics.jsonl"


def restart_history(directory: Path, step: int) -> None:
    """Keep the lines up to ``step``, from which a run begins or goes on.

    Raises:
        UserError: a file cannot be written, or the disk is full.
    """
    path = directory / METRICS_FILE
    kept = [line for line in read_json_lines(path) if line["step"] <= step]
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
    restart_curves(directory, kept)


def extend_history(directory: Path, line: Line) -> None:
    """Add a line (see :func:`hwnas.training.curves.restart_curves`).

    Raises:
        UserError: a file cannot be written, or the disk is full.
    """
    append_json_line(directory / METRICS_FILE, line)
    extend_curves(directory, line)
