"""What stands in a target's file, ``targets/<name>.yaml``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hwnas.devices.facts import Count, Described, Facts, Precision, Quantity
from hwnas.devices.records import CompileOptions
from hwnas.errors import UserError

_DLA = "dla"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class Local(Described):
    """The device is the machine that hwnas runs on."""

    kind: Literal["local"]


class Ssh(Described):
    """The device is reached over SSH; what is not said here, the user's OpenSSH client configuration says."""

    kind: Literal["ssh"]
    host: str | None = Field(default=None, min_length=1)
    """Its address, or a name of the client configuration; ``None``: ``hwnas targets add`` says it."""
    user: str | None = Field(default=None, min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    keys: list[str] = Field(default_factory=list)
    """Files of private keys, to be tried before the agent's."""
    jump: list[str] = Field(default_factory=list)
    """Hosts to go through, ``[user@]host[:port]`` each, the nearest first; else the configuration's ProxyJump."""
    config: str | None = None
    """OpenSSH client configuration; ``None``: ``~/.ssh/config``."""
    python: str | None = None
    """The board's Python 3.8 or newer, as of a virtual environment; ``None``: the first fit one on its path."""

    @property
    def address(self) -> str:
        """``[user@]host[:port]``, as far as it is said."""
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        host = self.host or ""
        return f"{user}[{host}]{port}" if ":" in host else f"{user}{host}{port}"


class RuntimeSupport(Described):
    """What one runtime can do on the device."""

    providers: list[str] = Field(min_length=1)
    """In the order of preference, by the runtime's own names."""
    precisions: list[Precision] = Field(min_length=1)


class Defaults(Described):
    """How models are run unless a command says otherwise."""

    runtime: str
    provider: str | None = None
    """``None``: the runtime's first provider."""
    precision: Precision = "fp32"
    threads: Count = 1
    batch: Count = 1


class Limits(Described):
    """What hwnas may take of the device."""

    workspace_mib: Count | None = None
    """Most scratch memory of an engine; ``None``: the runtime's own limit, which is the device's memory."""
    build_memory_mib: Count | None = None
    """Most resident memory of the process that builds; ``None``: what the system lets it have."""
    disk_mib: Count | None = None
    """Most that models and engines may take of its disk; ``None``: what is free."""
    temperature_c: Quantity | None = None
    """At this temperature of what computes, measuring pauses; ``None``: where the device itself slows down."""


class Description(Described):
    """What every target says."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    """The file's, too."""
    extends: Name | None = None
    """The target from which it inherits what it does not say itself; facts, limits and runtimes one by one."""
    description: str
    kind: Literal["cpu", "gpu", "jetson"]
    connection: Annotated[Local | Ssh, Field(discriminator="kind")]
    emulated: bool = False
    """Its processor is emulated, so that times taken on it mean nothing; a latency table of it says so.  What emulates
    single programs, as QEMU's user mode does, is also found on the device itself."""
    facts: Facts = Facts()


class FactsOnly(Description):
    """A device of which hwnas knows facts and which it cannot use."""

    support: Literal["facts-only"]
    why: str = Field(min_length=1)
    """What it lacks, as a clause."""

    def refusal(self) -> UserError:
        """What is told to somebody who wants to use it."""
        return UserError(
            f"Target '{self.name}' is described by facts alone, and nothing can be measured, built or installed on it: "
            f"{self.why}."
        )


class Target(Description):
    """A device as described; what is found on it live is its fingerprint."""

    support: Literal["full"] = "full"
    runtimes: dict[str, RuntimeSupport] = Field(min_length=1)
    defaults: Defaults
    limits: Limits = Limits()
    shared: bool = False
    """Others compute on the machine at the same time, so a promise is kept on the gated samples, and the ungated ones
    are shown beside it; elsewhere it is kept on all samples, after heat soak."""
    soak_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """How long a network runs before it is timed for a promise, so that the device is as hot as in service; of no
    account where the machine is shared."""
    board_spread: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Relative standard deviation of a latency between boards of this kind."""

    @property
    def address(self) -> str:
        """Of a board, ``[user@]host[:port]``, as far as it is said; of this machine nothing."""
        return self.connection.address if isinstance(self.connection, Ssh) else ""

    @property
    def promise_soak_s(self) -> float:
        """Seconds of heat soak before a network is timed for a promise."""
        return 0.0 if self.shared else self.soak_seconds

    @property
    def dla_cores(self) -> int | None:
        """How many deep-learning accelerators it has; ``None``: nobody has said."""
        return None if self.facts.dla_cores is None else self.facts.dla_cores.value

    def limited(self, options: CompileOptions) -> CompileOptions:
        """``options`` within the device's limits: what they leave open, the limits say.

        Raises:
            UserError: they want more than the device has.
        """
        build, limits = options.build, self.limits
        _require_within(self.name, "a workspace", "MiB", build.workspace_mib, limits.workspace_mib)
        _require_within(self.name, "build memory", "MiB", build.memory_mib, limits.build_memory_mib)
        cores = self.dla_cores
        if build.dla_core is not None and cores is not None and build.dla_core >= cores:
            raise UserError(f"Target '{self.name}' has {cores} DLA cores, and no number {build.dla_core}.")
        workspace = limits.workspace_mib if build.workspace_mib is None else build.workspace_mib
        memory = limits.build_memory_mib if build.memory_mib is None else build.memory_mib
        return replace(options, build=replace(build, workspace_mib=workspace, memory_mib=memory))

    @model_validator(mode="after")
    def _dla_is_there(self) -> Target:
        for name, runtime in self.runtimes.items():
            if _DLA in runtime.providers and self.dla_cores == 0:
                raise ValueError(f"runtime '{name}' has provider '{_DLA}' and facts.dla_cores is 0")
        return self

    @model_validator(mode="after")
    def _defaults_are_supported(self) -> Target:
        runtime = self.runtimes.get(self.defaults.runtime)
        if runtime is None:
            raise ValueError(f"the default runtime '{self.defaults.runtime}' is not among its runtimes")
        if self.defaults.precision not in runtime.precisions:
            raise ValueError(f"the default precision '{self.defaults.precision}' is not among its runtime's")
        if self.defaults.provider is not None and self.defaults.provider not in runtime.providers:
            raise ValueError(f"the default provider '{self.defaults.provider}' is not among its runtime's")
        return self


def _require_within(target: str, what: str, unit: str, wanted: int | None, limit: int | None) -> None:
    if wanted is not None and limit is not None and wanted > limit:
        raise UserError(f"Target '{target}' allows {what} of {limit} {unit}, and {wanted} were asked for.")
