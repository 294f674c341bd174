"""Arrays of any number of samples through an engine of static batch."""

from __future__ import annotations

from typing import Dict, Sequence

import numpy as np

from .arrays import Array
from .protocol import AgentError, ErrorKind
from .runtimes import Engine


def require_samples(engine: Engine, images: Array) -> None:
    """
    Raises:
        AgentError: ``bad-request`` when ``images`` is not [N, ...] of the engine's one input.
    """
    if len(engine.inputs) != 1:
        raise AgentError(ErrorKind.BAD_REQUEST, "the engine has %d inputs; infer needs one" % len(engine.inputs))
    tensor = engine.inputs[0]
    if images.ndim != len(tensor.shape) or images.shape[1:] != tensor.shape[1:] or images.dtype.name != tensor.dtype:
        raise AgentError(
            ErrorKind.BAD_REQUEST,
            "the engine takes %s %s a batch, found %s %s"
            % (tensor.dtype, list(tensor.shape), images.dtype.name, list(images.shape)),
        )


def infer(engine: Engine, images: Array) -> Array:
    """The first output for ``images`` [N, ...]; arguments as of :func:`infer_outputs`."""
    first = engine.outputs[0].name
    return infer_outputs(engine, images, [first])[first]


def infer_outputs(engine: Engine, images: Array, names: Sequence[str]) -> Dict[str, Array]:
    """The outputs of those names for ``images`` [N, ...], the last batch padded.

    Raises:
        AgentError: ``bad-request`` as :func:`require_samples`, or where an output is unknown or not of the batch, or
            what the runtime says.
    """
    require_samples(engine, images)
    batch = engine.inputs[0].shape[0]
    places = [_place(engine, name, batch) for name in names]
    empty = [np.zeros((0, *engine.outputs[place].shape[1:]), dtype=engine.outputs[place].dtype) for place in places]
    pieces = [empty]
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        padding = np.zeros((batch - len(part), *part.shape[1:]), dtype=part.dtype)
        engine.upload([np.concatenate([part, padding])])
        engine.run()
        found = engine.download()
        pieces.append([found[place][: len(part)] for place in places])
    return {name: np.concatenate(column) for name, column in zip(names, zip(*pieces))}


def _place(engine: Engine, name: str, batch: int) -> int:
    """Where an engine's output of that name is among its outputs."""
    for place, tensor in enumerate(engine.outputs):
        if tensor.name == name:
            if tensor.shape[:1] != (batch,):
                raise AgentError(
                    ErrorKind.BAD_REQUEST,
                    "output '%s' is %s, not one of %d for each batch" % (name, list(tensor.shape), batch),
                )
            return place
    known = ", ".join(tensor.name for tensor in engine.outputs)
    raise AgentError(ErrorKind.BAD_REQUEST, "the engine has no output '%s'; it has %s" % (name[:60], known))


def agrees(found: Array, expected: Array, absolute: float, relative: float) -> bool:
    """Whether outputs are finite and within ``absolute + relative · |expected|`` of what is expected."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False
    return bool(np.allclose(found, expected, rtol=relative, atol=absolute))
