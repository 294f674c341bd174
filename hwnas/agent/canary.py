"""The canary: one fixed small network whose run time tells which speed the machine has at the moment.

``scripts/make_canary.py`` makes it.  A stem and an inverted residual block, about 0.1 ms on one core of a server.
"""

from __future__ import annotations

import hashlib
import pkgutil

CANARY_SHA256 = "146a8c73082eeb698adc9a93d956de04a378cde9c5fdebeebb9efa4b9e54aeb3"


def canary_onnx() -> bytes:
    """The canary's ONNX bytes.

    Raises:
        RuntimeError: the file shipped beside this module is missing or is another canary.
    """
    # pkgutil reads from a zipapp too, and exists in Python 3.8.
    content = pkgutil.get_data(__package__, "canary.onnx")
    if content is None or hashlib.sha256(content).hexdigest() != CANARY_SHA256:
        raise RuntimeError("canary.onnx is damaged; install hwnas anew")
    return content
