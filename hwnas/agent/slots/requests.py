"""What a host asks of a board's slots: each request fetches its fields, calls one method, and packs."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Dict

from ..protocol import AgentError, ErrorKind, Fields, Message
from .building import Builder
from .health import Health
from .installing import install
from .layout import default_root
from .slots import Slots

_PATIENCE_S = 60.0
"""How long the service may take to load a slot."""


def slot_requests() -> Dict[str, Callable[[Fields], Message]]:
    """The requests by name; each takes ``root``, or acts on the board's usual one."""
    return {
        "slots-status": _status,
        "slots-audit": _audit,
        "slots-trust": _trust,
        "slots-revoke": _revoke,
        "slots-receive": _receive,
        "slots-put": _put,
        "slots-verify": _verify,
        "slots-build": _build,
        "slots-check": _check,
        "slots-activate": _activate,
        "slots-confirm": _confirm,
        "slots-rollback": _roll_back,
        "slots-collect": _collect,
        "slots-install": _install,
    }


def _slots(fields: Fields) -> Slots:
    return Slots(Path(fields.text("root")) if fields.has("root") else default_root())


def _health(slots: Slots, fields: Fields) -> Health:
    return Health(slots.root, fields.number("timeout_s", _PATIENCE_S))


def _status(fields: Fields) -> Message:
    return _slots(fields).status()


def _audit(fields: Fields) -> Message:
    """The last events, oldest first."""
    return {"events": _slots(fields).audit()[-fields.integer("last", 1000, least=1) :]}


def _trust(fields: Fields) -> Message:
    return {
        "keyid": _slots(fields).trust(
            fields.text("public"), fields.text("comment", ""), fields.flag("confirmed", False)
        )
    }


def _revoke(fields: Fields) -> Message:
    _slots(fields).revoke(fields.text("keyid"), fields.text("reason"))
    return {}


def _receive(fields: Fields) -> Message:
    received = _slots(fields).receive(fields.text("sha256"), fields.integer("size", least=1))
    return {"received": received.bytes, "prefix_sha256": received.sha256}


def _put(fields: Fields) -> Message:
    try:
        chunk = base64.b64decode(fields.text("data"), validate=True)
    except (ValueError, binascii.Error) as error:
        raise AgentError(ErrorKind.BAD_REQUEST, "the chunk is not base64 (%s)" % error) from error
    arrived = _slots(fields).put(
        fields.text("sha256"), fields.integer("offset"), fields.integer("size", least=1), chunk
    )
    return {"received": arrived}


def _verify(fields: Fields) -> Message:
    slots = _slots(fields)
    digest = slots.verify(fields.text("sha256"))
    slot = slots.slot(digest)
    return {"digest": digest, "name": slot.name, "version": slot.version, "keyid": slot.keyid, "state": slot.state}


def _build(fields: Fields) -> Message:
    return {"models": _slots(fields).build(fields.text("digest"), Builder())}


def _check(fields: Fields) -> Message:
    """The health check's result; that a slot is unhealthy is a result and no error."""
    slots = _slots(fields)
    return slots.check(fields.text("digest"), _health(slots, fields))


def _activate(fields: Fields) -> Message:
    slots = _slots(fields)
    slots.activate(fields.text("digest"))
    return _pointers(slots)


def _confirm(fields: Fields) -> Message:
    """Confirm a slot once the service, if one runs, serves it."""
    slots, digest = _slots(fields), fields.text("digest")
    known = slots.slot(digest).health or {}
    refusal = _health(slots, fields).refusal(digest, bool(known.get("service")))
    if refusal is not None:
        raise AgentError(ErrorKind.UNHEALTHY, refusal)
    slots.confirm(digest)
    return _pointers(slots)


def _roll_back(fields: Fields) -> Message:
    slots = _slots(fields)
    slots.roll_back(fields.text("reason"), fields.text("to") if fields.has("to") else None)
    return _pointers(slots)


def _collect(fields: Fields) -> Message:
    return {"removed": _slots(fields).collect(fields.integer("keep", 2))}


def _install(fields: Fields) -> Message:
    slots = _slots(fields)
    return asdict(install(slots, fields.text("sha256"), Builder(), _health(slots, fields)))


def _pointers(slots: Slots) -> Message:
    status = slots.status()
    return {"current": status["current"], "previous": status["previous"]}
