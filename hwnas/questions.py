"""What only a person can answer, asked without knowing who answers: library code never prompts by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Questions(Protocol):
    """Somebody who can be asked; :mod:`hwnas.cli` asks on the terminal."""

    def trusts(self, host: str, fingerprint: str) -> bool:
        """Whether a host that was never seen before really has the key of this fingerprint."""

    def secret(self, what: str) -> str | None:
        """A password or passphrase, ``what`` says for what; ``None``: there is no answer."""


class Nobody:
    """Knows no answer."""

    def trusts(self, host: str, fingerprint: str) -> bool:  # noqa: ARG002
        """No."""
        return False

    def secret(self, what: str) -> str | None:  # noqa: ARG002
        """None."""
        return None


_ANSWERING: ContextVar[Questions] = ContextVar("answering")


def answering() -> Questions:
    """Who answers here."""
    return _ANSWERING.get(Nobody())


@contextmanager
def answered_by(questions: Questions) -> Iterator[None]:
    """Let ``questions`` answer what is asked within."""
    token = _ANSWERING.set(questions)
    try:
        yield
    finally:
        _ANSWERING.reset(token)
