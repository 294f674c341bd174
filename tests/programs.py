"""Programs of the tests that work in a directory, each with a home of its own beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def home_of(directory: Path) -> Path:
    """The home of a program that works in ``directory``, which it shall leave alone."""
    return directory.with_name("home")


def started(program: Path, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """``program DIRECTORY ARGUMENT…``, which can import the tests too; its stderr is a pipe."""
    home_of(directory).mkdir(exist_ok=True)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, str(program), str(directory), *arguments],
        env=os.environ | {"PYTHONPATH": paths, "HOME": str(home_of(directory))},
        stderr=subprocess.PIPE,
        text=True,
    )
