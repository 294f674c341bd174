"""``hwnas build``: an ONNX file into an engine file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.console import JsonOption, bars, command, out, print_json

if TYPE_CHECKING:
    from hwnas.agent.options import BuildOptions


class HardwareCompatibility(StrEnum):
    """On what other GPUs an engine may run."""

    NONE = "none"
    AMPERE_PLUS = "ampere-plus"
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"


@command
def build(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    output: Annotated[Path, typer.Option("--out", help="The engine file; what it is lies beside it as JSON.")],
    target: Annotated[str, typer.Option(help="Name of a target, or its YAML file; builds there.")] = "local-gpu",
    runtime: Annotated[
        str | None, typer.Option(help="Such as tensorrt or tensorrt_rtx; default: the target's.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Such as gpu or dla; default: the target's.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="What the engine computes in: the model's own, from TensorRT 10 on.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Of a dynamic batch the least, usual and largest, such as 1,4,16.")
    ] = None,
    compute_capabilities: Annotated[
        str | None, typer.Option(help="For tensorrt_rtx, such as 8.6,8.9; default: this GPU's, or all.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="Most scratch memory, MiB; default: the target's.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later versions of TensorRT run the engine.")
    ] = False,
    hardware_compatibility: Annotated[
        HardwareCompatibility, typer.Option(help="On what other GPUs the engine may run.")
    ] = HardwareCompatibility.NONE,
    dla_core: Annotated[int | None, typer.Option(min=0, help="Which DLA; default: the first.")] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds after which the build is given up.")] = 3600.0,
    memory: Annotated[
        int | None, typer.Option(min=1, help="Most memory of the building process, MiB; default: the target's.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build an engine on a target in a process of its own; TensorRT-RTX builds without a GPU, too."""
    from dataclasses import replace

    from hwnas.devices import RuntimeChoice, load_target, open_device
    from hwnas.export import build_engine

    wanted: dict[str, Any] = {
        "batch_range": batch and _numbers(batch, "--batch"),
        "compute_capabilities": (compute_capabilities or "").split(",") if compute_capabilities else (),
        "workspace_mib": workspace,
        "version_compatible": version_compatible,
        "hardware_compatibility": hardware_compatibility.value,
        "dla_core": dla_core,
        "memory_mib": memory,
    }
    described = load_target(target)
    options = RuntimeChoice(runtime, provider, precision).options(described)
    options = replace(options, build=_build_options(wanted), timeout_s=timeout)
    with open_device(described) as device, bars() as progress:
        record = build_engine(device, model, output, options, progress)
    if json:
        print_json({"path": str(output)} | record.model_dump(mode="json"))
        return
    told = record.explanation or {}
    retried = f", after: {told['built_after']}" if "built_after" in told else ""
    out.print(
        f"[bold]{output}[/]: {record.runtime} {record.runtime_version}, {record.precision}, "
        f"{record.engine_bytes / 2**20:.2f} MiB, built in {record.build_s:.1f} s{retried}",
        soft_wrap=True,
    )


def _numbers(text: str, option: str) -> list[int]:
    from hwnas.errors import UserError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} takes whole numbers with commas between, not '{text}'.") from error


def _build_options(wanted: dict[str, Any]) -> BuildOptions:
    from hwnas.agent.options import BuildOptions
    from hwnas.agent.protocol import AgentError
    from hwnas.errors import UserError

    try:
        return BuildOptions.from_message(wanted)
    except AgentError as error:
        raise UserError(f"This cannot be built: {error.message}.") from error
