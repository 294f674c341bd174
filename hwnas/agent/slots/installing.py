"""A whole installation: from an archive that has arrived to a confirmed slot, or back to the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

from .building import Builder
from .health import Health, unhealthy_reason
from .slots import Slots
from .state import CONFIRMED

UNCHANGED, INSTALLED, UNHEALTHY, TAKEN_BACK = "unchanged", "confirmed", "unhealthy", "rolled-back"


@dataclass(frozen=True)
class Outcome:
    """What became of an installation."""

    digest: str
    outcome: str
    """:data:`UNCHANGED`: the slot was active already; :data:`INSTALLED`; :data:`UNHEALTHY`: never switched to;
    :data:`TAKEN_BACK`: switched to and back again."""
    reason: Optional[str] = None
    health: Optional[Dict[str, Any]] = None


def install(
    slots: Slots,
    archive: str,
    builder: Builder,
    health: Health,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Take an archive through all states, going on where one that was killed has ended.

    Args:
        archive: SHA-256 of one that has arrived.
        progress: is told what begins, in a few words.

    Raises:
        AgentError: what the steps raise; the current slot is as it was.
    """
    with slots.held():
        progress("verifying")
        digest = slots.verify(archive)
        if slots.current() == digest and slots.slot(digest).state == CONFIRMED:
            return Outcome(digest, UNCHANGED)
        if slots.current() != digest:
            progress("building")
            slots.build(digest, builder)
            progress("checking")
            result = slots.check(digest, health)
            if not result["healthy"]:
                return Outcome(digest, UNHEALTHY, unhealthy_reason(result), result)
            progress("switching")
            slots.activate(digest)
        progress("waiting for the service")
        known = slots.slot(digest).health or {}
        refusal = health.refusal(digest, bool(known.get("service")))
        if refusal is not None:
            slots.roll_back(refusal)
            return Outcome(digest, TAKEN_BACK, refusal, known)
        slots.confirm(digest)
        return Outcome(digest, INSTALLED, health=known)
