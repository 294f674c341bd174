"""``hwnas targets add``: a board that somebody has becomes a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hwnas.cli.console import AcceptNewOption, JsonOption, Terminal, command, out, print_json

if TYPE_CHECKING:
    from hwnas.devices.target import Local, Ssh


@command
def add(
    name: Annotated[str, typer.Argument(help="What the new target shall be called.")],
    ssh: Annotated[str | None, typer.Option(help="Where the board is: [user@]host[:port].")] = None,
    local: Annotated[bool, typer.Option("--local", help="The board is the machine that hwnas runs on.")] = False,
    extends: Annotated[
        str | None, typer.Option(help="The target whose kind it is; default: the one that is recognised.")
    ] = None,
    jump: Annotated[
        list[str] | None, typer.Option(help="Host to go through, once for each, the nearest first.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="File of a private key.")] = None,
    config: Annotated[str | None, typer.Option(help="OpenSSH client configuration; default: ~/.ssh/config.")] = None,
    python: Annotated[str | None, typer.Option(help="The board's Python; default: the newest on its path.")] = None,
    accept_new: AcceptNewOption = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a target of that name.")] = False,
    json: JsonOption = False,
) -> None:
    """Probe a board and write its target, which inherits from the known module.

    What was found stands in targets/NAME.yaml, or below $HWNAS_HOME; nothing is changed on the board.
    """
    from datetime import UTC, datetime

    from hwnas.devices import list_targets
    from hwnas.devices.addition import new_target, probe, recognise, surprises, write_target
    from hwnas.devices.target_files import own_directory
    from hwnas.errors import UserError
    from hwnas.questions import answered_by

    connection = _connection(ssh, local, jump=jump or [], keys=key or [], config=config, python=python)
    path = own_directory() / f"{name}.yaml"
    if path.exists() and not force:
        raise UserError(f"There is a target {path}; choose another name, or give --force to write over it.")
    with answered_by(Terminal(accept_new)):
        record = probe(name, connection)
    base = extends or recognise(record, list_targets())
    content = new_target(name, record, connection, base, datetime.now(UTC).date().isoformat())
    described = write_target(content, path)
    told = surprises(described, record)
    if json:
        print_json({"path": str(path), "target": content, "surprises": told})
        return
    out.print(Text.assemble((name, "bold"), f" is a {base}: {content['description']}"), soft_wrap=True)
    for key_, fact in content["facts"].items():
        out.print(Text.assemble(f"  {key_}: {_brief(fact['value'])}  ", (fact["source"], "dim")), soft_wrap=True)
    for sentence in told:
        out.print(Text(sentence, style="yellow"), soft_wrap=True)
    out.print(Text(f"Written to {path}; next: hwnas profile --target {name}"), soft_wrap=True)


def _connection(ssh: str | None, local: bool, **way: Any) -> Local | Ssh:
    from hwnas.devices.target import Local, Ssh
    from hwnas.errors import UserError

    if (ssh is None) is not local:
        raise UserError("Say where the board is: --ssh USER@HOST, or --local for this machine.")
    if ssh is None:
        if any(way.values()):
            raise UserError("--jump, --key, --config and --python belong to --ssh.")
        return Local(kind="local")
    from hwnas.devices.ssh.dialling import Hop

    hop = Hop.parse(ssh)
    for one in way["jump"]:
        Hop.parse(one)
    way["config"] = None if way["config"] is None else _from_anywhere(way["config"])
    way["keys"] = [_from_anywhere(key) for key in way["keys"]]
    return Ssh(kind="ssh", host=hop.host, user=hop.user, port=hop.port, **way)


def _from_anywhere(path: str) -> str:
    """The path as it is right in any working directory."""
    return path if path.startswith("~") else str(Path(path).absolute())


def _brief(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, dict) else str(value)
