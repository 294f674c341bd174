"""The execution providers of ONNX Runtime as sessions are made with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Optional

from ..cuda import open_cuda
from ..protocol import AgentError
from ..trt.gpu import gpu_identity as gpu_of
from .base import RuntimeOptions
from .supported import require_supported

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
ON_GPU = (CUDA, TENSORRT)
_TENSORRT_BUILD = ("workspace_mib", "dla_core")


def check_options(options: RuntimeOptions) -> None:
    """Refuse what no session could be made to do.

    Raises:
        AgentError: ``bad-request``.
    """
    require_supported(
        "onnxruntime",
        options,
        build=_TENSORRT_BUILD if options.provider == TENSORRT else (),
        execution=("cuda_graph",) if options.provider in ON_GPU else (),
    )


def provider_options(options: RuntimeOptions, engine: Optional[Path] = None) -> Dict[str, str]:
    """The options of the one provider that a session has.

    Args:
        options: of the engine.
        engine: where TensorRT is to write the engine that it builds; its timing cache lies in the same directory.
    """
    graph = "1" if options.execution.cuda_graph else "0"
    if options.provider == CUDA:
        return {
            "device_id": "0",
            "use_tf32": "0",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "do_copy_in_default_stream": "1",
            "enable_cuda_graph": graph,
        }
    if options.provider == TENSORRT:
        found = {
            "device_id": "0",
            "trt_fp16_enable": "0" if options.precision == "fp32" else "1",
            "trt_int8_enable": "1" if options.precision == "int8" else "0",
            "trt_cuda_graph_enable": graph,
        }
        if options.build.workspace_mib is not None:
            found["trt_max_workspace_size"] = str(options.build.workspace_mib << 20)
        if options.build.dla_core is not None:
            found.update(trt_dla_enable="1", trt_dla_core=str(options.build.dla_core))
        return found if engine is None else {**found, **_written_to(engine)}
    return {}


def forbid_tf32() -> None:
    """Let TensorRT compute FP32 in FP32, for which its provider has no option (microsoft/onnxruntime#26029).

    It is read once, when the process's first session is made.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def gpu_identity(options: RuntimeOptions) -> Dict[str, Any]:
    """What a timing on the GPU depends on beside the session; without a GPU that is nothing."""
    found: Dict[str, Any] = {"tf32": False, "cuda_graph": options.execution.cuda_graph}
    build = {name: getattr(options.build, name) for name in _TENSORRT_BUILD}
    found.update((name, value) for name, value in build.items() if value is not None)
    try:
        return {**found, "gpu": gpu_of(open_cuda())}
    except AgentError:
        return found


def _written_to(engine: Path) -> Dict[str, str]:
    """The engine as a model of one operator that holds it; each build times its tactics or finds them in the cache."""
    return {
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": str(engine),
        "trt_ep_context_embed_mode": "1",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engine.parent),
    }
