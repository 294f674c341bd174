"""``hwnas targets``: the devices that are described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from hwnas.cli.console import JsonOption, command, out, print_json, print_table
from hwnas.cli.targets_add import add
from hwnas.cli.targets_show import show
from hwnas.cli.targets_validate import validate

if TYPE_CHECKING:
    from hwnas.devices import FactsOnly, Target

app = typer.Typer(help="List, show, check and add targets, the devices that are described.")
app.command("add")(add)
app.command("show")(show)
app.command("validate")(validate)


@app.callback(invoke_without_command=True)
def targets(
    context: typer.Context,
    json: JsonOption = False,
) -> None:
    """List the targets where no command is given."""
    if context.invoked_subcommand is None:
        list_targets(json=json)


@app.command("list")
@command
def list_targets(json: JsonOption = False) -> None:
    """List the targets."""
    from hwnas.devices import list_targets

    found = list_targets()
    if json:
        print_json([described(target) for target in found])
        return
    rows = [[target.name, target.kind, _brief(target)] for target in found]
    print_table("Targets", ["name", "kind", "description"], rows)


@app.command("schema")
@command
def schema() -> None:
    """Print the JSON Schema of a target's file, for editors and other programs."""
    from hwnas.devices.target_schema import target_schema_text

    out.file.write(target_schema_text())


def described(target: Target | FactsOnly) -> dict[str, Any]:
    """A target as JSON, without what is not known."""
    return target.model_dump(mode="json", by_alias=True, exclude_none=True)


def _brief(target: Target | FactsOnly) -> str:
    return f"{target.description} (facts only)" if target.support == "facts-only" else target.description
