"""An ONNX file into an engine file, built on a device or for others, with a record of what it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from hwnas.agent.options import changed
from hwnas.devices import CompileOptions, Device
from hwnas.export.dla import without_qdq
from hwnas.files import Document, read_bytes, write_atomic, write_json
from hwnas.progress import Progress, Silent

_DLA = "dla"
_WITHOUT_CALIBRATORS = 11


class EngineRecord(Document):
    """What lies beside an engine file, under its name with ``.json`` after it."""

    engine_sha256: str
    engine_bytes: int
    onnx_sha256: str
    target: str
    runtime: str
    runtime_version: str
    provider: str | None
    precision: str
    build: dict[str, Any]
    """The options that were not as they are by default."""
    build_s: float
    explanation: dict[str, Any] | None
    """What the runtime told: layers, their times, how the build went."""


def build_engine(
    device: Device, model: Path, output: Path, options: CompileOptions, progress: Progress | None = None
) -> EngineRecord:
    """Build an engine on a device, fetch it, and write it and its record; it is not loaded there.

    Args:
        device: builds; for TensorRT-RTX it needs no GPU.
        model: the ONNX file.
        output: the engine file.
        options: runtime, precision and how to build.
        progress: is told of the one build.

    Raises:
        RefusedError: the runtime refused.
        ExportError: a DLA was asked for INT8, and the model has no scales that it could take.
    """
    content = read_bytes(model, what="model")
    sent = content
    if options.provider == _DLA and options.precision == "int8" and _has_calibrators(device, options):
        sent, options = _for_dla(content, options)
    progress = progress or Silent()
    progress.start("building", 1, unit="engines")
    engine = device.compile(sent, options, load=False)
    progress.advance(1)
    progress.finish()
    try:
        built = device.engine_content(engine)
        record = EngineRecord(
            engine_sha256=engine.sha256,
            engine_bytes=engine.size_bytes,
            onnx_sha256=hashlib.sha256(content).hexdigest(),
            target=device.target.name,
            runtime=options.runtime,
            runtime_version=engine.runtime_version,
            provider=options.provider,
            precision=options.precision,
            build=changed(engine.options.build),
            build_s=engine.build_s,
            explanation=device.explanation(engine),
        )
    finally:
        device.release(engine)
    write_atomic(output, built)
    write_json(output.with_name(output.name + ".json"), record)
    return record


def _has_calibrators(device: Device, options: CompileOptions) -> bool:
    """Whether TensorRT there takes scales apart from the model: until 11, from where on the model has them."""
    version = str(device.fingerprint(options).identity["runtime"]["version"])
    return int(version.partition(".")[0]) < _WITHOUT_CALIBRATORS


def _for_dla(content: bytes, options: CompileOptions) -> tuple[bytes, CompileOptions]:
    """What a DLA takes as INT8: an unquantised model, and scales in the options."""
    bare, scales = without_qdq(onnx.load_from_string(content))
    build = replace(options.build, tensor_scales=tuple(sorted(scales.items())))
    return bare.SerializeToString(), replace(options, build=build)
