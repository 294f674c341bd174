"""Deep-learning accelerators of Jetsons: what they do not execute falls back to the GPU.

Before TensorRT 11 a DLA computes in FP16, or in INT8 with scales from a calibration cache: it does not read Q/DQ nodes
(NVIDIA, Working with DLA).  :func:`hwnas.export.without_qdq` turns those of a model into such scales.
"""

from __future__ import annotations

import struct
from typing import Any, Sequence, Tuple

from ..protocol import AgentError, ErrorKind
from ..runtimes.base import RuntimeOptions
from .library import Library
from .parsing import ParsedModel
from .precision import require_precision

DLA = "dla"
"""The provider that is a deep-learning accelerator; the other one is ``gpu``."""


def place_on_dla(config: Any, model: ParsedModel, options: RuntimeOptions, library: Library, by_flags: bool) -> None:
    """Let the network run on a DLA, the rest of it on the GPU.

    Raises:
        AgentError: ``fallback`` when there is no such DLA, ``model-refused`` when none computes in what is asked for.
    """
    trt, build = library.trt, options.build
    cores, core = int(model.builder.num_DLA_cores), build.dla_core or 0
    if core >= cores:
        raise AgentError(ErrorKind.FALLBACK, "there is no DLA core %d here: %s finds %d" % (core, library.title, cores))
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if not by_flags:
        if build.tensor_scales:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "%s takes scales from the model's Q/DQ nodes; give it the quantised model" % library.title,
            )
        require_precision(model, options.precision, library, by_flags)
        return
    if options.precision not in ("fp16", "int8"):
        raise AgentError(ErrorKind.MODEL_REFUSED, "a DLA computes in fp16 or int8, not in %s" % options.precision)
    # With a calibration cache the model itself is an unquantised one.
    require_precision(model, "fp16", library, by_flags)
    if options.precision == "int8":
        if not build.tensor_scales:
            raise AgentError(
                ErrorKind.MODEL_REFUSED,
                "a DLA takes its INT8 scales apart from the model before TensorRT 11, and none were given; "
                "hwnas.export.without_qdq takes them from a quantised model",
            )
        config.int8_calibrator = _calibrator(trt, calibration_cache(build.tensor_scales, library.version))


def calibration_cache(scales: Sequence[Tuple[str, float]], version: str) -> bytes:
    """TensorRT's calibration cache: after a head each tensor's scale, as the bits of a float32 in hexadecimal digits.

    Args:
        scales: by tensor; a step of INT8, that is the largest magnitude divided by 127.
        version: of TensorRT, such as ``10.3.0``.
    """
    major, minor, patch = (int(part) for part in (version + ".0.0").split(".")[:3])
    number = major * (10_000 if major >= 10 else 1_000) + minor * 100 + patch
    lines = ["TRT-%d-EntropyCalibration2" % number]
    lines += ["%s: %s" % (name, struct.pack(">f", scale).hex()) for name, scale in scales]
    return ("\n".join(lines) + "\n").encode()


def _calibrator(trt: Any, cache: bytes) -> Any:
    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        """Has a cache, and no pictures."""

        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, _names: Sequence[str]) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, _cache: bytes) -> None:
            return None

    return Calibrator()
