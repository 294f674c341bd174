"""One point of a search space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import Any

ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture, canonical: choices of inactive blocks are absent.

    Attributes:
        space: name of the space, such as ``mobilenet_v3/small``.
        choices: ``(label, value)`` of every active choice, in the order of the space.

    Made by :meth:`hwnas.spaces.Space.decode` or :meth:`hwnas.spaces.Space.architecture`, which check it.
    """

    space: str
    choices: tuple[tuple[str, int], ...]

    @property
    def id(self) -> str:
        """Canonical hash: 16 hexadecimal digits, the same on every machine."""
        return canonical_id(self.space.encode(), b"".join(choice_bytes(*choice) for choice in self.choices))

    def __getitem__(self, label: str) -> int:
        """The value chosen for ``label``; :class:`KeyError` where that choice is inactive."""
        return dict(self.choices)[label]

    def get(self, label: str) -> int | None:
        """The value chosen for ``label``, None where that choice is inactive."""
        return dict(self.choices).get(label)

    @property
    def resolution(self) -> int:
        """Height and width of the input in pixels."""
        return self["resolution"]

    def to_json(self) -> dict[str, Any]:
        """``{"space": …, "choices": {label: value}}``; :meth:`from_json` reads it back."""
        return {"space": self.space, "choices": dict(self.choices)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """Read :meth:`to_json`'s object; :meth:`hwnas.spaces.Space.encode` tells whether it is valid."""
        return cls(str(data["space"]), tuple((str(label), index(value)) for label, value in data["choices"].items()))


def choice_bytes(label: str, value: int) -> bytes:
    """One choice as it enters the canonical hash."""
    return f"|{label}={value}".encode()


def canonical_id(space: bytes, choices: bytes) -> str:
    """The canonical hash of a space's name and its active choices."""
    return hashlib.sha256(space + choices).hexdigest()[:ID_DIGITS]
