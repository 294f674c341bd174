"""Profiles of boards that nobody may log in to: a plan goes there as a file, and results come back as one."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Never

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hwnas.agent.runtimes import model_format
from hwnas.devices import CompileOptions, DeviceSettings, Engine, Fingerprint, MeasureOptions, Target, load_target
from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, append_json_line, describe, read_bytes, read_json_lines, write_json
from hwnas.latency.hygiene import Hygiene, RowNote
from hwnas.latency.journal import JournalHeader, JournalRecord, journal_path
from hwnas.latency.options import ProfileOptions, profile_knobs, profile_plan
from hwnas.latency.plan import Unit, checked_resolutions, default_resolutions
from hwnas.latency.profiler import profile
from hwnas.latency.sitting import LEARNING_S, LEARNING_SHARE
from hwnas.latency.store import TableKey, table_path
from hwnas.latency.table import LatencyTable
from hwnas.latency.unit_model import check_precision, unit_model
from hwnas.progress import unheard
from hwnas.spaces import Space, get_space

ERRAND = "profile"
"""What the format of the results is called beside those of published tables."""
_OPTIONS = TypeAdapter(ProfileOptions)
_NO_TIME_MIN = 1e-9
HELD_OUT = 20
"""Networks on which the table is judged, as few as an imported table may have."""
_MOST_BYTES = 512 << 20


class Asked(BaseModel):
    """What a profile was asked for, kept beside its results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    space: str
    classes: int
    options: dict[str, Any]


class ErrandPlan(Document):
    """The file that goes to the board."""

    kind: Literal["agent-plan"] = "agent-plan"
    asked: Asked
    compile: dict[str, Any]
    canaries: tuple[str, ...]
    learn_s: float
    seconds: float | None
    settings: dict[str, Any] | None = None
    """Fields of a request that changes settings of the board."""
    models: dict[str, str]
    """SHA-256 to base64."""
    units: tuple[dict[str, Any], ...]


class _Head(Document):
    kind: Literal["agent-results"]
    asked: Asked
    fingerprint: Fingerprint


