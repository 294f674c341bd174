"""The networks of a run as ONNX files, each exported when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hwnas.data import Dataset
from hwnas.export import ExportedModel
from hwnas.files import sha256_of, write_json
from hwnas.pipeline.documents import ExportRecord
from hwnas.pipeline.forms import Form
from hwnas.pipeline.networks import export_subnet, export_yardstick
from hwnas.pipeline.run.run import Run
from hwnas.spaces import Architecture

YARDSTICK = "mobilenet_v3_small"


def model_path(run: Run, name: str) -> Path:
    """Where a network is or will be exported; its :class:`ExportRecord` is beside it, with the suffix ``.json``."""
    return run.directory / "models" / f"{name}.onnx"


def yardstick_name(resolution: int) -> str:
    """What the exported yardstick is called: ``mobilenet_v3_small-28``."""
    return f"{YARDSTICK}-{resolution}"


def subnet_model(run: Run, architecture: Architecture, precision: str | None = None) -> Path:
    """The ONNX file of a subnet, by default in the run's precision."""
    used = precision or run.options.precision
    return _exported(
        run,
        str(Form(architecture.id, precision)),
        used,
        lambda path: export_subnet(run.supernet, architecture, run.dataset, path, used, run.options.remainder),
    )


def yardstick_model(run: Run, resolution: int) -> Path:
    """The ONNX file of MobileNetV3-Small in the run's precision, not trained."""
    dataset, options = run.dataset, run.options
    assert isinstance(dataset, Dataset), "it is a classifier"
    return _exported(
        run,
        yardstick_name(resolution),
        options.precision,
        lambda path: export_yardstick(resolution, dataset, path, options.precision, options.remainder),
    )


def _exported(run: Run, name: str, precision: str, export: Callable[[Path], ExportedModel]) -> Path:
    """The file, made if it is not there."""
    path = model_path(run, name)
    record_path = path.with_suffix(".json")

    def write() -> None:
        model = export(path)
        assert model.parity is not None, "images were given"
        write_json(
            record_path,
            ExportRecord(sha256=model.sha256, opset=model.opset, ir_version=model.ir_version, parity=model.parity),
        )

    inputs = {"weights": sha256_of(run.weights_path), "name": name, **run.converted(precision)}
    run.steps.do(f"export/{name}", inputs, lambda: [path, record_path], write)
    return path
