"""A whole installation: from an archive that has arrived to a confirmed slot, or back to the one before."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from ..private import scratch
from ..protocol import AgentError
from .building import Builder
from .health import Health, unhealthy_reason
from .slots import Slots
from .state import CONFIRMED

_CHUNK = 1 << 20
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


def take(slots: Slots, path: Path) -> str:
    """Let an archive that is on this board arrive; gives its SHA-256.

    Raises:
        OSError: it cannot be read.
        AgentError: as :meth:`Slots.put`.
    """
    with path.open("rb") as file:
        content = hashlib.sha256()
        for piece in iter(lambda: file.read(_CHUNK), b""):
            content.update(piece)
        size, sha256 = file.tell(), content.hexdigest()
        arrived = slots.receive(sha256, size).bytes
        file.seek(arrived)
        while arrived < size:
            arrived = slots.put(sha256, arrived, size, file.read(_CHUNK))
    return sha256


def reported(installation: Callable[[], Outcome]) -> int:
    """Run an installation and say what came of it; gives the exit status: 0 if the slot is the active one."""
    try:
        with scratch():
            outcome = installation()
    except AgentError as error:
        tell("%s: %s" % (error.kind, error.message))
        return 1
    except OSError as error:
        tell("%s: %s" % (error.filename, error.strerror))
        return 1
    except KeyboardInterrupt:
        tell("interrupted; run it again to go on")
        return 130
    sys.stdout.write("%s %s\n" % (outcome.digest, outcome.outcome))
    if outcome.reason is None:
        return 0
    tell(outcome.reason)
    return 1


def tell(what: str) -> None:
    """What a person who waits may want to know."""
    sys.stderr.write(what + "\n")
