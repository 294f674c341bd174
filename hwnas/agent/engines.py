"""Engines on the device's disk: only those that this agent's home built itself are ever loaded."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from .protocol import AgentError, ErrorKind
from .runtimes import Engine, Runtime, RuntimeOptions, open_runtime
from .runtimes.base import explanation_path

_LOADED_AT_ONCE = 32


class EngineStore:
    """A private directory of engine files, each with a ledger entry: its hash, its origin and how it was built.

    Every :meth:`build` is a separate build under a fresh id.  A few recently used engines stay loaded.  The
    directory outlives the process, so that an agent started anew in the same home has the engines of its forerunner.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded: "OrderedDict[str, Engine]" = OrderedDict()
        directory.mkdir(mode=0o700, exist_ok=True)

    def build(self, runtime: Runtime, onnx: bytes, options: RuntimeOptions) -> str:
        """Compile ``onnx`` and enter the engine into the ledger; gives its id.

        Raises:
            AgentError: what the runtime says when it refuses; ``disk`` when there is no room for the engine.
        """
        identity = secrets.token_hex(8)
        path = self._file(identity)
        try:
            runtime.compile(onnx, options, path)
            content = path.read_bytes()
        except BaseException as error:
            full = shutil.disk_usage(str(self._directory)).free < len(onnx)
            self._remove(path)
            if full and isinstance(error, AgentError):  # runtimes say anything but that
                raise AgentError(
                    ErrorKind.DISK, "the device's disk is full; free some space there (%s)" % error
                ) from error
            raise
        entry = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "onnx_sha256": hashlib.sha256(onnx).hexdigest(),
            "runtime": runtime.name,
            "runtime_version": runtime.version(),
            "options": options.as_record(),
        }
        temporary = self._ledger(identity).with_suffix(".part")
        temporary.write_text(json.dumps(entry), encoding="utf-8")
        temporary.replace(self._ledger(identity))
        return identity

    def entry(self, identity: str) -> Dict[str, Any]:
        """The ledger's entry.

        Raises:
            AgentError: ``unknown-engine``.
        """
        try:
            entry: Dict[str, Any] = json.loads(self._ledger(identity).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise AgentError(
                ErrorKind.UNKNOWN_ENGINE, "engine %s was not built here or was released; compile it" % identity[:16]
            ) from error
        return entry

    def content(self, identity: str) -> bytes:
        """The engine file's content, checked against the ledger.

        Raises:
            AgentError: ``unknown-engine``; ``tampered-engine`` when it is not what was built.
        """
        entry = self.entry(identity)
        try:
            content = self._file(identity).read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            self.drop(identity)
            raise AgentError(
                ErrorKind.TAMPERED_ENGINE,
                "engine %s is not the file that was built here and was thrown away; compile it anew" % identity,
            )
        return content

    def open(self, identity: str) -> Engine:
        """The engine, loaded.

        Raises:
            AgentError: as :meth:`content`, or what the runtime says when it refuses to load.
        """
        if identity in self._loaded:
            self._loaded.move_to_end(identity)
            return self._loaded[identity]
        content = self.content(identity)
        runtime, options = self.origin(identity)
        engine = runtime.load(content, options)
        self._loaded[identity] = engine
        while len(self._loaded) > _LOADED_AT_ONCE:
            self._loaded.popitem(last=False)[1].close()
        return engine

    def explanation(self, identity: str) -> Optional[Dict[str, Any]]:
        """What the runtime told of the engine when it was built; ``None`` when nothing.

        Raises:
            AgentError: ``unknown-engine``.
        """
        self.entry(identity)
        path = explanation_path(self._file(identity))
        if not path.exists():
            return None
        explanation: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return explanation

    def origin(self, identity: str) -> Tuple[Runtime, RuntimeOptions]:
        """The runtime and the options that the engine was built with."""
        entry = self.entry(identity)
        return open_runtime(entry["runtime"]), RuntimeOptions.from_message(entry["options"])

    def drop(self, identity: str) -> None:
        """Forget the engine; one that is not here is no error."""
        loaded = self._loaded.pop(identity, None)
        if loaded is not None:
            loaded.close()
        self._remove(self._file(identity))
        self._ledger(identity).unlink(missing_ok=True)

    def _file(self, identity: str) -> Path:
        return self._directory / (_checked(identity) + ".engine")

    @staticmethod
    def _remove(path: Path) -> None:
        for file in (path, explanation_path(path)):
            file.unlink(missing_ok=True)

    def _ledger(self, identity: str) -> Path:
        return self._directory / (_checked(identity) + ".json")


def _checked(identity: str) -> str:
    """The id, if it is one: it becomes part of a path."""
    if len(identity) != 16 or set(identity) - set("0123456789abcdef"):
        raise AgentError(ErrorKind.BAD_REQUEST, "an engine's id is 16 hexadecimal digits, found %r" % identity[:40])
    return identity
