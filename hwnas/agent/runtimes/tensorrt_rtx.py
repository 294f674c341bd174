"""TensorRT for RTX: engines built ahead of time, also on a machine without a GPU, for GPUs of several architectures.

It times no kernels at the build: an engine built elsewhere says nothing of latency.
"""

from __future__ import annotations

from typing import List

from ..protocol import AgentError, ErrorKind
from .base import RuntimeOptions
from .tensorrt_base import GPU, TensorRtRuntime


class TensorRtRtx(TensorRtRuntime):
    """For desktop GPUs; neither DLA nor compatibility with other versions."""

    name = "tensorrt_rtx"
    module = "tensorrt_rtx"
    times_kernels = False
    precisions = ("fp32", "fp16", "bf16", "int8", "fp8")

    def providers(self) -> List[str]:
        """The GPU; it is asked for only when an engine is loaded."""
        return [GPU]

    def _require_possible(self, options: RuntimeOptions) -> None:
        build = options.build
        if options.provider != GPU:
            raise AgentError(ErrorKind.FALLBACK, "TensorRT-RTX runs on gpu, not on %s" % options.provider[:40])
        if build.dla_core is not None or build.tensor_scales:
            raise AgentError(ErrorKind.BAD_REQUEST, "TensorRT-RTX has no DLA, which dla_core and tensor_scales are for")
        if build.version_compatible or build.hardware_compatibility != "none":
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "TensorRT-RTX makes engines portable by compute_capabilities, and not compatible with other versions",
            )
