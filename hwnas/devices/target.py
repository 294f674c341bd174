"""The description of a device: ``targets/<name>.yaml``."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas.devices.records import CompileOptions
from hwnas.errors import BadFileError, UnknownNameError, UserError
from hwnas.files import describe, read_bytes

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
_DLA = "dla"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Count = Annotated[int, Field(ge=1)]


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Local(_Described):
    """The device is the machine that hwnas runs on."""

    kind: Literal["local"]


class Ssh(_Described):
    """The device is reached over SSH; what is not said here, the user's OpenSSH client configuration says."""

    kind: Literal["ssh"]
    host: str | None = Field(default=None, min_length=1)
    """Its address, or a name of the client configuration; ``None``: ``hwnas targets add`` says it."""
    user: str | None = Field(default=None, min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    keys: list[str] = []
    """Files of private keys, to be tried before the agent's."""
    jump: list[str] = []
    """Hosts to go through, ``[user@]host[:port]`` each, the nearest first; else the configuration's ProxyJump."""
    config: str | None = None
    """OpenSSH client configuration; ``None``: ``~/.ssh/config``."""
    python: str | None = None
    """The board's Python 3.8 or newer, as of a virtual environment; ``None``: the newest that is on its path."""


class RuntimeSupport(_Described):
    """What one runtime can do on the device."""

    providers: list[str] = Field(min_length=1)
    """In the order of preference, by the runtime's own names."""
    precisions: list[Precision] = Field(min_length=1)


class Defaults(_Described):
    """How models are run unless a command says otherwise."""

    runtime: str
    provider: str | None = None
    """``None``: the runtime's first provider."""
    precision: Precision = "fp32"
    threads: Count = 1
    batch: Count = 1


class Limits(_Described):
    """What a build of an engine may take of the device."""

    workspace_mib: Count | None = None
    """Most scratch memory of an engine; ``None``: the runtime's own limit, which is the device's memory."""
    build_memory_mib: Count | None = None
    """Most resident memory of the process that builds; ``None``: what the system lets it have."""
    dla_cores: Annotated[int, Field(ge=0)] = 0


class Fact(_Described):
    """A static fact, and where it is from."""

    value: str | int | float | bool | list[str]
    unit: str | None = None
    source: str = Field(min_length=1)


class Target(_Described):
    """A device as described; what is found on it live is its fingerprint."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    description: str
    kind: Literal["cpu", "gpu", "jetson"]
    connection: Annotated[Local | Ssh, Field(discriminator="kind")]
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
    facts: dict[str, Fact] = {}

    @property
    def promise_soak_s(self) -> float:
        """Seconds of heat soak before a network is timed for a promise."""
        return 0.0 if self.shared else self.soak_seconds

    def limited(self, options: CompileOptions) -> CompileOptions:
        """``options`` within the device's limits: what they leave open, the limits say.

        Raises:
            UserError: they want more than the device has.
        """
        build, limits = options.build, self.limits
        _require_within(self.name, "a workspace", "MiB", build.workspace_mib, limits.workspace_mib)
        _require_within(self.name, "build memory", "MiB", build.memory_mib, limits.build_memory_mib)
        if build.dla_core is not None and build.dla_core >= limits.dla_cores:
            raise UserError(f"Target '{self.name}' has {limits.dla_cores} DLA cores, and no number {build.dla_core}.")
        workspace = limits.workspace_mib if build.workspace_mib is None else build.workspace_mib
        memory = limits.build_memory_mib if build.memory_mib is None else build.memory_mib
        return replace(options, build=replace(build, workspace_mib=workspace, memory_mib=memory))

    @model_validator(mode="after")
    def _dla_is_there(self) -> Target:
        for name, runtime in self.runtimes.items():
            if _DLA in runtime.providers and not self.limits.dla_cores:
                raise ValueError(f"runtime '{name}' has provider '{_DLA}' and limits.dla_cores is 0")
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


def target_directories() -> list[Path]:
    """Where targets are looked for: ``$HWNAS_HOME/targets``, ``./targets``, those that came with hwnas.

    The last are beside the package in a checkout and under ``share/hwnas/targets`` of the environment elsewhere.
    """
    home = os.environ.get("HWNAS_HOME")
    candidates = [Path(home) / "targets"] if home else []
    candidates += [Path("targets"), Path(__file__).resolve().parents[2] / "targets"]
    candidates += [Path(sys.prefix) / "share" / "hwnas" / "targets"]
    unique = {directory.resolve(): directory for directory in reversed(candidates) if directory.is_dir()}
    return list(reversed(unique.values()))


def list_targets() -> list[Target]:
    """Every target that is found, by name; the first directory wins.

    Raises:
        BadFileError: a target's file is wrong.
    """
    return [read_target(path) for _, path in sorted(_found().items())]


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name, or the one in a YAML file.

    Raises:
        UnknownNameError: there is no target of that name; the sentence gives near names.
        BadFileError: the file is missing or wrong; the sentence gives file and field.
    """
    text = str(name_or_path)
    if "/" in text or text.endswith((".yaml", ".yml")):
        return read_target(Path(text))
    found = _found()
    if text in found:
        return read_target(found[text])
    known = sorted(found)
    near = difflib.get_close_matches(text, known)
    hint = f"did you mean {' or '.join(near)}" if near else f"known are {', '.join(known) or 'none'}"
    raise UnknownNameError(f"there is no target '{text}' in {_places()}; {hint}?")


def read_target(path: Path) -> Target:
    """The target described in ``path``; its name must be the file's."""
    content = read_bytes(path, what="target")
    try:
        description = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFileError(f"target {path} is not YAML ({' '.join(str(error).split())[:200]}).") from error
    try:
        target = Target.model_validate(description)
    except ValidationError as error:
        raise BadFileError(f"target {path}: {_unknown_key(error) or describe(error)}.") from error
    if target.name != path.stem:
        raise BadFileError(f"target {path}: field 'name' is '{target.name}' and must be the file's, '{path.stem}'.")
    return target


def _found() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory in target_directories():
        for path in sorted(directory.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def _places() -> str:
    return ", ".join(str(directory) for directory in target_directories()) or "any targets directory"


def _unknown_key(error: ValidationError) -> str | None:
    """The first unknown key, with the nearest known name of its place."""
    for problem in error.errors():
        if problem["type"] == "extra_forbidden":
            *place, key = problem["loc"]
            known = _known_keys(place)
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            where = ".".join(str(part) for part in problem["loc"])
            return f"field '{where}' is unknown; the nearest known name is '{near[0]}'" if near else None
    return None


def _known_keys(place: list[Any]) -> list[str]:
    """The field names of the model at ``place`` in a target."""
    model: Any = Target
    for part in place:
        if isinstance(model, type) and issubclass(model, BaseModel):
            by_key = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            model = by_key.get(str(part))
        elif isinstance(model, UnionType):  # models told apart by their kind
            model = next(
                (one for one in get_args(model) if part in get_args(one.model_fields["kind"].annotation)), None
            )
        else:  # a mapping from names to models
            model = get_args(model)[-1]
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
