"""Lines that are almost messages, for whichever side reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

WRONG = (
    *("null", "true", "0", "-1", "-0.0", "1.5", "1e-3", "9007199254740993", "1" + 30 * "0", "1" + 400 * "0"),
    *("1" + 5000 * "0", "1e400", "NaN", "-Infinity", '""', '"x"', '"1"', '"\\u0000"', '"\\ud800"', '"/../.."'),
    *('"\\u001b[2J\\n"', f'"{"é" * 300}"', f'"{"a" * 64}"', f'"{"0" * 16}"', "[]", "{}", "[[]]", "[null]", "[1, 2]"),
    *('["x", -1]', '[{"name": 1}]', '{"x": []}', '{"": null}', '{"x": 1, "x": 2}', "[" * 40 + "]" * 40),
    *("[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "'x'", "{", "]", ""),
)
"""What stands in a field's place, as JSON or nearly."""
_MARK, _AGAIN = "@@", "@again"
_PLACES = 101
_LATIN_E = b"\xe9"


def _cut(line: bytes, at: int) -> bytes:
    return line[:at]


def _with(junk: bytes) -> Callable[[bytes, int], bytes]:
    return lambda line, at: line[:at] + junk + line[at:]


DISTORTIONS: tuple[Callable[[bytes, int], bytes], ...] = (
    *[lambda line, at: line] * 12,
    _cut,
    *map(_with, (b"\x00", b"\xff\xfe", b"\xed\xa0\x80", _LATIN_E, b'"', b"{", b",", b"\\", b"\t", b" " * 10**4)),
    lambda line, at: line + line,
    lambda line, at: b"[" + line + b"]",
    lambda line, at: b"\xef\xbb\xbf" + line,
    lambda line, at: line.decode().encode("utf-16"),
    lambda line, at: line.upper(),
)
"""What happens to a line on its way, at some place of it."""


def malformed(messages: Sequence[dict[str, Any]], needed: Collection[str] = ()) -> st.SearchStrategy[bytes]:
    """One of the messages with one field wrong, missing or there twice, and perhaps distorted; no line breaks.

    Fields that are ``needed`` are not missing: their defaults take long.
    """
    texts = [text for message in messages for text in _variants(message, needed)]

    def line(number: int) -> bytes:  # one draw for all choices: there are thousands of lines
        number, place = divmod(number, _PLACES)
        number, distortion = divmod(number, len(DISTORTIONS))
        number, wrong = divmod(number, len(WRONG))
        whole = texts[number].replace(f'"{_MARK}"', WRONG[wrong]).encode()
        return DISTORTIONS[distortion](whole, place * len(whole) // _PLACES).replace(b"\n", b" ")

    return st.integers(0, _PLACES * len(DISTORTIONS) * len(WRONG) * len(texts) - 1).map(line)


def _variants(message: dict[str, Any], needed: Collection[str]) -> Iterator[str]:
    """The message with a mark in place of each of its fields, or after it under the same name; and without it."""
    yield json.dumps({**message, "unheard-of": _MARK})
    for path in _paths(message):
        yield json.dumps(_edited(message, path, lambda name, old: [(name, _MARK)]))
        if path[-1] not in needed:
            yield json.dumps(_edited(message, path, lambda name, old: []))
        if isinstance(path[-1], str):
            twice = _edited(message, path, lambda name, old: [(name, old), (_AGAIN, _MARK)])
            yield json.dumps(twice).replace(_AGAIN, path[-1])


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """To each field, and to the first of each list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from _paths(one, (*path, name))


def _edited(value: Any, path: Path, edit: Callable[[Any, Any], list[tuple[Any, Any]]]) -> Any:
    """A copy with other entries in place of that at ``path``."""
    first, *rest = path
    entries: list[tuple[Any, Any]] = []
    for name, old in value.items() if isinstance(value, dict) else enumerate(value):
        if name != first:
            entries.append((name, old))
        elif rest:
            entries.append((name, _edited(old, tuple(rest), edit)))
        else:
            entries += edit(name, old)
    return dict(entries) if isinstance(value, dict) else [one for _, one in entries]
