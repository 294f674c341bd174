"""The page as text: what it says first, what it escapes, what it refuses, what it does without data."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hwnas.files import read_model, write_json
from hwnas.report import Candidate, Finalist, HeldOutNetwork, Latency, Measurement, ReportData, write_report
from hwnas.report.page import render
from hwnas.report.verdict import verdict

VOID = {"meta", "link", "br"}
FIGURES = ("confusion", "reliability", "plane", "progress", "agreement", "architecture", "blocks")
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>]]>{{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements, visible text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "head" not in self.open and data.strip():
            self.words.append(data.strip())


def changed(data: ReportData, **updates: Any) -> ReportData:
    """The document with parts replaced, ``a__b`` standing for a.b, checked again."""
    record = data.model_dump()
    for path, value in updates.items():
        *parents, last = path.split("__")
        place = record
        for parent in parents:
            place = place[parent]
        place[last] = value
    return ReportData.model_validate(record)


def test_a_stored_document_draws_the_same_page(sample: ReportData, tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", sample)
    assert read_model(tmp_path / "report.json", ReportData) == sample
    write_report(sample, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page == render(sample)
    assert len(page.encode()) < 500_000


def test_the_page_is_self_contained_and_every_figure_is_drawn_twice(sample: ReportData) -> None:
    text = render(sample)
    page = Page(text)
    assert "script" not in page.names
    addresses = [value for name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert addresses == ["data:,"]
    assert not re.search(r"url\(|@import", text)
    for figure in FIGURES:
        body = text[text.index(f'<figure id="{figure}"') :].partition("</figure>")[0]
        assert body.count('role="img"') == 2


def test_every_candidate_and_held_out_network_is_a_mark(sample: ReportData) -> None:
    text = render(sample)
    for candidate in sample.search.candidates:
        marks = re.findall(rf"<title>evaluation {candidate.index + 1} · [^<]*{candidate.id}", text)
        assert len(marks) == 4  # in the plane and in the progress, wide and narrow
    for network in sample.latency_model.held_out:
        assert len(re.findall(rf"<title>{network.id} · measured", text)) == 2


@pytest.mark.parametrize(
    ("p50", "state", "headline"),
    [
        (0.4, "kept", "Budget 0.5000 ms: kept"),
        (0.5, "kept", "kept at"),
        (0.50001, "exceeded", "exceeded at 0.50001 ms"),
    ],
)
def test_the_headline_tells_whether_the_budget_held(sample: ReportData, p50: float, state: str, headline: str) -> None:
    measured = Measurement(gated=Latency(p50_ms=p50, samples=64))
    data = changed(sample, asked__budget_ms=0.5, winner__network__measured=measured)
    found = verdict(data)
    assert found.state == state
    text = found.headline.replace("\N{NO-BREAK SPACE}", " ")
    assert (headline if p50 != 0.4 else "kept at 0.400 ms") in text
    words = Page(render(data)).words
    assert ("The budget was exceeded" in words[0]) == (state == "exceeded")


def test_a_budget_kept_in_the_fast_state_alone_is_not_called_kept_without_more(sample: ReportData) -> None:
    measured = Measurement(gated=Latency(p50_ms=0.4, samples=64), ungated=Latency(p50_ms=0.6, samples=99))
    found = verdict(changed(sample, asked__budget_ms=0.5, winner__network__measured=measured))
    assert found.headline.endswith("in the device's fast state")
    assert any("over the" in sentence for sentence in found.sentences)


def test_a_p99_budget_is_judged_by_p99(sample: ReportData) -> None:
    measured = Measurement(gated=Latency(p50_ms=0.4, p99_ms=0.6, samples=700))
    data = changed(sample, asked__budget_ms=0.5, asked__statistic="p99", winner__network__measured=measured)
    assert verdict(data).state == "exceeded"
    unstated = Measurement(gated=Latency(p50_ms=0.4, samples=64))
    unsaid = changed(data, winner__network__measured=unstated)
    assert verdict(unsaid).state == "unmeasured"
    assert "Not measured" in Page(render(unsaid)).words[0]


@pytest.mark.parametrize(
    ("updates", "first"),
    [
        ({"winner__network__measured": None}, "Not measured on the device"),
        ({"table__kind": "emulated"}, "is emulated"),
        ({"table__stale": True}, "fingerprint differs"),
        ({"warnings": ("Said by the caller.",)}, "Said by the caller."),
    ],
)
def test_a_warning_is_the_first_line(sample: ReportData, updates: dict[str, Any], first: str) -> None:
    assert first in Page(render(changed(sample, **updates))).words[0]


def test_what_is_empty_is_said_in_a_sentence(sample: ReportData) -> None:
    data = changed(
        sample,
        yardsticks=(),
        steps=(),
        search={},
        latency_model={},
        winner__network__classification=None,
        winner__blocks=(),
        winner__overhead_ms=None,
        winner__choices={},
    )
    page = Page(render(data))
    assert "svg" not in page.names
    words = " ".join(page.words)
    for sentence in ("No candidate was evaluated", "No held-out network", "cannot be drawn", "no bars", "No finalist"):
        assert sentence in words


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 0.0])
@pytest.mark.parametrize("field", ["asked__budget_ms", "winner__network__predicted_ms"])
def test_no_number_that_is_none_is_taken(sample: ReportData, field: str, bad: float) -> None:
    with pytest.raises(ValidationError):
        changed(sample, **{field: bad})


@pytest.mark.parametrize("field", ["device__context", "device__identity", "table__protocol"])
def test_nan_is_found_inside_the_facts(sample: ReportData, field: str) -> None:
    with pytest.raises(ValidationError, match="finite"):
        changed(sample, **{field: {"a": [1, {"b": float("nan")}]}})


def test_inconsistent_searches_and_impossible_blocks_are_refused(sample: ReportData) -> None:
    with pytest.raises(ValidationError, match="no evaluated candidate"):
        changed(sample, search__front=("nobody",))
    with pytest.raises(ValidationError, match="order"):
        changed(sample, search__candidates=tuple(reversed(sample.search.candidates)))
    block = sample.winner.blocks[1].model_dump()
    block["spec"]["kernel"] = 0
    with pytest.raises(ValidationError, match="is no block"):
        changed(sample, winner__blocks=(block,))


def test_hostile_text_stays_text_everywhere(sample: ReportData) -> None:
    data = changed(
        sample,
        run=HOSTILE,
        command=HOSTILE,
        versions={HOSTILE: HOSTILE},
        warnings=(HOSTILE,),
        asked__target=HOSTILE,
        asked__dataset=HOSTILE,
        winner__network__name=HOSTILE,
        winner__network__note=HOSTILE,
        device__identity={HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]},
        table__name=HOSTILE,
        steps=({"name": HOSTILE, "seconds": 1, "note": HOSTILE},),
    )
    clean, page = Page(render(sample)), Page(render(data))
    assert not {"script", "img"} & set(page.names)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {name for name, _ in page.attributes} == {name for name, _ in clean.attributes}
    assert any(HOSTILE in word for word in page.words)


times = st.floats(1e-6, 1e9)
shares = st.floats(0, 1)
texts = st.text(max_size=40) | st.just(HOSTILE)
latencies = st.builds(Latency, p50_ms=times, p90_ms=st.none() | times, p99_ms=st.none() | times, samples=st.just(9))
measurements = st.builds(Measurement, gated=latencies, ungated=st.none() | latencies)
spreads = st.floats(0, 1e9)
finalists = st.builds(
    Finalist,
    id=texts,
    top1=shares,
    predicted_ms=times,
    std_ms=spreads,
    measured=measurements,
    keeps_budget=st.booleans(),
)
held_out = st.builds(HeldOutNetwork, id=texts, measured_ms=times, predicted_ms=times, std_ms=st.none() | spreads)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.lists(st.tuples(times, shares, spreads, texts), max_size=8))
    candidates = tuple(
        Candidate(index=i, id=f"{i}{name}", top1=top1, predicted_ms=ms, std_ms=std, origin=name)
        for i, (ms, top1, std, name) in enumerate(rows)
    )
    front = draw(st.lists(st.sampled_from([c.id for c in candidates]), unique=True)) if candidates else []
    return {"candidates": candidates, "front": tuple(front), "finalists": tuple(draw(st.lists(finalists, max_size=3)))}


@settings(max_examples=60, deadline=None)
@given(
    search=searches(),
    held=st.lists(held_out, max_size=6),
    budget=times,
    measured=st.none() | measurements,
    overhead=st.none() | st.floats(-1e9, 1e9),
    ms=st.lists(st.none() | st.floats(-1e9, 1e9), min_size=12, max_size=12),
    label=texts,
    facts=st.dictionaries(
        texts, st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=5)
    ),
)
def test_any_valid_document_is_a_well_formed_page_of_finite_numbers(
    sample: ReportData,
    search: dict[str, Any],
    held: list[HeldOutNetwork],
    budget: float,
    measured: Measurement | None,
    overhead: float | None,
    ms: list[float | None],
    label: str,
    facts: dict[str, Any],
) -> None:
    blocks = tuple(
        {"label": label, "spec": block.spec, "ms": value}
        for block, value in zip(sample.winner.blocks, ms, strict=False)
    )
    data = changed(
        sample,
        search=search,
        latency_model__held_out=held,
        asked__budget_ms=budget,
        winner__network__measured=measured,
        winner__overhead_ms=overhead,
        winner__blocks=blocks,
        device__context=facts,
    )
    page = Page(render(data))
    assert "script" not in page.names
    geometry = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points", "d", "viewbox"}
    for name, value in page.attributes:
        if name in geometry and value is not None:
            assert not re.search(r"nan|inf|e\+", value), (name, value)


def test_what_was_made_of_the_winner_is_a_section_where_it_was_asked_for(sample: ReportData) -> None:
    pruned = {"made": "pruned", "id": HOSTILE, "figure_ms": 0.0432, "interval_ms": (0.0431, 0.0433)}
    pruned |= {"top1_validation": 0.91, "top1_test": 0.8765, "macs": 1_500_000, "params": 40_000}
    assert "Fine-tuned and pruned" not in Page(render(sample)).words
    words = Page(render(changed(sample, finetuned=(pruned,), finetuning_remarks=(f"of {HOSTILE}",)))).words
    assert "Fine-tuned and pruned" in words and HOSTILE in words and f"of {HOSTILE}" in words
    assert any("87.65" in word for word in words) and any("0.0432" in word for word in words)
