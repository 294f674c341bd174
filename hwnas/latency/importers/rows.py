"""Published tables row by row: the key says which layers, the value how long they took."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hwnas.errors import BadFileError

_NUMBER = "(?:0|[1-9][0-9]*)"
_SHAPE = f"{_NUMBER}(?:x{_NUMBER}){{0,2}}"
_KEY = re.compile(
    f"(?P<op>[A-Za-z][A-Za-z0-9_]*)-input:(?P<input>{_SHAPE})-output:(?P<output>{_SHAPE})"
    f"(?P<options>(?:-[a-z]+:{_NUMBER})*)"
)

Shape = tuple[int, ...]
"""Height, width and channels, or channels alone."""


@dataclass(frozen=True, slots=True)
class RowKey:
    """A key such as ``expanded_conv-input:112x112x24-output:56x56x32-expand:72-kernel:3-stride:2-idskip:0``."""

    op: str
    input: Shape
    output: Shape
    options: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key.

        Raises:
            ValueError: it has another form, or an option twice.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError("a key reads like Conv-input:224x224x3-output:112x112x24")
        pairs = [option.split(":") for option in match["options"].split("-")[1:]]
        options = tuple((name, int(value)) for name, value in pairs)
        if len(dict(options)) != len(options):
            raise ValueError("an option stands there twice")
        return cls(match["op"], _shape(match["input"]), _shape(match["output"]), options)

    @property
    def text(self) -> str:
        """The key as it is published."""
        return self._written(self.input, self.output)

    @property
    def row_type(self) -> str:
        """The same at every resolution: the operation alone, or with its channels where it has options."""
        return self._written(self.input[-1:], self.output[-1:]) if self.options else self.op

    def require(self, *names: str) -> tuple[int, ...]:
        """The values of the options, which must be these and no others, and shapes with height and width.

        Raises:
            ValueError: they are not.
        """
        options = dict(self.options)
        if set(options) != set(names) or len(self.input) != 3 or len(self.output) != 3:
            wanted = ", ".join(names) or "no options"
            raise ValueError(f"{self.op} needs input and output of height x width x channels, and {wanted}")
        return tuple(options[name] for name in names)

    def _written(self, given: Shape, made: Shape) -> str:
        parts = [self.op, f"input:{'x'.join(map(str, given))}", f"output:{'x'.join(map(str, made))}"]
        return "-".join([*parts, *(f"{name}:{value}" for name, value in self.options)])


@dataclass(frozen=True, slots=True)
class Row:
    """One published timing, in ms."""

    resolution: int
    key: RowKey
    count: int
    """Runs; 1 where none are stated."""
    mean_ms: float
    """As published: it may be negative or no number."""
    std_ms: float | None


@dataclass(frozen=True, slots=True)
class Published:
    """A device's rows, and the resolutions in pixels that they are of."""

    rows: tuple[Row, ...]
    resolutions: tuple[int, ...]


def read_row(path: Path, resolution: int, text: object, value: object) -> Row:
    """Check one key and value of a published file.

    Raises:
        BadFileError: the key has another form, or the value holds no mean, or a count that is none.
    """
    where = f"published table {path}, row '{text}'"
    try:
        key = RowKey.parse(str(text))
    except ValueError as error:
        raise BadFileError(f"{where}: {error}; is this a table of that format?") from error
    if not isinstance(value, Mapping):
        raise BadFileError(f"{where}: expected an object with the mean in ms, found {value!r:.60}.")
    mean, std = _number(where, value, "mean"), _number(where, value, "std")
    count = value.get("count", 1)
    if mean is None:
        raise BadFileError(f"{where}: field 'mean' is missing; expected milliseconds.")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadFileError(f"{where}: field 'count' should be a positive whole number, found {count!r:.60}.")
    return Row(resolution, key, count, mean, std)


def without_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The pairs of a mapping as a dictionary.

    Raises:
        ValueError: a key stands there twice.
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key '{key}' stands there twice")
        found[key] = value
    return found


def _number(where: str, value: Mapping[Any, Any], field: str) -> float | None:
    number = value.get(field)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise BadFileError(f"{where}: field '{field}' should be a number of ms, found {number!r:.60}.")
    return float(number)


def _shape(text: str) -> Shape:
    return tuple(int(size) for size in text.split("x"))
