"""A network into an engine."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ..options import BuildOptions
from ..protocol import AgentError, ErrorKind
from ..runtimes.base import RuntimeOptions
from .dla import DLA, place_on_dla
from .library import Library
from .names import NAMES
from .parsing import ParsedModel, can_choose_types, can_type_strongly
from .precision import require_precision, set_precision_flags
from .timing_cache import TimingCache

_LEVELS = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}


def build_plan(library: Library, onnx: bytes, options: RuntimeOptions, cache: Optional[TimingCache] = None) -> Any:
    """The serialized engine of an ONNX model, as a buffer.

    Args:
        library: what builds.
        onnx: the model.
        options: precision, provider and how to build.
        cache: what earlier builds learned; this one adds to it.

    Raises:
        AgentError: ``model-refused``; ``out-of-memory``; ``bad-request`` when this version cannot do what is asked.
    """
    on_dla = options.provider == DLA
    by_flags = can_choose_types(library.trt) and (on_dla or not can_type_strongly(library.trt))
    model = ParsedModel(library, onnx, strongly_typed=not by_flags)
    model.require_accepted()
    config = library.made(model.builder.create_builder_config(), "making a builder's configuration")
    _set_limits(config, options.build, library)
    _set_portability(config, options.build, library)
    _add_profile(config, model, options.build.batch_range, library)
    if by_flags:
        set_precision_flags(config, options.precision, library)
    if on_dla:
        place_on_dla(config, model, options, library, by_flags)
    else:
        require_precision(model, options.precision, library, by_flags)
    if cache is not None:
        cache.load_into(config)
    library.errors.clear()
    plan = model.builder.build_serialized_network(model.network, config)
    plan = library.made(plan, "building the engine", ErrorKind.MODEL_REFUSED)
    if cache is not None:
        cache.save_from(config)
    return plan


def _set_limits(config: Any, build: BuildOptions, library: Library) -> None:
    trt = library.trt
    if build.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, build.workspace_mib << 20)
    verbosity = trt.ProfilingVerbosity
    config.profiling_verbosity = verbosity.DETAILED if build.profiling else verbosity.NONE


def _set_portability(config: Any, build: BuildOptions, library: Library) -> None:
    """Let the engine run on more than this version on this GPU."""
    trt = library.trt
    if build.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if build.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, _LEVELS[build.hardware_compatibility], None)
        if level is None:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "%s has no hardware compatibility '%s'" % (library.title, build.hardware_compatibility),
            )
        config.hardware_compatibility_level = level
    if build.compute_capabilities:
        config.num_compute_capabilities = len(build.compute_capabilities)
        for number, name in enumerate(build.compute_capabilities):
            if not config.set_compute_capability(_compute_capability(library, name), number):
                raise library.failure("asking for compute capability %s" % name)


def known_compute_capabilities(library: Library) -> Tuple[str, ...]:
    """What TensorRT-RTX builds for, such as ``8.6``; empty for TensorRT, which builds for the GPU at hand."""
    kinds = getattr(library.trt, "ComputeCapability", None)
    return tuple("%s.%s" % (name[2:-1], name[-1]) for name in NAMES["ComputeCapability"] if hasattr(kinds, name))


def _compute_capability(library: Library, name: str) -> Any:
    """NVIDIA's constant for ``8.6``."""
    found = getattr(library.trt.ComputeCapability, "SM" + name.replace(".", ""), None)
    if found is None:
        raise AgentError(
            ErrorKind.BAD_REQUEST,
            "%s builds for no compute capability %s" % (library.title, name),
        )
    return found


def _add_profile(
    config: Any, model: ParsedModel, batch_range: Optional[Tuple[int, int, int]], library: Library
) -> None:
    """Tell which batches a dynamic one may have; a model of static shapes needs no telling."""
    inputs = [model.network.get_input(number) for number in range(model.network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    for tensor in dynamic:
        if -1 in tuple(tensor.shape)[1:]:
            raise AgentError(
                ErrorKind.MODEL_REFUSED,
                "input '%s' has the shape %s; only the batch may be dynamic, export the model with its size fixed"
                % (tensor.name, list(tensor.shape)),
            )
    if dynamic and batch_range is None:
        raise AgentError(
            ErrorKind.MODEL_REFUSED,
            "the batch of input '%s' is dynamic; say which it may be by batch_range, or export it with a fixed one"
            % dynamic[0].name,
        )
    if batch_range is not None and not dynamic:
        raise AgentError(ErrorKind.MODEL_REFUSED, "batch_range is for a dynamic batch, and this model's is fixed")
    if batch_range is None:
        return
    profile = library.made(model.builder.create_optimization_profile(), "making an optimisation profile")
    for tensor in dynamic:
        least, usual, largest = ((batch, *tuple(tensor.shape)[1:]) for batch in batch_range)
        profile.set_shape(tensor.name, least, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        raise library.failure("allowing the batches %s" % list(batch_range), ErrorKind.MODEL_REFUSED)
