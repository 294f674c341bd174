"""Reading the small files in which the kernel tells of itself; ``None`` or empty where it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterable, List, Optional

_WHOLE = re.compile(r"-?\d+$")


def read_text(path: Path) -> Optional[str]:
    """A small file's stripped text, or ``None`` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00 \t\r\n")
    except OSError:
        return None


def read_texts(directory: Path, pattern: str) -> List[str]:
    """What stands in the files that match, without empty ones."""
    texts = (read_text(path) for path in sorted(directory.glob(pattern)))
    return [text for text in texts if text]


def read_number(path: Path) -> Optional[int]:
    """The whole number that a file holds, or ``None``."""
    text = read_text(path)
    return int(text) if text and _WHOLE.match(text) else None


def read_numbers(paths: Iterable[Path]) -> List[int]:
    """The whole numbers of those files that hold one."""
    numbers = (read_number(path) for path in paths)
    return [number for number in numbers if number is not None]


def number_files(directory: Path, pattern: str) -> List[Path]:
    """The files that match and hold a whole number."""
    return [path for path in sorted(directory.glob(pattern)) if read_number(path) is not None]


def same_number(first: Path, second: Path) -> bool:
    """Whether two files hold the same whole number."""
    number = read_number(first)
    return number is not None and number == read_number(second)
