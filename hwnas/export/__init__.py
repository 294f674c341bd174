"""From a plain network to an ONNX file that is checked, and from there to figures of its engine on a device."""

from hwnas.export.benchmark import BenchmarkOptions, BenchmarkResult, Timing, benchmark
from hwnas.export.errors import ExportError, ParityError
from hwnas.export.metadata import input_resolution, model_metadata, read_metadata
from hwnas.export.onnx import ExportedModel, export_onnx
from hwnas.export.parity import PARITY_LIMIT, parity

__all__ = [
    "PARITY_LIMIT",
    "BenchmarkOptions",
    "BenchmarkResult",
    "ExportError",
    "ExportedModel",
    "ParityError",
    "Timing",
    "benchmark",
    "export_onnx",
    "input_resolution",
    "model_metadata",
    "parity",
    "read_metadata",
]
