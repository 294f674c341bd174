"""``hwnas-agent.pyz slots ...``: what a person, or a unit of systemd, does to the slots on the board itself."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Callable, List, Optional

from ..environment import begin_undisturbed
from ..protocol import AgentError, ErrorKind
from .building import Builder
from .health import Health
from .installing import install, reported, take, tell
from .layout import default_root
from .slots import Slots

Do = Callable[[Slots, argparse.Namespace], None]


def main(arguments: List[str]) -> int:
    """Do one thing and say what came of it; ends with 1 and a sentence if it is refused."""
    options = _parser().parse_args(arguments)
    slots = Slots(options.root or default_root())
    if options.command == "install":
        begin_undisturbed()
        return reported(
            lambda: install(slots, take(slots, options.archive), Builder(), Health(slots.root), progress=tell)
        )
    try:
        options.do(slots, options)
    except AgentError as error:
        tell("%s: %s" % (error.kind, error.message))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hwnas-agent.pyz slots", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, do: Optional[Do], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.add_argument("--root", type=Path, default=None, help="directory of the slots")
        added.set_defaults(do=do)
        return added

    installation = command("install", None, "Install a bundle that is on this board; ends with 0 if it is active.")
    installation.add_argument("archive", type=Path, help="NAME-vN.tar.gz")
    command("status", _status, "Say what is here, as JSON.")
    command("audit", _audit, "Say what ever happened here, as JSON lines.")
    command("confirm", _confirm, "Keep the active slot, if the service, where one runs, serves it.")
    command("boot-check", _boot_check, "Roll back a slot that was not confirmed; before the service starts.")
    rollback = command("rollback", _roll_back, "Go back to the previous slot.")
    rollback.add_argument("--to", help="digest of another slot that was confirmed")
    trust = command("trust", _trust, "Take bundles that a key has signed.")
    trust.add_argument("public", help="the public key, 64 hexadecimal digits")
    trust.add_argument("--comment", default="", help="whose it is")
    trust.add_argument("--confirmed", action="store_true", help="beside keys that are trusted already")
    revoke = command("revoke", _revoke, "Take nothing any more that a key has signed.")
    revoke.add_argument("keyid", help="the id, 64 hexadecimal digits")
    revoke.add_argument("--reason", required=True)
    collect = command("gc", _collect, "Remove slots that nothing needs.")
    collect.add_argument("--keep", type=int, default=2, help="slots to keep, 2 or more")
    return parser


def _status(slots: Slots, _: argparse.Namespace) -> None:
    _say(json.dumps(slots.status(), indent=1, sort_keys=True))


def _audit(slots: Slots, _: argparse.Namespace) -> None:
    for event in slots.audit():
        _say(json.dumps(event, sort_keys=True))


def _confirm(slots: Slots, _: argparse.Namespace) -> None:
    current = slots.current()
    if current is None:
        raise AgentError(ErrorKind.BAD_REQUEST, "no slot is active")
    refusal = Health(slots.root).refusal(current, service=False)
    if refusal is not None:
        raise AgentError(ErrorKind.UNHEALTHY, refusal)
    slots.confirm(current)
    _say(current + " is confirmed")


def _boot_check(slots: Slots, _: argparse.Namespace) -> None:
    try:
        reverted = slots.boot_check()
    except AgentError as error:
        if error.kind != ErrorKind.BUSY:
            raise
        _say("an installer is at work; the active slot is its own to confirm")
    else:
        _say("nothing to roll back" if reverted is None else reverted + " was not confirmed and is rolled back")


def _roll_back(slots: Slots, options: argparse.Namespace) -> None:
    _say("%s is current" % (slots.roll_back("asked for on the board", options.to) or "nothing"))


def _trust(slots: Slots, options: argparse.Namespace) -> None:
    _say(slots.trust(options.public, options.comment, options.confirmed) + " is trusted")


def _revoke(slots: Slots, options: argparse.Namespace) -> None:
    slots.revoke(options.keyid, options.reason)
    _say(options.keyid + " is revoked")


def _collect(slots: Slots, options: argparse.Namespace) -> None:
    removed = slots.collect(options.keep)
    _say("\n".join(removed) if removed else "nothing to remove")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
