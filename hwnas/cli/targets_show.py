"""``hwnas targets show``: what is known of a device, and what is found on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hwnas.cli.console import AcceptNewOption, JsonOption, Terminal, command, out, print_json, print_table, readable

if TYPE_CHECKING:
    from hwnas.devices import FactsOnly, Fingerprint, Target


@command
def show(
    name: Annotated[str, typer.Argument(help="Name of a target or its YAML file.")],
    live: Annotated[bool, typer.Option("--live", help="Probe the device, too, and show its fingerprint.")] = False,
    accept_new: AcceptNewOption = False,
    json: JsonOption = False,
) -> None:
    """Show a target: its facts, each with its source, and how it is reached."""
    from hwnas.devices import load_description, load_target, open_device
    from hwnas.questions import answered_by

    target = load_target(name) if live else load_description(name)
    fingerprint = None
    if live:
        with answered_by(Terminal(accept_new)), open_device(load_target(name)) as device:
            fingerprint = device.fingerprint()
    if json:
        found = {"identity8": fingerprint.identity8, **fingerprint.model_dump(mode="json")} if fingerprint else {}
        print_json({"target": target.model_dump(mode="json", by_alias=True, exclude_none=True), **found})
        return
    _print_description(target)
    if fingerprint:
        _print_fingerprint(fingerprint)


def _print_description(target: Target | FactsOnly) -> None:
    out.print(Text.assemble((target.name, "bold"), f": {target.description}"), soft_wrap=True)
    for line in _ways(target):
        out.print(Text(f"  {line}"), soft_wrap=True)
    for name, fact in target.facts:
        if fact is not None:
            unverified = ("unverified: ", "yellow") if fact.unverified else ""
            value = _value(fact.model_dump(exclude_defaults=True)["value"])
            out.print(Text.assemble(f"  {name}:{value}  ", unverified, (fact.source, "dim")), soft_wrap=True)


def _ways(target: Target | FactsOnly) -> list[str]:
    said = target.connection.model_dump(exclude_defaults=True)
    kind = said.pop("kind")
    lines = [f"extends: {target.extends}"] if target.extends else []
    lines.append(f"reached: {kind}{', ' + _brief(said) if said else ''}")
    if target.support == "facts-only":
        return [*lines, f"facts only: {target.why}"]
    if kind == "ssh" and "host" not in said:
        lines.append("where it is, say by `hwnas targets add NAME --ssh USER@HOST`, or in a target that extends it")
    for name, runtime in target.runtimes.items():
        lines.append(f"{name}: {', '.join(runtime.precisions)} by {', '.join(runtime.providers)}")
    limits = target.limits.model_dump(exclude_none=True)
    return [*lines, f"limits: {_brief(limits)}"] if limits else lines


def _value(value: Any) -> str:
    """A fact's value as it follows its name; the entries of a mapping of mappings stand below, one a line."""
    if isinstance(value, dict) and any(isinstance(one, dict) for one in value.values()):
        return "".join(f"\n    {name}: {_brief(one)}" for name, one in value.items()) + "\n  "
    return f" {_brief(value)}"


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_brief(one)}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else readable(value)


def _print_fingerprint(fingerprint: Fingerprint) -> None:
    from hwnas.devices.fingerprint import flattened

    facts = [("identity", fingerprint.identity), ("context", fingerprint.context)]
    print_table(
        f"Fingerprint {fingerprint.identity8}",
        ["", "field", "value"],
        [[kind, field, readable(value)] for kind, fields in facts for field, value in flattened(fields).items()],
    )
