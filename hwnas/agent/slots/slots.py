"""The slots of a board: received → verified → built → checked → active → confirmed, one durable step after the other.

Every step may be asked for again: what is done is not done twice.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional

from ..protocol import AgentError, ErrorKind
from ..service.record import find_service
from . import durable
from .arrival import Arrival
from .books import Books, utc_now
from .building import Builder, build_engines
from .disk import Disk
from .health import Health, unhealthy_reason
from .incoming import Received
from .layout import Layout
from .slot_files import SlotFiles, open_slot
from .state import ACTIVATION, ACTIVE, BUILT, CHECKED, CONFIRMED, FAILED, ROLLBACK, SlotRecord, Switch
from .trust import TrustedKeys

_LEAST_KEPT = 2
"""The current slot and the one before."""


class Slots:
    """All that is done to the slots below one root.

    Every method but :meth:`status` and :meth:`audit` raises AgentError ``busy`` while another process is at work
    there, and ``disk`` for what the disk refuses.
    """

    def __init__(self, root: Path, disk: Optional[Disk] = None) -> None:
        """``root`` is a directory that belongs to this user alone; it is made on first use."""
        self.root = root
        self._layout = Layout(root)
        self._disk = disk or Disk()
        self._books = Books(self._layout, self._disk)
        self._arrival = Arrival(self._layout, self._disk, self._books)

    def held(self) -> ContextManager[None]:
        """Be the only one at work for several steps; see :meth:`Books.held`."""
        return self._books.held()

    def status(self) -> Dict[str, Any]:
        """What is here; nothing is changed, and nobody is waited for."""
        state, current = self._books.state(), self._books.current()
        return {
            "root": str(self.root),
            "current": current,
            "previous": state.previous(current),
            "slots": {digest: asdict(slot) for digest, slot in state.slots.items()},
            "highest": state.highest,
            "service": _without_token(find_service(self.root)),
            "disk_free_bytes": self._disk.free_bytes(self._nearest_directory()),
            **self.trusted().as_status(),
        }

    def audit(self) -> List[Dict[str, Any]]:
        """All that ever happened here, oldest first."""
        return self._books.audit()

    def current(self) -> Optional[str]:
        """The slot that is served."""
        return self._books.current()

    def slot(self, digest: str) -> SlotRecord:
        """What is known of a slot."""
        return self._books.state().slot(digest)

    def trusted(self) -> TrustedKeys:
        """The keys that are trusted, and those that are revoked."""
        return TrustedKeys.read(self._disk, self._layout.trusted)

    def trust(self, public_hex: str, comment: str, confirmed: bool = False) -> str:
        """Take bundles of a key from now on; gives its id.

        Raises:
            AgentError: ``bad-request``, ``untrusted``: see :meth:`TrustedKeys.trusting`.
        """
        with self.held():
            before = self.trusted()
            after, keyid = before.trusting(public_hex, comment, confirmed, utc_now())
            self._write_trusted(before, after, "trusted", key=keyid, comment=comment)
            return keyid

    def revoke(self, keyid: str, reason: str) -> None:
        """Take nothing of a key any more, neither new bundles nor installed slots."""
        with self.held():
            before = self.trusted()
            after = before.revoking(keyid, reason, utc_now())
            self._write_trusted(before, after, "revoked", key=keyid, reason=reason)

    def receive(self, archive: str, size: int) -> Received:
        """See :meth:`Arrival.receive`."""
        with self.held():
            return self._arrival.receive(archive, size)

    def put(self, archive: str, offset: int, size: int, chunk: bytes) -> int:
        """See :meth:`Arrival.put`."""
        with self.held():
            return self._arrival.put(archive, offset, size, chunk)

    def verify(self, archive: str) -> str:
        """See :meth:`Arrival.verify`; gives the slot's digest."""
        with self.held():
            return self._arrival.verify(archive).digest

    def build(self, digest: str, builder: Builder) -> Dict[str, Dict[str, Any]]:
        """Have an engine of every model; gives the engines' records, see :func:`build_engines`.

        Raises:
            AgentError: ``model-refused`` and the like, ``untrusted``, ``bad-bundle``, ``disk``.
        """
        with self.held():
            files = self._open(digest)
            current = digest == self._books.current()
            try:
                records = build_engines(self._disk, files, builder)
            except AgentError as refusal:
                self._fail(digest, refusal)
                raise
            new = any(record["new"] for record in records.values())
            if not current and (new or self.slot(digest).state not in (BUILT, CHECKED)):
                total = files.manifest.total_bytes + sum(record["bytes"] for record in records.values())
                self._enter(digest, BUILT, bytes=total)
            return records

    def check(self, digest: str, health: Health) -> Dict[str, Any]:
        """Let the health check judge a slot whose engines were built; gives its result."""
        with self.held():
            if digest != self._books.current():
                self._require(digest, BUILT, CHECKED, FAILED)
            candidate, current = self._open(digest), self._books.current()
            try:
                result = health.check(candidate, self._beside(current) if current != digest else None)
            except AgentError as refusal:
                self._fail(digest, refusal)
                raise
            if digest != current:
                reason = None if result["healthy"] else unhealthy_reason(result)
                self._enter(digest, FAILED if reason else CHECKED, reason=reason, health=result)
            return result

    def activate(self, digest: str) -> None:
        """Let ``current`` point at a slot that was checked."""
        with self.held():
            current = self._books.current()
            if current == digest:
                return
            self._require(digest, CHECKED)
            self._arrival.require_recent(self._open(digest).manifest)
            self._books.switch(Switch(ACTIVATION, current, digest))

    def confirm(self, digest: str) -> None:
        """Keep the active slot: it serves."""
        with self.held():
            if self._books.current() != digest:
                raise AgentError(ErrorKind.BAD_REQUEST, "slot %s is not the active one" % digest[:12])
            if self.slot(digest).state == ACTIVE:
                self._books.record(self._books.state().confirmed(digest), CONFIRMED, slot=digest)

    def roll_back(self, reason: str, to: Optional[str] = None) -> Optional[str]:
        """Go back to the previous slot, or to another that was confirmed; gives the slot that is current then.

        An unconfirmed slot with none before it is taken back to none, as the board was.

        Raises:
            AgentError: ``bad-request`` when there is nothing to go back to; ``untrusted``, ``bad-bundle``,
                ``unknown-engine``, ``tampered-engine`` when it cannot be loaded any more.
        """
        with self.held():
            current, state = self._books.current(), self._books.state()
            target = to or state.previous(current)
            if target is None and (current is None or state.slot(current).state == CONFIRMED):
                raise AgentError(ErrorKind.BAD_REQUEST, "there is no slot to go back to on this board")
            if target == current:
                return current
            if target is not None:
                self._require_confirmed(target)
                self._whole(target)
            self._books.switch(Switch(ROLLBACK, current, target, reason))
            return target

    def boot_check(self) -> Optional[str]:
        """Roll an unconfirmed slot back; gives it, or ``None`` if there was none."""
        with self.held():
            current = self._books.current()
            if current is None or self.slot(current).state != ACTIVE:
                return None
            self.roll_back("it was not confirmed before the service started anew")
            return current

    def collect(self, keep: int = _LEAST_KEPT) -> List[str]:
        """Remove what has arrived in part, and slots: all but the current one, the previous one, and others that were
        confirmed, the last ones first, until ``keep`` are kept.  Gives the removed ones.
        """
        if keep < _LEAST_KEPT:
            raise AgentError(ErrorKind.BAD_REQUEST, "the current and the previous slot are always kept: keep 2 or more")
        with self.held():
            state, current = self._books.state(), self._books.current()
            order = [digest for digest in (current, *reversed(state.history)) if digest is not None]
            kept = list(dict.fromkeys(order))[:keep]
            removed = sorted(set(state.slots) - set(kept))
            for digest in removed:
                self._books.record(self._books.state().without_slot(digest), "collected", slot=digest)
                durable.remove(self._disk, self._layout.slot(digest))
            self._arrival.clear()
            return removed

    def see_channel(self, name: str, version: int, payload_sha256: str) -> None:
        """Remember a channel's version; see :meth:`State.with_channel`."""
        with self.held():
            before = self._books.state()
            after = before.with_channel(name, version, payload_sha256)
            if after != before:
                self._books.record(after, "channel", channel=name, version=version)

    def _enter(self, digest: str, state: str, **changes: Any) -> None:
        told = {name: changes[name] for name in ("reason", "health") if name in changes}
        changes.setdefault("reason", None)
        self._books.record(self._books.state().with_slot(digest, state=state, **changes), state, slot=digest, **told)

    def _fail(self, digest: str, refusal: AgentError) -> None:
        """Write down why a candidate cannot be served; a full disk is not its fault."""
        if refusal.kind != ErrorKind.DISK and digest != self._books.current():
            self._enter(digest, FAILED, reason=refusal.message)

    def _require(self, digest: str, *states: str) -> None:
        found = self.slot(digest).state
        if found not in states:
            raise AgentError(
                ErrorKind.BAD_REQUEST, "slot %s is %s; it must be %s first" % (digest[:12], found, states[0])
            )

    def _require_confirmed(self, digest: str) -> None:
        if digest not in self._books.state().history:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "slot %s is not on this board, or was never confirmed; install its bundle" % digest[:12],
            )

    def _whole(self, digest: str) -> SlotFiles:
        """A slot whose engines are those that were built."""
        files = self._open(digest)
        for model in files.manifest.models:
            files.engine(model)
        return files

    def _beside(self, digest: Optional[str]) -> Optional[SlotFiles]:
        """The slot beside which a candidate is judged; a damaged or a revoked one must not keep others out."""
        try:
            return None if digest is None else self._whole(digest)
        except AgentError as error:
            if error.kind == ErrorKind.DISK:
                raise
            return None

    def _open(self, digest: str) -> SlotFiles:
        self.slot(digest)
        return open_slot(self.root, digest, self._disk)

    def _write_trusted(self, before: TrustedKeys, after: TrustedKeys, event: str, **told: str) -> None:
        if after != before:
            after.write(self._disk, self._layout.trusted)
            self._books.record(self._books.state(), event, **told)

    def _nearest_directory(self) -> Path:
        """The root, or what there is of the way to it."""
        return next(path for path in (self.root, *self.root.absolute().parents) if self._disk.status(path) is not None)


def _without_token(record: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """What a living service last said of itself, for everybody."""
    return record and {name: value for name, value in record.items() if name != "token"}
