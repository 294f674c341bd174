"""A model of several outputs: what is asked of it, and in which forms it answers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import pytest

from hwnas.agent.protocol import AgentError
from hwnas.agent.service import answers
from hwnas.agent.service.npy import read_npz, write_npz
from hwnas.agent.service.replies import RefusedError
from tests.agent.service.board import Board, golden, npy, until
from tests.deploy.bundles import TinyBundle, tiny_bundle, tiny_detector

DETECTOR = tiny_detector(version=1)
INPUTS = np.load(io.BytesIO(DETECTOR.files["models/m0/golden-inputs.npy"]))
OUTPUTS = {name: np.load(io.BytesIO(DETECTOR.files[f"models/m0/golden-{name}.npy"])) for name in ("boxes", "scores")}
SEVERAL = "application/x-npz"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    made = Board(tmp_path_factory.mktemp("board"))
    made.point(DETECTOR)
    with made.serving():
        made.when(digest=DETECTOR.digest)
        yield made


def asked(board: Board, accept: str | None) -> tuple[int, str, bytes]:
    """Status, type and content."""
    headers = {} if accept is None else {"Accept": accept}
    status, told, content = board.ask("POST", "/infer", npy(INPUTS), headers)
    return status, told["Content-Type"], content


@pytest.mark.parametrize(
    "accept", [None, "*/*", "text/html, */*;q=0.8", SEVERAL, "Application/X-NPZ; q=1, application/json"]
)
def test_all_outputs_come_by_name_as_npz(board: Board, accept: str | None) -> None:
    status, kind, content = asked(board, accept)
    assert (status, kind) == (200, SEVERAL)
    found = np.load(io.BytesIO(content), allow_pickle=False)
    assert list(found) == ["boxes", "scores"]
    for name, outputs in OUTPUTS.items():
        np.testing.assert_allclose(found[name], outputs, rtol=1e-2, atol=1e-3)


def test_all_outputs_come_by_name_as_json(board: Board) -> None:
    status, kind, content = asked(board, "application/json")
    assert (status, kind) == (200, "application/json")
    found = json.loads(content)["outputs"]
    assert list(found) == ["boxes", "scores"]
    for name, outputs in OUTPUTS.items():
        np.testing.assert_allclose(found[name], outputs, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("accept", "says"),
    [
        ("text/html", "answers are application/x-npy, application/x-npz, application/json"),
        ("application/x-npy", "the model has 2 outputs, one .npy holds one array; accept application/x-npz"),
    ],
)
def test_forms_that_cannot_be_are_refused(board: Board, accept: str, says: str) -> None:
    status, _, content = asked(board, accept)
    assert status == 406
    assert says in json.loads(content)["error"]


def test_a_slot_whose_second_output_is_wrong_is_not_served(board: Board) -> None:
    wrong = tiny_detector(version=2, wrong="scores")
    board.point(wrong)
    assert "answers its golden inputs wrongly" in until(lambda: _problem(board, wrong))
    np.testing.assert_allclose(board.client.infer(INPUTS)["scores"], OUTPUTS["scores"], rtol=1e-2, atol=1e-2)


def _problem(board: Board, bundle: TinyBundle) -> str | None:
    problem = board.client.health()["problem"]
    return problem if problem and bundle.digest[:12] in problem else None


def test_a_bundle_of_the_first_schema_is_served_by_what_its_golden_answers_vouch_for(board: Board) -> None:
    """Bundles were made so of models of several outputs, of which the first alone was compared and served."""
    first = {**DETECTOR.manifest["models"][0]}
    inputs, outputs = first["golden"]["inputs"], first["golden"]["outputs"]
    first["golden"] = {"inputs": inputs, "outputs": outputs[0]["values"], "absolute": 1e-3, "relative": 0.0}
    old = DETECTOR.with_manifest(schema=1, version=3, models=[first])
    board.switch(old)
    assert list(board.client.infer(INPUTS)) == ["boxes"]
    status, kind, content = asked(board, None)
    assert (status, kind) == (200, "application/x-npy")
    np.testing.assert_allclose(np.load(io.BytesIO(content)), OUTPUTS["boxes"], rtol=1e-2, atol=1e-3)
    classifier = tiny_bundle(version=4)
    board.switch(classifier)
    images, logits = golden(classifier, "m0")
    np.testing.assert_allclose(board.client.infer(images)["logits"], logits, rtol=1e-2, atol=1e-3)


def test_names_of_outputs_are_any_text() -> None:
    arrays = {name: np.arange(3, dtype=np.int32) for name in ("file", "class.p4", "head/boxes")}
    found = np.load(io.BytesIO(write_npz(arrays)), allow_pickle=False)
    assert list(found) == list(arrays) == list(read_npz(write_npz(arrays)))
    assert found["file"].dtype == np.int32


def test_what_is_not_finite_is_no_json() -> None:
    outputs = {"a": np.zeros(1), "b": np.array([np.nan])}
    assert answers.body(outputs, None).content_type == SEVERAL
    with pytest.raises(AgentError, match="output 'b' is not finite"):
        answers.body(outputs, answers.JSON)
    with pytest.raises(RefusedError, match=r"one \.npy holds one array"):
        answers.body(outputs, "application/x-npy")
