"""PyTorch, for a device that has nothing else.  An engine is a model as nodes that this agent has built once.

Providers: ``cpu`` and ``cuda`` run operator after operator; ``cpucompile`` and ``cudacompile`` compile the program
with ``torch.compile`` when the engine is loaded; ``cudagraph`` captures it as a CUDA graph.  FP32 is FP32: TF32 is off.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import torch

from ..node_model import read_node_model
from ..nvml import open_nvml
from ..protocol import AgentError, ErrorKind
from .base import Engine, Runtime, RuntimeOptions
from .supported import require_supported
from .torch_engines import CUDA_GRAPH, CudaTorchEngine, TorchEngine
from .torch_program import build_program

_CPU = "cpu"
_CUDA = "cuda"
_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16")}
_HALF = ("fp16", "bf16")


class TorchRuntime(Runtime):
    """Programs of PyTorch functions over static inputs, in inference mode."""

    name = "torch"
    default_provider = _CPU
    precisions = ("fp32", "fp16", "bf16")

    def version(self) -> str:
        """The version of PyTorch, with what it was built for."""
        return str(torch.__version__)

    def providers(self) -> List[str]:
        """Those of the CPU, and of the GPU where PyTorch sees one."""
        found = [_CPU, *([_CPU + "compile"] if _can_compile() else [])]
        if torch.cuda.is_available():
            found += [_CUDA, CUDA_GRAPH, *([_CUDA + "compile"] if _can_compile() else [])]
        return found

    def identity(self, options: RuntimeOptions) -> Dict[str, Any]:
        """How programs are laid out and executed, and on a GPU which one."""
        found: Dict[str, Any] = {
            "provider": options.provider,
            "threads": options.threads,
            "layout": "channels-last" if _channels_last(options) else "contiguous",
        }
        if not _on_gpu(options):
            return found
        if options.execution.cuda_graph:
            found["cuda_graph"] = True
        if options.execution.spin_wait:
            found["spin_wait"] = True
        if torch.cuda.is_available():
            found["gpu"] = _gpu_identity()
        return found

    def compile(self, onnx: bytes, options: RuntimeOptions, output: Path) -> None:
        """Build the program and follow its shapes through; the file holds the nodes as they came.

        ``onnx`` is a model as nodes, since there is nothing on the device that reads ONNX.
        """
        _check(self, options)
        model = read_node_model(onnx)
        program = build_program(model, options.precision, _channels_last(options))
        with _explained(), torch.inference_mode():
            # Without data: the processor of a device may not have every operator in the GPU's precision.
            outputs = program.to("meta")(*(torch.empty(shape, device="meta") for shape in model.inputs.values()))
        for (name, shape), value in zip(model.outputs.items(), outputs):
            if tuple(value.shape) != shape:
                raise AgentError(
                    ErrorKind.MODEL_REFUSED,
                    "output '%s' has the shape %s where %s is stated" % (name, list(value.shape), list(shape)),
                )
        output.write_bytes(onnx)

    def load(self, engine: bytes, options: RuntimeOptions) -> Engine:
        """Build the program again, compile or capture it, and run it."""
        _check(self, options)
        model = read_node_model(engine)
        program = build_program(model, options.precision, _channels_last(options))
        with _explained():
            return (
                CudaTorchEngine(program, model, options) if _on_gpu(options) else TorchEngine(program, model, options)
            )


def _check(runtime: TorchRuntime, options: RuntimeOptions) -> None:
    """Refuse what this device's PyTorch would do otherwise or elsewhere."""
    if options.provider not in runtime.providers():
        raise AgentError(
            ErrorKind.FALLBACK,
            "provider %s is not here: PyTorch %s has %s on this device"
            % (options.provider, runtime.version(), ", ".join(runtime.providers())),
        )
    precisions = _PRECISIONS["cuda" if _on_gpu(options) else "cpu"]
    if options.precision not in precisions:
        raise AgentError(
            ErrorKind.BAD_REQUEST,
            "provider %s computes %s, not %s" % (options.provider, ", ".join(precisions), options.precision),
        )
    require_supported(runtime.name, options, execution=("cuda_graph", "spin_wait") if _on_gpu(options) else ())


@contextmanager
def _explained() -> Iterator[None]:
    """PyTorch's errors as refusals of one sentence."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise AgentError(
            ErrorKind.OUT_OF_MEMORY, "the GPU's memory does not hold the model: %s" % _line(error)
        ) from error
    except Exception as error:  # torch.compile raises what its back ends, compilers and linkers raise
        if isinstance(error, AgentError):
            raise
        raise AgentError(ErrorKind.MODEL_REFUSED, "PyTorch refused the model: %s" % _line(error)) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _on_gpu(options: RuntimeOptions) -> bool:
    return options.provider.startswith(_CUDA)


def _can_compile() -> bool:
    return hasattr(torch, "compile")


def _channels_last(options: RuntimeOptions) -> bool:
    """On a CPU all that was tried took less time so (docs/runtimes.md); tensor cores want it of FP16 and BF16."""
    return not _on_gpu(options) or options.precision in _HALF


def _gpu_identity() -> Dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0)
    nvml = open_nvml()
    limit_mhz = None
    if nvml is not None:
        limit_mhz = nvml.read().limit_mhz
        nvml.close()
    return {
        "name": gpu.name,
        "compute_capability": "%d.%d" % (gpu.major, gpu.minor),
        "multiprocessors": gpu.multi_processor_count,
        "memory_bytes": gpu.total_memory,
        "max_clock_mhz": limit_mhz,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "tf32": False,
        "autotuned": True,
    }
