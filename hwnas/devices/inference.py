"""Images through an engine on a device, in pieces that fit a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hwnas.agent import protocol
from hwnas.agent.protocol import Fields
from hwnas.devices.dialogue import Reply
from hwnas.devices.records import Engine, Tensor
from hwnas.progress import Progress, Silent

if TYPE_CHECKING:
    from numpy.typing import NDArray


def inferred(
    request: Callable[..., Any],
    engine: Engine,
    outputs: Sequence[Tensor],
    images: NDArray[Any],
    progress: Progress | None = None,
    timeout_s: float = 600.0,
) -> dict[str, NDArray[Any]]:
    """Outputs of an engine by name, each [N, ...], for ``images`` [N, ...].

    Args:
        request: :meth:`hwnas.devices.dialogue.Dialogue.request`.
        timeout_s: for each piece of a few MiB.

    Raises:
        RefusedError: the images are not of the engine's input, or an output does not belong to its batch.
    """
    import numpy as np

    from hwnas.agent import arrays

    progress = progress or Silent()
    batch = engine.inputs[0].shape[0]
    largest = max(engine.inputs[0].nbytes, sum(tensor.nbytes for tensor in outputs))
    piece = max(1, protocol.CHUNK_BYTES // largest) * batch
    progress.start("inference on the device", len(images), unit="images")
    pieces: list[dict[str, NDArray[Any]]] = []
    for first in range(0, max(1, len(images)), piece):
        part = images[first : first + piece]

        def read(reply: Reply, count: int = len(part)) -> dict[str, NDArray[Any]]:
            told = Fields(Fields(reply).record("outputs"))
            return {tensor.name: _checked(arrays.unpack(told.record(tensor.name)), tensor, count) for tensor in outputs}

        pieces.append(
            request(
                "infer",
                "running an engine",
                timeout_s,
                read,
                engine=engine.id,
                input=arrays.pack(part),
                outputs=[tensor.name for tensor in outputs],
            )
        )
        progress.advance(min(piece, len(images) - first))
    progress.finish()
    return {tensor.name: np.concatenate([found[tensor.name] for found in pieces]) for tensor in outputs}


def _checked(array: NDArray[Any], tensor: Tensor, count: int) -> NDArray[Any]:
    if array.shape != (count, *tensor.shape[1:]) or array.dtype != tensor.dtype:
        raise ValueError("another output than the engine has")
    return array
