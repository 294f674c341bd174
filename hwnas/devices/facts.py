"""What is known of a kind of device without having one: facts, each with its source."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
Count = Annotated[int, Field(ge=1)]
CoreCount = Annotated[int, Field(ge=0)]
Quantity = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
ComputeCapability = Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")]
PartNumber = Annotated[str, Field(pattern=r"^p\d{4}-\d{4}$")]
Value = TypeVar("Value")


class Described(BaseModel):
    """Base of what stands in a target's file: frozen, no unknown fields, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Fact(Described, Generic[Value]):
    """One fact."""

    value: Value
    source: str = Field(min_length=1)
    """The document, code or command that says so; of an unverified one, where it should be looked up."""
    unverified: bool = False
    """Whether it was written down from memory, and nobody has looked it up yet."""


class PowerMode(Described):
    """One of nvpmodel's modes; ``None`` where it sets no limit, or none is known."""

    id: CoreCount
    """What ``nvpmodel -m`` takes."""
    tpcs: Count | None = None
    """Texture processing clusters that are not gated."""
    cpu_cores: Count | None = None
    gpu_max_mhz: Quantity | None = None
    emc_max_mhz: Quantity | None = None
    """Of the memory."""
    default: bool = False
    """Whether a board has it after it was flashed."""


class VersionRange(Described):
    """Versions of TensorRT."""

    oldest: Version
    newest: Version | None = None
    """``None``: no last one is known."""


class Facts(Described):
    """What is known of a device; ``None`` where nothing is."""

    module: Fact[str] | None = None
    """The name that its maker gives it."""
    part_numbers: Fact[list[PartNumber]] | None = None
    """Board and SKU of a Jetson's module, such as ``p3767-0005``."""
    device_tree_models: Fact[list[str]] | None = None
    """How ``/proc/device-tree/model`` may begin."""
    gpu_names: Fact[list[str]] | None = None
    """How CUDA may call the GPU."""
    soc: Fact[str] | None = None
    cpu: Fact[str] | None = None
    cpu_cores: Fact[Count] | None = None
    cpu_max_mhz: Fact[Quantity] | None = None
    compute_capability: Fact[ComputeCapability] | None = None
    """Of the GPU."""
    cuda_cores: Fact[Count] | None = None
    tensor_cores: Fact[CoreCount] | None = None
    sms: Fact[Count] | None = None
    """Streaming multiprocessors, all of them; on a board that was probed, those that are on."""
    sms_by_power_mode: Fact[dict[str, Count]] | None = None
    """How many should be found in each mode."""
    gpu_max_mhz: Fact[Quantity] | None = None
    memory_gib: Fact[Quantity] | None = None
    """Of the GPU, on a Jetson of the whole board; on a board that was probed, what the system has of it."""
    memory_mhz: Fact[Quantity] | None = None
    """Its clock when a board was probed."""
    memory_bandwidth_gb_s: Fact[Quantity] | None = None
    """As specified, 10^9 bytes a second."""
    measured_bandwidth_gb_s: Fact[Quantity] | None = None
    """As somebody measured it."""
    dla_cores: Fact[CoreCount] | None = None
    """Deep-learning accelerators."""
    precisions: Fact[list[Precision]] | None = None
    """What the GPU, or the CPU, computes in."""
    int8_tops: Fact[Quantity] | None = None
    """10^12 operations a second at most, as advertised: since Ampere with structured sparsity."""
    fp16_tflops: Fact[Quantity] | None = None
    fp4_tflops: Fact[Quantity] | None = None
    """With structured sparsity."""
    power_w: Fact[Quantity] | None = None
    """Most that it draws by its specification."""
    power_modes: Fact[dict[str, PowerMode]] | None = None
    """By the names that nvpmodel gives them."""
    power_mode: Fact[str] | None = None
    """The one in which a board was probed."""
    jetpacks: Fact[list[Version]] | None = None
    """Those that it may run."""
    tensorrt_range: Fact[VersionRange] | None = None
    """Versions of TensorRT that it may have, as far as hwnas builds for them."""
    tensorrt: Fact[Version] | None = None
    """The one that it has."""
    cuda: Fact[Version] | None = None
    l4t: Fact[Version] | None = None
    """Release of Jetson Linux."""
    python: Fact[Version] | None = None
    disk_gib: Fact[Quantity] | None = None
    """Of the file system with the user's home."""
