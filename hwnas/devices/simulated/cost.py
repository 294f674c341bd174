"""What a model takes on a simulated board that nothing disturbs.

Operators are fused into kernels.  Each takes as long as its arithmetic or its memory traffic, whichever is longer,
and may begin only once the host has launched it, which the host does one after the other while earlier kernels run.
So a network is not the sum of its blocks: launches hide beneath large kernels, weights that fit into the cache alone do
not do so together, and only a model's own input and output are converted to the board's layout.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from hwnas.graphs import Operator, Operators, read_operators

_BYTES = 4
_KINDS = ("dense", "pointwise", "depthwise", "linear", "other")
_GMACS_PER_S = {"dense": 25.0, "pointwise": 30.0, "depthwise": 9.0, "linear": 8.0, "other": 1.0}
_ELEMENTWISE = ("Relu", "HardSwish", "HardSigmoid", "Sigmoid", "Clip", "Add", "Mul")
_VIEWS = ("Flatten", "Reshape", "Identity")
_FUSED_RESIDUAL_AT_MOST = 2500
"""Elements of a sum that its last convolution still adds while it writes; a larger one is a kernel of its own."""
_LANES = 16
"""Channels are computed so many at a time."""
_SHARPNESS = 4.0
"""How sharply a kernel is bound by the slower of arithmetic and memory; infinite: by that alone."""
_SPREAD = 0.25
"""Standard deviation of the logarithm of each coefficient from board to board."""


@dataclass(frozen=True)
class Kernel:
    """Operators that run as one; sizes are in elements."""

    kind: str
    macs: int
    moved: int
    """Elements of feature maps read and written."""
    weights: int
    channels: int
    window: int


class CostModel:
    """The coefficients of one board; the same seed is the same board."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)

        def about(value: float) -> float:
            return float(value * np.exp(_SPREAD * rng.standard_normal()))

        self._s_per_mac = {kind: 1e-9 / about(_GMACS_PER_S[kind]) for kind in _KINDS}
        self._s_per_byte = 1e-9 / about(12.0)
        self._s_per_border_byte = 1e-9 / about(5.0)
        self._s_per_far_byte = 1e-9 / about(16.0)
        """Of a weight that does not come from the nearest cache."""
        self._cache_bytes = about(256e3)
        self._kernel_s = about(0.6e-6)
        self._launch_s = about(1.5e-6)
        self._window_penalty = {1: 1.0, 3: 1.0, 5: about(0.9), 7: about(0.8)}
        """Depthwise kernels of other windows are worse or better than their arithmetic says."""
        self._models: dict[bytes, Operators] = {}
        self._seconds: dict[tuple[bytes, float], float] = {}

    def operators(self, content: bytes) -> Operators:
        """Those of an ONNX model, read once.

        Raises:
            ValueError: it is none, or a tensor's shape is not static.
        """
        sha256 = hashlib.sha256(content).digest()
        if sha256 not in self._models:
            self._models[sha256] = read_operators(content)
        return self._models[sha256]

    def seconds(self, content: bytes, compute_clock: float = 1.0) -> float:
        """One run of an ONNX model, with arithmetic at a share of its full clock and memory as fast as ever.

        Raises:
            ValueError: as :meth:`operators`.
        """
        key = (hashlib.sha256(content).digest(), compute_clock)
        if key not in self._seconds:
            self._seconds[key] = self._timeline(self.operators(content), compute_clock)
        return self._seconds[key]

    def _timeline(self, model: Operators, compute_clock: float) -> float:
        kernels = fused(model)
        total_weights = _BYTES * sum(kernel.weights for kernel in kernels)
        far_share = total_weights / (total_weights + self._cache_bytes)
        borders = sum(_BYTES * model.elements(tensor) for tensor in (*model.inputs, *model.outputs))
        end = 0.0
        for number, kernel in enumerate(kernels, start=1):
            launched = number * self._launch_s
            end = max(launched, end) + self._kernel_seconds(kernel, far_share, compute_clock)
        return end + borders * self._s_per_border_byte

    def _kernel_seconds(self, kernel: Kernel, far_share: float, compute_clock: float) -> float:
        padded = -(-kernel.channels // _LANES) * _LANES / kernel.channels
        penalty = self._window_penalty.get(kernel.window, 1.0) if kernel.kind == "depthwise" else 1.0
        compute = kernel.macs * self._s_per_mac[kernel.kind] * padded * penalty / compute_clock
        memory = _BYTES * (
            kernel.moved * self._s_per_byte + kernel.weights * (self._s_per_byte + far_share * self._s_per_far_byte)
        )
        bound = (compute**_SHARPNESS + memory**_SHARPNESS) ** (1.0 / _SHARPNESS)
        return float(self._kernel_s + bound)


def fused(model: Operators) -> list[Kernel]:
    """The kernels of a model: an elementwise operator joins the kernel whose only reader it is, and writes for it."""
    kernels: list[Kernel] = []
    at: dict[str, int] = {}
    """Which kernel gives a tensor."""
    for operator in model.operators:
        host = next((at[name] for name in operator.inputs if name in at and _joins(operator, name, model)), None)
        if host is None:
            at[operator.output] = len(kernels)
            kernels.append(_kernel(operator, model))
        else:
            at[operator.output] = host
            further = model.elements(operator.output) if len(operator.inputs) > 1 else 0
            kernels[host] = replace(kernels[host], moved=kernels[host].moved + further)
    return kernels


def _joins(operator: Operator, tensor: str, model: Operators) -> bool:
    if operator.op in _VIEWS:
        return True
    alone = model.readers[tensor] == 1 and model.elements(tensor) == model.elements(operator.output)
    small = len(operator.inputs) == 1 or model.elements(tensor) <= _FUSED_RESIDUAL_AT_MOST
    return operator.op in _ELEMENTWISE and alone and small


def _kernel(operator: Operator, model: Operators) -> Kernel:
    moved = sum(map(model.elements, operator.inputs)) + model.elements(operator.output)
    shape = model.shapes[operator.output]
    channels = shape[1] if len(shape) > 1 else 1
    # What multiplies nothing still touches every element once.
    macs = operator.macs or moved
    return Kernel(_kind(operator), macs, moved, operator.weights, channels, operator.kernel)


def _kind(operator: Operator) -> str:
    if operator.op in ("Gemm", "MatMul"):
        return "linear"
    if operator.op != "Conv":
        return "other"
    if operator.groups > 1:
        return "depthwise"
    return "pointwise" if operator.kernel == 1 else "dense"
