"""What a board knows of its slots: plain data, and the transitions between states as pure functions.

The symlink ``current`` alone says which slot is served.  A switch is written down before and after the link moves, so
that whoever comes next after a kill in between knows which of both it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, Optional, Tuple

from ..protocol import AgentError, ErrorKind

VERIFIED, BUILT, CHECKED, ACTIVE, CONFIRMED = "verified", "built", "checked", "active", "confirmed"
FAILED, ROLLED_BACK = "failed", "rolled-back"
STATES = (VERIFIED, BUILT, CHECKED, ACTIVE, CONFIRMED, FAILED, ROLLED_BACK)
"""``received`` goes before them: an archive under its own name, not yet known to be a bundle."""
ACTIVATION, ROLLBACK = "activation", "rollback"


@dataclass(frozen=True)
class SlotRecord:
    """One slot."""

    name: str
    version: int
    archive: str
    """SHA-256 of the archive from which it was unpacked."""
    keyid: str
    bytes: int
    state: str = VERIFIED
    reason: Optional[str] = None
    """Why it failed or was rolled back."""
    health: Optional[Dict[str, Any]] = None
    """The last health check's result."""


@dataclass(frozen=True)
class Switch:
    """A move of ``current`` that was begun."""

    kind: str
    origin: Optional[str]
    target: Optional[str]
    reason: Optional[str] = None


@dataclass(frozen=True)
class State:
    """The content of ``state.json``."""

    slots: Dict[str, SlotRecord] = field(default_factory=dict)
    history: Tuple[str, ...] = ()
    """Confirmed slots, the last one last."""
    highest: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Of each bundle's name the highest ``version`` that was ever active, and its ``digest``."""
    channels: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Of each channel's name the ``version`` last seen, and its ``payload_sha256``."""
    switch: Optional[Switch] = None
    event: Dict[str, Any] = field(default_factory=dict)
    """What led to this state: the last line of the audit, in case that was not written any more."""

    def encoded(self) -> bytes:
        """As JSON."""
        return json.dumps(dict(asdict(self), schema=1), sort_keys=True).encode("utf-8") + b"\n"

    @classmethod
    def decoded(cls, content: bytes) -> "State":
        """The state of :meth:`encoded`.

        Raises:
            AgentError: ``disk``.
        """
        try:
            record = json.loads(content.decode("utf-8"))
            schema, switch = record.pop("schema"), record.pop("switch")
            slots = {digest: SlotRecord(**slot) for digest, slot in record.pop("slots").items()}
            history = tuple(record.pop("history"))
            state = cls(slots=slots, switch=switch and Switch(**switch), history=history, **record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(str(error)) from error
        if schema != 1:
            raise _damaged("schema %r is not 1" % schema)
        return state

    def slot(self, digest: str) -> SlotRecord:
        """
        Raises:
            AgentError: ``bad-request``, when there is no such slot.
        """
        if digest not in self.slots:
            raise AgentError(ErrorKind.BAD_REQUEST, "slot %s is not on this board" % digest[:12])
        return self.slots[digest]

    def with_slot(self, digest: str, **changes: Any) -> "State":
        """The same with one slot changed."""
        return replace(self, slots={**self.slots, digest: replace(self.slot(digest), **changes)})

    def without_slot(self, digest: str) -> "State":
        """The same without one slot."""
        slots = {name: slot for name, slot in self.slots.items() if name != digest}
        return replace(self, slots=slots, history=self._history_without(digest))

    def confirmed(self, digest: str) -> "State":
        """The same after ``digest`` has shown that it serves."""
        state = self.with_slot(digest, state=CONFIRMED, reason=None)
        return replace(state, history=(*self._history_without(digest), digest))

    def previous(self, current: Optional[str]) -> Optional[str]:
        """The last confirmed slot beside the current one."""
        return next((digest for digest in reversed(self.history) if digest != current), None)

    def require_version(self, name: str, version: int, digest: str) -> None:
        """
        Raises:
            AgentError: ``too-old``, when a bundle of that name and a higher version was active, or another one of
                the same version.
        """
        highest = self.highest.get(name)
        if highest is None or digest == highest["digest"] or version > highest["version"]:
            return
        if version == highest["version"]:
            raise AgentError(
                ErrorKind.TOO_OLD,
                "another bundle was version %d of '%s' on this board; raise the version" % (version, name),
            )
        raise AgentError(
            ErrorKind.TOO_OLD,
            "version %d of '%s' is refused: the board has had version %d; to go back to an installed slot, roll back"
            % (version, name, highest["version"]),
        )

    def with_channel(self, name: str, version: int, payload_sha256: str) -> "State":
        """The same after a channel's metadata of that version was seen.

        Raises:
            AgentError: ``too-old``, when a later one was seen before; ``untrusted``, when another one of that version.
        """
        seen = self.channels.get(name, {"version": 0, "payload_sha256": ""})
        if version < seen["version"]:
            raise AgentError(
                ErrorKind.TOO_OLD,
                "version %d of channel '%s' is refused: the board has seen version %d"
                % (version, name, seen["version"]),
            )
        if version == seen["version"] and payload_sha256 != seen["payload_sha256"]:
            raise AgentError(
                ErrorKind.UNTRUSTED, "version %d of channel '%s' said something else before" % (version, name)
            )
        now = {"version": version, "payload_sha256": payload_sha256}
        return replace(self, channels={**self.channels, name: now})

    def switched(self) -> "State":
        """The same after the switch that was begun."""
        switch = self.switch
        if switch is None:
            return self
        after = self._activated(switch) if switch.kind == ACTIVATION else self._rolled_back(switch)
        return replace(after, switch=None)

    def _activated(self, switch: Switch) -> "State":
        target = str(switch.target)
        state = self
        if switch.origin in self.slots and self.slots[switch.origin].state == ACTIVE:
            state = state.with_slot(switch.origin, state=CHECKED)  # it never came to be confirmed
        state = state.with_slot(target, state=ACTIVE, reason=None)
        slot = state.slot(target)
        if slot.version < self.highest.get(slot.name, {"version": 0})["version"]:
            return state
        return replace(state, highest={**self.highest, slot.name: {"version": slot.version, "digest": target}})

    def _rolled_back(self, switch: Switch) -> "State":
        state = self
        if switch.origin in self.slots:
            state = state.with_slot(switch.origin, state=ROLLED_BACK, reason=switch.reason)
            state = replace(state, history=state._history_without(switch.origin))
        return state if switch.target is None else state.with_slot(switch.target, state=CONFIRMED, reason=None)

    def _history_without(self, digest: Optional[str]) -> Tuple[str, ...]:
        return tuple(other for other in self.history if other != digest)


def _damaged(what: str) -> AgentError:
    return AgentError(ErrorKind.DISK, "state.json is damaged (%s); restore it, or begin with a new directory" % what)
