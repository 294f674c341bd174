"""The journal beside a table: every measurement with all of its batches, on disk as soon as it is made.

Its first line tells the device and when the profile began, every other one a unit measured or refused, or a board
that left.  What is in it is never measured again; a process killed at any moment loses no more than the units in
flight.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

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


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JournalRecord(_Line):
    """One unit, built once and measured once, or refused."""

    unit: str
    seconds: float = Field(ge=0)
    """Time since the record before; all together the time that the profile took, however many boards worked."""
    measurement: Measurement | None
    error: str | None = None
    """Why there is no measurement."""
    board: str = ""
    """Which of several boards of one kind it was."""


class Departure(_Line):
    """A board that left before the end, or whose measurements do not count."""

    board: str
    reason: str
    """As a clause."""
    void: bool
    """Nothing of what the board measured until now counts."""


class Build(NamedTuple):
    """One measurement, which is of a separate build."""

    board: str
    measurement: Measurement


class Journal:
    """The open journal of one table."""

    def __init__(self, path: Path, header: JournalHeader, lines: list[JournalRecord | Departure]) -> None:
        self.path = path
        self.header = header
        self.lines = 0
        """So many have been taken; it tells whether anything is new."""
        self.spent_s = 0.0
        """Time spent measuring in all sittings."""
        self.builds: dict[str, list[Build]] = defaultdict(list)
        """By unit, in order."""
        self._failures: dict[str, list[JournalRecord]] = defaultdict(list)
        self.fast_states_ms: dict[str, dict[str, float]] = {}
        """By board, each canary's fast state as last learned."""
        self.departures: dict[str, Departure] = {}
        """By board, the last of those that measured nothing since."""
        for line in lines:
            self._take(line)

    def append(self, line: JournalRecord | Departure) -> None:
        """Write one more line; it is on disk when this returns."""
        append_json_line(self.path, line)
        self._take(line)

    @property
    def boards(self) -> tuple[str, ...]:
        """Those whose measurements count, in the order of their first ones."""
        return tuple(self.fast_states_ms)

    def tries(self, unit: str, board: str | None = None) -> int:
        """How often the unit was measured or refused, by one board or all together."""
        builds, failures = self.builds[unit], self._failures[unit]
        if board is None:
            return len(builds) + len(failures)
        return sum(build.board == board for build in builds) + sum(failure.board == board for failure in failures)

    def knows(self, unit: str) -> bool:
        """Whether the unit was tried at all."""
        return self.tries(unit) > 0

    def measurements(self) -> Iterator[Measurement]:
        """All of them."""
        return (build.measurement for builds in self.builds.values() for build in builds)

    def failures(self, unit: str) -> tuple[str, ...]:
        """Why the device did not measure the unit, each time."""
        return tuple(str(record.error) for record in self._failures[unit])

    def _take(self, line: JournalRecord | Departure) -> None:
        self.lines += 1
        if isinstance(line, Departure):
            self.departures[line.board] = line
            if line.void:
                self._forget(line.board)
            return
        self.spent_s += line.seconds
        if line.error is not None:
            self._failures[line.unit].append(line)
        if line.measurement is not None:
            self.builds[line.unit].append(Build(line.board, line.measurement))
            self.departures.pop(line.board, None)
            states = self.fast_states_ms.setdefault(line.board, {})
            if line.measurement.fast_state_ms is not None:
                states[line.measurement.protocol.canary] = line.measurement.fast_state_ms

    def _forget(self, board: str) -> None:
        self.fast_states_ms.pop(board, None)
        for builds in self.builds.values():
            builds[:] = [build for build in builds if build.board != board]
        for failures in self._failures.values():
            failures[:] = [record for record in failures if record.board != board]


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
    return Journal(
        path, header, [_checked(path, number, _kind(line), line) for number, line in enumerate(lines[1:], start=2)]
    )


def _kind(line: object) -> type[JournalRecord] | type[Departure]:
    return Departure if isinstance(line, dict) and "void" in line else JournalRecord


def _checked(path: Path, number: int, model: type[Line], line: object) -> Line:
    try:
        return model.model_validate(line)
    except ValidationError as error:
        raise BadFileError(f"{path}, line {number}: {describe(error)}; delete it or begin afresh (--fresh).") from error
