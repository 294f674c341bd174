"""Receive the agent on a board: the text of this module is run there by ``python -E -c`` before anything else is there.

It runs in any Python 3, to say which one it is.  Arguments: SHA-256 and size.  It says one JSON object a line: first
``{"python": [3, 10, 12], "numpy": true, "received": 0}``; then, when the bytes from ``received`` on have come and
stdin has ended, ``{"path": "..."}`` or ``{"error": "..."}``.
"""

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path


def cache_root():
    # type: () -> Path
    """The directory of all that hwnas keeps on the board for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwnas"


def say(message):
    # type: (object) -> None
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def is_whole(path, sha256):
    # type: (Path, str) -> bool
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def size_of(path):
    # type: (Path) -> int
    return path.stat().st_size if path.exists() else 0


def receive(sha256, size):
    # type: (str, int) -> object
    """Say what is here, take what is missing; gives what to say in the end."""
    directory = cache_root() / "agents"
    path, partial = directory / (sha256 + ".pyz"), directory / (sha256 + ".part")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = is_whole(path, sha256)
    numpy = importlib.util.find_spec("numpy") is not None
    received = size if here else size_of(partial)
    say({"python": list(sys.version_info[:3]), "numpy": numpy, "received": received})
    while not here:
        piece = os.read(0, 1 << 16)
        if not piece:
            break
        with partial.open("ab") as file:
            file.write(piece)
    if here:
        return {"path": str(path)}
    if size_of(partial) < size:
        return {"error": "the agent arrived in part"}
    if not is_whole(partial, sha256):
        partial.unlink()
        return {"error": "the agent arrived damaged"}
    partial.replace(path)
    return {"path": str(path)}


def main():
    # type: () -> None
    try:
        say(receive(sys.argv[1], int(sys.argv[2])))
    except OSError as error:
        say({"error": "%s: %s" % (error.filename or cache_root(), error.strerror)})


if __name__ == "__main__":
    main()
