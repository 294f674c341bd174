"""Tiny signed bundles, right ones and wrong ones, made without the code under test."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BUNDLE_TYPE = "application/vnd.hwnas.bundle+json"
CHANNEL_TYPE = "application/vnd.hwnas.channel+json"
ENVELOPE = "manifest.dsse.json"
SHAPE = (1, 3, 4, 4)
CLASSES = 10
RUNTIME: dict[str, Any] = {"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "build": {}, "execution": {}}
Members = Sequence[tuple[str, bytes]]


def make_key(seed: int = 0) -> Ed25519PrivateKey:
    """A reproducible key."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % seed).digest())


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def keyid(key: Ed25519PrivateKey) -> str:
    return hashlib.sha256(bytes.fromhex(public_hex(key))).hexdigest()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def signed(payload: bytes, keys: Iterable[Ed25519PrivateKey], payload_type: str = BUNDLE_TYPE) -> bytes:
    """A DSSE envelope."""
    kind = payload_type.encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    signatures = [{"keyid": keyid(key), "sig": base64.b64encode(key.sign(message)).decode()} for key in keys]
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": signatures,
    }
    return json.dumps(envelope).encode()


def header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """A USTAR header, of whatever type."""
    block = bytearray(512)
    block[0 : len(name)] = name.encode()
    block[100:107], block[108:115], block[116:123] = b"0000644", b"0000000", b"0000000"
    block[124:135], block[136:147] = b"%011o" % size, b"00000000000"
    block[156:157] = kind
    block[157 : 157 + len(link)] = link.encode()
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\x00" % sum(block)
    return bytes(block)


def member(name: str, content: bytes, kind: bytes = b"0", link: str = "") -> bytes:
    """A member of a tar, padded."""
    return header(name, len(content), kind, link) + content + bytes(-len(content) % 512)


def compressed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
        file.write(content)
    return buffer.getvalue()


def packed(members: Members) -> bytes:
    """A ``.tar.gz`` of regular files, in that order."""
    content = b"".join(member(name, content) for name, content in members) + bytes(1024)
    return compressed(content + bytes(-len(content) % 10240))


@dataclass(frozen=True)
class TinyBundle:
    """A bundle and all of its parts."""

    manifest: dict[str, Any]
    files: dict[str, bytes]
    keys: tuple[Ed25519PrivateKey, ...]
    payload: bytes = field(init=False)
    envelope: bytes = field(init=False)
    archive: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload", canonical(self.manifest))
        object.__setattr__(self, "envelope", signed(self.payload, self.keys))
        object.__setattr__(self, "archive", packed(self.members))

    @property
    def members(self) -> list[tuple[str, bytes]]:
        return [(ENVELOPE, self.envelope), *sorted(self.files.items())]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def sha256(self) -> str:
        """Of the archive."""
        return hashlib.sha256(self.archive).hexdigest()

    def with_manifest(self, **changes: Any) -> TinyBundle:
        """The same files under another manifest, signed anew."""
        return TinyBundle({**self.manifest, **changes}, self.files, self.keys)

    def signed_by(self, *keys: Ed25519PrivateKey) -> TinyBundle:
        return TinyBundle(self.manifest, self.files, keys)

    def write(self, directory: Path) -> Path:
        """The archive as a file, named as bundles are."""
        path = directory / f"{self.manifest['name']}-v{self.manifest['version']}.tar.gz"
        path.write_bytes(self.archive)
        return path


def tiny_bundle(
    *keys: Ed25519PrivateKey,
    name: str = "cameras",
    version: int = 1,
    models: Sequence[str] = ("m0",),
    real: bool = True,
    budget: Mapping[str, Any] | None = None,
    golden_error: float = 0.0,
    wrong_labels: bool = False,
    least_accuracy: float = 0.9,
    layers: int = 1,
    extra: Mapping[str, bytes] | None = None,
) -> TinyBundle:
    """A bundle of networks on [1, 3, 4, 4], signed by ``keys`` (default: ``make_key()``).

    Args:
        real: whether the models are ONNX that a runtime can build; otherwise a few bytes.
        budget: changes to a budget that everything meets.
        golden_error: what is added to the golden outputs, so that the model is wrong.
        wrong_labels: label every sample with a class that the model does not give.
        layers: how many layers of 512 units: more take longer and more memory.
        extra: more files.
    """
    files: dict[str, bytes] = {
        "labels.json": canonical({"schema": 1, "labels": [f"class{number}" for number in range(CLASSES)]}),
        "preprocessing.json": canonical({"schema": 1, "layout": "NCHW", "colour": "RGB", "scale": 1 / 255}),
        **(extra or {}),
    }
    images = np.random.default_rng(version).standard_normal((8, *SHAPE[1:])).astype(np.float32)
    records = []
    for number, model in enumerate(models):
        weights = _weights(seed=1000 * version + number, layers=layers if real else 1)
        outputs = _forward(weights, images)
        directory = f"models/{model}"
        files[f"{directory}/model.onnx"] = _onnx(weights) if real else f"onnx {version} {number}".encode()
        files[f"{directory}/golden-inputs.npy"] = _npy(images[:4])
        files[f"{directory}/golden-outputs.npy"] = _npy(outputs[:4] + np.float32(golden_error))
        if number == 0:
            files["samples/images.npy"] = _npy(images)
            labels = outputs.argmax(axis=-1).astype(np.int64)
            files["samples/labels.npy"] = _npy((labels + wrong_labels) % CLASSES)
        records.append(_model_record(model, directory, dict(budget or {})))
    manifest = {
        "schema": 1,
        "kind": "bundle",
        "name": name,
        "version": version,
        "files": {
            path: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        },
        "runtime": RUNTIME,
        "models": records,
        "samples": {
            "images": "samples/images.npy",
            "labels": "samples/labels.npy",
            "least_accuracy": least_accuracy if len(models) == 1 else 0.0,
        },
        "labels": "labels.json",
        "preprocessing": "preprocessing.json",
        "checked": None,
        "provenance": {
            "space": "none",
            "architectures": {},
            "supernet_sha256": "0" * 64,
            "git_revision": None,
            "hwnas": "0",
        },
    }
    return TinyBundle(manifest, files, keys or (make_key(),))


