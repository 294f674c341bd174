"""Refusing options that a runtime would otherwise silently pass over."""

from __future__ import annotations

from typing import Collection

from ..options import changed
from ..protocol import AgentError, ErrorKind
from .base import RuntimeOptions

_HOSTS = frozenset({"timeout_s"})
"""The host keeps these too, by ending an agent that takes longer."""


def require_supported(
    runtime: str, options: RuntimeOptions, build: Collection[str] = (), execution: Collection[str] = ()
) -> None:
    """
    Args:
        runtime: its name.
        options: which are as they are by default, except those named in ``build`` and ``execution``.

    Raises:
        AgentError: ``bad-request``, naming an option that the runtime does not have.
    """
    asked = set(changed(options.build)) - set(build) - _HOSTS | set(changed(options.execution)) - set(execution)
    if asked:
        raise AgentError(
            ErrorKind.BAD_REQUEST,
            "runtime %s with provider %s has no option '%s'; leave it out"
            % (runtime, options.provider, sorted(asked)[0]),
        )
