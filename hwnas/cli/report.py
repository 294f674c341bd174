"""``hwnas report``: the page of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json


@command
def report(
    directory: Annotated[Path, typer.Argument(help="Of a finished run, such as runs/quickstart.")],
    json: JsonOption = False,
) -> None:
    """Draw report.html of a finished run anew from its data, and print the run's figures."""
    from hwnas.cli.run import print_summary
    from hwnas.files import read_model
    from hwnas.pipeline.documents import Summary
    from hwnas.report import ReportData, write_report

    data = read_model(directory / "report.json", ReportData, what="report data of a finished run")
    summary = read_model(directory / "summary.json", Summary, what="summary of a finished run")
    page = directory / "report.html"
    write_report(data, page)
    if json:
        print_json({"report": str(page), **summary.model_dump(mode="json", by_alias=True, exclude={"report"})})
        return
    print_summary(summary)
    out.print(f"Drawn anew: [bold]{page}[/]", soft_wrap=True)
