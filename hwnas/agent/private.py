"""Directories that nobody else can enter: what lies in them is loaded as code."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Iterator


def private_directory(path: Path) -> Path:
    """``path`` as a directory that its owner alone can enter, made where it is missing.

    Raises:
        PermissionError: it is somebody else's, or others may enter it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError("%s must belong to you alone (chmod 700): engines are loaded from it" % path)
    return path


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory of this process alone in place of ``/tmp``: compilers keep there what they load as code."""
    directory, before = Path(tempfile.mkdtemp(prefix="hwnas-agent-")), os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(directory)
    try:
        yield directory
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
        shutil.rmtree(str(directory), ignore_errors=True)
