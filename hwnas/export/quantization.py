"""A float32 model in FP16 or INT8: calibrated, scored against itself, sensitive layers left in higher precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto, helper

from hwnas.errors import UserError
from hwnas.export.calibration import Calibration, activation_scales
from hwnas.export.finetuning import FineTuning, finetune
from hwnas.export.half import Tool, chosen_tool, half_precision
from hwnas.export.metadata import PREFIX
from hwnas.export.preparation import prepare
from hwnas.export.quantization_record import QuantizationRecord, Scored, Used
from hwnas.export.quantizers import MODELOPT_METHODS, ModelOptQuantizer, OnnxRuntimeQuantizer, Quantizer, Scales
from hwnas.export.scoring import PairedLoss, Sample, hits, logits
from hwnas.export.sensitivity import Attempt, fewest_left, sensitivities
from hwnas.graphs import Layer, Remainder, quantisable_layers
from hwnas.graphs.layers import WEIGHTED
from hwnas.progress import Progress, Silent


@dataclass(frozen=True)
class Images:
    """Disjoint images for the three uses that a quantisation has for them.

    Attributes:
        calibration: the activations' scales come from these.
        choice: on these sensitive layers are found.
        scored: the figures are of these, which nothing was chosen by.
        training: for fine-tuning; they may contain those of the calibration.
    """

    calibration: Sample
    choice: Sample
    scored: Sample
    training: Sample | None = None

    def require_some(self) -> None:
        """Refuse an empty part.

        Raises:
            UserError: naming it.
        """
        for use, sample in (("calibration", self.calibration), ("choice", self.choice), ("scored", self.scored)):
            if not len(sample):
                raise UserError(f"There are no {use} images; give at least one, and some hundreds for good figures.")


@dataclass(frozen=True)
class QuantizationOptions:
    """How a model is quantised.

    Attributes:
        precision: ``fp16``, or ``int8`` with what is not quantised in ``remainder``.
        remainder: ``fp16`` gives a model of opset 19 for TensorRT 10 and later; ``fp32`` one of the model's own opset
            for TensorRT 8.5 as well, whose builder may be allowed FP16.
        calibration: see :func:`hwnas.export.calibration.activation_scales`.
        max_drop: top-1 in points that may be lost against float32.
        tool: ``auto`` takes nvidia-modelopt where it is installed and knows the calibration method.
        keep_io: with ``fp16``, inputs and outputs stay float32.
        finetuning: tune the weights if INT8 in all layers loses too much; None leaves them.
    """

    precision: Literal["fp16", "int8"] = "int8"
    remainder: Remainder = "fp16"
    calibration: Calibration = "percentile"
    max_drop: float = 0.5
    tool: Tool = "auto"
    keep_io: bool = True
    finetuning: FineTuning | None = None

    def require_consistent(self) -> None:
        """Refuse options that would do nothing.

        Raises:
            UserError: naming the option.
        """
        if self.precision == "int8" and not self.keep_io:
            raise UserError("Float16 inputs and outputs (--half-io) are for FP16; an INT8 model keeps FP32 there.")
        if self.precision == "fp16" and self.finetuning is not None:
            raise UserError("Fine-tuning (--finetune) is for INT8; leave it out with FP16.")


@dataclass(frozen=True)
class QuantizedModel:
    """An ONNX model, and how it came about."""

    model: ModelProto
    record: QuantizationRecord


def quantize(
    model: ModelProto, images: Images, options: QuantizationOptions | None = None, progress: Progress | None = None
) -> QuantizedModel:
    """Bring a model to FP16 or INT8 and say what that costs; INT8 is always scored beside FP16.

    With INT8, first all layers are quantised.  Where that loses more than ``max_drop`` on the images of the choice,
    the weights are fine-tuned if that is asked for; where it still does, layers are ranked by their sensitivity there,
    and the most sensitive stay in higher precision, as few as will do.  The last word has the loss on the scored
    images, ``record.kept``.

    Args:
        model: float32, one static input [b, 3, r, r], logits [b, classes]; left as it is.

    Raises:
        UserError: the model cannot be quantised (it is already, its shapes are dynamic, it has no layer that can be),
            a part of the images is empty, or an option would do nothing.
        ExportError: activations or logits are not finite, or a tool failed or is missing.
    """
    options, progress = options or QuantizationOptions(), progress or Silent()
    options.require_consistent()
    images.require_some()
    prepared = prepare(model)
    half, half_by = half_precision(prepared, tool=options.tool, keep_io=options.keep_io)
    scores = Scores(prepared, images.scored, progress)
    if options.precision == "fp16":
        record = _record(model, prepared, images, options, None, {}, scores.by_precision(half, half_by), {})
        return QuantizedModel(_labelled(half, model, record), record)
    layers = quantisable_layers(prepared)
    scales = activation_scales(prepared, _tensors(layers), images.calibration, options.calibration, progress)
    choice = _Choice(prepared, layers, images.choice, options.max_drop, progress)
    quantizer = make_quantizer(prepared, scales, images.calibration, options)
    attempt, ranking, tuning = choice.attempt(quantizer, ()), dict[str, float](), dict[str, float]()
    weights = prepared
    if options.finetuning is not None and not choice.keeps(attempt):
        if images.training is None:
            raise UserError("Fine-tuning needs training images; give some.")
        weights, tuning = finetune(prepared, layers, scales, images.training, options.finetuning, progress)
        # The weights were tuned for these scales, which another calibration would change.
        quantizer = OnnxRuntimeQuantizer(weights, scales)
        attempt = choice.attempt(quantizer, ())
    if not choice.keeps(attempt):
        attempt, ranking = choice.fewest_left(weights, scales, quantizer, attempt)
    chosen = quantizer.quantize([layer for layer in layers if layer.name not in attempt.left], options.remainder)
    found = scores.by_precision(half, half_by) | {"int8": scores.of(chosen, quantizer.made_by, "INT8")}
    record = _record(model, prepared, images, options, attempt, ranking, found, tuning)
    refused = [layer.name for layer in layers if layer.name not in {*attempt.left, *_in_int8(chosen)}]
    record = record.model_copy(update={"never": (*record.never, *refused)})
    return QuantizedModel(_labelled(chosen, model, record), record)


class Scores:
    """Accuracies of the forms of one model on one sample."""

    def __init__(self, model: ModelProto, sample: Sample, progress: Progress) -> None:
        self._model, self._sample, self._progress = model, sample, progress
        self._exact = hits(logits(model, sample, progress, "scoring FP32"), sample)

    def by_precision(self, half: ModelProto, half_by: str) -> dict[str, Scored]:
        """Those of float32 and float16."""
        full = Scored(
            top1=float(self._exact.mean()), size_bytes=self._model.ByteSize(), made_by="as it was given", loss=None
        )
        return {"fp32": full, "fp16": self.of(half, half_by, "FP16")}

    def of(self, model: ModelProto, made_by: str, what: str) -> Scored:
        """That of another form."""
        found = hits(logits(model, self._sample, self._progress, f"scoring {what}"), self._sample)
        loss = PairedLoss.of(self._exact, found)
        return Scored(top1=float(found.mean()), size_bytes=model.ByteSize(), made_by=made_by, loss=loss)


def make_quantizer(model: ModelProto, scales: Scales, sample: Sample, options: QuantizationOptions) -> Quantizer:
    """The tool that the options name.

    Raises:
        UserError: nvidia-modelopt is asked for a calibration that it does not have.
        ExportError: it is asked for and not installed.
    """
    if options.tool == "nvidia-modelopt" and options.calibration not in MODELOPT_METHODS:
        known = " and ".join(MODELOPT_METHODS)
        raise UserError(f"nvidia-modelopt calibrates by {known}, not by {options.calibration}; choose one of them.")
    if chosen_tool(options.tool) == "nvidia-modelopt" and options.calibration in MODELOPT_METHODS:
        return ModelOptQuantizer(model, sample, options.calibration)
    return OnnxRuntimeQuantizer(model, scales)


class _Choice:
    """Finds on images of their own which layers stay in higher precision."""

    def __init__(
        self, model: ModelProto, layers: Sequence[Layer], sample: Sample, max_drop: float, progress: Progress
    ) -> None:
        self._layers, self._sample, self._max_drop, self._progress = layers, sample, max_drop, progress
        self._exact = hits(logits(model, sample, progress, "FP32 for the choice"), sample)

    def keeps(self, attempt: Attempt) -> bool:
        """Whether it loses no more than may be lost."""
        return attempt.loss.points <= self._max_drop

    def attempt(self, quantizer: Quantizer, left: Sequence[str]) -> Attempt:
        """The model with some layers left; the remainder is in float32, which is faster here and hardly differs."""
        found = quantizer.quantize([layer for layer in self._layers if layer.name not in left], "fp32")
        what = f"INT8 with {len(left)} of {len(self._layers)} layers left"
        right = hits(logits(found, self._sample, self._progress, what), self._sample)
        return Attempt(tuple(left), PairedLoss.of(self._exact, right))

    def fewest_left(
        self, model: ModelProto, scales: Scales, quantizer: Quantizer, everything: Attempt
    ) -> tuple[Attempt, dict[str, float]]:
        """The best model after ``everything``, which leaves no layer, and all layers' sensitivities in their order."""
        found = sensitivities(model, self._layers, scales, self._sample, self._progress)
        ranking = dict(sorted(found.items(), key=lambda entry: -entry[1]))
        best = fewest_left(
            list(ranking), lambda left: self.attempt(quantizer, left) if left else everything, self._max_drop
        )
        return best, ranking


