"""``hwnas import-weights``: supernets that others trained and published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json


@command
def import_weights(
    published: Annotated[str, typer.Argument(metavar="FORMAT", help="ofa: the networks of Once-for-All.")],
    file: Annotated[
        Path, typer.Argument(help="The published checkpoint; it is read as weights alone, no code is run.")
    ],
    directory: Annotated[Path, typer.Option("--out", help="Directory for the weights and their record.")],
    classes: Annotated[
        Path | None, typer.Option(help="Text file of the classes' names, one a line; default: their numbers.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take over a published supernet, to be searched as it is or trained further with `hwnas train --init`."""
    from hwnas.errors import UnknownNameError
    from hwnas.supernet.importing import import_once_for_all, read_class_names

    if published != "ofa":
        raise UnknownNameError(f"Weights of format '{published}' are not known; 'ofa' is.")
    names = None if classes is None else read_class_names(classes)
    record = import_once_for_all(file, directory, names)
    if json:
        print_json({"directory": str(directory), **record.model_dump(mode="json", by_alias=True)})
        return
    out.print(f"{record.training['imported']}: supernet {record.space} in {directory}", soft_wrap=True, highlight=False)
