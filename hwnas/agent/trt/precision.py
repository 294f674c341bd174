"""What an engine computes in: decided by the model where networks are strongly typed, by flags before."""

from __future__ import annotations

from typing import Any

from ..protocol import AgentError, ErrorKind
from .library import Library
from .parsing import ParsedModel

_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16"), "fp8": ("FP8", "FP16")}
"""Precision to the builder's flags; what has no scales is FP16 beside INT8 and FP8.  TensorRT 8 has none for BF16."""
_MODELS = {"fp16": ("fp16", "fp32")}
"""A precision that a flag can give to models of another; for all else the model must have it."""


def require_precision(model: ParsedModel, precision: str, library: Library, by_flags: bool) -> None:
    """
    Args:
        model: a network that the parser accepted.
        precision: what was asked for.
        library: which names itself in the sentence.
        by_flags: whether flags decide, as they do in weakly typed networks.

    Raises:
        AgentError: ``model-refused`` when the engine would compute in something else.
    """
    found = model.precision()
    if found not in (_MODELS.get(precision, (precision,)) if by_flags else (precision,)):
        raise AgentError(
            ErrorKind.MODEL_REFUSED,
            "the model computes in %s and %s was asked for: %s takes the types from the model; export it in %s"
            % (found, precision, library.title, precision),
        )


def set_precision_flags(config: Any, precision: str, library: Library) -> None:
    """Let a weakly typed network compute in ``precision``.

    Raises:
        AgentError: ``bad-request`` when this version of TensorRT cannot.
    """
    flags, names = library.trt.BuilderFlag, _FLAGS.get(precision)
    if names is None or not all(hasattr(flags, name) for name in names):
        raise AgentError(ErrorKind.BAD_REQUEST, "%s does not compute in %s" % (library.title, precision))
    for name in names:
        config.set_flag(getattr(flags, name))
