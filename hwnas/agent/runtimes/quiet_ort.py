"""``onnxruntime``, imported so that it neither reports its use to its makers nor writes an identifier into HOME.

Official builds from 1.32 on do both from the moment of the import, and their uploading thread would run beside what
is timed.  ``ORT_TELEMETRY_DISABLED`` prevents it in later releases; 1.32 itself knows only the marks of a continuous
integration system (microsoft/onnxruntime#29843), so one is set for the length of the import.
"""

from __future__ import annotations

import os

os.environ["ORT_TELEMETRY_DISABLED"] = "1"
_MARK = "TF_BUILD"
_before = os.environ.get(_MARK)
os.environ[_MARK] = "True"
try:
    import onnxruntime as ort
finally:
    if _before is None:
        del os.environ[_MARK]
    else:
        os.environ[_MARK] = _before
ort.disable_telemetry_events()
if not hasattr(ort.OrtValue, "update_inplace"):
    raise ImportError("ONNX Runtime %s is too old; install 1.11 or newer" % ort.__version__)

__all__ = ["ort"]
