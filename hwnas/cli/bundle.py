"""``hwnas bundle``: what boards are sent, made, checked, and brought into the forms of fleet managers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from hwnas.cli.bundle_export import export
from hwnas.cli.checks import check_statistic
from hwnas.cli.console import JsonOption, bars, command, milliseconds, out, percent, print_json, print_table

if TYPE_CHECKING:
    from hwnas.deploy.bundle import Bundle
    from hwnas.deploy.manifest import Limits

_MAKE = "make"


class _MakesByDefault(TyperGroup):
    """``hwnas bundle runs/test`` is short for ``hwnas bundle make runs/test``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_MAKE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_MakesByDefault, help="Make a signed bundle (the default), verify one, or export it.", no_args_is_help=True
)
app.command("export")(export)


@app.command(_MAKE)
@command
def make(
    sources: Annotated[list[Path], typer.Argument(help="The directory of a finished run, or ONNX files.")],
    output: Annotated[Path, typer.Option("--out", help="Directory of bundles.")] = Path("bundles"),
    name: Annotated[str | None, typer.Option(help="Of the bundle; default: the run's or the file's.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Default: the next after the newest in --out.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Key that signs; default: the only one there is.")] = None,
    pareto: Annotated[
        int | None, typer.Option(min=1, help="Networks of a run: the winner, and faster ones of its resolution.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Of ONNX files: the target that they are for.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Of ONNX files; default: the target's.")] = None,
    provider: Annotated[str | None, typer.Option(help="Of ONNX files; default: the target's.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of ONNX files; default: the target's.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Of ONNX files: data set whose validation images are bundled.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Of ONNX files: most latency, ms.")] = None,
    statistic: Annotated[str | None, typer.Option(help="That the budget limits, p50 or p99 (default).")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Of ONNX files: latency table that the budget was checked against.")
    ] = None,
    memory: Annotated[float | None, typer.Option(min=0, help="Most memory of a model on the board, MiB.")] = None,
    golden: Annotated[
        int | None,
        typer.Option(
            min=1, help="Inputs whose outputs are compared on the board; default: 8, or as many as have 32 MiB of them."
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Labelled images; default: 256, or as many as 16 MiB hold.")
    ] = None,
    least_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="On them; default: what remains if all close calls are lost.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Of outputs, as a share of their root mean square; default: by precision."),
    ] = None,
    prebuild: Annotated[
        list[str] | None, typer.Option(help="Target on which an engine is built beforehand, once for each.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write NAME-vN/ and NAME-vN.tar.gz: the same inputs, version and keys give the same bytes."""
    from hwnas.deploy.bundle import archive_path, write_bundle
    from hwnas.deploy.keys import KeyStore
    from hwnas.devices import RuntimeChoice
    from hwnas.pipeline.bundle_request import BundleRequest
    from hwnas.pipeline.bundling import BundleOptions

    private = KeyStore().unlocked(key)
    request = BundleRequest(
        sources,
        name=name,
        pareto=pareto,
        memory_mib=memory,
        target=target,
        choice=RuntimeChoice(runtime, provider, precision),
        data=data,
        data_root=data_root,
        budget_ms=budget,
        statistic=None if statistic is None else check_statistic(statistic),
        table=table,
    )
    options = BundleOptions(golden, samples, least_accuracy, tolerance, tuple(prebuild or ()))
    with bars() as progress:
        content = request.content(options, progress)
    bundle = write_bundle(content, version, output, private)
    archive = archive_path(bundle.path)
    if json:
        print_json({"path": str(bundle.path), "archive": str(archive), **_record(bundle)})
        return
    _print(bundle)
    out.print(f"{archive}: {archive.stat().st_size / 2**20:.2f} MiB", soft_wrap=True)


@app.command()
@command
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's directory or archive.")],
    key: Annotated[
        list[str] | None, typer.Option(help="Key that must have signed, any one of them; default: every known one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check signature and every file of a bundle, and show what it holds; each fault is named."""
    from hwnas.deploy.keys import KeyStore
    from hwnas.deploy.verification import verify_bundle

    found = verify_bundle(bundle, KeyStore().trusted(key))
    if json:
        print_json({"path": str(bundle), **_record(found)})
        return
    _print(found)


def _record(bundle: Bundle) -> dict[str, object]:
    return {"digest": bundle.digest, "manifest": bundle.manifest.model_dump(mode="json")}


def _limits(budget: Limits) -> str:
    told = []
    if budget.latency_ms is not None:
        told.append(f"{budget.statistic} at most {milliseconds(budget.latency_ms)}")
    if budget.memory_mib is not None:
        told.append(f"memory at most {budget.memory_mib:g} MiB")
    return ", ".join(told) or "no limits"


def _ends(values: Sequence[float]) -> tuple[float, ...]:
    """The least and the greatest, or the one that there is."""
    return tuple(sorted({min(values), max(values)}))


def _print(bundle: Bundle) -> None:
    manifest = bundle.manifest
    out.print(
        Text.assemble((str(bundle.path), "bold"), f": {manifest.name}, version {manifest.version}, {bundle.digest}"),
        soft_wrap=True,
    )
    rows = [
        [
            model.id,
            percent(model.accuracy),
            milliseconds(model.expected_ms),
            " to ".join(f"{tolerance:g}" for tolerance in _ends(model.golden.tolerances)),
            str(len(model.engines)),
        ]
        for model in manifest.models
    ]
    print_table(
        f"{manifest.runtime['runtime']}, {manifest.runtime['precision']}",
        ["model", manifest.provenance.metric, "expected", "tolerance", "engines"],
        rows,
    )
    for limits in dict.fromkeys(_limits(model.budget) for model in manifest.models):
        out.print(f"On the board: {limits}.")
    samples = manifest.samples
    if samples is not None:
        out.print(f"Every model must classify {percent(samples.least_accuracy)} of the bundled images rightly.")
    checked = manifest.checked
    if checked is not None:
        out.print(f"Checked for {checked.target} against {checked.table}.", soft_wrap=True)
