"""``hwnas flash``: a bundle goes into service on a board, or on many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hwnas.cli.boards import (
    Board,
    GroupOption,
    RootOption,
    TargetOption,
    asked,
    named,
    opened,
    require_one,
    tell_silent,
)
from hwnas.cli.console import AcceptNewOption, JsonOption, Terminal, bars, command, out, print_json, print_table
from hwnas.questions import answered_by

if TYPE_CHECKING:
    from hwnas.deploy.flash import Parcel
    from hwnas.deploy.fleet import RolloutResult
    from hwnas.deploy.outcome import Outcome

_STAGES, _MAX_FAILURES, _PARALLEL, _ROLLOUTS = "1,10%,100%", "2%", 8, Path("rollouts")


@dataclass(frozen=True)
class _OfARollout:
    """What is said of a rollout to a group; ``None`` where nothing is."""

    stages: str | None = None
    max_failures: str | None = None
    parallel: int | None = None
    rollouts: Path | None = None
    fresh: bool = False


@command
def flash(
    bundle: Annotated[Path, typer.Argument(help="A bundle's directory or its .tar.gz.")],
    target: TargetOption = None,
    group: GroupOption = None,
    stages: Annotated[
        str | None,
        typer.Option(
            help="How far a rollout to a group has come after each wave: boards, or shares of the group; default: "
            f"{_STAGES}."
        ),
    ] = None,
    max_failures: Annotated[
        str | None,
        typer.Option(
            help="How many boards of a wave may fail, or what share of it; past that it is rolled back; default: "
            f"{_MAX_FAILURES}."
        ),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help=f"Boards of a wave that are seen to at once; default: {_PARALLEL}.")
    ] = None,
    rollouts: Annotated[
        Path | None, typer.Option(help=f"Directory of the rollouts' logs; default: {_ROLLOUTS}.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin a group's rollout anew, whatever became of an earlier one.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look whether the board can have it, and stop.")] = False,
    allow_stale: Annotated[
        bool, typer.Option("--allow-stale", help="Also where the budget was checked on a device of another identity.")
    ] = False,
    root: RootOption = None,
    accept_new: AcceptNewOption = False,
    json: JsonOption = False,
) -> None:
    """Install a signed bundle on boards: built there, checked there, and switched to only if it is fit.

    A board where anything goes wrong goes on with what it ran.  Killed or interrupted, the same command ends well.
    """
    from hwnas.deploy.flash import parcel
    from hwnas.deploy.keys import KeyStore
    from hwnas.errors import UserError

    require_one(target, group)
    said = _OfARollout(stages, max_failures, parallel, rollouts, fresh)
    if target is not None and said != _OfARollout():
        raise UserError(
            "--stages, --max-failures, --parallel, --rollouts and --fresh are for rollouts to a group; leave them out "
            "with --target."
        )
    with answered_by(Terminal(accept_new)), parcel(bundle, KeyStore().trusted()) as sent:
        if dry_run:
            _dry_run(sent, named(target, group, root), allow_stale=allow_stale, json=json)
        elif target is not None:
            _one(sent, target, root, allow_stale=allow_stale, json=json)
        else:
            assert group is not None
            _many(sent, group, root, said, allow_stale=allow_stale, json=json)


def _one(sent: Parcel, target: str, root: str | None, *, allow_stale: bool, json: bool) -> None:
    from hwnas.deploy.flash import flash as send

    ((name, described, at),) = named(target, None, root)
    with opened(described, at) as slots, bars() as progress:
        outcome = send(name, sent, slots, progress, allow_stale=allow_stale)
    if json:
        print_json({"bundle": sent.bundle.digest, **outcome.model_dump(mode="json")})
    else:
        _print_outcome(sent, outcome)
    if not outcome.succeeded:
        raise typer.Exit(1)


def _many(sent: Parcel, group: Path, root: str | None, said: _OfARollout, *, allow_stale: bool, json: bool) -> None:
    from hwnas.deploy.fleet import FailureLimit, Rollout, Stages
    from hwnas.deploy.fleet.boards import GroupFleet
    from hwnas.deploy.fleet.group import read_group
    from hwnas.deploy.fleet.journal import Journal, RolloutInputs

    described = read_group(group)
    stages = Stages.parse(_STAGES if said.stages is None else said.stages)
    limit = FailureLimit.parse(_MAX_FAILURES if said.max_failures is None else said.max_failures)
    names = [board.name for board in described.boards]
    inputs = RolloutInputs(
        bundle=sent.bundle.digest,
        group=described.group,
        boards=tuple(names),
        stages=stages.marks,
        max_failures=limit.text,
    )
    fleet = GroupFleet(described, group.parent, sent, root=root, allow_stale=allow_stale)
    log = (said.rollouts or _ROLLOUTS) / f"{sent.bundle.manifest.stem}-{described.group}.jsonl"
    if said.fresh:
        log.unlink(missing_ok=True)
    with bars() as progress:
        rollout = Rollout(fleet, stages.waves(names), limit, Journal(log, inputs), said.parallel or _PARALLEL)
        result = rollout.run(progress)
    if json:
        print_json(_record(sent, result))
    else:
        _print_rollout(sent, result, log)
    if result.stopped_in is not None:
        raise typer.Exit(1)


def _dry_run(sent: Parcel, boards: list[Board], *, allow_stale: bool, json: bool) -> None:
    from hwnas.deploy.flash import look

    found, silent = asked(boards, lambda _, slots: look(sent, slots, allow_stale=allow_stale))
    if json:
        checks = {
            name: [{"name": one.name, "ok": one.ok, "says": one.says} for one in checks]
            for name, checks in found.items()
        }
        print_json({"bundle": sent.bundle.digest, "boards": checks})
    else:
        for name, looked in found.items():
            out.print(Text.assemble((name, "bold"), f": {sent.bundle.manifest.stem}, nothing was changed"))
            for check in looked:
                _print_check(check.name, check.ok, check.says)
    tell_silent(silent)
    if any(not check.ok for checks in found.values() for check in checks):
        raise typer.Exit(1)


def _print_outcome(sent: Parcel, outcome: Outcome) -> None:
    manifest = sent.bundle.manifest
    if outcome.health is not None:
        for check in outcome.health["checks"]:
            _print_check(f"{check['name']} ({check['model']})", check["ok"], check["says"])
        live = outcome.health["live"]
        if live is not None and live["requests"]:
            out.print(Text(f"  {_live_in_words(live)}"), soft_wrap=True)
        if outcome.health["contended"]:
            out.print("  Latency was measured while the service answered requests: contended.")
    words = {"updated": "serves", "unchanged": "already serves"}.get(outcome.fate)
    if words is None:
        out.print(Text.assemble((outcome.board, "bold"), f": {outcome.fate}. {outcome.why}"), soft_wrap=True)
        return
    text = f" {words} {manifest.stem} ({sent.bundle.digest[:12]}); {outcome.seconds:.1f} s"
    out.print(Text.assemble((outcome.board, "bold"), text), soft_wrap=True)


def _live_in_words(live: dict[str, Any]) -> str:
    """How the service answered while the board built and checked."""
    said = f"the service answered {live['requests']} requests meanwhile"
    if live["p99_ms"] is None:
        return f"{said}, too few for a p99; the slowest took {live['slowest_ms']:.3f} ms"
    return f"{said}, p99 {live['p99_ms']:.3f} ms"


def _print_check(name: str, ok: bool, says: str) -> None:
    mark = ("✓ ", "green") if ok else ("✗ ", "red")
    out.print(Text.assemble("  ", mark, f"{name}: {says}"), soft_wrap=True)


def _record(sent: Parcel, result: RolloutResult) -> dict[str, Any]:
    return {
        "bundle": sent.bundle.digest,
        "stopped_in": result.stopped_in,
        "untouched": result.untouched,
        "outcomes": [outcome.model_dump(mode="json") for outcome in result.outcomes.values()],
    }


def _print_rollout(sent: Parcel, result: RolloutResult, log: Path) -> None:
    """One table of outcomes, wave by wave."""
    rows = []
    for number, wave in enumerate(result.waves, start=1):
        for board in wave:
            outcome = result.outcomes.get(board)
            told = ["not begun", "", ""] if outcome is None else [outcome.fate, _seconds(outcome), outcome.why or ""]
            rows.append([board, str(number), *told])
    print_table(f"{sent.bundle.manifest.stem}", ["board", "wave", "outcome", "time", "why"], rows)
    if result.stopped_in is None:
        return
    out.print(
        f"Wave {result.stopped_in + 1} failed: its boards were given back what they had, and the others were left "
        f"alone. Mend what failed, then begin anew with --fresh (the log is {log}).",
        soft_wrap=True,
        highlight=False,
    )


def _seconds(outcome: Outcome) -> str:
    return f"{outcome.seconds:.1f} s"
