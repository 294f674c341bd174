"""What a bundle says of itself: the payload that is signed, and the only description of its files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from hwnas.devices import Fingerprint
from hwnas.files import Document
from hwnas.spaces.space import Metric

MANIFEST_FILE = "manifest.dsse.json"
LABELS_FILE, PREPROCESSING_FILE, UNIT_FILE = "labels.json", "preprocessing.json", "hwnas-serve.service"
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}$"
MOST_VERSION = 2**53 - 1
"""Largest whole number that every reader of JSON keeps."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Version = Annotated[int, Field(ge=1, le=MOST_VERSION, strict=True)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
MemberPath = Annotated[str, Field(pattern=rf"^{_SEGMENT}(/{_SEGMENT})*$", max_length=99)]
"""Of a file in the bundle: relative, and so plain that no tool reads it otherwise; USTAR takes 100 characters."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """A file as it must be."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class TensorEntry(_Part):
    """An input or output: NumPy type name, static shape with the batch first."""

    name: str = Field(min_length=1)
    dtype: str
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)


class EngineFingerprint(_Part):
    """The device that an engine was built for."""

    identity: dict[str, JsonValue]


class EngineEntry(_Part):
    """A prebuilt engine; a board loads it only if its own fingerprint has this identity."""

    file: MemberPath
    runtime: str
    identity: Sha256
    """Of the fingerprint's identity as canonical JSON."""
    fingerprint: EngineFingerprint
    options: dict[str, JsonValue]
    """The request that it was built by."""

    @model_validator(mode="after")
    def _identity_is_the_fingerprints(self) -> Self:
        if identity_hash(self.fingerprint.identity) != self.identity:
            raise ValueError("identity is not that of the fingerprint")
        return self


class Golden(_Part):
    """Inputs, and what the first output must be for them: each number within absolute + relative·|golden|."""

    inputs: MemberPath
    outputs: MemberPath
    absolute: Tolerance
    relative: Tolerance

    @property
    def files(self) -> tuple[str, ...]:
        """Of the inputs and the outputs."""
        return (self.inputs, self.outputs)

    @property
    def tolerances(self) -> tuple[float, ...]:
        """The absolute ones of all outputs."""
        return (self.absolute,)


class GoldenOutput(_Part):
    """What one of several outputs must be: each number within absolute + relative·|golden|."""

    values: MemberPath
    absolute: Tolerance
    relative: Tolerance


class GoldenOutputs(_Part):
    """Inputs, and what each output must be for them, in the model's order."""

    inputs: MemberPath
    outputs: tuple[GoldenOutput, ...] = Field(min_length=1)

    @property
    def files(self) -> tuple[str, ...]:
        """Of the inputs and all outputs."""
        return (self.inputs, *(output.values for output in self.outputs))

    @property
    def tolerances(self) -> tuple[float, ...]:
        """The absolute ones of all outputs."""
        return tuple(output.absolute for output in self.outputs)


class Limits(_Part):
    """What the model may take on the board; ``None``: any."""

    statistic: Literal["p50", "p99"] = "p50"
    """Of the latency."""
    latency_ms: Positive | None = None
    memory_mib: Positive | None = None


class ModelEntry(_Part):
    """One network."""

    id: Name
    onnx: MemberPath
    input: TensorEntry
    outputs: tuple[TensorEntry, ...] = Field(min_length=1)
    engines: tuple[EngineEntry, ...] = ()
    golden: Golden | GoldenOutputs
    accuracy: Share | None
    """As promised; of the bundle's metric."""
    expected_ms: Positive | None
    """The budget's statistic of the latency, on the target that the bundle was checked for."""
    budget: Limits

    @property
    def files(self) -> tuple[str, ...]:
        """All that belong to it."""
        return (self.onnx, *self.golden.files, *(engine.file for engine in self.engines))

    @model_validator(mode="after")
    def _every_output_has_golden_answers(self) -> Self:
        if isinstance(self.golden, GoldenOutputs) and len(self.golden.outputs) != len(self.outputs):
            raise ValueError(f"{len(self.outputs)} outputs have golden answers of {len(self.golden.outputs)}")
        return self


class SamplesEntry(_Part):
    """Labelled inputs, of which every model must classify at least this share rightly."""

    images: MemberPath
    labels: MemberPath
    least_accuracy: Share


class Checked(_Part):
    """What the budget was checked against."""

    target: str
    table: str
    table_sha256: Sha256
    identity: str
    """First eight digits of the identity of the device that the table was measured on."""


