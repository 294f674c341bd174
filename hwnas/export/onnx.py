"""Plain networks as ONNX files."""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import Tensor

from hwnas import __version__
from hwnas.export.errors import ExportError, ParityError
from hwnas.export.metadata import PREFIX
from hwnas.export.parity import PARITY_LIMIT, parity
from hwnas.files import write_atomic
from hwnas.graphs import INPUT, OPSET, first_difference, network_graph
from hwnas.spaces import Network
from hwnas.supernet import PlainNetwork


@dataclass(frozen=True)
class ExportedModel:
    """An ONNX file as it was written.

    Attributes:
        path: where it lies.
        sha256: hexadecimal, of its content.
        size_bytes: of the file.
        input_shape: [batch, 3, r, r], static.
        opset, ir_version: of ONNX.
        parity: largest absolute difference of a logit from torch's, None if no images were given.
    """

    path: Path
    sha256: str
    size_bytes: int
    input_shape: tuple[int, ...]
    opset: int
    ir_version: int
    parity: float | None


def export_onnx(
    network: PlainNetwork,
    resolution: int,
    path: Path,
    *,
    metadata: Mapping[str, str],
    images: Tensor | None = None,
    batch: int = 1,
    convert: Callable[[ModelProto], ModelProto] | None = None,
) -> ExportedModel:
    """Export a network with its batch norms folded; equal networks give equal bytes.

    The graph is torch's, simplified; it must be the one that :func:`hwnas.graphs.network_graph` emits for the same
    blocks, since latency tables are measured on those, and takes its names from there (``4.depthwise.conv``).

    Args:
        network: left as it is; it is exported as it computes in evaluation mode.
        resolution: of the images in pixels; the one that the network was made for.
        path: the file, written whole or not at all.
        metadata: properties of the file, see :func:`hwnas.export.model_metadata`.
        images: float32 [n, 3, r, r], real ones, on which ONNX Runtime must agree with torch; None leaves that out.
        batch: images at once.
        convert: what is made of the model once it agrees with torch, such as its form in another precision; that is
            written, with the same properties, and ``parity`` remains that of the model itself.

    Raises:
        ExportError: the resolution is another, or torch's exporter gave another graph.
        ParityError: a logit differs by ``PARITY_LIMIT`` or more; no file is written.
        UserError: the disk is full or the path cannot be written.
    """
    first = network.specs[0]
    if (first.in_height, first.in_width) != (resolution, resolution):
        raise ExportError(
            f"The network was made for {first.in_height}×{first.in_width} pixels and cannot be exported for "
            f"{resolution}; extract the architecture with that resolution."
        )
    plain = copy.deepcopy(network).to(device="cpu", dtype=torch.float32).eval()
    model = _as_described(_simplified(_from_torch(plain, batch)), network.network, batch)
    helper.set_model_props(model, dict(sorted({**metadata, PREFIX + "version": __version__}.items())))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    difference = None if images is None else _agreeing(plain, content, images, path)
    if convert is not None:
        properties = {entry.key: entry.value for entry in model.metadata_props}
        model = convert(model)
        helper.set_model_props(model, properties)
        content = model.SerializeToString(deterministic=True)
    write_atomic(path, content)
    return ExportedModel(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        input_shape=(batch, first.in_channels, resolution, resolution),
        opset=model.opset_import[0].version,
        ir_version=model.ir_version,
        parity=difference,
    )


def _from_torch(network: PlainNetwork, batch: int) -> ModelProto:
    """torch's own export."""
    first = network.specs[0]
    example = torch.zeros(batch, first.in_channels, first.in_height, first.in_width)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is declared old, but gives the better graph: opset 17 itself (the newer one begins
        # at 18 and converts down), Flatten in place of a Reshape by a constant, no stack traces with local paths in
        # the file; and in a tenth of the time.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # Some padding follows from the size of the input, which is a constant here, and is folded by the simplifier.
        warnings.filterwarnings("ignore", message="Converting a tensor")
        warnings.filterwarnings("ignore", message="Constant folding")
        torch.onnx.export(
            network,
            (example,),
            buffer,  # type: ignore[arg-type]  # this exporter takes a buffer too
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[name for name, _ in network.network.outputs],
        )
    return onnx.load_model_from_string(buffer.getvalue())


def _simplified(model: ModelProto) -> ModelProto:
    """Without identities and constants to fold, with one form of global pooling, in the order of execution."""
    import onnxslim  # takes a second

    place = {output: number for number, node in enumerate(model.graph.node) for output in node.output}
    # It would take weighted operations for one where they read the same and weigh the same.
    slim: ModelProto = onnxslim.slim(model, skip_optimizations=["subexpression_elimination"])
    # Where a network branches, the simplifier orders nodes anew.
    slim.graph.node.sort(key=lambda node: place[node.output[0]])
    for node in slim.graph.node:
        if _is_global_mean(node):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    return slim


def _is_global_mean(node: NodeProto) -> bool:
    """Whether a node takes the mean over height and width of a feature map and keeps these dimensions."""
    if node.op_type != "ReduceMean":
        return False
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return sorted(axis % 4 for axis in attributes.get("axes", [])) == [2, 3] and attributes.get("keepdims", 1) == 1


def _as_described(exported: ModelProto, network: Network, batch: int) -> ModelProto:
    """The exported parameters in the graph that the network's description gives, which must be the exported one."""
    difference = first_difference(exported, network_graph(network, batch=batch))
    if difference is not None:
        raise ExportError(
            f"torch {torch.__version__} exports another graph than the one that latencies are measured on "
            f"({difference}); use the torch version of the constraints file."
        )
    parameters = {tensor.name: tensor for tensor in exported.graph.initializer}
    weights = {}
    for theirs, ours in zip(exported.graph.node, network.nodes, strict=True):
        # The bounds of a Clip are further inputs too, but no parameters.
        given = theirs.input[len(ours["inputs"]) :] if ours["parameters"] else ()
        for role, name in zip(ours["parameters"], given, strict=True):
            weights[f"{ours['name']}.{role}"] = numpy_helper.to_array(parameters[name])
    return network_graph(network, batch=batch, weights=weights)


def _agreeing(network: PlainNetwork, content: bytes, images: Tensor, path: Path) -> float:
    difference = parity(network, content, images)
    if not difference < PARITY_LIMIT:  # NaN is refused too
        raise ParityError(
            f"The model for {path} differs from torch by {difference:.2g} in a logit on {len(images)} images, where "
            f"less than {PARITY_LIMIT:g} is allowed; check that the network's batch norms were recalibrated."
        )
    return difference
