"""``hwnas keys``: who signs bundles, and which boards believe it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hwnas.cli.boards import Board, GroupOption, RootOption, asked, named, opened, tell_silent
from hwnas.cli.console import JsonOption, command, err, out, print_json, print_table

if TYPE_CHECKING:
    from hwnas.deploy.keys import KnownKey

app = typer.Typer(help="Make, list, trust and revoke signing keys.", no_args_is_help=True)

TargetOption = Annotated[list[str] | None, typer.Option("--target", help="Board, a target's name or file; repeatable.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask, for machines.")]


@app.command()
@command
def new(
    name: Annotated[str, typer.Argument(help="What the key shall be called.")],
    comment: Annotated[str, typer.Option(help="Whose it is; boards show it.")] = "",
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Encrypt it with a passphrase, asked for.")] = False,
    json: JsonOption = False,
) -> None:
    """Make an ed25519 key pair: NAME.pem is yours alone, NAME.json may be given to others."""
    from hwnas.deploy.keys import KeyStore

    store = KeyStore()
    key = store.new(name, comment, _chosen(name) if passphrase else None)
    if json:
        print_json(_record(key))
        return
    out.print(Text.assemble((name, "bold"), f": {key.keyid}, private half in {key.private}"), soft_wrap=True)


@app.command("list")
@command
def list_keys(
    target: Annotated[str | None, typer.Option(help="List those that this board trusts.")] = None,
    root: RootOption = None,
    json: JsonOption = False,
) -> None:
    """List the keys that are known here, or those that a board trusts."""
    from hwnas.deploy.keys import KeyStore

    store = KeyStore()
    known = list(store)
    if target is not None:
        _list_trusted(target, root, {key.keyid: key.name for key in known}, json=json)
        return
    if json:
        print_json([_record(key) for key in known])
        return
    rows = [[key.name, key.keyid[:16], _state(key), key.record.created, key.record.comment] for key in known]
    print_table(str(store.directory), ["key", "id", "state", "created", "comment"], rows)


@app.command()
@command
def trust(
    name: Annotated[str, typer.Argument(help="The key.")],
    target: TargetOption = None,
    group: GroupOption = None,
    root: RootOption = None,
    yes: YesOption = False,
) -> None:
    """Have boards take bundles that a key has signed.

    The way there is an SSH connection to a host whose key is known or was confirmed; that the board shall trust this
    key is asked for besides, unless --yes is given.
    """
    from hwnas.deploy.keys import KeyStore
    from hwnas.errors import UserError

    boards = _boards(target, group, root)
    if not boards:
        raise UserError("Name the boards that shall trust the key with --target or --group.")
    key = KeyStore()[name]
    key.require_valid()
    for board, described, at in boards:
        with opened(described, at) as slots:
            before = [trusted.keyid for trusted in slots.status().trusted]
            if key.keyid in before:
                out.print(f"{board} trusts {name} already.")
                continue
            others = f"{len(before)} other keys" if before else "no key yet"
            if not yes and not _confirmed(f"{board} trusts {others}. Shall it run what {name} ({key.keyid}) signs?"):
                raise UserError(f"{board} trusts {name} only if somebody confirms it; answer, or give --yes.")
            slots.trust(key.record.key, key.record.comment or name)
        out.print(f"{board} trusts {name} now.")


@app.command()
@command
def revoke(
    name: Annotated[str, typer.Argument(help="The key.")],
    reason: Annotated[str, typer.Option(help="Why; boards tell it.")],
    target: TargetOption = None,
    group: GroupOption = None,
    root: RootOption = None,
) -> None:
    """Have nobody believe a key any more: here, and on the boards that are named.  It cannot be undone.

    Boards that do not answer are named, and do not keep it from the others.
    """
    from hwnas.deploy.keys import KeyStore

    boards = _boards(target, group, root)
    key = KeyStore().revoke(name, reason)
    out.print(f"{name} signs nothing any more.")
    told, silent = asked(boards, lambda _, slots: slots.revoke(key.record.key, reason))
    for board in told:
        out.print(f"{board} takes nothing of {name} any more.")
    tell_silent(silent)


def _boards(targets: list[str] | None, group: Path | None, root: str | None) -> list[Board]:
    """Those that are named, and those of the group."""
    from hwnas.devices import load_target

    boards: list[Board] = [(target, load_target(target), root) for target in targets or ()]
    return boards if group is None else boards + named(None, group, root)


def _chosen(name: str) -> str:
    """A new passphrase, typed twice."""
    from hwnas.errors import UserError
    from hwnas.questions import answering

    first, again = (answering().secret(f"{which} of key '{name}'") for which in ("Passphrase", "Again, passphrase"))
    if first is None or again is None:
        raise UserError("A passphrase is asked for on a terminal, and there is none.")
    if first != again:
        raise UserError("The two passphrases differ; no key was made.")
    return first


def _confirmed(question: str) -> bool:
    import sys

    return sys.stdin.isatty() and typer.confirm(question, err=True)


def _list_trusted(target: str, root: str | None, names: dict[str, str], *, json: bool) -> None:
    from hwnas.devices import load_target

    with opened(load_target(target), root) as slots:
        trusted = [key.keyid for key in slots.status().trusted]
    if json:
        print_json({"target": target, "trusted": trusted})
        return
    if not trusted:
        err.print(f"{target} trusts no key; `hwnas keys trust NAME --target {target}` sends it one.", soft_wrap=True)
    for keyid in trusted:
        out.print(f"{keyid} {names.get(keyid, '(not known here)')}", soft_wrap=True)


def _state(key: KnownKey) -> str:
    if key.record.revoked is not None:
        return f"revoked {key.record.revoked.revoked}: {key.record.revoked.reason}"
    if key.private is None:
        return "public half"
    return "signs, with passphrase" if key.encrypted else "signs"


def _record(key: KnownKey) -> dict[str, object]:
    private = None if key.private is None else str(key.private)
    return {"name": key.name, "keyid": key.keyid, "private": private, **key.record.model_dump(mode="json")}