class _End(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: Fingerprint


_LINE: TypeAdapter[JournalRecord | _End] = TypeAdapter(JournalRecord | _End)


def write_errand(
    target: Target, space: Space, options: ProfileOptions, path: Path, settings: DeviceSettings | None = None
) -> ErrandPlan:
    """Write the plan of a profile of ``target``: its base and held-out networks, build after build.

    While the board measures, it has ``settings``.  All models travel, so unless ``options`` says more, only
    :data:`HELD_OUT` networks are held out.

    Raises:
        UserError: as :func:`~hwnas.latency.profile`; the models are too many; the file cannot be written.
    """
    default = target.defaults
    compiling = target.limited(
        options.compile or CompileOptions(default.runtime, default.precision, default.threads, default.provider)
    )
    check_precision(compiling)
    held_out = HELD_OUT if options.validation_networks is None else options.validation_networks
    options = dataclasses.replace(options, compile=compiling, validation_networks=held_out)
    resolutions = checked_resolutions(space, options.resolutions or default_resolutions(space))
    plan = profile_plan(space, resolutions, options)
    knobs = profile_knobs(space, options, compiling, target.limits.temperature_c)
    planned = (*plan.base, *plan.held_out)
    models = _models(space, planned, options.batch, compiling)
    hashes = {key: hashlib.sha256(model).hexdigest() for key, model in models.items()}
    soak_s = target.promise_soak_s
    units = []
    for turn in range(max(map(knobs.builds, planned))):
        for unit in planned:
            if turn < knobs.builds(unit):
                measuring = dataclasses.replace(knobs.of(unit), soak_seconds=soak_s)
                units.append({"unit": unit.key, "sha256": hashes[unit.key], "protocol": measuring.as_protocol()})
                soak_s = 0.0  # once hot, the device stays so: unit follows unit
    seconds = None if options.minutes is None else 60 * options.minutes
    errand = ErrandPlan(
        asked=Asked(
            target=target.name,
            space=space.name,
            classes=space.num_classes,
            options=_OPTIONS.dump_python(options, mode="json"),
        ),
        compile=compiling.as_request(),
        canaries=tuple(sorted({one.canary for one in (knobs.blocks, knobs.networks) if one.gate})),
        learn_s=LEARNING_S if seconds is None else min(LEARNING_S, LEARNING_SHARE * seconds),
        seconds=seconds,
        settings=settings.as_request(target) if settings is not None and settings.any else None,
        models={hashes[key]: base64.b64encode(model).decode() for key, model in models.items()},
        units=tuple(units),
    )
    write_json(path, errand)
    return errand


def import_errand(path: Path, root: Path, *, target: str | None = None) -> tuple[LatencyTable, ...]:
    """The table of results that came back.

    Args:
        path: the file; one that ends early is a table with more that is missing.
        root: the directory of all tables, in which this one may not lie yet.
        target: what the device is called from now on; ``None``: as in the plan.

    Raises:
        BadFileError: the file is missing or wrong.
        UserError: nothing was measured, or too little; a table of that device is there already.
        DeviceError: the device became another while it was measured.
    """
    read_bytes(path, what="results file")
    lines = read_json_lines(path)
    try:
        head = _Head.model_validate(lines[0] if lines else None)
        options = _OPTIONS.validate_python(head.asked.options)
        told = [_LINE.validate_python(line) for line in lines[1:]]
    except ValidationError as error:
        raise BadFileError(f"results file {path}: {describe(error)}.") from error
    records = [line for line in told if isinstance(line, JournalRecord)]
    ends = [line.fingerprint for line in told if isinstance(line, _End)]
    if not any(record.measurement for record in records):
        raise UserError(f"Results {path} hold no measurement ({_first_error(records)}).")
    space = get_space(head.asked.space, head.asked.classes)
    described = load_target(head.asked.target)
    if target is not None:
        described = described.model_copy(update={"name": target})
    assert options.compile is not None
    key = TableKey.of(described.name, space, options.compile, head.fingerprint, options.batch, options.fps)
    if table_path(root, key).exists():
        raise UserError(f"{table_path(root, key)} is there already; give another --target, or delete it.")
    with tempfile.TemporaryDirectory() as scratch:
        journal = journal_path(table_path(Path(scratch), key))
        append_json_line(journal, JournalHeader(fingerprint=head.fingerprint, created=datetime.date.today()))
        for record in records:
            append_json_line(journal, record)
        seen = _SeenDevice(described, [head.fingerprint, *ends[-1:]])
        options = dataclasses.replace(options, minutes=_NO_TIME_MIN, fresh=False)
        table, _ = profile(seen, space, Path(scratch), options)
    rows = len(table.blocks) + len(table.networks)
    note = RowNote(row_type="all", rows=rows, reason=f"measured without a host, imported on {datetime.date.today()}")
    return (table.model_copy(update={"hygiene": Hygiene(rows=rows, marked=(note,))}),)


class _SeenDevice:
    """The device as it was found before and after, of which nothing more can be asked."""

    def __init__(self, target: Target, fingerprints: list[Fingerprint]) -> None:
        self.target = target
        self.tell: Callable[[str], None] = unheard
        self._fingerprints = fingerprints

    def default_options(self) -> CompileOptions:
        """Not of account: the plan says them all."""
        raise NotImplementedError

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:  # noqa: ARG002
        """First as before, then as after."""
        return self._fingerprints.pop(0) if len(self._fingerprints) > 1 else self._fingerprints[0]

    def learn_fast_state(self, seconds: float, options: CompileOptions | None = None, canary: str = "small") -> Never:
        """Never asked: there is no time left."""
        raise NotImplementedError

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Never:
        """Never asked."""
        raise NotImplementedError

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Never:
        """Never asked."""
        raise NotImplementedError

    def release(self, engine: Engine) -> Never:
        """Never asked."""
        raise NotImplementedError


def _first_error(records: list[JournalRecord]) -> str:
    return next((record.error for record in records if record.error), "the agent ended before the first")


def _models(space: Space, units: Sequence[Unit], batch: int, options: CompileOptions) -> dict[str, bytes]:
    """The models of the units, by their keys."""
    models: dict[str, bytes] = {}
    size = 0
    for unit in units:
        models[unit.key] = _sendable(unit_model(unit, batch, options), options)
        size += len(models[unit.key])
        if size > _MOST_BYTES:
            raise UserError(
                f"The models of this profile of {space.name} are more than {_MOST_BYTES >> 20} MiB, all that a plan "
                "carries; ask for fewer --resolutions, or for few networks alone (--networks-only)."
            )
    return models


def _sendable(model: bytes, options: CompileOptions) -> bytes:
    """The model in the form that the runtime takes."""
    from hwnas.graphs import as_node_file

    return model if model_format(options.runtime) == "onnx" else as_node_file(model)
