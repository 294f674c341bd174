"""How models are run on a target where somebody wants it otherwise than by its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwnas.devices.fingerprint import Fingerprint
from hwnas.devices.records import CompileOptions
from hwnas.devices.target import Ssh, Target
from hwnas.errors import UserError


@dataclass(frozen=True)
class RuntimeChoice:
    """What is wanted of a target; ``None`` is what the target says.

    A runtime that is not the target's default has its own first provider and first precision.
    """

    runtime: str | None = None
    provider: str | None = None
    precision: str | None = None
    threads: int | None = None

    def options(self, target: Target) -> CompileOptions:
        """The options of that choice.

        Raises:
            UserError: the target has no such runtime, or that runtime no such provider or precision there.
        """
        default = target.defaults
        runtime = self.runtime or default.runtime
        support = target.runtimes.get(runtime)
        if support is None:
            raise _unsupported(target, "runtime", runtime, target.runtimes)
        usual = default if runtime == default.runtime else None
        provider = self.provider or (usual and usual.provider) or support.providers[0]
        precision = self.precision or (usual and usual.precision) or support.precisions[0]
        if provider not in support.providers:
            raise _unsupported(target, f"provider of {runtime}", provider, support.providers)
        if precision not in support.precisions:
            raise _unsupported(target, f"precision of {runtime}", precision, support.precisions)
        return CompileOptions(runtime, precision, self.threads or default.threads, provider)


def boards_at(target: Target, places: Sequence[str]) -> list[Target]:
    """The target once for each of several boards of its kind, ``[user@]host[:port]``.

    What a place does not say - user, port, keys, hosts to go through - the target does.

    Raises:
        UserError: a place is none.
    """
    from hwnas.devices.ssh.dialling import Hop

    settings = target.connection if isinstance(target.connection, Ssh) else Ssh(kind="ssh")
    boards = []
    for hop in map(Hop.parse, places):
        named = {"host": hop.host, "user": hop.user or settings.user, "port": hop.port or settings.port}
        boards.append(target.model_copy(update={"connection": settings.model_copy(update=named)}))
    return boards


def informed(options: CompileOptions, fingerprint: Fingerprint) -> CompileOptions:
    """The options with what the runtime that was found on the device can read."""
    version = str(fingerprint.identity.get("runtime", {}).get("version", ""))
    too_old = options.runtime == "tensorrt" and version.startswith("8.")
    return replace(options, reads_fp16_pairs=not too_old)


def _unsupported(target: Target, what: str, asked: str, known: Any) -> UserError:
    return UserError(f"Target '{target.name}' has no {what} called '{asked}'; it has {', '.join(known)}.")
