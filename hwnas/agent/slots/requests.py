"""What a host asks of a board's slots: each request fetches its fields, calls one method, and packs."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Dict

from ..protocol import AgentError, ErrorKind, Fields, Message
from .building import Builder
from .disk import Disk
from .health import Health
from .installing import install
from .layout import default_root
from .slots import Slots

_PATIENCE_S = 60.0
"""How long the service may take to load a slot."""


class SlotRequests:
    """The requests of one board; a simulated one has another disk, builder and health check."""

    def __init__(
        self,
        disk: Callable[[], Disk] = Disk,
        builder: Callable[[], Builder] = Builder,
        health: Callable[[Path, float], Health] = Health,
    ) -> None:
        """The arguments make one for each request."""
        self._disk, self._builder, self._health_of = disk, builder, health

    def handlers(self) -> Dict[str, Callable[[Fields], Message]]:
        """By their names; each takes ``root``, or acts on the board's usual one."""
        return {
            "slots-status": self._status,
            "slots-audit": self._audit,
            "slots-trust": self._trust,
            "slots-revoke": self._revoke,
            "slots-receive": self._receive,
            "slots-put": self._put,
            "slots-verify": self._verify,
            "slots-build": self._build,
            "slots-check": self._check,
            "slots-activate": self._activate,
            "slots-confirm": self._confirm,
            "slots-rollback": self._roll_back,
            "slots-collect": self._collect,
            "slots-install": self._install,
        }

    def _slots(self, fields: Fields) -> Slots:
        return Slots(Path(fields.text("root")) if fields.has("root") else default_root(), self._disk())

    def _health(self, slots: Slots, fields: Fields) -> Health:
        return self._health_of(slots.root, fields.number("timeout_s", _PATIENCE_S))

    def _status(self, fields: Fields) -> Message:
        return self._slots(fields).status()

    def _audit(self, fields: Fields) -> Message:
        """The last events, oldest first."""
        return {"events": self._slots(fields).audit()[-fields.integer("last", 1000, least=1) :]}

    def _trust(self, fields: Fields) -> Message:
        return {
            "keyid": self._slots(fields).trust(
                fields.text("public"), fields.text("comment", ""), fields.flag("confirmed", False)
            )
        }

    def _revoke(self, fields: Fields) -> Message:
        self._slots(fields).revoke(fields.text("keyid"), fields.text("reason"))
        return {}

    def _receive(self, fields: Fields) -> Message:
        received = self._slots(fields).receive(fields.text("sha256"), fields.integer("size", least=1))
        return {"received": received.bytes, "prefix_sha256": received.sha256}

    def _put(self, fields: Fields) -> Message:
        try:
            chunk = base64.b64decode(fields.text("data"), validate=True)
        except (ValueError, binascii.Error) as error:
            raise AgentError(ErrorKind.BAD_REQUEST, "the chunk is not base64 (%s)" % error) from error
        arrived = self._slots(fields).put(
            fields.text("sha256"), fields.integer("offset"), fields.integer("size", least=1), chunk
        )
        return {"received": arrived}

    def _verify(self, fields: Fields) -> Message:
        slots = self._slots(fields)
        digest = slots.verify(fields.text("sha256"))
        slot = slots.slot(digest)
        return {"digest": digest, "name": slot.name, "version": slot.version, "keyid": slot.keyid, "state": slot.state}

    def _build(self, fields: Fields) -> Message:
        return {"models": self._slots(fields).build(fields.text("digest"), self._builder())}

    def _check(self, fields: Fields) -> Message:
        """The health check's result; that a slot is unhealthy is a result and no error."""
        slots = self._slots(fields)
        return slots.check(fields.text("digest"), self._health(slots, fields))

    def _activate(self, fields: Fields) -> Message:
        slots = self._slots(fields)
        slots.activate(fields.text("digest"))
        return _pointers(slots)

    def _confirm(self, fields: Fields) -> Message:
        """Confirm a slot once the service, if one runs, serves it."""
        slots, digest = self._slots(fields), fields.text("digest")
        known = slots.slot(digest).health or {}
        refusal = self._health(slots, fields).refusal(digest, bool(known.get("service")))
        if refusal is not None:
            raise AgentError(ErrorKind.UNHEALTHY, refusal)
        slots.confirm(digest)
        return _pointers(slots)

    def _roll_back(self, fields: Fields) -> Message:
        slots = self._slots(fields)
        slots.roll_back(fields.text("reason"), fields.text("to") if fields.has("to") else None)
        return _pointers(slots)

    def _collect(self, fields: Fields) -> Message:
        return {"removed": self._slots(fields).collect(fields.integer("keep", 2))}

    def _install(self, fields: Fields) -> Message:
        slots = self._slots(fields)
        return asdict(install(slots, fields.text("sha256"), self._builder(), self._health(slots, fields)))


def _pointers(slots: Slots) -> Message:
    status = slots.status()
    return {"current": status["current"], "previous": status["previous"]}
