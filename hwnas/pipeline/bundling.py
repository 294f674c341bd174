"""From ONNX models to what stands in a bundle: golden answers, labelled samples, what models say of themselves."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import hwnas
from hwnas.agent.runtimes import model_format
from hwnas.data import Dataset
from hwnas.data.decoding import FILL
from hwnas.data.tasks import AnyDataset
from hwnas.deploy.content import BundleContent, BundledModel, PrebuiltEngine
from hwnas.deploy.golden import Answers, Expected, LabelledSamples, accuracy, least_accuracy, tolerated_share
from hwnas.deploy.manifest import (
    UNIT_FILE,
    Checked,
    Labels,
    Letterbox,
    Preprocessing,
    Provenance,
    Resize,
)
from hwnas.detection.forms import metric_of
from hwnas.devices import CompileOptions, load_target
from hwnas.errors import UserError
from hwnas.pipeline.bundled_data import scored, validation_pictures
from hwnas.pipeline.bundled_network import BundledNetwork
from hwnas.pipeline.prebuilding import prebuilt_engines
from hwnas.progress import Progress, Silent

Array = npt.NDArray[Any]

MOST_SAMPLES, MOST_SAMPLE_BYTES = 256, 16 << 20
"""Of all labelled samples together, unless their number is given."""
MOST_GOLDEN, MOST_GOLDEN_BYTES = 8, 32 << 20
"""Likewise, of a model's golden outputs; a large detector's maps are many."""
_NOISE_SEED = 0


@dataclass(frozen=True)
class BundleOptions:
    """How a bundle is made.

    Attributes:
        golden: inputs whose outputs are compared on the board, more where they do not fill a batch; ``None``: 8, or as
            many as have outputs that fit in 32 MiB.
        samples: labelled inputs; ``None``: 256, or as many as fit in 16 MiB.
        least_accuracy: on these; ``None``: see :func:`hwnas.deploy.golden.least_accuracy`.
        tolerance: share of the outputs' root mean square; ``None``: that of the runtime and the precision.
        prebuild: targets on which engines are built beforehand.
    """

    golden: int | None = None
    samples: int | None = None
    least_accuracy: float | None = None
    tolerance: float | None = None
    prebuild: tuple[str, ...] = ()


def bundle_content(
    name: str,
    networks: Sequence[BundledNetwork],
    compile_options: CompileOptions,
    dataset: AnyDataset | None,
    provenance: Mapping[str, Any],
    checked: Checked | None = None,
    options: BundleOptions | None = None,
    progress: Progress | None = None,
) -> BundleContent:
    """Compute what a bundle of these networks holds; equal arguments give equal content, but for prebuilt engines.

    Args:
        name: of the bundle.
        networks: of one input and the same classes.
        compile_options: how boards build and run them.
        dataset: whose validation images are the inputs, and tell an accuracy that is not known; ``None``: noise.
            Labelled samples are of classifiers alone, since a board cannot tell a mean average precision.
        provenance: what is known of it; see :class:`hwnas.deploy.manifest.Provenance`.

    Raises:
        UserError: a model has no static input, other inputs than the others, does not fit the data set, or gives what
            cannot be compared; samples are asked for where there are no classes; the runtime does not take ONNX; or a
            target is unknown.
        DeviceError: an engine could not be built.
    """
    options, progress = options or BundleOptions(), progress or Silent()
    if model_format(compile_options.runtime) != "onnx":
        raise UserError(
            f"A board builds from ONNX, which runtime {compile_options.runtime} does not take; choose another."
        )
    first = networks[0]
    if any(network.fed_like != first.fed_like for network in networks):
        raise UserError(
            "The models of a bundle must take the same input and give the same outputs, so that the service can change "
            "between them; choose architectures of one resolution."
        )
    _require_comparable(first)
    labelled = isinstance(dataset, Dataset)
    if not labelled and (options.samples, options.least_accuracy) != (None, None):
        raise UserError(
            "Labelled samples are of classifiers and their data; leave out --samples and --least-accuracy. A detector "
            "is compared with golden answers alone."
        )
    targets = [load_target(name) for name in options.prebuild]
    if dataset is not None:
        networks = [scored(network, dataset, progress) for network in networks]
    share = options.tolerance
    if share is None:
        share = tolerated_share(
            compile_options.runtime, compile_options.precision, detector=first.detections is not None
        )
    count = options.golden or _golden_count(first)
    wanted = (options.samples or _sample_count(first)) if labelled else count
    pictures = None if dataset is None else validation_pictures(first, dataset, wanted)
    inputs = _golden_inputs(first, None if pictures is None else pictures.inputs, count)
    golden = _answers(networks, inputs, share, "golden answers", progress)
    samples = None
    if pictures is not None and pictures.labels is not None:
        told = _answers(networks, pictures.inputs, share, "labelled samples", progress)
        samples = _samples(pictures.inputs, pictures.labels, told, options.least_accuracy)
    engines = prebuilt_engines(networks, compile_options, targets, progress)
    return BundleContent(
        name=name,
        runtime=compile_options.as_request(),
        models=tuple(_model(network, golden[network.id], engines[network.id]) for network in networks),
        labels=Labels(labels=tuple(first.says("class_names") or (dataset.class_names if dataset else ()))),
        preprocessing=_preprocessing(first, dataset),
        provenance=Provenance(
            **{"space": None, "supernet_sha256": None, "architectures": {}, **provenance},
            metric=metric_of([output.name for output in first.outputs]),
            git_revision=git_revision(),
            hwnas=hwnas.__version__,
            inputs_of=f"noise of seed {_NOISE_SEED}" if dataset is None else f"validation images of {dataset.name}",
        ),
        samples=samples,
        checked=checked,
        unit=_unit(),
    )


def git_revision() -> str | None:
    """Of the checkout that this program runs from, ``-dirty`` where something was changed; ``None``: it has none."""
    directory = Path(hwnas.__file__).resolve().parents[1]
    if not (directory / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "-C", directory, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip() or None


def _require_comparable(network: BundledNetwork) -> None:
    if network.detections == "nms":
        raise UserError(
            f"Model {network.id} gives detections after NMS, whose rows change places where scores tie, so that no "
            "board could compare them with golden answers; export it with --detections boxes, or maps."
        )


def _sample_count(network: BundledNetwork) -> int:
    entry = network.input
    each = math.prod(entry.shape[1:]) * np.dtype(entry.dtype).itemsize
    return max(1, min(MOST_SAMPLES, MOST_SAMPLE_BYTES // each))


def _golden_count(network: BundledNetwork) -> int:
    each = sum(math.prod(output.shape[1:]) for output in network.outputs) * np.dtype(np.float32).itemsize
    return max(1, min(MOST_GOLDEN, MOST_GOLDEN_BYTES // each))


def _golden_inputs(network: BundledNetwork, pictures: Array | None, count: int) -> Array:
    """Whole batches of at least ``count`` inputs: the first pictures, in turns, or noise."""
    entry = network.input
    batch = entry.shape[0]
    whole = math.ceil(count / batch) * batch
    if pictures is not None:
        return np.resize(pictures, (whole, *entry.shape[1:])) if whole > len(pictures) else pictures[:whole]
    if not np.issubdtype(np.dtype(entry.dtype), np.floating):
        raise UserError(f"model {network.id} takes {entry.dtype}, for which noise means nothing; give --data.")
    return np.random.default_rng(_NOISE_SEED).standard_normal((whole, *entry.shape[1:])).astype(entry.dtype)


def _answers(
    networks: Sequence[BundledNetwork], inputs: Array, share: float, what: str, progress: Progress
) -> dict[str, Answers]:
    """What each network answers, by its id."""
    answers = {}
    progress.start(what, len(networks), unit="models")
    for network in networks:
        decoded = network.detections == "boxes"
        expected = (
            Expected.of(values, share, probabilities=decoded and name == "scores")
            for name, values in network.run(inputs).items()
        )
        answers[network.id] = Answers(inputs, tuple(expected))
        progress.advance(note=network.id)
    progress.finish()
    return answers


def _model(network: BundledNetwork, golden: Answers, engines: Sequence[PrebuiltEngine]) -> BundledModel:
    return BundledModel(
        id=network.id,
        onnx=network.content,
        input=network.input,
        outputs=network.outputs,
        golden=golden,
        limits=network.limits,
        accuracy=network.accuracy,
        expected_ms=network.expected_ms,
        engines=tuple(engines),
    )


def _samples(
    images: Array, labels: npt.NDArray[np.int64], answers: Mapping[str, Answers], least: float | None
) -> LabelledSamples:
    logits = {name: each.outputs[0] for name, each in answers.items()}
    if least is None:
        least = min(least_accuracy(each, labels) for each in logits.values())
    for name, each in logits.items():
        found = accuracy(each.values, labels)
        if found < least:
            raise UserError(
                f"model {name} classifies {found:.1%} of the {len(labels)} samples rightly, less than the "
                f"{least:.1%} that --least-accuracy asks of it."
            )
    return LabelledSamples(images, labels, least)


def _preprocessing(network: BundledNetwork, dataset: AnyDataset | None) -> Preprocessing:
    letterboxed = network.detections is not None
    return Preprocessing(
        schema_version=2 if letterboxed else 1,
        mean=network.says("mean") or (dataset.mean if dataset else None),
        std=network.says("std") or (dataset.std if dataset else None),
        resize=_resize(network.input.shape, letterboxed),
    )


def _resize(shape: Sequence[int], letterboxed: bool) -> Resize | None:
    if len(shape) != 4 or shape[1] != 3:
        return None
    height, width = shape[2:]
    return Letterbox(height=height, width=width, fill=FILL) if letterboxed else Resize(height=height, width=width)


def _unit() -> bytes:
    """The systemd unit of the service, as the agent has it."""
    return resources.files("hwnas.agent").joinpath("service", UNIT_FILE).read_bytes()
