"""The journal beside a table: every measurement with all of its batches, on disk as soon as it is made.

Its first line tells the device and when the profile began, every other one a unit measured or refused.  What is in
it is never measured again; a process killed at any moment loses no more than the unit in flight.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwnas.devices import Fingerprint, Measurement
from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, append_json_line, describe, explain_os_errors, read_json_lines

Line = TypeVar("Line", bound=BaseModel)


class JournalHeader(Document):
    """The first line."""

    kind: Literal["latency-journal"] = "latency-journal"
    fingerprint: Fingerprint
    created: datetime.date


class JournalRecord(BaseModel):
    """One unit, built once and measured once, or refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str
    seconds: float = Field(ge=0)
    """All that it took, building included."""
    measurement: Measurement | None
    error: str | None = None
    """Why there is no measurement."""


class Journal:
    """The open journal of one table."""

    def __init__(self, path: Path, header: JournalHeader, records: list[JournalRecord]) -> None:
        self.path = path
        self.header = header
        self.spent_s = 0.0
        """Time spent measuring in all sittings."""
        self.measurements: dict[str, list[Measurement]] = defaultdict(list)
        """By unit, in order; each is of a separate build."""
        self._errors: dict[str, list[str]] = defaultdict(list)
        self.fast_states_ms: dict[str, float] = {}
        """Each canary's fast state as last learned."""
        for record in records:
            self._take(record)

    def append(self, record: JournalRecord) -> None:
        """Write one more record; it is on disk when this returns."""
        append_json_line(self.path, record)
        self._take(record)

    def tries(self, unit: str) -> int:
        """How often the unit was measured or refused."""
        return len(self.measurements[unit]) + len(self._errors[unit])

    def knows(self, unit: str) -> bool:
        """Whether the unit was tried at all."""
        return self.tries(unit) > 0

    def failures(self, unit: str) -> tuple[str, ...]:
        """Why the device did not measure the unit, each time."""
        return tuple(self._errors[unit])

    def _take(self, record: JournalRecord) -> None:
        self.spent_s += record.seconds
        if record.error is not None:
            self._errors[record.unit].append(record.error)
        if record.measurement is not None:
            self.measurements[record.unit].append(record.measurement)
            if record.measurement.fast_state_ms is not None:
                self.fast_states_ms[record.measurement.protocol.canary] = record.measurement.fast_state_ms


def journal_path(table: Path) -> Path:
    """Where the journal of a table lies: beside it."""
    return table.with_suffix(".journal.jsonl")


@contextlib.contextmanager
def open_journal(path: Path, fingerprint: Fingerprint, *, fresh: bool) -> Iterator[Journal]:
    """The journal at ``path``, begun if there is none or if ``fresh``; held for this process alone.

    Raises:
        BadFileError: a line of it is damaged, or it is of another device.
        UserError: another process is profiling into it, or it cannot be written.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another process is profiling into {path}; wait for it to end.") from error
        if fresh:
            lock.truncate(0)
        yield _read(path, fingerprint)


def _read(path: Path, fingerprint: Fingerprint) -> Journal:
    lines = read_json_lines(path)
    if not lines:
        header = JournalHeader(fingerprint=fingerprint, created=datetime.datetime.now(datetime.UTC).date())
        append_json_line(path, header)
        return Journal(path, header, [])
    header = _checked(path, 1, JournalHeader, lines[0])
    if header.fingerprint.identity8 != fingerprint.identity8:
        raise BadFileError(f"{path} is the journal of another device; delete it or begin afresh (--fresh).")
    records = [_checked(path, number, JournalRecord, line) for number, line in enumerate(lines[1:], start=2)]
    return Journal(path, header, records)


def _checked(path: Path, number: int, model: type[Line], line: object) -> Line:
    try:
        return model.model_validate(line)
    except ValidationError as error:
        raise BadFileError(f"{path}, line {number}: {describe(error)}; delete it or begin afresh (--fresh).") from error
