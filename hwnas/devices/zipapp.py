"""The agent as one file that any Python 3.8 or newer runs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = frozenset({".py", ".onnx", ".safetensors"})
_MAIN = "import sys\n\nfrom hwnas.agent.__main__ import main\n\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX, _FILE_MODE = 3, 0o100644 << 16


@cache
def agent_zipapp() -> bytes:
    """The archive; the same source gives the same bytes everywhere: no times, nothing compressed, files by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _files():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = _UNIX, _FILE_MODE
            archive.writestr(info, data)
    return content.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    yield "hwnas/__init__.py", (_PACKAGE / "__init__.py").read_bytes()
    agent = _PACKAGE / "agent"
    for path in sorted(agent.rglob("*"), key=lambda path: path.relative_to(agent).parts):
        if path.suffix in _SUFFIXES and path.is_file():
            yield path.relative_to(_PACKAGE.parent).as_posix(), path.read_bytes()
