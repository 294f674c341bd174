"""The canaries: fixed networks whose run time tells which speed the machine has at the moment.

``scripts/make_canary.py`` makes them.  The small one, a stem and an inverted residual block, takes about 0.1 ms on one
core of a server and stays in its nearest caches.  The large one takes about 1 ms and works on 17 MB: neighbours that
crowd the last cache slow it down as they do large networks, which the small one does not notice.
"""

from __future__ import annotations

import hashlib
import pkgutil

CANARY_SHA256 = {
    "small": "146a8c73082eeb698adc9a93d956de04a378cde9c5fdebeebb9efa4b9e54aeb3",
    "large": "7e07aada2daa8c31cf53db3c8b43d45020c06cfb029038b68e2834f19ae7714c",
}
"""Name of a canary to its file's hash."""


def canary_onnx(name: str = "small") -> bytes:
    """The ONNX bytes of a canary.

    Raises:
        RuntimeError: the file shipped beside this module is missing or is another canary.
    """
    # pkgutil reads from a zipapp too, and exists in Python 3.8.
    content = pkgutil.get_data(__package__, "canary_%s.onnx" % name)
    if content is None or hashlib.sha256(content).hexdigest() != CANARY_SHA256[name]:
        raise RuntimeError("canary_%s.onnx is damaged; install hwnas anew" % name)
    return content
