"""Versions of TensorRT, as far as they tell what it can do."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from hwnas.errors import UserError

_WRITTEN = re.compile(r"(\d{1,2})\.(\d{1,2})(\.\d+)*")


class Version(NamedTuple):
    """Major and minor number; what comes after changes no operator."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Such as ``10.3`` or ``8.6.2``.

        Raises:
            UserError: it is no version, or one before TensorRT 8.5.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise UserError(f"A version of TensorRT is written such as 10.3, not '{text}'.")
        version = cls(int(found[1]), int(found[2]))
        if version < (8, 5):
            raise UserError(f"hwnas builds for TensorRT 8.5 (JetPack 5) and later, not for {text}.")
        return version

    def __str__(self) -> str:
        """Such as ``10.3``."""
        return f"{self.major}.{self.minor}"


def compute_capability(text: str) -> tuple[int, int]:
    """Such as ``8.7`` as (8, 7).

    Raises:
        UserError: it is none.
    """
    found = re.fullmatch(r"(\d{1,2})\.(\d)", text)
    if found is None:
        raise UserError(f"A compute capability is written such as 8.7, not '{text}'.")
    return int(found[1]), int(found[2])
