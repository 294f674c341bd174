"""``hwnas targets``: the devices that are described."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json, print_table, readable


@command
def targets(
    name: Annotated[str | None, typer.Argument(help="Show this one, as described and as found live.")] = None,
    json: JsonOption = False,
) -> None:
    """List the targets, or show one and probe its fingerprint."""
    from hwnas.devices import list_targets, load_target, open_device
    from hwnas.devices.fingerprint import flattened

    if name is None:
        found = list_targets()
        if json:
            print_json([target.model_dump(mode="json", by_alias=True) for target in found])
            return
        rows = [[target.name, target.kind, ", ".join(target.runtimes), target.description] for target in found]
        print_table("Targets", ["name", "kind", "runtimes", "description"], rows)
        return

    target = load_target(name)
    with open_device(target) as device:
        fingerprint = device.fingerprint()
    if json:
        described = target.model_dump(mode="json", by_alias=True)
        print_json({"target": described, "identity8": fingerprint.identity8, **fingerprint.model_dump(mode="json")})
        return
    out.print(f"[bold]{target.name}[/]: {target.description}")
    facts = [("identity", fingerprint.identity), ("context", fingerprint.context)]
    print_table(
        f"Fingerprint {fingerprint.identity8}",
        ["", "field", "value"],
        [[kind, field, readable(value)] for kind, fields in facts for field, value in flattened(fields).items()],
    )
