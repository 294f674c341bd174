"""Scales of activations, from what a model computes for calibration images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from hwnas.export.errors import ExportError
from hwnas.export.scoring import Array, Sample, run, session
from hwnas.graphs.qdq import INT8_MAX
from hwnas.progress import Progress

Calibration = Literal["entropy", "percentile", "min-max"]
CALIBRATIONS: tuple[Calibration, ...] = ("entropy", "percentile", "min-max")
PERCENTILE = 99.99
"""Of the magnitudes (Wu et al. 2020, "Integer Quantization for Deep Learning Inference", Sec. 5.2)."""
_BINS = {"entropy": 512, "percentile": 2048}
_INT8_LEVELS = 128
"""Levels of a magnitude, as in the entropy calibration that TensorRT had (Migacz 2017, GTC S7310)."""


def activation_scales(
    model: ModelProto, tensors: Sequence[str], sample: Sample, method: Calibration, progress: Progress
) -> dict[str, float]:
    """Size of one step of 127 for each tensor.

    Args:
        model: float32, static input [b, 3, r, r].
        tensors: its input or inner tensors.
        sample: at least one image.
        method: what the largest magnitude that is represented is: ``min-max``, the largest that occurs; ``percentile``,
            that of 99.99 % of the values; ``entropy``, the one with the least Kullback-Leibler divergence of the
            histogram from its quantised form.  Histograms are ONNX Runtime's.

    Raises:
        ExportError: a value is not finite.
    """
    collector = _LargestMagnitude() if method == "min-max" else _Histograms(method)
    progress.start(f"calibrating ({method})", len(sample), unit="images")
    done = 0
    for values in run(session(_with_outputs(model, tensors)), sample):
        for tensor in tensors:
            _require_finite(values[tensor], tensor, sample, done)
        collector.add({tensor: values[tensor] for tensor in tensors})
        batch = len(values[tensors[0]])
        done += batch
        progress.advance(batch)
    progress.finish()
    return {tensor: limit / INT8_MAX for tensor, limit in collector.limits()}


class _LargestMagnitude:
    def __init__(self) -> None:
        self._largest: dict[str, float] = {}

    def add(self, values: dict[str, Array]) -> None:
        for tensor, array in values.items():
            self._largest[tensor] = max(self._largest.get(tensor, 0.0), float(np.abs(array).max()))

    def limits(self) -> Iterator[tuple[str, float]]:
        yield from self._largest.items()


class _Histograms:
    """ONNX Runtime's collector, which talks to the standard output."""

    def __init__(self, method: str) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._collector = HistogramCollector(
            method=method,
            symmetric=True,
            num_bins=_BINS[method],
            num_quantized_bins=_INT8_LEVELS,
            percentile=PERCENTILE,
            scenario="same",
        )

    def add(self, values: dict[str, Array]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._collector.collect(values)

    def limits(self) -> Iterator[tuple[str, float]]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._collector.compute_collection_result()
        for tensor, (low, high, *_) in found.items():
            yield tensor, max(abs(float(low)), abs(float(high)))


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """The model with inner tensors among its outputs."""
    opened = ModelProto()
    opened.CopyFrom(model)
    known = {value.name for value in (*model.graph.output, *model.graph.input)}
    opened.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in known
    )
    return opened


def _require_finite(values: Array, tensor: str, sample: Sample, begin: int) -> None:
    if not np.isfinite(values).all():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        raise ExportError(
            f"Activation '{tensor}' is not finite for image {begin + int(np.argmin(finite))} of the {sample.name} "
            "images; no scale can be found for it. Check the model's weights."
        )
