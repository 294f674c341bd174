"""``hwnas publish``: bundles for boards that fetch them, in a directory for any web server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json


@command
def publish(
    directory: Annotated[Path, typer.Argument(help="What the web server serves; one bundle's name in each.")],
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle's directory or archive; default: the published one, for longer.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="Key that signs; default: the only one there is.")] = None,
    days: Annotated[float, typer.Option(help="After which boards refuse what is published.")] = 30.0,
    json: JsonOption = False,
) -> None:
    """Write channel.json, signed, with a version of its own and an expiry, and the bundle's archive.

    Boards take it with `hwnas-agent.pyz pull URL`.  Run it again without a bundle before it expires.
    """
    from hwnas.deploy.keys import KeyStore
    from hwnas.deploy.publish import publish as put

    store = KeyStore()
    private = store.unlocked(key)
    channel = put(directory, bundle, private, store.trusted(), days)
    if json:
        print_json(channel.model_dump(mode="json"))
        return
    out.print(
        f"[bold]{directory}[/]: {channel.name}, bundle version {channel.bundle.version}, channel version "
        f"{channel.version}, valid until {channel.expires}",
        soft_wrap=True,
    )
