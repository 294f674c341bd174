"""``hwnas``: the commands.  Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas import __version__
from hwnas.cli import (
    agent,
    bench,
    build,
    bundle,
    doctor,
    export,
    finetune,
    flash,
    import_weights,
    keys,
    profile,
    publish,
    quantize,
    report,
    run,
    search,
    slots,
    tables,
    targets,
    train,
    tune,
)

app = typer.Typer(
    name="hwnas",
    help="Hardware-aware neural architecture search for edge deployment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("profile")(profile.profile)
app.command("train")(train.train)
app.command("import-weights")(import_weights.import_weights)
app.command("tune")(tune.tune)
app.command("search")(search.search)
app.command("export")(export.export)
app.command("finetune")(finetune.finetune)
app.command("quantize")(quantize.quantize)
app.command("build")(build.build)
app.command("bench")(bench.bench)
app.add_typer(bundle.app, name="bundle")
app.add_typer(keys.app, name="keys")
app.command("flash")(flash.flash)
app.command("status")(slots.status)
app.command("rollback")(slots.rollback)
app.add_typer(slots.app, name="slots")
app.command("publish")(publish.publish)
app.command("agent")(agent.agent)
app.command("doctor")(doctor.doctor)
app.add_typer(targets.app, name="targets")
app.add_typer(tables.app, name="tables")
app.command("report")(report.report)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hwnas {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hardware-aware neural architecture search for edge deployment."""


def main() -> None:
    """Entry point of the ``hwnas`` program."""
    app()
