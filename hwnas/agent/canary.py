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
"""Name of a canary to the hash of its ONNX file."""

CANARY_NODES_SHA256 = {
    "small": "9836c8dcb9fff0d45361575fbf4bbd3f3fbf3a0f7863ea58c3469a7f00970cd0",
    "large": "f97b8b6086cd33651c86d2c640d02d630940f8e9a78ee69b416c772bc498f01d",
}
"""Name of a canary to the hash of the file that has it as nodes."""

_FILES = {"onnx": ("canary_%s.onnx", CANARY_SHA256), "nodes": ("canary_%s.safetensors", CANARY_NODES_SHA256)}


def canary_model(name: str = "small", form: str = "onnx") -> bytes:
    """The bytes of a canary as ``onnx`` or as ``nodes``.

    Raises:
        RuntimeError: the file shipped beside this module is missing or is another canary.
    """
    pattern, sha256 = _FILES[form]
    # pkgutil reads from a zipapp too, and exists in Python 3.8.
    content = pkgutil.get_data(__package__, pattern % name)
    if content is None or hashlib.sha256(content).hexdigest() != sha256[name]:
        raise RuntimeError("%s is damaged; install hwnas anew" % (pattern % name))
    return content


def canary_onnx(name: str = "small") -> bytes:
    """The ONNX bytes of a canary; raises as :func:`canary_model`."""
    return canary_model(name)


def canary_sha256(name: str, form: str) -> str:
    """The hash of a canary in a form, which tells in a table what gated it."""
    return _FILES[form][1][name]