def tiny_detector(*keys: Ed25519PrivateKey, version: int = 1, wrong: str | None = None) -> TinyBundle:
    """A bundle as of a detector: two outputs, each with golden answers of its own, and no labelled samples.

    Args:
        wrong: the output whose golden answers are not what the model gives.
    """
    images = np.random.default_rng(version).standard_normal((4, *SHAPE[1:])).astype(np.float32)
    weights = {"boxes": _weights(version, 1)[0][:, :4], "scores": 10 * _weights(version + 1, 1)[0]}
    files = {
        "labels.json": canonical({"schema": 1, "labels": [f"class{number}" for number in range(CLASSES)]}),
        "preprocessing.json": canonical({"schema": 2, "resize": {"fit": "letterbox"}}),
        "models/m0/model.onnx": _heads(weights),
        "models/m0/golden-inputs.npy": _npy(images),
    }
    record = _model_record("m0", "models/m0", {})
    record["outputs"], golden = [], []
    for name, matrix in weights.items():
        outputs = images.reshape(len(images), -1) @ matrix
        path = f"models/m0/golden-{name}.npy"
        files[path] = _npy(outputs + np.float32(name == wrong))
        golden.append({"values": path, "absolute": 1e-3 if name == "boxes" else 1e-2, "relative": 1e-2})
        record["outputs"].append({"name": name, "dtype": "float32", "shape": [SHAPE[0], matrix.shape[1]]})
    record["golden"] = {"inputs": "models/m0/golden-inputs.npy", "outputs": golden}
    described = {
        path: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for path, content in files.items()
    }
    manifest = tiny_bundle(version=version, real=False).manifest
    changes = {"schema": 2, "files": described, "models": [record], "samples": None}
    return TinyBundle({**manifest, **changes}, files, keys or (make_key(),))


def _model_record(model: str, directory: str, budget: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": model,
        "onnx": f"{directory}/model.onnx",
        "input": {"name": "input", "dtype": "float32", "shape": list(SHAPE)},
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [SHAPE[0], CLASSES]}],
        "engines": [],
        "golden": {
            "inputs": f"{directory}/golden-inputs.npy",
            "outputs": f"{directory}/golden-outputs.npy",
            "absolute": 1e-3,
            "relative": 1e-2,
        },
        "accuracy": 0.9,
        "expected_ms": 0.1,
        "budget": {"statistic": "p99", "latency_ms": 1000.0, "memory_mib": 4096.0, **budget},
    }


def _heads(weights: Mapping[str, np.ndarray]) -> bytes:
    """A model of one layer for each output."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Flatten", ["input"], ["values"])]
    nodes += [helper.make_node("MatMul", ["values", f"to_{name}"], [name]) for name in weights]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (SHAPE[0], matrix.shape[1]))
            for name, matrix in weights.items()
        ],
        [numpy_helper.from_array(matrix, f"to_{name}") for name, matrix in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _weights(seed: int, layers: int) -> list[np.ndarray]:
    """Of a perceptron: hidden layers of 512 units, if any, and one of the classes."""
    generator = np.random.default_rng(seed)
    widths = [int(np.prod(SHAPE[1:])), *[512] * (layers - 1), CLASSES]
    return [
        (generator.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        for rows, columns in pairwise(widths)
    ]


def _forward(weights: list[np.ndarray], images: np.ndarray) -> np.ndarray:
    values = images.reshape(len(images), -1)
    for number, matrix in enumerate(weights):
        values = (np.maximum(values, 0) if number else values) @ matrix
    return values


def _onnx(weights: list[np.ndarray]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Flatten", ["input"], ["values0"])]
    value = "values0"
    for number, _ in enumerate(weights):
        if number:
            nodes.append(helper.make_node("Relu", [value], [f"active{number}"]))
            value = f"active{number}"
        result = "logits" if number == len(weights) - 1 else f"values{number + 1}"
        nodes.append(helper.make_node("MatMul", [value, f"weights{number}"], [result]))
        value = result
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (SHAPE[0], CLASSES))],
        [numpy_helper.from_array(matrix, f"weights{number}") for number, matrix in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
