"""What follows a detector's network in an ONNX model: boxes and probabilities, and their thinning out."""

from __future__ import annotations

import io
import warnings

import onnx.parser
import torch
from onnx import ModelProto, ValueInfoProto, compose
from torch import Tensor, nn

from hwnas.detection.anchors import anchors
from hwnas.detection.answers import answers_of, level_sizes
from hwnas.detection.boxes import decode
from hwnas.detection.forms import Form
from hwnas.detection.suppression import Suppression
from hwnas.export.errors import ExportError
from hwnas.graphs import IR_VERSION, OPSET


def with_detections(model: ModelProto, form: Form, rule: Suppression | None = None) -> ModelProto:
    """A detector's model that gives detections in place of feature maps.

    * ``boxes``: ``boxes`` float32 [b, A, 4], left, top, right, bottom in pixels of the input and within it, and
      ``scores`` [b, A, classes], probabilities: what TensorRT's plugin EfficientNMS_TRT takes.
    * ``nms``: of each picture's ``rule.most`` surest detections ``boxes`` [1, most, 4], ``scores`` [1, most] and
      ``labels`` int32 [1, most], the surest first; 0, 0 and -1 where there are fewer.  Thinned out class by class by
      ONNX's NonMaxSuppression, which TensorRT takes from 8.5 on.

    Args:
        model: as :func:`hwnas.export.export_onnx` gives it.
        rule: of ``nms``.

    Raises:
        ExportError: NMS is wanted for more than one picture at a time.
    """
    if form == "maps":
        return model
    batch, _, resolution, _ = _shape(model.graph.input[0])
    if form == "nms" and batch != 1:
        raise ExportError(f"NMS within a model is for one picture at a time, not {batch}; export with batch 1.")
    names = ["boxes", "scores"] if form == "boxes" else ["all_boxes", "all_scores"]
    shapes = [_shape(value) for value in model.graph.output]
    decoded = _appended(model, _decoding(shapes, resolution, names), "decoding")
    if form == "boxes":
        return decoded
    _, count, classes = _shape(decoded.graph.output[1])
    return _appended(decoded, _suppression(count, classes, rule or Suppression()), "nms")


class _Decoding(nn.Module):
    """From feature maps to boxes and probabilities."""

    def __init__(self, start: Tensor, resolution: int) -> None:
        super().__init__()
        self.start, self.resolution = start, resolution

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        answers = answers_of(maps)
        return decode(answers.boxes, self.start).clamp(0, self.resolution), answers.classes.sigmoid()


def _decoding(shapes: list[list[int]], resolution: int, names: list[str]) -> ModelProto:
    maps = tuple(torch.zeros(shape) for shape in shapes)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # see hwnas.export.onnx
        torch.onnx.export(
            _Decoding(anchors(resolution, level_sizes(maps)), resolution),
            maps,
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"map{number}" for number in range(len(maps))],
            output_names=names,
        )
    import onnxslim  # takes a second

    slim: ModelProto = onnxslim.slim(onnx.load_model_from_string(buffer.getvalue()))
    return slim


def _suppression(count: int, classes: int, rule: Suppression) -> ModelProto:
    """NMS over ``count`` boxes, of which those beside the picture are empty and nothing.

    What it finds is filled up so that all shapes are known.
    """
    most = rule.most
    return onnx.parser.parse_model(f"""
        <ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>
        nms (float[1,{count},4] all_boxes, float[1,{count},{classes}] all_scores)
            => (float[1,{most},4] boxes, float[1,{most}] scores, int32[1,{most}] labels)
        {{
            most = Constant <value = int64[1] {{{most}}}> ()
            iou = Constant <value = float[1] {{{rule.iou}}}> ()
            least = Constant <value = float[1] {{{rule.score}}}> ()

            nothing = Constant <value = float[1] {{0.0}}> ()
            upper_left, lower_right = Split <axis = 2> (all_boxes)
            sides = Sub (lower_right, upper_left)
            shorter = ReduceMin <axes = [2]> (sides)
            within = Greater (shorter, nothing)
            seen = Where (within, all_scores, nothing)

            by_class = Transpose <perm = [0, 2, 1]> (seen)
            kept = NonMaxSuppression (all_boxes, by_class, most, iou, least)

            kept_scores = GatherND (by_class, kept)
            no_scores = ConstantOfShape <value = float[1] {{0.0}}> (most)
            padded_scores = Concat <axis = 0> (kept_scores, no_scores)
            rows = Constant <value = int64[2] {{{most}, 3}}> ()
            no_rows = ConstantOfShape <value = int64[1] {{0}}> (rows)
            padded = Concat <axis = 0> (kept, no_rows)

            zero = Constant <value = int64[1] {{0}}> ()
            surest, places = TopK <axis = 0> (padded_scores, most)
            scores = Unsqueeze (surest, zero)
            chosen = Gather <axis = 0> (padded, places)

            there = Greater (surest, nothing)
            class_column = Constant <value = int64 {{1}}> ()
            classes = Gather <axis = 1> (chosen, class_column)
            no_class = Constant <value = int64[1] {{-1}}> ()
            found = Where (there, classes, no_class)
            narrow = Cast <to = 6> (found)
            labels = Unsqueeze (narrow, zero)

            box_columns = Constant <value = int64[2] {{0, 2}}> ()
            box_places = Gather <axis = 1> (chosen, box_columns)
            chosen_boxes = GatherND (all_boxes, box_places)
            one = Constant <value = int64[1] {{1}}> ()
            column = Unsqueeze (there, one)
            shown = Where (column, chosen_boxes, nothing)
            boxes = Unsqueeze (shown, zero)
        }}
    """)


def _appended(model: ModelProto, further: ModelProto, stage: str) -> ModelProto:
    """A model whose outputs, in their order, are the further one's inputs; ``stage`` tells inner names apart."""
    further.ir_version = model.ir_version
    del further.graph.value_info[:]  # that of an output would have the output renamed, too
    inner = compose.add_prefix(further, f"{stage}.", rename_inputs=False, rename_outputs=False)
    wires = [(one.name, other.name) for one, other in zip(model.graph.output, inner.graph.input, strict=True)]
    merged: ModelProto = compose.merge_models(model, inner, io_map=wires, producer_name=model.producer_name)
    return merged


def _shape(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
