"""Any float32 model in float16."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import onnx
from onnx import ModelProto, helper, version_converter

from hwnas.export.errors import ExportError

Tool = Literal["auto", "nvidia-modelopt", "onnxruntime"]


def chosen_tool(asked: Tool) -> Literal["nvidia-modelopt", "onnxruntime"]:
    """nvidia-modelopt where it is installed and not excluded, ONNX Runtime otherwise.

    Raises:
        ExportError: nvidia-modelopt is asked for and not installed.
    """
    installed = all(importlib.util.find_spec(name) is not None for name in ("modelopt", "onnx_graphsurgeon"))
    if asked == "nvidia-modelopt" and not installed:
        raise ExportError(
            "nvidia-modelopt with onnx-graphsurgeon is not installed; install hwnas[modelopt] or choose onnxruntime."
        )
    return "nvidia-modelopt" if installed and asked != "onnxruntime" else "onnxruntime"


def half_precision(model: ModelProto, *, tool: Tool = "auto", keep_io: bool = True) -> tuple[ModelProto, str]:
    """A float32 model in float16, and which tool of which version made it.

    Args:
        model: left as it is.
        tool: nvidia-modelopt's AutoCast leaves in float32 what would overflow; ONNX Runtime's converter clips there.
        keep_io: inputs and outputs stay float32, with a cast behind and before them.

    Raises:
        ExportError: the tool is not installed or failed.
    """
    found = _CONVERTERS[chosen_tool(tool)](model, keep_io)
    del found[0].metadata_props[:]
    found[0].metadata_props.extend(model.metadata_props)
    return found


def at_opset(model: ModelProto, opset: int) -> ModelProto:
    """A model at a later opset of ONNX, or as it is if it has that one.

    Raises:
        ExportError: an operator cannot be converted.
    """
    if max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) >= opset:
        return model
    try:
        later: ModelProto = version_converter.convert_version(model, opset)
    except RuntimeError as error:
        raise ExportError(f"The model cannot be brought to opset {opset} ({error}); export it so.") from error
    later.ir_version = max(later.ir_version, helper.find_min_ir_version_for(later.opset_import))
    return later


def _by_onnxruntime(model: ModelProto, keep_io: bool) -> tuple[ModelProto, str]:
    import onnxruntime
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = ModelProto()
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each weight below float16's smallest number
        half = OnnxModel(convert_float_to_float16(copy, keep_io_types=keep_io))
    half.topological_sort(is_deterministic=True)  # the casts at the ends were appended
    return half.model, f"onnxruntime {onnxruntime.__version__}"


def _by_modelopt(model: ModelProto, keep_io: bool) -> tuple[ModelProto, str]:
    import modelopt
    from modelopt.onnx.autocast import convert_to_mixed_precision

    logging.getLogger("modelopt").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        onnx.save(model, path)
        try:
            half = convert_to_mixed_precision(str(path), low_precision_type="fp16", keep_io_types=keep_io)
        except Exception as error:  # it raises whatever its parts do
            raise ExportError(
                f"nvidia-modelopt cannot convert the model to FP16 ({error}); use onnxruntime."
            ) from error
    return half, f"nvidia-modelopt {modelopt.__version__} (AutoCast)"


_CONVERTERS = {"onnxruntime": _by_onnxruntime, "nvidia-modelopt": _by_modelopt}
