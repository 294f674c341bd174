"""From ONNX models to what stands in a bundle: golden answers, labelled samples, what models say of themselves."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import hwnas
from hwnas.agent.runtimes import model_format
from hwnas.data import Dataset
from hwnas.deploy.content import BundleContent, BundledModel, PrebuiltEngine
from hwnas.deploy.golden import Answers, LabelledSamples, accuracy, least_accuracy, tolerated_share
from hwnas.deploy.manifest import (
    UNIT_FILE,
    Checked,
    Labels,
    Preprocessing,
    Provenance,
    Resize,
)
from hwnas.devices import CompileOptions, load_target
from hwnas.errors import UserError
from hwnas.export.samples import spread
from hwnas.export.scoring import session
from hwnas.pipeline.bundled_network import BundledNetwork, scored, validation_sample
from hwnas.pipeline.prebuilding import prebuilt_engines
from hwnas.progress import Progress, Silent

Array = npt.NDArray[Any]

MOST_SAMPLES = 256
MOST_SAMPLE_BYTES = 16 << 20
"""Of all labelled samples together, unless their number is given."""
_NOISE_SEED = 0
_AT_ONCE = 250


@dataclass(frozen=True)
class BundleOptions:
    """How a bundle is made.

    Attributes:
        golden: inputs whose outputs are compared on the board; more where they do not fill a batch.
        samples: labelled inputs; ``None``: 256, or as many as fit in 16 MiB.
        least_accuracy: on these; ``None``: see :func:`hwnas.deploy.golden.least_accuracy`.
        tolerance: share of the outputs' root mean square; ``None``: that of the runtime and the precision.
        prebuild: targets on which engines are built beforehand.
    """

    golden: int = 8
    samples: int | None = None
    least_accuracy: float | None = None
    tolerance: float | None = None
    prebuild: tuple[str, ...] = ()


def bundle_content(
    name: str,
    networks: Sequence[BundledNetwork],
    compile_options: CompileOptions,
    dataset: Dataset | None,
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
        dataset: whose validation images are the inputs, and tell an accuracy that is not known; ``None``: noise, and
            no labelled samples.
        provenance: what is known of it; see :class:`hwnas.deploy.manifest.Provenance`.

    Raises:
        UserError: a model has no static input, other inputs than the others, or does not fit the data set; the
            runtime does not take ONNX; or a target is unknown.
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
    targets = [load_target(name) for name in options.prebuild]
    if dataset is not None:
        networks = [scored(network, dataset, progress) for network in networks]
    share = options.tolerance
    if share is None:
        share = tolerated_share(compile_options.runtime, compile_options.precision)
    labelled = None if dataset is None else _labelled(first, dataset, options.samples)
    inputs = _golden_inputs(first, labelled, options.golden)
    golden = _answers(networks, inputs, share, "golden answers", progress)
    samples = None
    if labelled is not None:
        told = _answers(networks, labelled[0], share, "labelled samples", progress)
        samples = _samples(*labelled, told, options.least_accuracy)
    engines = prebuilt_engines(networks, compile_options, targets, progress)
    return BundleContent(
        name=name,
        runtime=compile_options.as_request(),
        models=tuple(_model(network, golden[network.id], engines[network.id]) for network in networks),
        labels=Labels(labels=tuple(first.says("class_names") or (dataset.class_names if dataset else ()))),
        preprocessing=_preprocessing(first, dataset),
        provenance=Provenance(
            **{"space": None, "supernet_sha256": None, "architectures": {}, **provenance},
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


def _labelled(network: BundledNetwork, dataset: Dataset, count: int | None) -> tuple[Array, npt.NDArray[np.int64]]:
    """Inputs and their classes, spread evenly over the validation images."""
    entry = network.input
    if count is None:
        each = math.prod(entry.shape[1:]) * np.dtype(entry.dtype).itemsize
        count = max(1, min(MOST_SAMPLES, MOST_SAMPLE_BYTES // each))
    sample = validation_sample(network, dataset)
    sample = replace(sample, images=spread(sample.images, count))
    inputs = [batch.numpy() for batch in sample.batches(entry.shape[2], _AT_ONCE)]
    return np.concatenate(inputs).astype(entry.dtype), sample.images.labels.numpy()


def _golden_inputs(network: BundledNetwork, labelled: tuple[Array, Array] | None, count: int) -> Array:
    """Whole batches of at least ``count`` inputs: the first labelled ones, in turns, or noise."""
    entry = network.input
    batch = entry.shape[0]
    whole = math.ceil(count / batch) * batch
    if labelled is not None:
        return np.resize(labelled[0], (whole, *entry.shape[1:])) if whole > len(labelled[0]) else labelled[0][:whole]
    if not np.issubdtype(np.dtype(entry.dtype), np.floating):
        raise UserError(f"model {network.id} takes {entry.dtype}, for which noise means nothing; give --data.")
    return np.random.default_rng(_NOISE_SEED).standard_normal((whole, *entry.shape[1:])).astype(entry.dtype)


def _outputs(network: BundledNetwork, inputs: Array) -> Array:
    """The first output, float32 [n, ...], by ONNX Runtime on one thread of this machine."""
    opened, entry = session(network.model), network.input
    batch = entry.shape[0]
    padded = np.concatenate([inputs, np.zeros((-len(inputs) % batch, *inputs.shape[1:]), inputs.dtype)])
    found = [
        opened.run([network.outputs[0].name], {entry.name: padded[row : row + batch]})[0]
        for row in range(0, len(padded), batch)
    ]
    return np.concatenate(found)[: len(inputs)].astype(np.float32)


def _answers(
    networks: Sequence[BundledNetwork], inputs: Array, share: float, what: str, progress: Progress
) -> dict[str, Answers]:
    """What each network answers, by its id."""
    answers = {}
    progress.start(what, len(networks), unit="models")
    for network in networks:
        answers[network.id] = Answers.of(inputs, _outputs(network, inputs), share)
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
    if least is None:
        least = min(least_accuracy(each, labels) for each in answers.values())
    for name, each in answers.items():
        found = accuracy(each.outputs, labels)
        if found < least:
            raise UserError(
                f"model {name} classifies {found:.1%} of the {len(labels)} samples rightly, less than the "
                f"{least:.1%} that --least-accuracy asks of it."
            )
    return LabelledSamples(images, labels, least)


def _preprocessing(network: BundledNetwork, dataset: Dataset | None) -> Preprocessing:
    shape = network.input.shape
    pictures = len(shape) == 4 and shape[1] == 3
    return Preprocessing(
        mean=network.says("mean") or (dataset.mean if dataset else None),
        std=network.says("std") or (dataset.std if dataset else None),
        resize=Resize(height=shape[2], width=shape[3]) if pictures else None,
    )


def _unit() -> bytes:
    """The systemd unit of the service, as the agent has it."""
    return resources.files("hwnas.agent").joinpath("service", UNIT_FILE).read_bytes()
