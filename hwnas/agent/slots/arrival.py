"""From a stranger's bytes to a slot: an archive is received, its signature found right, and then it is unpacked."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Iterator, Optional, Tuple

from ..protocol import AgentError, ErrorKind
from . import durable
from .archive import Archive
from .books import Books
from .disk import Disk
from .dsse import BUNDLE_TYPE, read_envelope
from .incoming import Incoming, Received, require_free
from .layout import Layout
from .manifest import ENVELOPE, Manifest, read_manifest
from .slot_files import SlotFiles, open_slot
from .state import VERIFIED, SlotRecord
from .trust import TrustedKeys


class Arrival:
    """What happens to an archive before it is a slot; all of it while the books are held."""

    def __init__(self, layout: Layout, disk: Disk, books: Books) -> None:
        self._layout = layout
        self._disk = disk
        self._books = books
        self._incoming = Incoming(layout, disk)

    def receive(self, archive: str, size: int) -> Received:
        """Make room for an archive; gives what of it is here: all, if it has become a slot."""
        if self._slot_of(archive) is not None:
            return Received(size, archive)
        self._incoming.make_room(archive, size)
        self._incoming.admit_left(archive, size)
        return self._incoming.received(archive)

    def put(self, archive: str, offset: int, size: int, chunk: bytes) -> int:
        """Take a chunk of an archive; gives the bytes that have arrived.  See :meth:`Incoming.put`."""
        if self._slot_of(archive) is not None or self._incoming.is_whole(archive):
            return size
        arrived = self._incoming.put(archive, offset, size, chunk)
        if arrived == size:
            self._books.record(self._books.state(), "received", archive=archive, bytes=size)
        return arrived

    def verify(self, archive: str) -> SlotFiles:
        """The slot of an archive, unpacked now or before; of what is refused, nothing is left.

        Raises:
            AgentError: ``untrusted``, ``too-old``, ``bad-bundle``, ``disk``; ``bad-request`` when it has not arrived.
        """
        digest = self._slot_of(archive)
        if digest is None and not self._incoming.is_whole(archive):
            raise AgentError(ErrorKind.BAD_REQUEST, "archive %s has not arrived; send it first" % archive[:12])
        try:
            if digest is None:
                return self._unpacked(archive)
            files = open_slot(self._layout.root, digest, self._disk)
            self.require_recent(files.manifest)
        except AgentError as refusal:
            if refusal.kind != ErrorKind.DISK:
                self._incoming.drop(archive)
                self._books.record(self._books.state(), "refused", archive=archive, reason=refusal.message)
            raise
        return files

    def require_recent(self, manifest: Manifest) -> None:
        """Refuse what was replaced by a later version; the current slot is what it is.

        Raises:
            AgentError: ``too-old``.
        """
        if manifest.digest != self._books.current():
            self._books.state().require_version(manifest.name, manifest.version, manifest.digest)

    def clear(self) -> None:
        """Forget all that has arrived and is no slot."""
        for name in self._disk.list(self._layout.incoming):
            durable.remove(self._disk, self._layout.incoming / name)

    def _slot_of(self, archive: str) -> Optional[str]:
        """The slot that was unpacked from an archive and is still whole."""
        for digest, slot in self._books.state().slots.items():
            if slot.archive == archive and self._is_whole(digest):
                return digest
        return None

    def _is_whole(self, digest: str) -> bool:
        try:
            return open_slot(self._layout.root, digest, self._disk).is_whole()
        except AgentError as error:
            return error.kind == ErrorKind.UNTRUSTED  # sending it again would not help

    def _unpacked(self, archive: str) -> SlotFiles:
        with durable.opened(self._disk, self._layout.archive(archive), os.O_RDONLY) as descriptor:
            content = Archive(functools.partial(self._disk.read, descriptor))
            envelope = content.envelope()
            manifest, keyid = self._admitted(envelope)
            files = SlotFiles(self._layout.slot(manifest.digest), manifest, keyid, self._disk)
            with self._fresh_directory(archive) as directory:
                durable.create(self._disk, directory / ENVELOPE, envelope)
                content.unpack(self._disk, manifest, directory)
                if manifest.digest in self._books.state().slots:
                    self._mend(files, directory)
                else:
                    durable.move(self._disk, directory, files.path)
            self._enter(files, archive)
        self._incoming.drop(archive)
        return files

    def _mend(self, files: SlotFiles, directory: Path) -> None:
        """Put right what of a slot is damaged, file by file: it may be the current one."""
        for name in files.damaged():
            durable.make_directory(self._disk, (files.path / name).parent)
            durable.move(self._disk, directory / name, files.path / name)
        durable.move(self._disk, directory / ENVELOPE, files.path / ENVELOPE)

    def _admitted(self, envelope: bytes) -> Tuple[Manifest, str]:
        """The manifest of an envelope that a trusted key has signed, if it is not too old and there is room."""
        read = read_envelope(envelope, "the bundle's envelope", BUNDLE_TYPE)
        keyid = TrustedKeys.read(self._disk, self._layout.trusted).require_signer(read, "the bundle")
        manifest = read_manifest(read.payload)
        self.require_recent(manifest)
        require_free(self._disk, self._layout.slots, manifest.total_bytes)
        return manifest, keyid

    def _enter(self, files: SlotFiles, archive: str) -> None:
        """Write a slot into the books; one that was there keeps its state."""
        state, manifest = self._books.state(), files.manifest
        new = SlotRecord(manifest.name, manifest.version, archive, files.keyid, manifest.total_bytes)
        slot = replace(state.slots.get(files.digest, new), archive=archive, keyid=files.keyid)
        state = replace(state, slots={**state.slots, files.digest: slot})
        self._books.record(state, VERIFIED, slot=files.digest, archive=archive, keyid=files.keyid)

    @contextlib.contextmanager
    def _fresh_directory(self, archive: str) -> Iterator[Path]:
        """A directory beside the archive; it is gone in the end, unless it has become a slot."""
        directory = self._layout.incoming / (archive + ".unpacked")
        durable.remove(self._disk, directory)
        self._disk.mkdir(directory)
        try:
            yield directory
        finally:
            durable.remove(self._disk, directory)
