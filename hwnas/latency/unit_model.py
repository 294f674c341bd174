"""The models that are measured for a table, in the table's precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.agent.runtimes import model_format
from hwnas.devices import CompileOptions
from hwnas.errors import UserError
from hwnas.latency.plan import Unit

if TYPE_CHECKING:
    from hwnas.graphs import Precision

_EMITTED: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def check_precision(options: CompileOptions) -> None:
    """
    Raises:
        UserError: no graph is emitted in the options' precision, and the runtime does not convert them itself.
    """
    if not _converts(options) and options.precision not in _EMITTED:
        raise UserError(
            f"Graphs for runtime {options.runtime} are emitted in {', '.join(_EMITTED)}, not in {options.precision}; "
            "profile in one of these."
        )


def unit_model(unit: Unit, batch: int, options: CompileOptions) -> bytes:
    """The ONNX model of a block or network as it is compiled with ``options``; its weights are random.

    A runtime that is sent nodes converts FP32 itself; all others take the precision from the model.
    """
    from hwnas.graphs import graph_in_precision, network_graph

    graph = network_graph(unit.network, batch=batch)
    if not _converts(options):
        precision = next(name for name in _EMITTED if name == options.precision)
        graph = graph_in_precision(graph, precision, remainder=options.remainder)
    content: bytes = graph.SerializeToString()
    return content


def _converts(options: CompileOptions) -> bool:
    return model_format(options.runtime) == "nodes"
