"""``hwnas agent``: the agent as one file, for boards that serve or fetch by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json


@command
def agent(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("hwnas-agent.pyz"),
    json: JsonOption = False,
) -> None:
    """Write the program that serves models on a board and fetches bundles there: one file for any Python 3.8."""
    from hwnas.devices.zipapp import agent_zipapp
    from hwnas.files import write_atomic

    content = agent_zipapp()
    write_atomic(path, content)
    if json:
        print_json({"agent": str(path), "bytes": len(content)})
        return
    out.print(
        f"[bold]{path}[/]: {len(content) / 1e6:.1f} MB. On the board:\n"
        f"  python3 {path.name} serve         answer with the active model\n"
        f"  python3 {path.name} pull URL      fetch and install what is published\n"
        f"  python3 {path.name} slots status  say what is installed",
        soft_wrap=True,
        highlight=False,
    )
