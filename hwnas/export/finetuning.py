"""Quantisation-aware fine-tuning: a model learns, from its own float32 answers, weights that bear INT8."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, fx, nn
from torch.nn import functional

from hwnas.agent.node_model import read_node_model
from hwnas.agent.runtimes.torch_program import build_program
from hwnas.data import to_input
from hwnas.errors import DivergedError, UserError
from hwnas.export.scoring import Sample
from hwnas.graphs import Layer
from hwnas.graphs.layers import WEIGHTED, attribute
from hwnas.graphs.node_file import as_node_file
from hwnas.graphs.qdq import INT8_MAX, SMALLEST_SCALE
from hwnas.graphs.translate import UntranslatableError
from hwnas.progress import Progress


@dataclass(frozen=True)
class FineTuning:
    """How long and how fast weights are tuned.

    Attributes:
        steps: optimizer steps of ``batch_size`` images.
        learning_rate: of Adam at first; it falls to zero by a half cosine.
        seed: of the order of the images.
    """

    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-4
    seed: int = 0


def finetune(
    model: ModelProto,
    layers: Sequence[Layer],
    scales: Mapping[str, float],
    sample: Sample,
    options: FineTuning,
    progress: Progress,
) -> tuple[ModelProto, dict[str, float]]:
    """Tune the weights of a model with fake quantisation of some layers, whose gradient passes straight through.

    The loss is the cross entropy with the float32 model's soft labels (Jacob et al. 2018, Sec. 3, for training with
    simulated quantisation; Hinton et al. 2015 for the labels).  Scales of activations stay; those of weights follow
    the weights, by the rule by which they are quantised.

    Args:
        model: float32, static, batch norms folded; it is left as it is.
        layers: those that will be in INT8.
        sample: training images.

    Returns:
        The model with other weights, and steps, images, learning rate, and the loss at first and at last.

    Raises:
        UserError: there are fewer images than a batch, or the model has an operator that cannot be trained.
        DivergedError: the loss is not finite.
    """
    if len(sample) < options.batch_size:
        raise UserError(
            f"Fine-tuning takes {options.batch_size} images a step, but the {sample.name} split gives {len(sample)}; "
            "give more images."
        )
    teacher, student = _Network(model), _Network(model)
    student.quantise(layers, scales)
    optimizer = torch.optim.Adam(student.program.parameters(), lr=options.learning_rate)
    generator = np.random.default_rng(options.seed)
    resolution = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    losses = []
    progress.start("fine-tuning", options.steps, unit="steps")
    for step in range(options.steps):
        rows = torch.from_numpy(generator.choice(len(sample), options.batch_size, replace=False))
        images = to_input(sample.images.pixels[rows], resolution, sample.mean, sample.std)
        with torch.no_grad():
            soft = functional.softmax(teacher(images), dim=1)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        loss = functional.kl_div(functional.log_softmax(student(images), dim=1), soft, reduction="batchmean")
        if not torch.isfinite(loss):
            raise DivergedError(f"Fine-tuning diverged at step {step}; lower its learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        progress.advance(note=f"divergence {losses[-1]:.4f}")
    progress.finish()
    tenth = max(options.steps // 10, 1)
    report = {
        "steps": float(options.steps),
        "images": float(options.steps * options.batch_size),
        "learning_rate": options.learning_rate,
        "divergence_first": float(np.mean(losses[:tenth])),
        "divergence_last": float(np.mean(losses[-tenth:])),
    }
    return student.model(), report


class _Network:
    """A model in torch for any batch, with its weights as parameters."""

    def __init__(self, model: ModelProto) -> None:
        try:
            described = read_node_model(as_node_file(model.SerializeToString()))
        except UntranslatableError as error:
            raise UserError(f"The model cannot be fine-tuned: {error}.") from error
        self.program = build_program(described, "fp32", False)
        self._model = model
        self._number = {operation.output: number for number, operation in enumerate(described.operations)}
        self._operator = {node.output[0]: node for node in model.graph.node}
        self._names = self._trainable()
        for name in self._names.values():
            value = self.program.get_buffer(name)
            delattr(self.program, name)
            self.program.register_parameter(name, nn.Parameter(value.clone()))

    def __call__(self, images: Tensor) -> Tensor:
        """[n, 3, r, r] to logits [n, classes]."""
        return cast(Tensor, self.program(images)[0])

    def quantise(self, layers: Sequence[Layer], scales: Mapping[str, float]) -> None:
        """Compute some layers as they will be in INT8."""
        graph = self.program.graph
        held = {node.target: node for node in graph.nodes if node.op == "get_attr"}
        for layer in layers:
            weight = held[f"parameter_{self._number[layer.weight_read.reader]}_weight"]
            (product,) = weight.users
            # The program holds the weight of a Gemm as [out, in], whatever the model does.
            axis = layer.axis if self._operator[layer.weight_read.reader].op_type == "MatMul" else 0
            with graph.inserting_before(product):
                value = graph.call_function(_fake, (product.args[0], scales[layer.tensors[0]]))
                product.args = (value, graph.call_function(_fake_weight, (weight, axis)), *product.args[2:])
            for tensor in layer.tensors[1:]:
                (addition,) = product.users
                (shortcut,) = (argument for argument in addition.args if argument is not product)
                with graph.inserting_before(addition):
                    quantised = graph.call_function(_fake, (shortcut, scales[tensor]))
                addition.replace_input_with(cast(fx.Node, shortcut), quantised)
        self.program.recompile()

    def model(self) -> ModelProto:
        """The model with these weights in place of its own."""
        tuned = ModelProto()
        tuned.CopyFrom(self._model)
        readers = {node.input[1]: node for node in tuned.graph.node if len(node.input) > 1}
        for tensor in tuned.graph.initializer:
            if tensor.name in self._names:
                array = self.program.get_parameter(self._names[tensor.name]).detach().numpy()
                reader = readers.get(tensor.name)
                if reader is not None and reader.op_type == "Gemm" and not attribute(reader, "transB", 0):
                    array = array.T
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
        return tuned

    def _trainable(self) -> dict[str, str]:
        """The program's names of weights and biases by the model's; those that several operators read stay fixed."""
        shapes = {tensor.name: tuple(tensor.dims) for tensor in self._model.graph.initializer}
        readers = Counter(name for node in self._model.graph.node for name in node.input)
        held = dict(self.program.named_buffers())
        found = {}
        for output, number in self._number.items():
            node = self._operator[output]
            if node.op_type not in WEIGHTED or attribute(node, "alpha", 1) != 1 or attribute(node, "beta", 1) != 1:
                continue
            for source, role in zip(node.input[1:], ("weight", "bias"), strict=False):
                name = f"parameter_{number}_{role}"
                same = name in held and sorted(shapes.get(source, ())) == sorted(held[name].shape)
                if same and readers[source] == 1:
                    found[source] = name
        return found


def _fake(value: Tensor, scale: float) -> Tensor:
    """An activation after Q and DQ; ONNX's Q gives -128 too."""
    return torch.fake_quantize_per_tensor_affine(value, max(scale, SMALLEST_SCALE), 0, -INT8_MAX - 1, INT8_MAX)


def _fake_weight(weight: Tensor, axis: int) -> Tensor:
    """A weight after Q and DQ by :func:`hwnas.graphs.qdq.weight_scales`."""
    others = [other for other in range(weight.ndim) if other != axis]
    scales = (weight.detach().abs().amax(others) / INT8_MAX).clamp(min=SMALLEST_SCALE)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, axis, -INT8_MAX, INT8_MAX)
