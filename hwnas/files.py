"""Files are the interfaces between the steps: written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwnas.errors import BadFileError, BusyError, UserError

Model = TypeVar("Model", bound=BaseModel)


class Document(BaseModel):
    """Base of the files that hwnas writes: frozen, no unknown fields, with a ``schema`` number.

    A later version of a file overrides ``schema_version`` with its own ``Literal``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")


@contextlib.contextmanager
def atomic_path(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, nobody else's; on success fsync it, give it ``mode`` and rename it onto
    ``path``.

    On any exception, a full disk included, the temporary file is removed and ``path`` is as it was.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
            fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str, mode: int = 0o644) -> None:
    """Write ``data`` (text as UTF-8) to ``path``, whole or not at all."""
    with atomic_path(path, mode) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, or a pydantic model by its own rules, whole or not at all."""
    if isinstance(value, BaseModel):
        write_atomic(path, value.model_dump_json(indent=1) + "\n")
    else:
        write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def append_json_line(path: Path, value: Any) -> None:
    """Append one JSON line and fsync it, so that a killed process loses at most the line in flight.

    A torn last line left by a kill is cut off first; :func:`read_json_lines` ignores it likewise.
    """
    line = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value, allow_nan=False)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as log:
            _drop_torn_line(log.fileno())
            log.write(line.encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())


def read_json_lines(path: Path) -> list[Any]:
    """Read a JSON-lines log; a missing file is an empty log, a torn last line is not there.

    Raises:
        BadFileError: a whole line is not JSON.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise BadFileError(f"{path}, line {number}: not JSON ({error}); delete the line or the file.") from error
    return records


def read_json(path: Path, *, what: str = "file") -> Any:
    """Read JSON, or raise :class:`BadFileError` that says what is wrong with which file."""
    try:
        return json.loads(read_bytes(path, what=what))
    except ValueError as error:
        raise BadFileError(f"{what} {path} is not JSON ({error}); restore it or make it anew.") from error


def read_bytes(path: Path, *, what: str = "file") -> bytes:
    """Read a file, or raise :class:`BadFileError` that says which one is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadFileError(f"{what} {path} does not exist; check the path.") from error
    except OSError as error:
        raise BadFileError(
            f"{what} {path} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error


def read_model(path: Path, model: type[Model], *, what: str = "file") -> Model:
    """Read a JSON file as a pydantic ``model``.

    Raises:
        BadFileError: with the file, the field, what was found and what was expected.
    """
    try:
        return model.model_validate_json(read_bytes(path, what=what))
    except ValidationError as error:
        raise BadFileError(f"{what} {path}: {describe(error)}.") from error


def describe(error: ValidationError) -> str:
    """The first complaint of a pydantic error, as a clause: field, what was expected, what was found."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "content"
    found = repr(first["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    return f"field '{field}': {first['msg'][0].lower()}{first['msg'][1:]}, found {found}{rest}"


def require_same(directory: Path, what: str, found: Model, wanted: Model) -> None:
    """Refuse to go on with what a directory holds if it was begun with other inputs; the first difference is named.

    Raises:
        UserError: the two differ.
    """
    differences = _differences(found.model_dump(), wanted.model_dump())
    if differences:
        name, old, new = differences[0]
        raise UserError(
            f"{directory} holds a {what} with {name} = {old}, not {new}; choose another directory or delete that one."
        )


def _differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    differences = []
    for name, new in wanted.items():
        old = found.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            differences += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            differences.append((f"{prefix}{name}", old, new))
    return differences


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fsync_directory(directory: Path) -> None:
    """Make a rename inside ``directory`` durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop_torn_line(handle: int) -> None:
    """Truncate an append-only log behind its last newline."""
    size = os.fstat(handle).st_size
    end = size
    while end:
        start = max(0, end - 4096)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(handle, end)


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk holding {path} is full; free some space and run the same command again."
            ) from error
        raise UserError(f"{path} cannot be written ({error.strerror}); check the path and its permissions.") from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for this process alone; the lock ends with the process, however that ends.

    Raises:
        BusyError: another process holds it.
    """
    from filelock import FileLock, Timeout

    with explain_os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(f"Another process is at work in {directory}; wait for it or choose another one.") from error
    try:
        yield
    finally:
        lock.release()
