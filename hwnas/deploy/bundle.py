"""Bundles: what ``flash`` sends, as a directory and as one archive of the same files."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from hwnas.deploy.archive import SUFFIX, manifest_first, write_archive
from hwnas.deploy.canonical import canonical
from hwnas.deploy.golden import Answers, LabelledSamples
from hwnas.deploy.manifest import (
    LABELS_FILE,
    MANIFEST_FILE,
    PREPROCESSING_FILE,
    UNIT_FILE,
    Checked,
    EngineEntry,
    EngineFingerprint,
    Golden,
    Labels,
    Limits,
    Manifest,
    ModelEntry,
    Preprocessing,
    Provenance,
    SamplesEntry,
    TensorEntry,
    file_entry,
    identity_hash,
)
from hwnas.deploy.signing import BUNDLE_TYPE, sign
from hwnas.errors import UserError
from hwnas.files import describe, explain_os_errors, fsync_directory

SAMPLE_IMAGES, SAMPLE_LABELS = "samples/images.npy", "samples/labels.npy"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        path: its directory or archive.
        payload: the manifest's bytes as they were signed.
        envelope: the bytes of ``manifest.dsse.json``.
    """

    path: Path
    manifest: Manifest
    payload: bytes
    envelope: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which names those of all files; the bundle's slot has it as its name."""
        return hashlib.sha256(self.payload).hexdigest()


@dataclass(frozen=True)
class PrebuiltEngine:
    """An engine, and the device that it was built for.

    Attributes:
        identity: of the device's fingerprint.
        options: the request that it was built by.
    """

    content: bytes
    runtime: str
    identity: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class BundledModel:
    """One network of a bundle."""

    id: str
    onnx: bytes
    input: TensorEntry
    outputs: tuple[TensorEntry, ...]
    golden: Answers
    limits: Limits
    accuracy: float | None = None
    expected_ms: float | None = None
    engines: tuple[PrebuiltEngine, ...] = ()


@dataclass(frozen=True)
class BundleContent:
    """Everything that stands in a bundle, but its version and its signatures.

    Attributes:
        runtime: the fields of the request by which a board builds.
        models: in any order; the bundle has the most accurate first.
        unit: of systemd, that runs the service.
    """

    name: str
    runtime: dict[str, Any]
    models: tuple[BundledModel, ...]
    labels: Labels
    preprocessing: Preprocessing
    provenance: Provenance
    samples: LabelledSamples | None = None
    checked: Checked | None = None
    unit: bytes | None = None

    @cached_property
    def files(self) -> dict[str, bytes]:
        """All files by their paths in the bundle."""
        return _files(self)

    def manifest(self, version: int) -> Manifest:
        """What is signed.

        Raises:
            UserError: the parts do not go together.
        """
        ordered = sorted(self.models, key=lambda model: (-(model.accuracy or 0.0), model.id))
        samples = self.samples and SamplesEntry(
            images=SAMPLE_IMAGES, labels=SAMPLE_LABELS, least_accuracy=self.samples.least_accuracy
        )
        try:
            return Manifest(
                name=self.name,
                version=version,
                files={name: file_entry(content) for name, content in self.files.items()},
                runtime=self.runtime,
                models=tuple(map(_entry, ordered)),
                samples=samples,
                labels=LABELS_FILE,
                preprocessing=PREPROCESSING_FILE,
                checked=self.checked,
                provenance=self.provenance,
            )
        except ValidationError as error:
            raise UserError(f"This makes no bundle: {describe(error)}.") from error


def write_bundle(
    content: BundleContent, version: int | None, directory: Path, keys: Sequence[Ed25519PrivateKey]
) -> Bundle:
    """Write ``NAME-vN/`` and ``NAME-vN.tar.gz`` below ``directory``; equal arguments give equal bytes.

    Args:
        version: ``None``: the next one after those of that name in ``directory``.
        keys: each signs.

    Raises:
        UserError: that version is there already with another content, or the parts do not go together.
    """
    manifest = content.manifest(version or next_version(directory, content.name))
    payload = canonical(manifest)
    envelope = sign(payload, BUNDLE_TYPE, keys)
    path = directory / manifest.stem
    if path.exists():
        _require_unchanged(path, envelope)
    else:
        _write_directory(path, {**content.files, MANIFEST_FILE: envelope})
    bundle = Bundle(path, manifest, payload, envelope)
    write_bundle_archive(bundle, archive_path(path))
    return bundle


