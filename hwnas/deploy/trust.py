"""Which keys a board trusts, asked and changed over its connection."""

from __future__ import annotations

from typing import Any

from hwnas.deploy.signing import PublicKey
from hwnas.devices import Device


def trusted_keys(device: Device, root: str | None = None) -> tuple[str, ...]:
    """The ids of the keys that a board trusts.

    Args:
        root: where its slots are; ``None``: their usual place.
    """
    status = device.slots("status", "telling its slots", **_at(root))
    return tuple(str(key["keyid"]) for key in status["trusted"])


def trust(device: Device, key: PublicKey, comment: str, root: str | None = None) -> None:
    """Have a board take bundles that a key has signed; whoever calls this has confirmed that it may.

    Raises:
        RefusedError: the key was revoked there.
    """
    device.slots("trust", "trusting a key", public=key.public, comment=comment, confirmed=True, **_at(root))


def revoke(device: Device, key: PublicKey, reason: str, root: str | None = None) -> None:
    """Have a board take nothing of a key any more, not even what is installed there; that cannot be undone."""
    device.slots("revoke", "revoking a key", keyid=key.keyid, reason=reason, **_at(root))


def _at(root: str | None) -> dict[str, Any]:
    return {} if root is None else {"root": root}
