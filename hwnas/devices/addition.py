"""A new target from what a board told of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hwnas.devices.board import BoardRecord, facts_of
from hwnas.devices.device import open_device
from hwnas.devices.facts import Fact, VersionRange
from hwnas.devices.target import FactsOnly, Local, Ssh, Target
from hwnas.devices.target_files import inherited, load_target, parse_description, resolved_base
from hwnas.errors import UserError
from hwnas.files import write_atomic

_SUPER = "-super"
_MIB, _GIB = 2**20, 2**30
_PLAIN_CPU = "host-cpu"
_PLAIN_GPU = "local-gpu"


def probe(name: str, connection: Local | Ssh) -> BoardRecord:
    """What the board behind a connection tells of itself.

    Raises:
        DeviceError: it cannot be reached, or has nothing that runs the agent.
    """
    # Nothing of the target counts but the connection and, in errors, the name.
    anything = load_target(_PLAIN_CPU).model_copy(update={"name": name, "connection": connection})
    with open_device(anything) as device:
        return device.board()


def recognise(record: BoardRecord, known: Sequence[Target | FactsOnly]) -> str:
    """The name of the known device that a board is one of.

    Part numbers tell Jetsons, where the device tree names them; else its model does, the longest that fits, and CUDA's
    name tells a GPU.  Several of one kind differ in memory: the smallest that has as much as was found.  Another
    machine is one with whatever GPU or CPU it has.

    Raises:
        UserError: it is a Jetson that no target describes.
    """
    candidates = [target for target in known if _is_a_kind(target) and not target.name.endswith(_SUPER)]
    alike = _by_part_number(record, candidates) or _by_model(record, candidates) or _by_gpu(record, candidates)
    if not alike:
        if record.nv_tegra_release is not None:
            told = ", ".join([*record.part_numbers, record.model or "no model"])
            raise UserError(f"No target describes this Jetson ({told}); say by --extends which one it is like.")
        return _PLAIN_GPU if record.gpu is not None else _PLAIN_CPU
    name = min(alike, key=lambda target: _excess_memory(target, record)).name
    names = [target.name for target in known]
    return name + _SUPER if record.is_super and name + _SUPER in names else name


def new_target(name: str, record: BoardRecord, connection: Local | Ssh, base: str, date: str) -> dict[str, Any]:
    """What stands in the file of a board that is one of ``base``: how it is reached and the facts that were found.

    Args:
        name: of the new target.
        record: what the board told.
        connection: how it is reached.
        base: the target from which it inherits.
        date: of today, which the sources carry.
    """
    model = record.model or (record.gpu and record.gpu.name) or record.processor
    facts = {key: {"value": one.value, "source": f"{one.source}, {date}"} for key, one in facts_of(record).items()}
    return {
        "schema": 1,
        "name": name,
        "extends": base,
        "description": f"{model} at {_place(connection)}",
        "connection": connection.model_dump(exclude_defaults=True),
        **({} if record.emulator is None else {"emulated": True}),
        "facts": facts,
    }


def write_target(content: dict[str, Any], path: Path) -> Target | FactsOnly:
    """Write a new target's file, if it is right; gives what stands there, with what it inherits.

    Raises:
        BadFileError: it is not, with the field.
    """
    base = resolved_base(content["extends"], path.parent, (content["name"],))
    described = parse_description(inherited(base, content), path)
    write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
    return described


def surprises(described: Target | FactsOnly, record: BoardRecord) -> list[str]:
    """Where a board is otherwise than its kind should be, in sentences."""
    facts, told = described.facts, []
    if record.emulator is not None:
        told.append(
            f"Its processor is emulated by {record.emulator}: its results are right, and its times mean nothing."
        )
    if facts.sms and facts.sms_by_power_mode and facts.power_mode:
        mode, found = facts.power_mode.value, facts.sms.value
        expected = facts.sms_by_power_mode.value.get(mode, found)
        if expected != found:
            told.append(f"In power mode {mode} it should have {expected} SMs, and {found} were found.")
    if facts.tensorrt and facts.tensorrt_range and not _is_within(facts.tensorrt.value, facts.tensorrt_range.value):
        known = facts.tensorrt_range.value
        told.append(
            f"TensorRT {facts.tensorrt.value} is not among those known for it, {known.oldest} to {known.newest}."
        )
    limit = described.limits.disk_mib if isinstance(described, Target) else None
    if limit is not None and record.disk_free_bytes < limit * _MIB:
        told.append(f"{record.disk_free_bytes // _MIB} MiB of its disk are free, and hwnas may need {limit}.")
    return told


def _is_within(version: str, known: VersionRange) -> bool:
    """Whether a version is in a range, whose ends are as exact as they are written."""

    def compared(end: str) -> tuple[list[int], list[int]]:
        numbers = [int(part) for part in end.split(".")]
        return [int(part) for part in version.split(".")][: len(numbers)], numbers

    least, oldest = compared(known.oldest)
    most, newest = compared(known.newest or version)
    return least >= oldest and most <= newest


def _is_a_kind(target: Target | FactsOnly) -> bool:
    """Whether a target describes a kind of board, and not the one at some place."""
    return isinstance(target.connection, Ssh) and target.connection.host is None


def _by_part_number(record: BoardRecord, known: Sequence[Target | FactsOnly]) -> list[Target | FactsOnly]:
    return [target for target in known if set(_listed(target.facts.part_numbers)).intersection(record.part_numbers)]


def _by_model(record: BoardRecord, known: Sequence[Target | FactsOnly]) -> list[Target | FactsOnly]:
    model = record.model or ""
    fitting = {
        target.name: max(
            (len(start) for start in _listed(target.facts.device_tree_models) if model.startswith(start)), default=0
        )
        for target in known
    }
    longest = max(fitting.values(), default=0)
    return [target for target in known if longest and fitting[target.name] == longest]


def _by_gpu(record: BoardRecord, known: Sequence[Target | FactsOnly]) -> list[Target | FactsOnly]:
    name = record.gpu.name if record.gpu is not None else None
    return [target for target in known if name in _listed(target.facts.gpu_names)]


def _listed(fact: Fact[list[str]] | None) -> list[str]:
    return [] if fact is None else fact.value


def _excess_memory(target: Target | FactsOnly, record: BoardRecord) -> float:
    """How much more memory than was found a device has; endless where it has less, which is never told of one."""
    if target.facts.memory_gib is None or record.memory_bytes is None:
        return 0.0
    excess = target.facts.memory_gib.value - record.memory_bytes / _GIB
    return excess if excess >= 0 else float("inf")


def _place(connection: Local | Ssh) -> str:
    if isinstance(connection, Local):
        return "this machine"
    return f"{connection.user}@{connection.host}" if connection.user else str(connection.host)
