"""A verified bundle in the forms of fleet managers: Mender, RAUC, Triton.  Its own signature travels inside."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwnas.deploy.archive import SUFFIX, gzipped, write_tar
from hwnas.deploy.bundle import Bundle, write_bundle_archive
from hwnas.deploy.manifest import Labels, ModelEntry, TensorEntry
from hwnas.errors import UserError
from hwnas.files import atomic_path, explain_os_errors, read_model, write_atomic

MENDER_TYPE = "hwnas"
"""The update module that installs the payload."""
_DEVICE_HAS_GPU = ("tensorrt", "tensorrt_rtx")
_CPU = "CPUExecutionProvider"
_TRITON_TYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def write_mender(bundle: Bundle, path: Path, device_types: Sequence[str]) -> None:
    """Write a Mender artifact, format version 3, unsigned; equal bundles give equal bytes.

    The format is that of mender-artifact's Documentation/artifact-format-v3.md; the payload is the bundle's archive,
    for the update module that :func:`update_module` gives.

    Args:
        bundle: its directory, verified.
        device_types: Mender's names of the boards that may take it.

    Raises:
        UserError: there are none.
    """
    if not device_types:
        raise UserError("A Mender artifact says for which device types it is; give --device-type.")
    manifest = bundle.manifest
    name = f"{manifest.stem}{SUFFIX}"
    version = _json({"format": "mender", "version": 3})
    header = gzipped(_tar(_mender_header(bundle, device_types)))
    with TemporaryDirectory() as directory:
        archive = Path(directory) / name
        write_bundle_archive(bundle, archive)
        payload = archive.read_bytes()
    sums = {f"data/0000/{name}": payload, "header.tar.gz": header, "version": version}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {file}\n" for file, content in sums.items()]
    members: dict[str, bytes] = {
        "version": version,
        "manifest": "".join(lines).encode(),
        "header.tar.gz": header,
        "data/0000.tar.gz": gzipped(_tar({name: payload})),
    }
    write_atomic(path, _tar(members))


def _mender_header(bundle: Bundle, device_types: Sequence[str]) -> dict[str, bytes]:
    manifest = bundle.manifest
    provides = {f"hwnas.{manifest.name}.version": str(manifest.version), f"hwnas.{manifest.name}.digest": bundle.digest}
    return {
        "header-info": _json(
            {
                "payloads": [{"type": MENDER_TYPE}],
                "artifact_provides": {"artifact_name": manifest.stem},
                "artifact_depends": {"device_type": list(device_types)},
            }
        ),
        "headers/0000/type-info": _json({"type": MENDER_TYPE, "artifact_provides": provides}),
        "headers/0000/meta-data": b"",
    }


def update_module() -> bytes:
    """The script that Mender runs on a board for artifacts of type ``hwnas``."""
    return _module("mender.sh")


def write_rauc(bundle: Bundle, path: Path, compatible: str | None, certificate: Path | None, key: Path | None) -> None:
    """Write a RAUC bundle, signed with the user's certificate, that carries the bundle and a handler to install it.

    RAUC's own program makes it, with time stamps and a signature of its own: two of them are not equal.

    Args:
        bundle: its directory, verified.
        compatible: RAUC's name of the boards.
        certificate, key: PEM files that ``rauc bundle`` signs with.

    Raises:
        UserError: one is missing, ``rauc`` is not here, or it refused.
    """
    if compatible is None or certificate is None or key is None:
        raise UserError("A RAUC bundle is for one kind of board and signed: give --compatible, --cert and --cert-key.")
    program = shutil.which("rauc")
    if program is None or shutil.which("mksquashfs") is None:
        raise UserError(
            "RAUC bundles are made by the programs rauc and mksquashfs, which are not here; install them "
            "(Debian: rauc, squashfs-tools)."
        )
    with TemporaryDirectory() as directory:
        source = Path(directory) / "bundle"
        source.mkdir()
        (source / "manifest.raucm").write_text(
            f"[update]\ncompatible={compatible}\nversion={bundle.manifest.version}\n"
            f"description={bundle.manifest.stem}\n\n[bundle]\nformat=verity\n\n[handler]\nfilename=install.sh\n"
        )
        handler = source / "install.sh"
        handler.write_bytes(_module("rauc.sh"))
        handler.chmod(0o755)
        write_bundle_archive(bundle, source / f"{bundle.manifest.stem}{SUFFIX}")
        made = Path(directory) / "made.raucb"
        command = [program, "bundle", f"--cert={certificate}", f"--key={key}", str(source), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not made.exists():
            words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise UserError(f"rauc made no bundle: {words[0]}")
        with atomic_path(path) as temporary:
            shutil.copyfile(made, temporary)


def write_triton(bundle: Bundle, directory: Path, engine: int | None = None) -> list[Path]:
    """Add the bundle's models to a model repository of Triton: ``MODEL/config.pbtxt`` and ``MODEL/VERSION/model.onnx``.

    The configuration is of Triton's ModelConfig (``protobuf/model_config.proto``): the batch is part of the shapes.

    Args:
        bundle: its directory, verified.
        directory: the repository; other versions and models in it stay.
        engine: which of the prebuilt TensorRT engines of each model is taken; ``None``: the ONNX model.

    Returns:
        The models' directories.

    Raises:
        UserError: a model has no such engine, or a version is there already.
    """
    manifest = bundle.manifest
    alone = len(manifest.models) == 1
    written = []
    for model in manifest.models:
        name = manifest.name if alone else f"{manifest.name}-{model.id}"
        at = directory / name / str(manifest.version)
        if at.exists():
            raise UserError(f"{at} is there already; Triton takes a version for what it was first.")
        source, file = _triton_model(model, engine)
        labels = read_model(bundle.path / manifest.labels, Labels, what="labels").labels
        labelled = bool(labels) and len(model.outputs) == 1  # of several, labels are of no whole output
        config = _triton_config(name, model, manifest.runtime, labelled=labelled, plan=engine is not None)
        with explain_os_errors(at):
            at.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(at.parent / "config.pbtxt", config)
        if labels:
            write_atomic(at.parent / "labels.txt", "".join(f"{label}\n" for label in labels))
        write_atomic(at / file, (bundle.path / source).read_bytes())
        written.append(at.parent)
    return written


def _triton_model(model: ModelEntry, engine: int | None) -> tuple[str, str]:
    """The file of the bundle, and what Triton calls it."""
    if engine is None:
        return model.onnx, "model.onnx"
    if not 0 <= engine < len(model.engines) or model.engines[engine].runtime != "tensorrt":
        raise UserError(f"model {model.id} has no prebuilt TensorRT engine number {engine}; leave --engine out.")
    return model.engines[engine].file, "model.plan"


def _triton_config(name: str, model: ModelEntry, runtime: Mapping[str, Any], *, labelled: bool, plan: bool) -> str:
    on_gpu = runtime["runtime"] in _DEVICE_HAS_GPU or runtime.get("provider", _CPU) != _CPU
    outputs = [
        _triton_tensor(tensor, 'label_filename: "labels.txt"' if labelled and number == 0 else None)
        for number, tensor in enumerate(model.outputs)
    ]
    lines = [
        f"name: {json.dumps(name)}",
        f'platform: "{"tensorrt_plan" if plan else "onnxruntime_onnx"}"',
        "max_batch_size: 0",
        f"input [{_triton_tensor(model.input)}]",
        f"output [{', '.join(outputs)}]",
        f"instance_group [{{ kind: KIND_{'GPU' if on_gpu else 'CPU'} count: 1 }}]",
        "version_policy { latest { num_versions: 1 } }",
    ]
    if runtime["runtime"] == "tensorrt" and not plan:
        lines.append('optimization { execution_accelerators { gpu_execution_accelerator [{ name: "tensorrt" }] } }')
    return "\n".join(lines) + "\n"


def _triton_tensor(tensor: TensorEntry, more: str | None = None) -> str:
    kind = _TRITON_TYPES.get(tensor.dtype)
    if kind is None:
        raise UserError(f"Triton has no type for {tensor.dtype}, which tensor {tensor.name} is of.")
    dims = ", ".join(map(str, tensor.shape))
    parts = [
        f"name: {json.dumps(tensor.name)}",
        f"data_type: TYPE_{kind}",
        f"dims: [{dims}]",
        *([more] if more else []),
    ]
    return f"{{ {' '.join(parts)} }}"


def _module(name: str) -> bytes:
    return resources.files("hwnas.deploy").joinpath("modules", name).read_bytes()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _tar(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    write_tar(members.items(), buffer)
    return buffer.getvalue()
