"""How networks detect what is in the test split: figures as COCO has them, and the classes."""

from __future__ import annotations

from collections.abc import Callable

from hwnas.detection.scores import DetectionScores
from hwnas.report.data import ReportData
from hwnas.report.formats import percent
from hwnas.report.tables import Grid, beside


def scores(data: ReportData) -> Grid:
    """The networks that were scored: a column each."""
    quantities: tuple[tuple[str, Callable[[DetectionScores], str]], ...] = (
        ("mAP, overlaps 0.50 to 0.95", lambda d: percent(d.map)),
        ("AP at overlap 0.50", lambda d: percent(d.map50)),
        ("AP at overlap 0.75", lambda d: percent(d.map75)),
        ("mAP of small objects", lambda d: percent(d.small)),
        ("mAP of medium objects", lambda d: percent(d.medium)),
        ("mAP of large objects", lambda d: percent(d.large)),
        ("recall, 100 detections a picture", lambda d: percent(d.recall)),
        ("images", lambda d: str(d.images)),
    )
    return beside("Compiled engines on the test split", _scored(data), quantities)


def classes(data: ReportData) -> Grid:
    """The average precision of every class, a network a column; classes without an object have none."""
    columns = _scored(data)
    names = columns[0][1].classes if columns else ()
    rows = tuple((name, *(percent(found.classes.get(name)) for _, found in columns)) for name in names)
    return Grid("Average precision by class", ("class", *(name for name, _ in columns)), rows)


def _scored(data: ReportData) -> list[tuple[str, DetectionScores]]:
    return [(network.name, network.detection) for network in data.networks if network.detection]
