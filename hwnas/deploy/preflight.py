"""Whether a board can have a bundle, before a byte of it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwnas.agent.options import BuildOptions, ExecutionOptions
from hwnas.agent.protocol import AgentError, Fields
from hwnas.deploy.board import SlotsStatus
from hwnas.deploy.manifest import Manifest
from hwnas.devices import Fingerprint
from hwnas.devices.records import CompileOptions
from hwnas.errors import UserError

_MB = 1e6
_TIMES_ARCHIVE = 2
_TIMES_MODEL = 2
"""The candidate is loaded beside what is served."""


@dataclass(frozen=True)
class PreflightCheck:
    """One thing that was looked at."""

    name: str
    ok: bool
    says: str


def compile_options(runtime: dict[str, Any]) -> CompileOptions:
    """How a board builds a bundle's engines, from the manifest's ``runtime``, which the board reads likewise.

    Raises:
        UserError: a field of it is not of the agent's request.
    """
    given, default = Fields(runtime), CompileOptions()
    try:
        return CompileOptions(
            runtime=given.text("runtime", default.runtime),
            precision=given.text("precision", default.precision),
            threads=given.integer("threads", default.threads, least=1),
            provider=given.text("provider") if given.has("provider") else None,
            build=BuildOptions.from_message(given.record("build", {})),
            execution=ExecutionOptions.from_message(given.record("execution", {})),
        )
    except AgentError as error:
        raise UserError(f"No board builds what the bundle's runtime says: {error.message}; make it again.") from error


def preflight(
    manifest: Manifest,
    digest: str,
    signers: frozenset[str],
    archive_bytes: int,
    status: SlotsStatus,
    fingerprint: Fingerprint,
    *,
    allow_stale: bool,
) -> list[PreflightCheck]:
    """Everything that can be known beforehand; the board checks the most of it again itself.

    Args:
        manifest: the bundle's.
        digest: the bundle's.
        signers: ids of the keys that signed it.
        archive_bytes: size of its archive.
        status: of the board.
        fingerprint: of the board, as the bundle's runtime uses it.
        allow_stale: a board with another identity than the budget was checked on will do.
    """
    return [
        _signature(signers, status),
        _version(manifest, digest, status),
        _fingerprint(manifest, fingerprint, allow_stale=allow_stale),
        _disk(manifest, archive_bytes, status),
        _memory(manifest, fingerprint),
    ]


def _signature(signers: frozenset[str], status: SlotsStatus) -> PreflightCheck:
    revoked = [key for key in status.revoked if key.keyid in signers]
    trusted = [key for key in status.trusted if key.keyid in signers]
    if trusted:
        return PreflightCheck(
            "signature", True, f"signed by {trusted[0].comment or trusted[0].keyid[:16]}, trusted there"
        )
    if revoked:
        return PreflightCheck("signature", False, f"its key was revoked there: {revoked[0].reason}")
    signer = ", ".join(keyid[:16] for keyid in sorted(signers))
    return PreflightCheck(
        "signature", False, f"the board does not trust its key {signer}; let it by `hwnas keys trust NAME --target …`"
    )


def _version(manifest: Manifest, digest: str, status: SlotsStatus) -> PreflightCheck:
    highest = status.highest.get(manifest.name)
    ok = highest is None or manifest.version > highest.version or digest in (highest.digest, status.current)
    had = "none before"
    if highest is not None:
        other = ", another bundle" if manifest.version == highest.version and digest != highest.digest else ""
        had = f"the board has had version {highest.version} of '{manifest.name}'{other}"
    mend = "" if ok else "; raise the version, or go back to an installed slot with `hwnas rollback`"
    return PreflightCheck("version", ok, f"version {manifest.version}, {had}{mend}")


def _fingerprint(manifest: Manifest, fingerprint: Fingerprint, *, allow_stale: bool) -> PreflightCheck:
    mode = fingerprint.identity.get("power_mode") or "no power mode that it tells"
    here = f"identity {fingerprint.identity8}, {mode}"
    checked = manifest.checked
    if checked is None:
        return PreflightCheck(
            "fingerprint", True, f"{here}; the budget was checked on no device, it will be on this one"
        )
    if checked.identity == fingerprint.identity8:
        return PreflightCheck("fingerprint", True, f"{here}, as when the budget was checked")
    other = f"{here}; the budget was checked on {checked.target} with identity {checked.identity}"
    mend = "" if allow_stale else "; make the boards alike (hardware, runtime, power mode), or give --allow-stale"
    return PreflightCheck("fingerprint", allow_stale, other + mend)


def _disk(manifest: Manifest, archive_bytes: int, status: SlotsStatus) -> PreflightCheck:
    contents = sum(entry.bytes for entry in manifest.files.values())
    needed = _TIMES_ARCHIVE * max(archive_bytes, contents)
    free = status.disk_free_bytes
    mend = "" if free >= needed else "; free some, as by `hwnas slots gc`"
    return PreflightCheck(
        "disk", free >= needed, f"{free / _MB:.0f} MB free, {needed / _MB:.1f} MB needed: twice the bundle{mend}"
    )


def _memory(manifest: Manifest, fingerprint: Fingerprint) -> PreflightCheck:
    needed = _TIMES_MODEL * sum(manifest.files[model.onnx].bytes for model in manifest.models)
    free = fingerprint.context.get("memory_available_bytes")
    if free is None:
        return PreflightCheck("memory", True, "the board does not tell; the health check will see")
    return PreflightCheck(
        "memory",
        free >= needed,
        f"{free / _MB:.0f} MB available, {needed / _MB:.1f} MB of weights at least to load beside what runs",
    )
