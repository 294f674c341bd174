"""What stands in a bundle, before it has a version and is signed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from hwnas.deploy.canonical import canonical
from hwnas.deploy.golden import Answers, LabelledSamples
from hwnas.deploy.manifest import (
    LABELS_FILE,
    PREPROCESSING_FILE,
    UNIT_FILE,
    Checked,
    EngineEntry,
    EngineFingerprint,
    Golden,
    GoldenOutput,
    GoldenOutputs,
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
from hwnas.errors import UserError
from hwnas.files import describe

SAMPLE_IMAGES, SAMPLE_LABELS = "samples/images.npy", "samples/labels.npy"


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
                schema_version=2 if any(len(model.golden.outputs) > 1 for model in ordered) else 1,
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
        golden=_golden(model.golden, own),
        accuracy=model.accuracy,
        expected_ms=model.expected_ms,
        budget=model.limits,
    )


def _golden(answers: Answers, own: _Paths) -> Golden | GoldenOutputs:
    """In the older form where that says all, so that older agents read it."""
    paths = own.golden_outputs(len(answers.outputs))
    entries = tuple(
        GoldenOutput(values=path, absolute=output.absolute, relative=output.relative)
        for path, output in zip(paths, answers.outputs, strict=True)
    )
    if len(entries) > 1:
        return GoldenOutputs(inputs=own.golden_inputs, outputs=entries)
    (only,) = entries
    return Golden(inputs=own.golden_inputs, outputs=only.values, absolute=only.absolute, relative=only.relative)


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

    def golden_outputs(self, count: int) -> list[str]:
        numbers = [""] if count == 1 else [f"-{number}" for number in range(count)]
        return [f"models/{self.id}/golden-outputs{number}.npy" for number in numbers]

    def engine(self, number: int) -> str:
        return f"models/{self.id}/engines/{number}.engine"


def _files(content: BundleContent) -> dict[str, bytes]:
    files = {LABELS_FILE: _json(content.labels), PREPROCESSING_FILE: _json(content.preprocessing)}
    for model in content.models:
        own = _Paths(model.id)
        files[own.onnx] = model.onnx
        files[own.golden_inputs] = _npy(model.golden.inputs)
        paths = own.golden_outputs(len(model.golden.outputs))
        files |= {path: _npy(output.values) for path, output in zip(paths, model.golden.outputs, strict=True)}
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
