"""What bindings that are importable here have of the names in a JSON object on stdin, as JSON on stdout.

The argument is the bindings' module.  For each class: ``null`` where there is none, or what is there of its names: for
a method the least and largest numbers of arguments of each of its signatures, for all else an empty list.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Any

_BRACKETS = {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    found: dict[str, Any] = {"version": module.__version__, "classes": {}}
    for class_name, names in json.load(sys.stdin).items():
        kind = getattr(module, class_name, None)
        found["classes"][class_name] = (
            None if kind is None else {n: signatures(kind, n) for n in names if hasattr(kind, n)}
        )
    json.dump(found, sys.stdout)


def signatures(kind: type, name: str) -> list[list[int]]:
    """Of a method, from the signatures that pybind11 writes into its documentation."""
    member = getattr(kind, name)
    if not callable(member) or isinstance(member, kind):
        return []
    lines = re.findall(rf"^(?:\d+\. )?{name}\((.*)\)(?: -> .*)?$", member.__doc__ or "", re.MULTILINE)
    counts = [arguments(line) for line in lines if not line.startswith("*args")]
    assert counts, (kind, name, member.__doc__)
    return counts


def arguments(line: str) -> list[int]:
    """Least and largest number of arguments of ``self: A, b: C[D, E], f: int = 0``, without ``self``."""
    depth, parts = 0, [""]
    for character in line:
        depth += _BRACKETS.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    assert parts[0].startswith("self"), line
    return [sum("=" not in part for part in parts[1:]), len(parts) - 1]


if __name__ == "__main__":
    main()
