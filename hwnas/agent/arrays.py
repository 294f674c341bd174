"""Arrays on the wire: type, shape and base64 of the little-endian content."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Dict

import numpy as np

from .protocol import AgentError, ErrorKind, Fields

Array = np.ndarray

TYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")


def pack(array: Array) -> Dict[str, Any]:
    """An array as a JSON object."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    content = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": content}


def unpack(record: Dict[str, Any]) -> Array:
    """The array of a JSON object made by :func:`pack`; it is read-only.

    Raises:
        AgentError: ``bad-request``, when type, shape and content do not agree.
    """
    fields = Fields(record)
    name, shape = fields.text("dtype"), record.get("shape")
    if name not in TYPES:
        raise AgentError(ErrorKind.BAD_REQUEST, "array type '%s' is not one of %s" % (name[:20], ", ".join(TYPES)))
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise AgentError(ErrorKind.BAD_REQUEST, "an array's shape must be a list of whole numbers")
    try:
        content = base64.b64decode(fields.text("data"), validate=True)
        return np.frombuffer(content, dtype=np.dtype(name).newbyteorder("<")).reshape(shape)
    except (ValueError, OverflowError, binascii.Error) as error:
        raise AgentError(ErrorKind.BAD_REQUEST, "an array's content does not fit its shape (%s)" % error) from error
