"""From a plain network to an ONNX file that is checked, and from there to figures of its engine on a device."""

from hwnas.export.benchmark import BenchmarkOptions, BenchmarkResult, benchmark
from hwnas.export.calibration import CALIBRATIONS, Calibration
from hwnas.export.comparison import ComparedEngine, CompareOptions, Comparison, Contender, Ratio, compare
from hwnas.export.dla import without_qdq
from hwnas.export.engine import EngineRecord, build_engine
from hwnas.export.engine_figures import Timing
from hwnas.export.errors import AccuracyLostError, ExportError, ParityError
from hwnas.export.finetuning import FineTuning
from hwnas.export.half import half_precision
from hwnas.export.metadata import input_resolution, load_model, model_metadata, read_metadata
from hwnas.export.onnx import ExportedModel, export_onnx
from hwnas.export.parity import PARITY_LIMIT, parity
from hwnas.export.quantization import Images, QuantizationOptions, QuantizedModel, quantize
from hwnas.export.quantization_record import QuantizationRecord
from hwnas.export.roofline import Roofline, Roofs, Work, measure_roofs, work_of
from hwnas.export.samples import quantization_images
from hwnas.export.scoring import PairedLoss, Sample

__all__ = [
    "CALIBRATIONS",
    "PARITY_LIMIT",
    "AccuracyLostError",
    "BenchmarkOptions",
    "BenchmarkResult",
    "Calibration",
    "CompareOptions",
    "ComparedEngine",
    "Comparison",
    "Contender",
    "EngineRecord",
    "ExportError",
    "ExportedModel",
    "FineTuning",
    "Images",
    "PairedLoss",
    "ParityError",
    "QuantizationOptions",
    "QuantizationRecord",
    "QuantizedModel",
    "Ratio",
    "Roofline",
    "Roofs",
    "Sample",
    "Timing",
    "Work",
    "benchmark",
    "build_engine",
    "compare",
    "export_onnx",
    "half_precision",
    "input_resolution",
    "load_model",
    "measure_roofs",
    "model_metadata",
    "parity",
    "quantization_images",
    "quantize",
    "read_metadata",
    "without_qdq",
    "work_of",
]
