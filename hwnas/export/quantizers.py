"""What puts Q and DQ into a model: nvidia-modelopt, or ONNX Runtime's calibration with our own placement."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
from onnx import ModelProto

from hwnas.export.calibration import Calibration
from hwnas.export.errors import ExportError
from hwnas.export.half import at_opset, half_precision
from hwnas.export.scoring import Sample
from hwnas.graphs import Layer, Remainder, insert_qdq, quantisable_layers
from hwnas.graphs.precision import FP16_QDQ_OPSET

Scales = dict[str, float]
MODELOPT_METHODS: dict[Calibration, str] = {"entropy": "entropy", "min-max": "max"}


class Quantizer(Protocol):
    """Makes INT8 models of one float32 model, each with other layers left in higher precision."""

    made_by: str
    """The tool and its version."""

    def quantize(self, layers: Sequence[Layer], remainder: Remainder) -> ModelProto:
        """The model with ``layers`` of it in INT8 and all others in the remainder's precision."""


class OnnxRuntimeQuantizer:
    """Scales from ONNX Runtime's calibration; pairs where :mod:`hwnas.graphs.layers` says."""

    def __init__(self, model: ModelProto, scales: Scales) -> None:
        import onnxruntime

        self.made_by = f"onnxruntime {onnxruntime.__version__}"
        self._float, self._scales = model, scales

    def quantize(self, layers: Sequence[Layer], remainder: Remainder) -> ModelProto:
        """As :meth:`Quantizer.quantize`."""
        if remainder == "fp32":
            return insert_qdq(self._float, layers, self._scales)
        # ONNX Runtime's converter keeps every name, by which layers are found again.
        half = at_opset(half_precision(self._float, tool="onnxruntime")[0], FP16_QDQ_OPSET)
        halves = {layer.name: layer for layer in quantisable_layers(half)}
        chosen = [halves[layer.name] for layer in layers]
        # The conversion may have put casts before what a layer reads.
        pairs = zip(layers, chosen, strict=True)
        scales = {h: self._scales[f] for a, b in pairs for f, h in zip(a.tensors, b.tensors, strict=True)}
        return insert_qdq(half, chosen, scales)


class ModelOptQuantizer:
    """NVIDIA's own quantiser, restricted to the layers asked for."""

    def __init__(self, model: ModelProto, sample: Sample, method: Calibration) -> None:
        import modelopt

        self.made_by = f"nvidia-modelopt {modelopt.__version__}"
        self._model, self._method = model, method
        shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
        whole = len(sample) // shape[0] * shape[0]
        self._images = np.concatenate([images.numpy() for images in sample.batches(shape[-1], shape[0])])[:whole]

    def quantize(self, layers: Sequence[Layer], remainder: Remainder) -> ModelProto:
        """As :meth:`Quantizer.quantize`; the calibration runs again each time.

        Raises:
            ExportError: it failed.
        """
        from modelopt.onnx.quantization import quantize

        logging.getLogger("modelopt").setLevel(logging.ERROR)
        wanted = {read.reader for layer in layers for read in layer.reads}
        left = [node.name for node in self._model.graph.node if node.output[0] not in wanted]
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
            source, result = Path(directory) / "model.onnx", Path(directory) / "quantised.onnx"
            onnx.save(self._model, source)
            try:
                quantize(
                    str(source),
                    quantize_mode="int8",
                    calibration_data=self._images,
                    calibration_method=MODELOPT_METHODS[self._method],
                    calibration_eps=["cpu"],
                    nodes_to_exclude=[re.escape(name) for name in left],
                    high_precision_dtype=remainder,
                    output_path=str(result),
                    log_level="ERROR",
                )
                return onnx.load(result)
            except Exception as error:  # it raises whatever its parts do
                raise ExportError(f"nvidia-modelopt cannot quantise the model ({error}); use onnxruntime.") from error