def _in_int8(model: ModelProto) -> set[str]:
    """The weighted operators of a model that read a dequantised weight; a tool may leave more than it was told to."""
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in dequantised}


def _tensors(layers: Sequence[Layer]) -> list[str]:
    return sorted({tensor for layer in layers for tensor in layer.tensors})


def _record(
    model: ModelProto,
    prepared: ModelProto,
    images: Images,
    options: QuantizationOptions,
    attempt: Attempt | None,
    ranking: Mapping[str, float],
    scores: dict[str, Scored],
    finetuning: Mapping[str, float],
) -> QuantizationRecord:
    layers = quantisable_layers(prepared)
    names = {layer.name for layer in layers}
    loss = scores[options.precision].loss
    integers = attempt is not None
    return QuantizationRecord(
        source_sha256=hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        precision=options.precision,
        remainder=options.remainder if integers else None,
        calibration=options.calibration if integers else None,
        max_drop=options.max_drop,
        calibrated_on=Used.of(images.calibration) if integers else None,
        chosen_on=Used.of(images.choice) if integers else None,
        scored_on=Used.of(images.scored),
        layers=len(layers),
        left=attempt.left if attempt else (),
        never=tuple(n.name for n in prepared.graph.node if n.op_type in WEIGHTED and n.name not in names),
        sensitivities=dict(ranking),
        choice_loss=attempt.loss if attempt else None,
        scores=scores,
        finetuning=dict(finetuning),
        kept=loss is not None and loss.points <= options.max_drop,
    )


def _labelled(model: ModelProto, source: ModelProto, record: QuantizationRecord) -> ModelProto:
    """The model with the metadata of its source and a summary of the record."""
    summary = record.model_dump(mode="json", by_alias=True, exclude={"sensitivities"})
    properties = {entry.key: entry.value for entry in source.metadata_props}
    properties |= {PREFIX + "precision": record.precision, PREFIX + "quantization": json.dumps(summary)}
    helper.set_model_props(model, dict(sorted(properties.items())))
    return model
