"""What the manifest of a bundle says."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Dict, Optional, Set, Tuple

from ..protocol import AgentError, ErrorKind, Message
from ..runtimes import RUNTIMES, RuntimeOptions, TensorInfo
from .reading import NAME, SHA256, Record

ENVELOPE = "manifest.dsse.json"
"""The member of an archive, and the file of a slot, that carries the manifest."""
MOST_ENVELOPE_BYTES = 1 << 20
SCHEMAS = (1, 2)
"""Of manifests.  The second has golden answers of all outputs, the first of a model's first one."""

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_BUILT = "built/"
"""What a slot has beside its bundle."""
_MOST_FILES, _MOST_PATH = 10_000, 200
_MOST_VERSION = 2**53 - 1


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Prebuilt:
    """An engine that was built on a device of ``identity``, the SHA-256 of a fingerprint's identity."""

    file: str
    runtime: str
    identity: str
    options: RuntimeOptions


@dataclass(frozen=True)
class GoldenOutput:
    """What one output must be, up to ``absolute + relative · |values|``."""

    name: str
    values: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Golden:
    """Inputs and what comes of them."""

    inputs: str
    outputs: Tuple[GoldenOutput, ...]
    """All of the model's in its order; in a manifest of schema 1 the first alone."""


@dataclass(frozen=True)
class Budget:
    """Limits of one model; ``None``: none."""

    statistic: str
    """``p50`` or ``p99``."""
    latency_ms: Optional[float]
    memory_mib: Optional[float]
    """Of what a process grows by when it loads and runs the engine."""


@dataclass(frozen=True)
class Model:
    """A network of the bundle."""

    id: str
    onnx: str
    input: TensorInfo
    outputs: Tuple[TensorInfo, ...]
    engines: Tuple[Prebuilt, ...]
    golden: Golden
    accuracy: Optional[float]
    expected_ms: Optional[float]
    budget: Budget


@dataclass(frozen=True)
class Samples:
    """Labelled samples that every model must get right for the most part."""

    images: str
    labels: str
    least_accuracy: float


@dataclass(frozen=True)
class Manifest:
    """What a bundle is."""

    digest: str
    """SHA-256 of the manifest as signed, and the name of its slot."""
    name: str
    version: int
    files: Dict[str, FileEntry]
    runtime: str
    options: RuntimeOptions
    """How the board builds."""
    models: Tuple[Model, ...]
    """Most accurate first; the first is served at the start."""
    samples: Optional[Samples]
    labels: str
    preprocessing: str

    @property
    def total_bytes(self) -> int:
        """Of all files together."""
        return sum(entry.bytes for entry in self.files.values())


def read_manifest(payload: bytes) -> Manifest:
    """The manifest of a payload whose signature was found right.

    Raises:
        AgentError: ``bad-bundle``, with the field, what it must be and what it is.
    """
    try:
        return _manifest(Record(json.loads(payload.decode("ascii")), "manifest"), hashlib.sha256(payload).hexdigest())
    except (ValueError, RecursionError) as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "the manifest is not JSON (%s)" % error) from error
    except AgentError as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "the manifest: %s" % error.message) from error


def _manifest(record: Record, digest: str) -> Manifest:
    schema = record.require_kind("bundle", SCHEMAS)
    record.exactly(
        *("schema", "kind", "name", "version", "files", "runtime", "models", "samples", "labels", "preprocessing"),
        unread=("checked", "provenance"),
    )
    version = record.integer("version", least=1)
    if version > _MOST_VERSION:
        raise AgentError(ErrorKind.BAD_BUNDLE, "field 'version' must be at most %d" % _MOST_VERSION)
    files = _files(record.record("files"))
    models = tuple(_model(model, files, schema) for model in record.children("models"))
    if not models or len({model.id for model in models}) < len(models):
        raise AgentError(ErrorKind.BAD_BUNDLE, "field 'models' must be one or more models with an id of its own each")
    runtime, options = _options(record.child("runtime"))
    return Manifest(
        digest=digest,
        name=record.matching("name", NAME),
        version=version,
        files=files,
        runtime=runtime,
        options=options,
        models=models,
        samples=_samples(record.child("samples"), files) if record.has("samples") else None,
        labels=record.file("labels", files),
        preprocessing=record.file("preprocessing", files),
    )


