"""``hwnas targets validate``: whether the files of targets are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from hwnas.cli.console import JsonOption, command, out, print_json


@command
def validate(
    files: Annotated[list[Path] | None, typer.Argument(help="YAML files; default: every target that is found.")] = None,
    json: JsonOption = False,
) -> None:
    """Check targets: each file with its wrong fields, what was found there and what was expected.

    Exit status 2 if one is wrong.
    """
    from hwnas.devices.target_files import read_description, target_paths
    from hwnas.errors import BadFileError

    wrong: dict[Path, str] = {}
    checked = files or target_paths()
    for path in checked:
        try:
            read_description(path)
        except BadFileError as error:
            wrong[path] = str(error)
    if json:
        print_json([{"file": str(path), "error": wrong.get(path)} for path in checked])
    else:
        for path in checked:
            told = (wrong[path], "red") if path in wrong else (f"{path} is right", "")
            out.print(Text(*told), soft_wrap=True)
    if wrong:
        raise typer.Exit(2)
