"""One self-contained page: no script, no request, readable on paper, on a telephone and in the dark."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from hwnas.files import write_atomic
from hwnas.report import blocks, classified, confusion, detected, figures, formats, tables, verdict
from hwnas.report.data import ReportData


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to ``path``, whole or not at all.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    write_atomic(path, render(data))


def render(data: ReportData) -> str:
    """The page as HTML text."""
    found = verdict.verdict(data)
    return template("report.html").render(
        data=data,
        created=formats.moment(data.created),
        warnings=verdict.warnings(data),
        verdict=found,
        lead=" ".join(found.sentences),
        tiles=verdict.tiles(data),
        plane=figures.accuracy_latency_plane(data),
        progress=figures.search_progress(data),
        agreement=figures.predicted_against_measured(data),
        architecture=blocks.architecture_drawing(data),
        milliseconds=blocks.where_the_time_goes(data),
        tables=tables,
        classified=classified,
        detected=detected,
        confusion=confusion.confusion,
        notes=[(network.name, network.note) for network in data.networks if network.note],
        predictor_tau=formats.decimal(data.search.predictor_kendall_tau),
        identity=formats.facts(data.device.identity),
        context=formats.facts(data.device.context),
    )


@cache
def template(name: str) -> Template:
    """A page's template; what it is not given is an error."""
    environment = Environment(
        loader=PackageLoader("hwnas.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