class Provenance(_Part):
    """Where the bundle is from; nothing on a board depends on it."""

    space: str | None
    architectures: dict[str, JsonValue]
    """As JSON, by model."""
    supernet_sha256: Sha256 | None
    git_revision: str | None
    """Of the checkout that hwnas ran from; ``None``: it was installed."""
    hwnas: str
    metric: Metric = Field(default="top-1", exclude_if=lambda metric: metric == "top-1")
    """What the models' accuracies are; written down where it is another than in bundles that do not say it."""
    accuracy_of: str | None = None
    """What the models' accuracies are of."""
    inputs_of: str | None = None
    """What the golden inputs are."""


class Manifest(Document):
    """The payload of a bundle's envelope; its SHA-256 is the bundle's digest and the name of its slot.

    In schema 1 golden answers are of each model's first output, in schema 2 of all.
    """

    schema_version: Literal[1, 2] = Field(default=1, alias="schema")  # type: ignore[assignment]
    kind: Literal["bundle"] = "bundle"
    name: Name
    version: Version
    files: dict[MemberPath, FileEntry]
    """Every file but the envelope."""
    runtime: dict[str, JsonValue]
    """How the board builds: the fields of the agent's request."""
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    """The most accurate first; that is served first."""
    samples: SamplesEntry | None
    labels: MemberPath
    preprocessing: MemberPath
    checked: Checked | None
    provenance: Provenance

    @property
    def stem(self) -> str:
        """What its directory and archive are called."""
        return f"{self.name}-v{self.version}"

    @model_validator(mode="after")
    def _names_the_files_that_it_has(self) -> Self:
        missing = [name for name in self._named() if name not in self.files]
        if missing:
            raise ValueError(f"{missing[0]} is named and not among the files")
        if MANIFEST_FILE in self.files:
            raise ValueError(f"{MANIFEST_FILE} cannot be among the files that it describes")
        return self

    @model_validator(mode="after")
    def _golden_answers_are_of_the_schema(self) -> Self:
        form = Golden if self.schema_version == 1 else GoldenOutputs
        other = next((model.id for model in self.models if not isinstance(model.golden, form)), None)
        if other is not None:
            raise ValueError(f"golden answers of model {other} are not as in schema {self.schema_version}")
        return self

    @model_validator(mode="after")
    def _models_stand_in_for_each_other(self) -> Self:
        twice = [name for name, times in Counter(model.id for model in self.models).items() if times > 1]
        if twice:
            raise ValueError(f"model {twice[0]} stands there twice")
        first = self.models[0]
        for other in self.models[1:]:
            if (other.input, other.outputs) != (first.input, first.outputs):
                raise ValueError(f"models {first.id} and {other.id} have other inputs or outputs")
        accuracies = [model.accuracy for model in self.models if model.accuracy is not None]
        if accuracies != sorted(accuracies, reverse=True):
            raise ValueError("the most accurate model must be the first")
        return self

    def _named(self) -> Iterator[str]:
        for model in self.models:
            yield from model.files
        if self.samples is not None:
            yield from (self.samples.images, self.samples.labels)
        yield from (self.labels, self.preprocessing)


class Labels(Document):
    """``labels.json``: what the outputs stand for, in their order; none where that is unknown."""

    labels: tuple[str, ...]


class Resize(_Part):
    """To what size pictures are brought, whatever their shape."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    method: Literal["bilinear"] = "bilinear"
    antialias: Literal[True] = True


class Letterbox(Resize):
    """Pictures keep their shape: scaled until the longer side fits, from the upper left corner on.

    What is left at the right and at the bottom is of the grey ``fill``, 0 to 255.
    """

    fit: Literal["letterbox"] = "letterbox"
    fill: int = Field(ge=0, le=255)


class Preprocessing(Document):
    """``preprocessing.json``: from a picture to the input: resized, times ``scale``, less ``mean``, through ``std``.

    Of schema 2 where pictures keep their shape, so that whoever knows the first alone does not squash them.
    """

    schema_version: Literal[1, 2] = Field(default=1, alias="schema")  # type: ignore[assignment]
    layout: Literal["NCHW"] = "NCHW"
    colour: Literal["RGB"] = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    resize: Letterbox | Resize | None

    @model_validator(mode="after")
    def _resize_is_of_the_schema(self) -> Self:
        if isinstance(self.resize, Letterbox) != (self.schema_version == 2):
            raise ValueError(f"resize is not as in schema {self.schema_version}")
        return self


def file_entry(content: bytes) -> FileEntry:
    """The entry of a file with that content."""
    return FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def identity_hash(identity: Mapping[str, Any]) -> str:
    """SHA-256 of a fingerprint's identity, by which an engine and a board are compared."""
    return Fingerprint(identity=dict(identity), context={}).sha256
