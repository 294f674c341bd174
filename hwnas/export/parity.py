"""Whether an ONNX model computes what the network that it was exported from computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwnas.agent.runtimes.quiet_ort import ort

PARITY_LIMIT = 1e-4
"""Largest absolute difference of any logit at which a model still counts as the same network."""


@torch.inference_mode()
def parity(network: nn.Module, model: Path | bytes, images: Tensor) -> float:
    """Largest absolute difference between the outputs of torch and of ONNX Runtime's CPU provider.

    Args:
        network: in evaluation mode, on the CPU.
        model: an ONNX file or its content, of static shape [b, 3, r, r].
        images: float32 [n, 3, r, r], n ≥ 1; they pass through the model b at a time, the last ones with padding.

    Returns:
        The difference; NaN if either side gives NaN.

    Raises:
        ValueError: there are no images, or they do not have the model's size.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    entrance = session.get_inputs()[0]
    batch, *size = entrance.shape
    if not len(images) or list(images.shape[1:]) != size:
        raise ValueError(f"the model takes at least one image of {size}, not {list(images.shape)}")
    worst = 0.0
    for piece in torch.split(images, batch):
        padded = functional.pad(piece, (0, 0) * 3 + (0, batch - len(piece)))
        expected = network(piece)
        outputs = (expected,) if isinstance(expected, Tensor) else expected
        for found, output in zip(session.run(None, {entrance.name: padded.numpy()}), outputs, strict=True):
            # np.maximum hands NaN on, Python's max does not.
            worst = float(np.maximum(worst, np.abs(found[: len(piece)] - output.numpy()).max()))
    return worst
