"""TensorRT 8.5 to 11, as it comes with JetPack or a desktop's installation.

Providers: ``gpu``; and ``dla``, a Jetson's deep-learning accelerator, with the GPU for what that does not execute.
"""

from __future__ import annotations

from typing import List

from ..protocol import AgentError, ErrorKind
from ..trt.dla import DLA
from .base import RuntimeOptions
from .tensorrt_base import GPU, TensorRtRuntime


class TensorRt(TensorRtRuntime):
    """Kernels are timed at the build, so an engine is for this GPU at these clocks."""

    name = "tensorrt"
    module = "tensorrt"
    times_kernels = True
    precisions = ("fp32", "fp16", "bf16", "int8", "fp8")

    def providers(self) -> List[str]:
        """The GPU, and the DLA where the library finds a core of one."""
        cores = self._library.trt.Builder(self._library.logger).num_DLA_cores
        return [GPU, DLA] if cores else [GPU]

    def _require_possible(self, options: RuntimeOptions) -> None:
        build = options.build
        if options.provider not in (GPU, DLA):
            raise AgentError(ErrorKind.FALLBACK, "TensorRT runs on gpu or dla, not on %s" % options.provider[:40])
        if build.compute_capabilities:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "TensorRT builds for the GPU at hand; compute capabilities are for runtime tensorrt_rtx, "
                "hardware_compatibility lets an engine run on more GPUs",
            )
        if options.provider == GPU and (build.dla_core is not None or build.tensor_scales):
            raise AgentError(ErrorKind.BAD_REQUEST, "dla_core and tensor_scales are for provider dla, not for gpu")
