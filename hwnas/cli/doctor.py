"""``hwnas doctor``: whether a model will build on a device, without having the device."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hwnas.cli.console import JsonOption, command, out, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwnas.doctor import BuildPlan, Diagnosis, ParserVerdict

_STYLES = {"builds": "green", "builds with warnings": "yellow", "will not build": "bold red"}
_MIB = 2**20


@command
def doctor(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    target: Annotated[str, typer.Option(help="Name of a target, such as rtx-3090, or its YAML file.")],
    tensorrt: Annotated[str | None, typer.Option(help="Version of TensorRT there, such as 10.3.")] = None,
    jetpack: Annotated[str | None, typer.Option(help="JetPack there, such as 6.2, which says the version.")] = None,
    compute_capability: Annotated[str | None, typer.Option(help="Of the GPU, such as 8.7.")] = None,
    memory_gib: Annotated[float | None, typer.Option(min=0.1, help="Memory of the GPU or the board.")] = None,
    dla_cores: Annotated[int | None, typer.Option(min=0, help="Deep-learning accelerators of the board.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16, int8 or fp8; default: as the model is written.")
    ] = None,
    batch_range: Annotated[
        str | None, typer.Option(help="Least, usual and largest batch of a model whose batch is dynamic: 1,8,16.")
    ] = None,
    workspace_mib: Annotated[int | None, typer.Option(min=1, help="Limit of the engine's scratch memory.")] = None,
    dla: Annotated[bool, typer.Option("--dla", help="A deep-learning accelerator shall execute it.")] = False,
    json: JsonOption = False,
) -> None:
    """Say whether a model will build for TensorRT on a device, what stands in the way, and where that comes from.

    A board that may run several JetPacks is examined with each.  Exit status 1 if the model will not build on one.
    """
    plan = _plan(precision, batch_range, workspace_mib, dla)

    from hwnas.devices import load_description
    from hwnas.doctor import Overrides, ask_parser, examine, platforms

    overrides = Overrides(tensorrt, jetpack, compute_capability, memory_gib, dla_cores)
    found = examine(model, platforms(load_description(target), overrides), plan)
    parser = ask_parser(model)
    if json:
        print_json(
            {
                "verdicts": [{"verdict": d.verdict, **d.model_dump(mode="json", by_alias=True)} for d in found],
                "parser": None if parser is None else parser.model_dump(mode="json"),
            }
        )
    else:
        _print(found, parser)
    if any(diagnosis.verdict == "will not build" for diagnosis in found):
        raise typer.Exit(1)


def _plan(precision: str | None, batch_range: str | None, workspace_mib: int | None, dla: bool) -> BuildPlan:
    from typing import cast, get_args

    from hwnas.doctor import BuildPlan, Precision
    from hwnas.errors import UserError

    if precision is not None and precision not in get_args(Precision):
        raise UserError(f"--precision is one of {', '.join(get_args(Precision))}, not '{precision}'.")
    return BuildPlan(
        precision=cast("Precision | None", precision),
        dynamic_batch=_check_batch_range(batch_range),
        workspace_bytes=None if workspace_mib is None else workspace_mib * _MIB,
        on_dla=dla,
    )


def _check_batch_range(text: str | None) -> bool:
    """Whether a range is given.

    Raises:
        UserError: it is not one.
    """
    from hwnas.errors import UserError

    if text is None:
        return False
    sides = [int(part) if part.isdigit() else 0 for part in text.split(",")]
    if len(sides) != 3 or not 1 <= sides[0] <= sides[1] <= sides[2]:
        raise UserError(f"--batch-range is written such as 1,8,16, not '{text}'.")
    return True


def _print(found: Sequence[Diagnosis], parser: ParserVerdict | None) -> None:
    """Platforms of which the same is said are named together."""
    for _, group in itertools.groupby(found, key=lambda d: (d.verdict, d.findings, d.memory)):
        alike = list(group)
        for diagnosis in alike:
            gpu = f", compute capability {diagnosis.compute_capability}" if diagnosis.compute_capability else ""
            where = f"{diagnosis.platform}, TensorRT {diagnosis.tensorrt}{gpu}: "
            out.print(Text.assemble(where, (diagnosis.verdict, _STYLES[diagnosis.verdict])), soft_wrap=True)
        _print_findings(alike[0])
    out.print(Text(_words(parser)), soft_wrap=True)


def _print_findings(diagnosis: Diagnosis) -> None:
    for finding in diagnosis.findings:
        out.print(Text(f"  {finding.severity.value}: {finding.what}"), soft_wrap=True)
        for place in finding.where:
            out.print(Text(f"    at {place}"), soft_wrap=True)
        for name, text in (("mend", finding.mend), ("source", finding.source)):
            if text:
                out.print(Text(f"    {name}: {text}", style="dim"), soft_wrap=True)
    needed = diagnosis.memory
    if needed is not None:
        limit = "without limit" if needed.workspace is None else f"{needed.workspace / _MIB:g} MiB"
        out.print(
            f"  memory: weights {needed.weights / _MIB:.2f} MiB, activations {needed.activations / _MIB:.2f} MiB, "
            f"workspace {limit}",
            soft_wrap=True,
        )


def _words(parser: ParserVerdict | None) -> str:
    if parser is None:
        return "NVIDIA's parser was not asked: TensorRT-RTX is not installed (pip install 'hwnas[rtx]')."
    if parser.accepted:
        return f"{parser.parser} parses the model; older versions of TensorRT may refuse what it takes."
    said = "did not come to an end" if parser.accepted is None else "refuses the model"
    return "\n".join([f"{parser.parser} {said}:", *(f"  {reason}" for reason in parser.refusals)])
