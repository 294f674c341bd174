"""Subnets in a precision: their models, and their accuracy in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from onnx import ModelProto

from hwnas.data import Dataset, ImageSet
from hwnas.errors import UserError
from hwnas.export.calibration import Calibration, activation_scales
from hwnas.export.half import half_precision
from hwnas.export.quantizers import OnnxRuntimeQuantizer
from hwnas.export.scoring import Sample, hits, logits
from hwnas.graphs import Remainder, network_graph, quantisable_layers
from hwnas.progress import Silent
from hwnas.search import SubnetEvaluator
from hwnas.search.evaluator import Evaluator
from hwnas.search.service import Service
from hwnas.search.service.recipe import subnet_evaluator
from hwnas.spaces import Architecture, precision_of, without_precision
from hwnas.supernet import PlainNetwork

PRECISION_EVALUATOR = "hwnas.pipeline.precision:precision_evaluator"
CALIBRATION: Calibration = "percentile"
"""By the largest magnitude that occurs, the winner of a search in ``small`` lost 2.3 points."""
CALIBRATION_IMAGES = 256
BATCH = 50
"""Images at once through a model that is scored."""


class PrecisionEvaluator:
    """Scores subnets as they compute in a precision; a :class:`hwnas.search.evaluator.Evaluator`.

    A subnet in FP32 is scored by ``evaluator``.  In FP16 or INT8 its ONNX model is converted, INT8 with scales from
    images of the recalibration split and all layers quantised, and run by ONNX Runtime on the validation split.

    Args:
        precision: of all; None where each architecture chooses its own.
        remainder: in INT8, of what is not quantised.

    Raises:
        UserError: the evaluator is of detectors.
    """

    def __init__(self, evaluator: SubnetEvaluator, precision: str | None, remainder: Remainder = "fp32") -> None:
        if not isinstance(evaluator.dataset, Dataset):
            raise UserError("Detectors are scored in fp32 alone; choose that precision, or a table of it.")
        self._evaluator, self._dataset = evaluator, evaluator.dataset
        self._precision, self._remainder = precision, remainder
        self._validation = sample_of(self._dataset, "validation")
        self.threads = evaluator.threads

    @property
    def identity(self) -> str:
        """Digest of weights and data, and how they are converted."""
        asked = self._precision or "chosen"
        return f"{self._evaluator.identity}-{asked}-{self._remainder}-{CALIBRATION}{CALIBRATION_IMAGES}"

    def __call__(self, architecture: Architecture) -> float:
        """Top-1 on the validation split, in 0..1."""
        precision = self._precision or precision_of(architecture) or "fp32"
        plain = without_precision(architecture)
        if precision == "fp32":
            return self._evaluator(plain)
        exact = folded_graph(self._evaluator.ready(plain), batch=BATCH)
        model = in_precision(exact, precision, self._remainder, self._dataset)
        return float(hits(logits(model, self._validation, Silent()), self._validation).mean())


def sample_of(dataset: Dataset, split: Literal["validation", "recalibration"], most: int | None = None) -> Sample:
    """The first images of a split, at most so many."""
    images: ImageSet = getattr(dataset, split)
    first = ImageSet(images.pixels[:most], images.labels[:most])
    return Sample(split, first, dataset.mean, dataset.std)


def folded_graph(network: PlainNetwork, batch: int = 1) -> ModelProto:
    """The ONNX model, float32, of a network whose batch norms are folded."""
    weights = {name: tensor.detach().contiguous().numpy() for name, tensor in network.state_dict().items()}
    return network_graph(network.network, batch=batch, weights=weights)


def in_precision(model: ModelProto, precision: str, remainder: Remainder, dataset: Dataset) -> ModelProto:
    """A float32 model in another precision, as all candidates of a search are converted.

    Raises:
        ExportError: an activation is not finite, or a converter failed.
    """
    if precision == "fp32":
        return model
    if precision == "fp16":
        return half_precision(model)[0]
    layers = quantisable_layers(model)
    tensors = list(dict.fromkeys(tensor for layer in layers for tensor in layer.tensors))
    calibration = sample_of(dataset, "recalibration", CALIBRATION_IMAGES)
    scales = activation_scales(model, tensors, calibration, CALIBRATION, Silent())
    return OnnxRuntimeQuantizer(model, scales).quantize(layers, remainder)


def evaluator_in(
    precisions: Sequence[str], evaluator: SubnetEvaluator, remainder: Remainder
) -> SubnetEvaluator | PrecisionEvaluator:
    """What scores subnets in one precision, or each in the one of several that it chooses.

    Raises:
        UserError: detectors are to be scored in another precision than FP32.
    """
    if tuple(precisions) == ("fp32",):
        return evaluator
    return PrecisionEvaluator(evaluator, precisions[0] if len(precisions) == 1 else None, remainder)


def service_in(
    precisions: Sequence[str],
    remainder: Remainder,
    scored: SubnetEvaluator | PrecisionEvaluator,
    service: Service | None,
) -> Service | None:
    """A service of subnets in FP32 as one of subnets in precisions, which ``scored`` scores here."""
    if service is None or isinstance(scored, SubnetEvaluator):
        return service
    precise = {"precisions": list(precisions), "remainder": remainder}
    recipe = service.recipe.model_copy(
        update={
            "maker": PRECISION_EVALUATOR,
            "settings": service.recipe.settings | precise,
            "identity": scored.identity,
        }
    )
    return replace(service, recipe=recipe)


def precision_evaluator(*, precisions: list[str], remainder: Remainder, **settings: Any) -> Evaluator:
    """Make, in a worker, the evaluator that :func:`service_in` describes.

    Raises:
        BadFileError: weights or data are missing or damaged.
    """
    return evaluator_in(precisions, cast(SubnetEvaluator, subnet_evaluator(**settings)), remainder)
