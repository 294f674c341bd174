"""The forms in which a client may have a model's outputs."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Callable, Dict, Mapping, NamedTuple, Optional

import numpy as np

from ..arrays import Array
from ..protocol import AgentError, ErrorKind
from . import npy
from .replies import RefusedError

Outputs = Mapping[str, Array]

JSON = "application/json"
_ANY = ("*/*", "application/*")


class Body(NamedTuple):
    """What is sent back."""

    content_type: str
    content: bytes


def accepted(header: Optional[str]) -> Optional[str]:
    """The form that a request's ``Accept`` asks for, the first that is known; ``None``: any.

    Raises:
        RefusedError: there is none that is known.
    """
    asked = [part.partition(";")[0].strip().lower() for part in (header or _ANY[0]).split(",")]
    for form in asked:
        if form in _ANY:
            return None
        if form in _WRITERS:
            return form
    raise RefusedError(HTTPStatus.NOT_ACCEPTABLE, "answers are %s" % ", ".join(_WRITERS))


def body(outputs: Outputs, form: Optional[str]) -> Body:
    """Outputs in a form of :func:`accepted`; in any, one is ``.npy`` and several are ``.npz``.

    Raises:
        RefusedError: the form cannot hold them.
    """
    form = form or (npy.CONTENT_TYPE if len(outputs) == 1 else npy.CONTENT_TYPE_OF_SEVERAL)
    return Body(form, _WRITERS[form](outputs))


def _one(outputs: Outputs) -> bytes:
    if len(outputs) > 1:
        raise RefusedError(
            HTTPStatus.NOT_ACCEPTABLE,
            "the model has %d outputs, one .npy holds one array; accept %s or %s"
            % (len(outputs), npy.CONTENT_TYPE_OF_SEVERAL, JSON),
        )
    return npy.write_npy(next(iter(outputs.values())))


def _json(outputs: Outputs) -> bytes:
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise AgentError(ErrorKind.INTERNAL, "output '%s' is not finite, which JSON cannot say" % name)
    return json.dumps({"outputs": {name: array.tolist() for name, array in outputs.items()}}).encode() + b"\n"


_WRITERS: Dict[str, Callable[[Outputs], bytes]] = {
    npy.CONTENT_TYPE: _one,
    npy.CONTENT_TYPE_OF_SEVERAL: npy.write_npz,
    JSON: _json,
}
