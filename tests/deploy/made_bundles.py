"""Small bundles, made by the code under test without a network or a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hwnas.deploy.bundle import Bundle, write_bundle
from hwnas.deploy.content import BundleContent, BundledModel, PrebuiltEngine
from hwnas.deploy.golden import Answers, Expected, LabelledSamples
from hwnas.deploy.manifest import Checked, Labels, Limits, Preprocessing, Provenance, Resize, TensorEntry
from hwnas.deploy.signing import PublicKey

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUSTED = [PublicKey.of(KEY)]


def model(name: str = "m0", accuracy: float | None = 0.9, *, engine: str | None = None) -> BundledModel:
    """A model of a few bytes that are no ONNX; ``engine`` is the runtime of a prebuilt one."""
    rng = np.random.default_rng(len(name))
    inputs, outputs = rng.standard_normal((2, 3, 4, 4)).astype("float32"), rng.standard_normal((2, 10))
    prebuilt = [] if engine is None else [PrebuiltEngine(b"engine", engine, {"machine": "x"}, {"runtime": engine})]
    return BundledModel(
        id=name,
        onnx=b"onnx of " + name.encode(),
        input=TensorEntry(name="input", dtype="float32", shape=(1, 3, 4, 4)),
        outputs=(TensorEntry(name="logits", dtype="float32", shape=(1, 10)),),
        golden=Answers(inputs, (Expected.of(outputs, 0.02),)),
        limits=Limits(statistic="p99", latency_ms=5.0, memory_mib=64.0),
        accuracy=accuracy,
        expected_ms=1.25,
        engines=tuple(prebuilt),
    )


def content(*models: BundledModel, name: str = "cameras", runtime: str = "onnxruntime") -> BundleContent:
    return BundleContent(
        name=name,
        runtime={"runtime": runtime, "precision": "fp32", "threads": 1},
        models=models or (model(),),
        labels=Labels(labels=("shirt", "bag", "Rösti")),
        preprocessing=Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), resize=Resize(height=4, width=4)),
        provenance=Provenance(space=None, architectures={}, supernet_sha256=None, git_revision=None, hwnas="0"),
        samples=LabelledSamples(np.zeros((3, 3, 4, 4), "float32"), np.array([0, 1, 2]), 0.5),
        checked=Checked(target="host-cpu", table="t.json", table_sha256="0" * 64, identity="01234567"),
        unit=b"[Unit]\n",
    )


def written(
    directory: Path, *models: BundledModel, version: int = 1, key: Ed25519PrivateKey = KEY, runtime: str = "onnxruntime"
) -> Bundle:
    return write_bundle(content(*models, runtime=runtime), version, directory, [key])
