"""Inputs with the outputs that they must give, and how far an engine's outputs may lie from them.

How far they may lie apart depends on what computes them.  The tolerance is a share of the outputs' root mean square, at
least twice the largest difference that ``scripts/measure_tolerances.py``, of detectors
``scripts/measure_detector_tolerances.py``, found between two right ways of computing the same network:

* FP32: other orders of summation and fused kernels.
* FP16, and FP32 on TensorRT, which computes in TF32 by default: both keep 11 bits of every product, so that the
  difference is that of FP16 from FP32.
* BF16: 8 bits of every product, whose rounding is eight times as coarse.
* INT8: integer kernels against Q and DQ as they are written, and pixels that differ by what FP16 rounds: a value that
  lies at the border of two steps falls to either side, and later layers carry that on.

Other weights, other preprocessing or INT8 without its scales move the outputs by more than their root mean square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import UserError

Array = npt.NDArray[Any]

EXACT, ELEVEN_BITS, STEPS = 1e-3, 0.02, 0.6
DETECTORS_ELEVEN_BITS = 2 * ELEVEN_BITS
_IN_TF32 = ("tensorrt", "tensorrt_rtx")
_DIGITS = 3


def tolerated_share(runtime: str, precision: str, *, detector: bool = False) -> float:
    """How far outputs may lie from the golden ones, as a share of these' root mean square."""
    eleven_bits = DETECTORS_ELEVEN_BITS if detector else ELEVEN_BITS
    exact = eleven_bits if runtime in _IN_TF32 else EXACT
    return {"fp32": exact, "fp16": eleven_bits, "bf16": 8 * eleven_bits}.get(precision, STEPS)


@dataclass(frozen=True)
class Expected:
    """What an output must be, float32 [n, ...], and how far from it is near enough.

    It is right where ``|output - values| <= absolute + relative·|values|``.
    """

    values: Array
    absolute: float
    relative: float = 0.0

    @classmethod
    def of(cls, values: Array, share: float, *, probabilities: bool = False) -> Expected:
        """With a tolerance of a ``share`` of the values' root mean square, of probabilities also of each one.

        Most of a detector's are near 0: what moves the logit of one of them, p, by d moves itself by up to p·d.

        Raises:
            UserError: a value is not finite, or all are 0, so that nothing could be told from them.
        """
        size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
        if not (np.isfinite(size) and size > 0):
            raise UserError("The model's outputs are not finite, or all 0; check its weights and its inputs.")
        absolute = float(f"{share * size:.{_DIGITS}g}")
        return cls(np.asarray(values, dtype=np.float32), absolute, share if probabilities else 0.0)


@dataclass(frozen=True)
class Answers:
    """Golden inputs [n, ...], and what each output of a model must be for them, in its order."""

    inputs: Array
    outputs: tuple[Expected, ...]


@dataclass(frozen=True)
class LabelledSamples:
    """Inputs [n, ...], their classes int64 [n], and the share that every model must classify rightly."""

    images: Array
    labels: npt.NDArray[np.int64]
    least_accuracy: float


def accuracy(outputs: Array, labels: npt.NDArray[np.int64]) -> float:
    """Share of rows whose largest output [n, classes] is that of the label."""
    return float(np.mean(outputs.argmax(axis=-1) == labels))


def least_accuracy(logits: Expected, labels: npt.NDArray[np.int64]) -> float:
    """The accuracy that remains where every answer that two right engines may disagree about is lost.

    Two outputs that each move by the largest difference that was measured, half of the tolerance, change places where
    they lie no further apart than the tolerance.
    """
    rows = np.arange(len(labels))
    right = logits.values[rows, labels]
    others = logits.values.copy()
    others[rows, labels] = -np.inf
    return float(np.mean(right - others.max(axis=-1) > logits.absolute))
