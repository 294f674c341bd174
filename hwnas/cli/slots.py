"""``hwnas status``, ``hwnas rollback`` and ``hwnas slots``: what is installed on boards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hwnas.cli.boards import GroupOption, RootOption, TargetOption, asked, named, tell_silent
from hwnas.cli.console import AcceptNewOption, JsonOption, Terminal, command, out, print_json, print_table
from hwnas.questions import answered_by

if TYPE_CHECKING:
    from hwnas.deploy.board import SlotsStatus

_TOLD_APART = ("time", "event", "health", "number")
_DIGEST = re.compile(r"[0-9a-f]{64}")

app = typer.Typer(help="See to the bundles that are installed on boards.", no_args_is_help=True)


@command
def status(
    target: TargetOption = None,
    group: GroupOption = None,
    root: RootOption = None,
    audit: Annotated[int, typer.Option(min=0, help="Show so many of the last events, too.")] = 0,
    accept_new: AcceptNewOption = False,
    json: JsonOption = False,
) -> None:
    """Show what boards serve, what else is installed on them, and whom they trust."""
    with answered_by(Terminal(accept_new)):
        found, silent = asked(
            named(target, group, root), lambda _, slots: (slots.status(), slots.audit(audit) if audit else [])
        )
    if json:
        print_json({name: {**one.model_dump(mode="json"), "audit": events} for name, (one, events) in found.items()})
    else:
        for name, (one, events) in found.items():
            _print_status(name, one)
            for event in events:
                out.print(Text(f"  {_in_words(event)}"), soft_wrap=True)
    tell_silent(silent)


@command
def rollback(
    target: TargetOption = None,
    group: GroupOption = None,
    to: Annotated[
        str | None, typer.Option(help="The slot to go back to, by the beginning of its digest; default: the previous.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; the board keeps it.")] = "asked for by the operator",
    root: RootOption = None,
    accept_new: AcceptNewOption = False,
    json: JsonOption = False,
) -> None:
    """Have boards go back to the slot before, or to another installed one."""
    from hwnas.deploy.flash import roll_back

    with answered_by(Terminal(accept_new)):
        found, silent = asked(named(target, group, root), lambda name, slots: roll_back(name, slots, reason, to))
    if json:
        print_json({"outcomes": [outcome.model_dump(mode="json") for outcome in found.values()]})
    else:
        for outcome in found.values():
            serves = f"serves {outcome.digest[:12]} again" if outcome.digest else "serves nothing, as at first"
            told = serves if outcome.fate == "rolled-back" else f"{outcome.fate}. {outcome.why}"
            out.print(Text.assemble((outcome.board, "bold"), f": {told}"), soft_wrap=True)
    tell_silent(silent)
    if any(outcome.fate != "rolled-back" for outcome in found.values()):
        raise typer.Exit(1)


@app.command("gc")
@command
def collect(
    target: TargetOption = None,
    group: GroupOption = None,
    keep: Annotated[int, typer.Option(min=2, help="How many slots to keep, the current and the previous first.")] = 2,
    root: RootOption = None,
    accept_new: AcceptNewOption = False,
    json: JsonOption = False,
) -> None:
    """Remove old slots from boards; the current one and the one before always stay."""
    with answered_by(Terminal(accept_new)):
        removed, silent = asked(named(target, group, root), lambda _, slots: slots.collect(keep))
    if json:
        print_json({"removed": removed})
    else:
        for name, digests in removed.items():
            told = ", ".join(digest[:12] for digest in digests) or "nothing"
            out.print(Text.assemble((name, "bold"), f": removed {told}"), soft_wrap=True)
    tell_silent(silent)


def _print_status(name: str, one: SlotsStatus) -> None:
    rows = [
        [
            digest[:12],
            f"{slot.name}-v{slot.version}",
            slot.state + _role(digest, one),
            f"{slot.bytes / 1e6:.1f} MB",
        ]
        for digest, slot in one.slots.items()
    ]
    print_table(f"{name}, {one.root}", ["slot", "bundle", "state", "size"], rows)
    for digest, slot in one.slots.items():
        if slot.reason is not None:
            out.print(Text(f"  {digest[:12]} {slot.state}: {slot.reason}"), soft_wrap=True)
    trusted = ", ".join(key.comment or key.keyid[:16] for key in one.trusted) or "nobody; see `hwnas keys trust`"
    out.print(Text(f"  trusts {trusted}; {one.disk_free_bytes / 1e6:.0f} MB free"), soft_wrap=True)
    service = one.service
    if service is None:
        out.print("  no service runs here; see docs/serving.md")
        return
    serving, p99_ms = service.get("digest"), service.get("p99_ms")
    served = "nothing yet" if serving is None else f"{serving[:12]}, {service.get('model')}"
    latency = "" if p99_ms is None else f", p99 {p99_ms:.3f} ms"
    problem = "" if service.get("problem") is None else f"; {service['problem']}"
    out.print(Text(f"  service at {service['address']}: {served}{latency}{problem}"), soft_wrap=True)


def _in_words(event: dict[str, Any]) -> str:
    told = [f"{key} {value}" for key, value in event.items() if key not in _TOLD_APART and value is not None]
    details = _DIGEST.sub(lambda found: found[0][:12], ", ".join(told))
    return f"{event['time']} {event['event']}{': ' + details if details else ''}"


def _role(digest: str, one: SlotsStatus) -> str:
    return {one.current: ", current", one.previous: ", previous"}.get(digest, "")