def _files(entries: Message) -> Dict[str, FileEntry]:
    """The files, none of which can lie outside of a slot or in the way of another."""
    if len(entries) > _MOST_FILES:
        raise AgentError(ErrorKind.BAD_BUNDLE, "it names %d files; at most %d are taken" % (len(entries), _MOST_FILES))
    directories: Set[str] = set()
    for path in entries:
        if not _FILE.fullmatch(path) or len(path) > _MOST_PATH or path == ENVELOPE or path.startswith(_BUILT):
            raise AgentError(ErrorKind.BAD_BUNDLE, "%r is no name for a file of a bundle" % path[:100])
        parts = path.split("/")
        directories.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    clash = sorted(directories.intersection((*entries, ENVELOPE)))
    if clash:
        raise AgentError(ErrorKind.BAD_BUNDLE, "'%s' cannot be a file and a directory" % clash[0])
    return {path: _file_entry(Record(entry, "files." + path)) for path, entry in entries.items()}


def _file_entry(record: Record) -> FileEntry:
    record.exactly("bytes", "sha256")
    return FileEntry(record.integer("bytes"), record.matching("sha256", SHA256))


def _model(record: Record, files: Dict[str, FileEntry], schema: int) -> Model:
    record.exactly("id", "onnx", "input", "outputs", "engines", "golden", "accuracy", "expected_ms", "budget")
    outputs = tuple(_tensor(output) for output in record.children("outputs"))
    if not outputs:
        raise AgentError(ErrorKind.BAD_BUNDLE, "a model must have an output")
    budget = record.child("budget").exactly("statistic", "latency_ms", "memory_mib")
    return Model(
        id=record.matching("id", NAME),
        onnx=record.file("onnx", files),
        input=_tensor(record.child("input")),
        outputs=outputs,
        engines=tuple(_prebuilt(engine, files) for engine in record.children("engines")),
        golden=_golden(record.child("golden"), files, outputs, schema),
        accuracy=record.limit("accuracy"),
        expected_ms=record.limit("expected_ms"),
        budget=Budget(
            budget.one_of("statistic", ("p50", "p99")), budget.limit("latency_ms"), budget.limit("memory_mib")
        ),
    )


def _golden(record: Record, files: Dict[str, FileEntry], outputs: Tuple[TensorInfo, ...], schema: int) -> Golden:
    if schema == 1:
        record.exactly("inputs", "outputs", "absolute", "relative")
        return Golden(record.file("inputs", files), (_golden_output(record, "outputs", files, outputs[0]),))
    entries = record.exactly("inputs", "outputs").children("outputs")
    if len(entries) != len(outputs):
        raise AgentError(
            ErrorKind.BAD_BUNDLE, "a model of %d outputs has golden ones of %d" % (len(outputs), len(entries))
        )
    golden = (
        _golden_output(entry.exactly("values", "absolute", "relative"), "values", files, output)
        for entry, output in zip(entries, outputs)
    )
    return Golden(record.file("inputs", files), tuple(golden))


def _golden_output(record: Record, values: str, files: Dict[str, FileEntry], output: TensorInfo) -> GoldenOutput:
    return GoldenOutput(output.name, record.file(values, files), record.number("absolute"), record.number("relative"))


def _prebuilt(record: Record, files: Dict[str, FileEntry]) -> Prebuilt:
    record.exactly("file", "runtime", "identity", "options", unread=("fingerprint",))
    runtime, options = _options(record.child("options"))
    if runtime != record.text("runtime"):
        raise AgentError(ErrorKind.BAD_BUNDLE, "an engine of %s has options of %s" % (record.text("runtime"), runtime))
    return Prebuilt(record.file("file", files), runtime, record.matching("identity", SHA256), options)


def _options(record: Record) -> Tuple[str, RuntimeOptions]:
    """Of a compile request; the provider may be left to the runtime."""
    return record.one_of("runtime", tuple(RUNTIMES)), RuntimeOptions.from_message(record.message, "")


def _samples(record: Record, files: Dict[str, FileEntry]) -> Samples:
    record.exactly("images", "labels", "least_accuracy")
    return Samples(record.file("images", files), record.file("labels", files), record.number("least_accuracy"))


def _tensor(record: Record) -> TensorInfo:
    record.exactly("name", "dtype", "shape")
    shape = tuple(record.items("shape"))
    if not all(type(side) is int and side >= 1 for side in shape):
        raise AgentError(ErrorKind.BAD_BUNDLE, "a tensor's shape must be a list of positive whole numbers")
    return TensorInfo(record.text("name"), record.text("dtype"), shape)
