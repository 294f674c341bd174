"""Arrays of any number of samples through an engine of static batch."""

from __future__ import annotations

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
    """The first output for ``images`` [N, ...], the last batch padded.

    Raises:
        AgentError: ``bad-request`` as :func:`require_samples`, or what the runtime says.
    """
    require_samples(engine, images)
    batch = engine.inputs[0].shape[0]
    outputs = [np.zeros((0, *engine.outputs[0].shape[1:]), dtype=engine.outputs[0].dtype)]
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        padding = np.zeros((batch - len(part), *part.shape[1:]), dtype=part.dtype)
        engine.upload([np.concatenate([part, padding])])
        engine.run()
        outputs.append(engine.download()[0][: len(part)])
    return np.concatenate(outputs)


def agrees(found: Array, expected: Array, absolute: float, relative: float) -> bool:
    """Whether outputs are finite and within ``absolute + relative · |expected|`` of what is expected."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False
    return bool(np.allclose(found, expected, rtol=relative, atol=absolute))
