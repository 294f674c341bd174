"""Engines of a slot: built on the board from the ONNX that was signed, or taken where one was built for its like."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from ..fingerprint import probe
from ..protocol import AgentError, ErrorKind
from ..runtimes import Runtime, RuntimeOptions, open_runtime
from ..sensors import Sensors
from . import durable
from .disk import Disk
from .manifest import Model, Prebuilt
from .slot_files import BUILT, ENGINE, RECORD, SlotFiles


class Builder:
    """Makes the engines of a board; tests put another in its place."""

    def build(self, files: SlotFiles, model: Model, output: Path) -> Dict[str, Any]:
        """Write the engine file ``output``; gives what to remember of it: ``runtime``, ``runtime_version``,
        ``options`` and ``origin``, which is ``built`` or ``prebuilt``.

        Raises:
            AgentError: what the runtime says when it refuses; ``bad-bundle`` when a file of the slot has changed.
        """
        prebuilt, refusals = _prebuilt_for_here(model)
        if prebuilt is not None:
            runtime, options = _resolved(prebuilt.runtime, prebuilt.options)
            output.write_bytes(files.content(prebuilt.file))
        else:
            runtime, options = _resolved(files.manifest.runtime, files.manifest.options)
            runtime.compile(files.content(model.onnx), options, output)
        return {
            "origin": "built" if prebuilt is None else "prebuilt",
            "not_taken": refusals,
            "runtime": runtime.name,
            "runtime_version": runtime.version(),
            "options": options.as_record(),
        }

    def is_of_today(self, record: Dict[str, Any]) -> bool:
        """Whether an engine was made by the runtime that is here now."""
        return bool(open_runtime(record["runtime"]).version() == record["runtime_version"])


def build_engines(disk: Disk, files: SlotFiles, builder: Builder) -> Dict[str, Dict[str, Any]]:
    """Have an engine of every model of a slot, each durable before the next is begun; gives their records.

    ``new`` in a record says whether the engine was made just now.

    Raises:
        AgentError: as :meth:`Builder.build`.
    """
    directory = files.path / BUILT
    durable.make_directory(disk, directory)
    models = {model.id for model in files.manifest.models}
    for name in disk.list(directory):
        if name not in models:
            durable.remove(disk, directory / name)  # half built, by one that was killed
    return {model.id: _engine_of(disk, files, model, builder) for model in files.manifest.models}


def _engine_of(disk: Disk, files: SlotFiles, model: Model, builder: Builder) -> Dict[str, Any]:
    there = _record_of_today(files, model, builder)
    if there is not None:
        return dict(there, new=False)
    # A builder whose installer was killed may still be writing into the directory of that time.
    building = files.path / BUILT / ("%s.%d.part" % (model.id, os.getpid()))
    durable.remove(disk, building)
    disk.mkdir(building)
    start = time.monotonic()
    record = builder.build(files, model, building / ENGINE)
    content = durable.read(disk, building / ENGINE) or b""
    record = dict(
        record,
        build_s=time.monotonic() - start,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        onnx_sha256=files.manifest.files[model.onnx].sha256,
    )
    durable.create(disk, building / RECORD, json.dumps(record, sort_keys=True).encode("utf-8"))
    durable.sync_tree(disk, building)
    durable.remove(disk, files.built(model))
    durable.move(disk, building, files.built(model))
    return dict(record, new=True)


def _record_of_today(files: SlotFiles, model: Model, builder: Builder) -> Optional[Dict[str, Any]]:
    """The record of an engine that is there, whole, and of the runtime that is here."""
    try:
        record = files.engine(model).record
    except AgentError as error:
        if error.kind in (ErrorKind.UNKNOWN_ENGINE, ErrorKind.TAMPERED_ENGINE):
            return None
        raise
    return record if builder.is_of_today(record) else None


def _prebuilt_for_here(model: Model) -> Tuple[Optional[Prebuilt], Dict[str, str]]:
    """The engine that was built on a device with this one's very identity; of the others, why they were not taken."""
    refusals: Dict[str, str] = {}
    for engine in model.engines:
        try:
            here = _identity_sha256(*_resolved(engine.runtime, engine.options))
        except AgentError as error:
            refusals[engine.file] = error.message
            continue
        if here == engine.identity:
            return engine, refusals
        refusals[engine.file] = "built on a device of identity %s; this one's is %s" % (engine.identity[:8], here[:8])
    return None, refusals


def _identity_sha256(runtime: Runtime, options: RuntimeOptions) -> str:
    """The hash by which identities are compared, of this device."""
    with Sensors(gpu=options.on_gpu) as sensors:
        identity = probe(runtime, options, sensors.read())["identity"]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode("utf-8")).hexdigest()


def _resolved(name: str, options: RuntimeOptions) -> Tuple[Runtime, RuntimeOptions]:
    """The runtime, and the options with its own provider where none is named."""
    runtime = open_runtime(name)
    if options.precision not in runtime.precisions:
        raise AgentError(
            ErrorKind.BAD_REQUEST,
            "runtime %s runs %s here, not %s" % (name, ", ".join(runtime.precisions), options.precision[:20]),
        )
    return runtime, replace(options, provider=options.provider or runtime.default_provider)
