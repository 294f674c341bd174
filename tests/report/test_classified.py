"""The section on how the winner classifies: every image is told, whatever the classes are like."""

from __future__ import annotations

import re

import pytest
import torch
from markupsafe import escape
from torch import Tensor

from hwnas.classification import Classification
from hwnas.report import ReportData, classified
from hwnas.report.confusion import confusion
from hwnas.report.page import render
from hwnas.supernet.metrics import ClassificationMeter
from tests.report.conftest import GARMENTS, classification


def with_classification(data: ReportData, found: Classification | None) -> ReportData:
    network = data.winner.network.model_copy(update={"classification": found})
    return data.model_copy(update={"winner": data.winner.model_copy(update={"network": network}), "yardsticks": ()})


def of(logits: Tensor, labels: list[int], names: tuple[str, ...]) -> Classification:
    meter = ClassificationMeter(names)
    meter.update(logits, torch.tensor(labels))
    return meter.result("test")


def section(data: ReportData) -> str:
    return render(data).partition('aria-labelledby="classification"')[2].partition("</section>")[0]


def test_every_image_is_in_a_cell_and_in_a_bin() -> None:
    found = classification(GARMENTS)
    drawing = confusion(found).wide
    assert drawing is not None
    assert sum(int(n) for n in re.findall(r"called [^<:]*: (\d+) images", drawing)) == found.images
    assert sum(int(n) for n in re.findall(r'class="on-[a-z]+"[^>]*>(\d+)<', drawing)) == found.images
    bars = classified.reliability(found).wide
    assert bars is not None
    assert sum(int(n) for n in re.findall(r"<title>(\d+) images", bars)) == found.images
    assert sum(int(row[-1]) for row in classified.bins(found).rows) == found.images
    wrong = sum(int(row[2]) for row in classified.mistakes(found).rows)
    assert wrong == round(found.images * (1 - found.top1))
    assert f"{wrong} of 4000 images" in confusion(found).summary


def test_of_many_classes_those_are_drawn_that_are_mistaken() -> None:
    names = tuple(f"class {i}" for i in range(300))
    logits, labels = torch.eye(300).repeat(2, 1), [*range(300), *range(300)]
    labels[7], labels[311] = 299, 150
    found = of(logits, labels, names)
    figure = confusion(found)
    assert "the 20 of 300 classes" in figure.summary
    assert figure.narrow is not None
    assert "class 299 called class 7: 1 images" in figure.narrow
    assert "class 150 called class 11: 1 images" in figure.narrow
    assert len(classified.classes(found).rows) == 300


def test_what_is_not_defined_is_a_dash(sample: ReportData) -> None:
    found = of(torch.tensor([[1.0, 0, 0], [1, 0, 0]]), [0, 1], ("cat", "dog", "cow"))
    cells = {row[0]: row[1:] for row in classified.classes(found).rows}
    assert cells["cow"] == ("–", "–", "–", "0")
    assert cells["dog"][0] == "–"
    assert dict(row[:2] for row in classified.scores(with_classification(sample, found)).rows)["top-5"] == "–"


def test_a_network_without_mistakes_has_none_to_tell(sample: ReportData) -> None:
    found = of(100 * torch.eye(2), [0, 1], ("cat", "dog"))
    assert confusion(found).summary.startswith("0 of 2 images are classified wrongly. ")
    assert "All mistakes" not in section(with_classification(sample, found))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "W" * 300, "{{ 7 * 7 }}"])
def test_any_name_of_a_class_is_text(sample: ReportData, name: str) -> None:
    text = section(with_classification(sample, of(torch.eye(2), [1, 1], (name, "dog"))))
    assert "<script" not in text
    assert f"<td>{escape(name)}</td>" in text


def test_a_run_of_before_says_that_it_was_not_scored_by_class(sample: ReportData) -> None:
    record = with_classification(sample, None).model_dump()
    del record["winner"]["network"]["classification"]
    assert "No network was scored by class" in section(ReportData.model_validate(record))