def write_bundle_archive(bundle: Bundle, path: Path) -> None:
    """Write the archive of a bundle's directory."""
    names = manifest_first((MANIFEST_FILE, *bundle.manifest.files))
    write_archive(((name, bundle.path / name) for name in names), path)


def archive_path(directory: Path) -> Path:
    """Where the archive of a bundle's directory lies."""
    return directory.with_name(directory.name + SUFFIX)


def next_version(directory: Path, name: str) -> int:
    """One more than the newest bundle of a name in a directory; 1 where there is none."""
    pattern = re.compile(rf"{re.escape(name)}-v([1-9][0-9]*)({re.escape(SUFFIX)})?")
    entries = directory.iterdir() if directory.is_dir() else ()
    found = [int(match[1]) for entry in entries if (match := pattern.fullmatch(entry.name))]
    return max(found, default=0) + 1


def _entry(model: BundledModel) -> ModelEntry:
    own = _Paths(model.id)
    return ModelEntry(
        id=model.id,
        onnx=own.onnx,
        input=model.input,
        outputs=model.outputs,
        engines=tuple(
            EngineEntry(
                file=own.engine(number),
                runtime=engine.runtime,
                identity=identity_hash(engine.identity),
                fingerprint=EngineFingerprint(identity=engine.identity),
                options=engine.options,
            )
            for number, engine in enumerate(model.engines)
        ),
        golden=Golden(
            inputs=own.golden_inputs,
            outputs=own.golden_outputs,
            absolute=model.golden.absolute,
            relative=model.golden.relative,
        ),
        accuracy=model.accuracy,
        expected_ms=model.expected_ms,
        budget=model.limits,
    )


@dataclass(frozen=True)
class _Paths:
    """Where the files of a model lie."""

    id: str

    @property
    def onnx(self) -> str:
        return f"models/{self.id}/model.onnx"

    @property
    def golden_inputs(self) -> str:
        return f"models/{self.id}/golden-inputs.npy"

    @property
    def golden_outputs(self) -> str:
        return f"models/{self.id}/golden-outputs.npy"

    def engine(self, number: int) -> str:
        return f"models/{self.id}/engines/{number}.engine"


def _files(content: BundleContent) -> dict[str, bytes]:
    files = {LABELS_FILE: _json(content.labels), PREPROCESSING_FILE: _json(content.preprocessing)}
    for model in content.models:
        own = _Paths(model.id)
        files[own.onnx] = model.onnx
        files[own.golden_inputs] = _npy(model.golden.inputs)
        files[own.golden_outputs] = _npy(model.golden.outputs)
        files |= {own.engine(number): engine.content for number, engine in enumerate(model.engines)}
    if content.samples is not None:
        files |= {SAMPLE_IMAGES: _npy(content.samples.images), SAMPLE_LABELS: _npy(content.samples.labels)}
    if content.unit is not None:
        files[UNIT_FILE] = content.unit
    return files


def _json(document: BaseModel) -> bytes:
    return canonical(document) + b"\n"


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _require_unchanged(path: Path, envelope: bytes) -> None:
    there = path / MANIFEST_FILE
    if not there.is_file() or there.read_bytes() != envelope:
        raise UserError(f"{path} is there already and is another bundle; a version never changes, so give a new one.")


def _write_directory(path: Path, files: dict[str, bytes]) -> None:
    """Write a directory whole or not at all."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            for name, content in files.items():
                file = temporary / name
                file.parent.mkdir(parents=True, exist_ok=True)
                _write_durably(file, content)
            for directory in (temporary, *(inner for inner in temporary.rglob("*") if inner.is_dir())):
                directory.chmod(0o755)
                fsync_directory(directory)
            temporary.rename(path)
            fsync_directory(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_durably(file: Path, content: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    file.chmod(0o644)
