"""From a plain network to an ONNX file that is checked, and from there to figures of its engine on a device."""

from hwnas.export.benchmark import BenchmarkOptions, BenchmarkResult, Timing, benchmark
from hwnas.export.comparison import ComparedEngine, CompareOptions, Comparison, Contender, Ratio, compare
from hwnas.export.errors import ExportError, ParityError
from hwnas.export.metadata import input_resolution, model_metadata, read_metadata
from hwnas.export.onnx import ExportedModel, export_onnx
from hwnas.export.parity import PARITY_LIMIT, parity
from hwnas.export.roofline import Roofline, Roofs, Work, measure_roofs, work_of

__all__ = [
    "PARITY_LIMIT",
    "BenchmarkOptions",
    "BenchmarkResult",
    "CompareOptions",
    "ComparedEngine",
    "Comparison",
    "Contender",
    "ExportError",
    "ExportedModel",
    "ParityError",
    "Ratio",
    "Roofline",
    "Roofs",
    "Timing",
    "Work",
    "benchmark",
    "compare",
    "export_onnx",
    "input_resolution",
    "measure_roofs",
    "model_metadata",
    "parity",
    "read_metadata",
    "work_of",
]
