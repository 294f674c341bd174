"""The files of one slot, each checked against the signed manifest before anybody sees it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np

from ..arrays import Array
from ..protocol import AgentError, ErrorKind
from ..runtimes import Engine, RuntimeOptions, open_runtime
from . import durable
from .disk import Disk
from .dsse import BUNDLE_TYPE, read_envelope
from .layout import Layout, digest_of
from .manifest import ENVELOPE, Manifest, Model, read_manifest
from .trust import TrustedKeys

BUILT = "built"
RECORD, ENGINE = "record.json", "engine"


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that this board built, or took as it was built on the very same kind of device."""

    content: bytes
    runtime: str
    options: RuntimeOptions
    record: Dict[str, Any]

    def load(self) -> Engine:
        """The engine in the device's memory."""
        return open_runtime(self.runtime).load(self.content, self.options)


class SlotFiles:
    """A slot whose envelope a trusted key has signed."""

    def __init__(self, path: Path, manifest: Manifest, keyid: str, disk: Disk) -> None:
        self.path = path
        self.manifest = manifest
        self.keyid = keyid
        self._disk = disk

    @property
    def digest(self) -> str:
        """The name of the slot."""
        return self.manifest.digest

    def content(self, name: str) -> bytes:
        """A file's content.

        Raises:
            AgentError: ``bad-bundle``, when it is not the file that the manifest names.
        """
        content = durable.read(self._disk, self.path / name)
        if content is None or hashlib.sha256(content).hexdigest() != self.manifest.files[name].sha256:
            raise AgentError(
                ErrorKind.BAD_BUNDLE,
                "'%s' of slot %s changed on the disk; install the bundle anew" % (name, self.digest[:12]),
            )
        return content

    def array(self, name: str) -> Array:
        """An array of a ``.npy`` file.

        Raises:
            AgentError: ``bad-bundle``.
        """
        try:
            array: Array = np.load(io.BytesIO(self.content(name)), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise AgentError(ErrorKind.BAD_BUNDLE, "'%s' is no array (%s)" % (name, error)) from error
        return array

    def is_whole(self) -> bool:
        """Whether all files are those of the manifest."""
        return not any(self.damaged())

    def damaged(self) -> Iterator[str]:
        """The files that are missing, or others than those of the manifest."""
        for name, entry in self.manifest.files.items():
            try:
                whole = durable.sha256_of(self._disk, self.path / name) == entry.sha256
            except FileNotFoundError:
                whole = False
            if not whole:
                yield name

    def built(self, model: Model) -> Path:
        """Where the engine of a model is."""
        return self.path / BUILT / model.id

    def engine(self, model: Model) -> BuiltEngine:
        """The engine that was built for a model.

        Raises:
            AgentError: ``unknown-engine`` when none was; ``tampered-engine`` when it is not the one that was built.
        """
        recorded = durable.read(self._disk, self.built(model) / RECORD)
        if recorded is None:
            raise AgentError(
                ErrorKind.UNKNOWN_ENGINE, "no engine was built for model '%s' of slot %s" % (model.id, self.digest[:12])
            )
        content = durable.read(self._disk, self.built(model) / ENGINE) or b""
        try:
            record = json.loads(recorded.decode("utf-8"))
            whole = hashlib.sha256(content).hexdigest() == record["sha256"]
            engine = BuiltEngine(content, record["runtime"], RuntimeOptions.from_message(record["options"]), record)
        except (ValueError, KeyError, TypeError, AgentError) as error:
            raise self._tampered(model) from error
        if not whole:
            raise self._tampered(model)
        return engine

    def _tampered(self, model: Model) -> AgentError:
        return AgentError(
            ErrorKind.TAMPERED_ENGINE,
            "the engine of model '%s' of slot %s is not what was built; build it anew" % (model.id, self.digest[:12]),
        )


def open_slot(root: Path, digest: Optional[str] = None, disk: Optional[Disk] = None) -> SlotFiles:
    """The slot ``digest``, or the current one, if a key that is trusted now has signed it.

    Raises:
        AgentError: ``bad-request`` when there is no such slot; ``untrusted``; ``bad-bundle`` when its envelope is
            not what gave the slot its name.
    """
    layout, disk = Layout(root), disk or Disk()
    digest = digest or digest_of(disk.readlink(layout.current))
    if digest is None:
        raise AgentError(ErrorKind.BAD_REQUEST, "no slot is active in %s; install a bundle" % root)
    path = layout.slot(digest)
    content = durable.read(disk, path / ENVELOPE)
    if content is None:
        raise AgentError(ErrorKind.BAD_REQUEST, "slot %s is not on this board" % digest[:12])
    envelope = read_envelope(content, "the envelope of slot %s" % digest[:12], BUNDLE_TYPE)
    keyid = TrustedKeys.read(disk, layout.trusted).require_signer(envelope, "slot %s" % digest[:12])
    manifest = read_manifest(envelope.payload)
    if manifest.digest != digest:
        raise AgentError(ErrorKind.BAD_BUNDLE, "slot %s has the manifest of another bundle" % digest[:12])
    return SlotFiles(path, manifest, keyid, disk)
