"""What an ONNX model answers to images, by ONNX Runtime, and how much accuracy another form of it loses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

from hwnas.agent.runtimes.quiet_ort import ort
from hwnas.data import ImageSet, to_input
from hwnas.data.dataset import Triple
from hwnas.export.errors import ExportError
from hwnas.progress import Progress

Array = npt.NDArray[np.float32]
NORMAL_QUANTILE = 1.959964
"""Two-sided 95 %."""
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Sample:
    """Images of one split, as a model takes them.

    Attributes:
        name: of the split that they are from, as reports call it.
        images: uint8, with their labels.
        mean, std: by which pixels scaled to 0..1 are normalised.
    """

    name: str
    images: ImageSet
    mean: Triple
    std: Triple

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> Sample:
        """At most so many of the images."""
        return replace(self, images=ImageSet(self.images.pixels[:count], self.images.labels[:count]))

    def batches(self, resolution: int, size: int) -> Iterator[Tensor]:
        """Inputs float32 [≤ size, 3, resolution, resolution] of all images in their order."""
        for pixels in torch.split(self.images.pixels, size):
            yield to_input(pixels, resolution, self.mean, self.std)


def session(model: ModelProto) -> ort.InferenceSession:
    """A session on one thread that computes Q and DQ as they are written.

    ONNX Runtime would otherwise look for integer kernels for some of the pairs, with other rounding.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(opened: ort.InferenceSession, sample: Sample) -> Iterator[dict[str, Array]]:
    """Input and outputs by name of a model of static input [b, 3, r, r], b images at a time without the padding."""
    entrance = opened.get_inputs()[0]
    names = [output.name for output in opened.get_outputs()]
    batch, _, resolution, _ = entrance.shape
    kind = np.float16 if entrance.type == "tensor(float16)" else np.float32
    for images in sample.batches(resolution, batch):
        padded = functional.pad(images, (0, 0) * 3 + (0, batch - len(images)))
        outputs = opened.run(names, {entrance.name: padded.numpy().astype(kind, copy=False)})
        values = zip((entrance.name, *names), (images.numpy(), *outputs), strict=True)
        yield {name: array[: len(images)] for name, array in values}


def logits(model: ModelProto, sample: Sample, progress: Progress, what: str = "scoring") -> Array:
    """Logits [n, classes] for a sample.

    Raises:
        ExportError: one is not finite.
    """
    output = model.graph.output[0].name
    found: list[Array] = []
    progress.start(what, len(sample), unit="images")
    for values in run(session(model), sample):
        found.append(values[output])
        progress.advance(len(values[output]))
    progress.finish()
    answers = np.concatenate(found)
    if not np.isfinite(answers).all():
        image = int(np.flatnonzero(~np.isfinite(answers).all(axis=1))[0])
        raise ExportError(
            f"Logits are not finite for image {image} of the {sample.name} images ({what}); check the model's weights "
            "and that it was exported from a network in evaluation mode."
        )
    return answers


def hits(answers: Array, sample: Sample) -> npt.NDArray[np.bool_]:
    """Which images are classified rightly, [n]."""
    right: npt.NDArray[np.bool_] = answers.argmax(axis=1) == sample.images.labels.numpy()
    return right


class PairedLoss(BaseModel):
    """Accuracy that one model loses against another on the same images, in points (hundredths).

    Attributes:
        n: images.
        lost, gained: images that only the other, or only this one classifies rightly.
        points: top-1 lost, 100·(lost - gained)/n; negative if it gained.
        low, high: the 95 % interval of ``points`` by Bonett and Price 2012, "Adjusted Wald Confidence Interval for a
            Difference of Binomial Proportions Based on Paired Data", Eq. 3: one image added to each kind of discord.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    lost: int
    gained: int
    points: float
    low: float
    high: float

    @classmethod
    def of(cls, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> PairedLoss:
        """The loss from hits [n] to hits [n] on the same images."""
        n, lost, gained = len(before), int((before & ~after).sum()), int((after & ~before).sum())
        one, other = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
        centre = one - other
        width = NORMAL_QUANTILE * math.sqrt((one + other - centre**2) / (n + 2))
        points = 100 * (lost - gained) / n
        return cls(
            n=n,
            lost=lost,
            gained=gained,
            points=points,
            low=100 * max(centre - width, -1.0),
            high=100 * min(centre + width, 1.0),
        )
