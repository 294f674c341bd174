"""An engine on the board, or the board as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwnas.agent.protocol import ErrorKind
from hwnas.deploy.board import BoardSlots, SlotsStatus
from hwnas.deploy.bundle import Bundle, archive_path, write_bundle_archive
from hwnas.deploy.outcome import Fate, Outcome
from hwnas.deploy.preflight import PreflightCheck, compile_options, preflight
from hwnas.deploy.signing import PublicKey, signers
from hwnas.deploy.verification import verify_bundle
from hwnas.devices.errors import AgentLostError, InUseError, RefusedError, UnreachableError
from hwnas.errors import DeviceError, HwnasError, UserError
from hwnas.files import sha256_of
from hwnas.progress import Progress

_ATTEMPTS = 3
"""An agent that is lost in mid-way costs one; the board goes on from its last durable state."""
_CONFIRMED = "confirmed"
_NEVER_ARRIVED = (ErrorKind.BAD_BUNDLE, ErrorKind.UNTRUSTED, ErrorKind.TOO_OLD, ErrorKind.BUSY, ErrorKind.DISK)
_STEPS = 6


@dataclass(frozen=True)
class Parcel:
    """A bundle that was verified here, as it is sent."""

    bundle: Bundle
    archive: Path

    @cached_property
    def sha256(self) -> str:
        """Of the archive."""
        return sha256_of(self.archive)

    @cached_property
    def signers(self) -> frozenset[str]:
        """Ids of the keys that signed it."""
        return frozenset(signers(self.bundle.envelope, f"bundle {self.archive}"))


@contextmanager
def parcel(path: Path, trusted: list[PublicKey]) -> Iterator[Parcel]:
    """A bundle's directory or archive as a parcel; the directory's archive is made where it is missing.

    Raises:
        UntrustedError, BadBundleError, BadFileError: see :func:`hwnas.deploy.verification.verify_bundle`.
    """
    bundle = verify_bundle(path, trusted)
    if path.is_file():
        yield Parcel(bundle, path)
        return
    with TemporaryDirectory(prefix="hwnas-") as directory:
        archive = Path(directory) / archive_path(path).name
        write_bundle_archive(bundle, archive)
        yield Parcel(bundle, archive)


def look(sent: Parcel, slots: BoardSlots, *, allow_stale: bool = False) -> list[PreflightCheck]:
    """What can be known of a board beforehand; nothing is changed there."""
    options = compile_options(sent.bundle.manifest.runtime)
    fingerprint = slots.device.fingerprint(options)
    size = sent.archive.stat().st_size
    manifest, digest = sent.bundle.manifest, sent.bundle.digest
    return preflight(manifest, digest, sent.signers, size, slots.status(), fingerprint, allow_stale=allow_stale)


def flash(board: str, sent: Parcel, slots: BoardSlots, progress: Progress, *, allow_stale: bool = False) -> Outcome:
    """Bring a bundle into service on a board, or leave the board as it was.

    The board takes each step by itself and durably; whatever is lost on the way, calling it again ends well.

    Args:
        board: what it is called in the outcome.
        sent: the bundle.
        slots: of the board.
        progress: is told of each step.
        allow_stale: a board with another identity than the budget was checked on will do.
    """
    start = time.monotonic()
    flashing = _Flashing(sent, slots, progress, allow_stale)
    told: dict[str, Any] = {}
    for attempt in range(_ATTEMPTS):
        try:
            told = flashing.run()
            break
        except UnreachableError as error:
            told = {"fate": "unreachable", "why": str(error)}
            break
        except AgentLostError as error:
            if attempt == _ATTEMPTS - 1:
                told = flashing.given_up(str(error))
        except HwnasError as error:
            told = flashing.failed(error)
            break
    return Outcome(board=board, seconds=time.monotonic() - start, health=flashing.health, **told)


def roll_back(board: str, slots: BoardSlots, why: str, to: str | None = None) -> Outcome:
    """Go back to the slot before, or to one that is named, and tell what is current then."""
    start = time.monotonic()
    try:
        current = slots.roll_back(why, to)
    except HwnasError as error:
        return Outcome(board=board, fate=without_change(error), why=str(error), seconds=time.monotonic() - start)
    return Outcome(board=board, fate="rolled-back", why=why, digest=current, seconds=time.monotonic() - start)


def without_change(error: HwnasError) -> Fate:
    """What becomes of a board on which nothing was begun because of an error."""
    answered = not isinstance(error, DeviceError) or isinstance(error, RefusedError | InUseError)
    return "refused" if answered else "unreachable"


class _Flashing:
    """One board's way from what it runs to the bundle; :meth:`run` may be called again after it was lost."""

    def __init__(self, sent: Parcel, slots: BoardSlots, progress: Progress, allow_stale: bool) -> None:
        self._sent, self._slots, self._progress, self._allow_stale = sent, slots, progress, allow_stale
        self._digest = sent.bundle.digest
        self._before: SlotsStatus | None = None
        self._health_before: dict[str, Any] | None = None
        self.health: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """All steps; gives the outcome's fields."""
        slots, digest = self._slots, self._digest
        status = slots.status()
        self._before = self._before or status
        if status.current == digest and status.state_of(digest) == _CONFIRMED:
            return {"fate": "unchanged" if self._before.current == digest else "updated", "digest": digest}
        self._progress.start("flashing", _STEPS, unit="steps")
        self._install(status)
        self._progress.finish()
        return {"fate": "updated", "digest": digest}

    def _install(self, status: SlotsStatus) -> None:
        slots, digest, manifest = self._slots, self._digest, self._sent.bundle.manifest
        wrong = [check for check in look(self._sent, slots, allow_stale=self._allow_stale) if not check.ok]
        if wrong:
            raise _PreflightError("; ".join(f"{check.name}: {check.says}" for check in wrong))
        self._progress.advance(note="sending")
        slots.send(self._sent.archive, self._sent.sha256, self._progress)
        self._progress.advance(note="verifying there")
        if slots.verify(self._sent.sha256) != digest:
            raise _PreflightError("the board made another slot of the bundle than it is; install the same hwnas there")
        if status.current != digest:
            self._progress.advance(note="building there")
            options = compile_options(manifest.runtime)
            slots.build(digest, options.timeout_s * len(manifest.models))
            self._progress.advance(note="checking there")
            budgets_ms = sum(model.budget.latency_ms or 0.0 for model in manifest.models)
            self.health = slots.check(digest, budgets_ms)
            if not self.health["healthy"]:
                raise _UnhealthyError("; ".join(one["says"] for one in self.health["checks"] if not one["ok"]))
            self._progress.advance(note="switching")
            slots.activate(digest)
        slots.confirm(digest)
        self._progress.advance(note="confirmed")

    def failed(self, error: HwnasError) -> dict[str, Any]:
        """The outcome's fields after a refusal; a switch that was not confirmed is taken back."""
        if self._before is None:
            return {"fate": without_change(error), "why": str(error)}
        kind = error.kind if isinstance(error, RefusedError) else None
        never = isinstance(error, UserError) or kind in _NEVER_ARRIVED
        return self._taken_back(str(error), "refused" if never else "rolled-back")

    def given_up(self, why: str) -> dict[str, Any]:
        """The outcome's fields after the agent was lost too often: what a model that takes the board's memory does."""
        return self._taken_back(why, "rolled-back")

    def _taken_back(self, why: str, fate: Fate) -> dict[str, Any]:
        """Leave the bundle's slot if it is current and was never confirmed."""
        try:
            status = self._slots.status()
            current = status.current
            if current == self._digest:
                if status.state_of(current) == _CONFIRMED:
                    return {"fate": "updated", "digest": current}
                current = self._slots.roll_back(why)
        except RefusedError as error:
            return {"fate": "unconfirmed", "why": f"{why} Then: {error}", "digest": self._digest}
        except DeviceError as error:
            return {"fate": "unreachable", "why": f"{why} Then: {error}"}
        if self._before is not None and current not in self._as_it_was(self._before):
            fate = "broken"
        return {"fate": fate, "why": why, "digest": current}

    @staticmethod
    def _as_it_was(before: SlotsStatus) -> set[str | None]:
        """What may be current if the bundle is not: what was, or the slot before where nobody had confirmed that."""
        confirmed = before.current is None or before.state_of(before.current) == _CONFIRMED
        return {before.current} if confirmed else {before.current, before.previous}


class _PreflightError(UserError):
    """The board cannot have the bundle."""


class _UnhealthyError(DeviceError):
    """The health check found the candidate unfit."""
