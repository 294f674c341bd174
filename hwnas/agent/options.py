"""How an engine is built and executed: plain data, shared by agent and host."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional, Tuple

from .protocol import AgentError, ErrorKind, Fields, Message

HARDWARE_COMPATIBILITY = ("none", "ampere-plus", "same-compute-capability")
_COMPUTE_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")


@dataclass(frozen=True)
class BuildOptions:
    """How a runtime that compiles to native code builds; a runtime that cannot do what is asked refuses."""

    workspace_mib: Optional[int] = None
    """Most scratch memory of an engine; ``None``: the library's own limit, which is the device's memory."""
    version_compatible: bool = False
    """Whether later versions of the library may run the engine."""
    hardware_compatibility: str = "none"
    """On what other GPUs the engine may run: one of :data:`HARDWARE_COMPATIBILITY`."""
    dla_core: Optional[int] = None
    """Which deep-learning accelerator, for provider ``dla``; ``None``: the first."""
    compute_capabilities: Tuple[str, ...] = ()
    """For TensorRT-RTX, such as ``8.6``; empty: that of this GPU, or all that it knows where there is none."""
    batch_range: Optional[Tuple[int, int, int]] = None
    """Least, usual and largest batch of a model whose batch is dynamic; its engine runs the usual one."""
    tensor_scales: Tuple[Tuple[str, float], ...] = ()
    """Symmetric INT8 scales by tensor, for an accelerator that does not read them from the model."""
    profiling: bool = True
    """Whether the engine tells its layers and what each of them takes."""
    timeout_s: Optional[float] = None
    """When a build is given up; ``None``: when the host gives up."""
    memory_mib: Optional[int] = None
    """Most resident memory of a build's process; ``None``: what the device has."""

    @classmethod
    def from_message(cls, message: Message) -> "BuildOptions":
        """The options that ``message`` names, each checked, and the defaults of the others.

        Raises:
            AgentError: ``bad-request``.
        """
        given, default = Fields(message), cls()
        level = given.text("hardware_compatibility", default.hardware_compatibility)
        if level not in HARDWARE_COMPATIBILITY:
            raise _wrong("hardware_compatibility", "one of " + ", ".join(HARDWARE_COMPATIBILITY), level)
        capabilities = tuple(given.items("compute_capabilities", ()))
        if not all(isinstance(name, str) and _COMPUTE_CAPABILITY.fullmatch(name) for name in capabilities):
            raise _wrong("compute_capabilities", "a list such as ['8.6', '8.9']", capabilities)
        return cls(
            workspace_mib=_integer(given, "workspace_mib", least=1),
            version_compatible=given.flag("version_compatible", default.version_compatible),
            hardware_compatibility=level,
            dla_core=_integer(given, "dla_core", least=0),
            compute_capabilities=capabilities,
            batch_range=_batch_range(given),
            tensor_scales=_scales(given),
            profiling=given.flag("profiling", default.profiling),
            timeout_s=given.number("timeout_s") if given.has("timeout_s") else None,
            memory_mib=_integer(given, "memory_mib", least=1),
        )


@dataclass(frozen=True)
class ExecutionOptions:
    """How a GPU's engine is run and timed; trtexec's three knobs that a figure depends on."""

    cuda_graph: bool = False
    """Whether a run is captured once and then launched as one graph (``--useCudaGraph``)."""
    spin_wait: bool = False
    """Whether the host spins on an event instead of sleeping (``--useSpinWait``)."""
    transfers: bool = False
    """Whether inputs and outputs are copied within each run (not ``--noDataTransfers``)."""

    @classmethod
    def from_message(cls, message: Message) -> "ExecutionOptions":
        """The options that ``message`` names, each checked, and the defaults of the others.

        Raises:
            AgentError: ``bad-request``.
        """
        given = Fields(message)
        return cls(**{name: given.flag(name, default) for name, default in asdict(cls()).items()})


def changed(options: Any) -> Dict[str, Any]:
    """The options that are not as they are by default."""
    default = asdict(type(options)())
    return {name: value for name, value in asdict(options).items() if value != default[name]}


def _integer(given: Fields, name: str, least: int) -> Optional[int]:
    return given.integer(name, least=least) if given.has(name) else None


def _batch_range(given: Fields) -> Optional[Tuple[int, int, int]]:
    if not given.has("batch_range"):
        return None
    sides = given.items("batch_range")
    whole = len(sides) == 3 and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or not 1 <= sides[0] <= sides[1] <= sides[2]:
        raise _wrong("batch_range", "three whole numbers, 1 <= least <= usual <= largest", sides)
    return (sides[0], sides[1], sides[2])


def _scales(given: Fields) -> Tuple[Tuple[str, float], ...]:
    scales = []
    for item in given.items("tensor_scales", ()):
        if not (isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str)):
            raise _wrong("tensor_scales", "pairs of a tensor's name and its scale", item)
        if isinstance(item[1], bool) or not isinstance(item[1], (int, float)) or not 0 < item[1] < float("inf"):
            raise _wrong("tensor_scales", "positive for '%s'" % item[0][:40], item[1])
        scales.append((item[0], float(item[1])))
    return tuple(scales)


def _wrong(name: str, expected: str, found: object) -> AgentError:
    return AgentError(ErrorKind.BAD_REQUEST, "field '%s' must be %s, found %s" % (name, expected, repr(found)[:60]))
