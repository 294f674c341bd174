from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import BadFileError, HwnasError, InfeasibleBudgetError, UnknownNameError, UserError
from hwnas.files import read_json_lines
from hwnas.search import STRATEGIES, Budget, SearchOptions, SearchResult, fastest, run_search
from hwnas.search.pareto import pareto_front
from hwnas.search.screen import Screen, distinct
from hwnas.search.strategies import tpe
from hwnas.spaces import Architecture, Space
from tests.forked import begun, finished

sys.path.insert(0, str(Path(__file__).parent))
import fakes
from fakes import SMALL, AdditiveLatency, SyntheticAccuracy, budget_at

PROGRAM = Path(fakes.__file__)
STRATEGY_NAMES = sorted(STRATEGIES)


def search(
    directory: Path,
    strategy: str = "hwnas",
    percentile: float = 30,
    accuracy: SyntheticAccuracy | None = None,
    **options: int,
) -> SearchResult:
    latency = AdditiveLatency()
    chosen = SearchOptions.model_validate({"strategy": strategy, "evaluations": 16, "initial": 8, "batch": 4} | options)
    evaluate = accuracy or SyntheticAccuracy()
    return run_search(SMALL, latency, budget_at(percentile, latency), evaluate, directory, chosen)


@pytest.mark.parametrize("percentile", [0.05, 30])
@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_every_candidate_keeps_the_budget_and_is_evaluated_once(
    tmp_path: Path, strategy: str, percentile: float
) -> None:
    accuracy = SyntheticAccuracy()
    result = search(tmp_path, strategy, percentile, accuracy)
    budget = budget_at(percentile, AdditiveLatency())
    visited = [evaluation.architecture.id for evaluation in result.evaluations]
    assert visited == accuracy.visited
    assert len(set(visited)) == len(visited) == 16
    assert result.stopped == "16 candidates were evaluated"
    for index, evaluation in enumerate(result.evaluations):
        assert (evaluation.index, evaluation.strategy) == (index, strategy)
        assert evaluation.predicted_ms + budget.z * evaluation.std_ms <= budget.limit
        mean, std = AdditiveLatency().predict(SMALL.encode([evaluation.architecture]))
        assert (evaluation.predicted_ms, evaluation.std_ms) == (mean[0], std[0])


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_the_seed_decides_the_candidates(tmp_path: Path, strategy: str) -> None:
    runs = [search(tmp_path / name, strategy, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, same, other = ([e.architecture.id for e in run.evaluations] for run in runs)
    assert first == same
    assert first != other


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_killed_search_goes_on_as_if_unbroken(tmp_path: Path, strategy: str) -> None:
    """Killed three times with -9 at random moments; what is recorded is never evaluated again nor lost."""
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    fakes.main(unbroken, strategy)
    moments = random.Random(strategy)
    log = broken / "evaluations.jsonl"
    for _ in range(3):
        before = log.read_bytes() if log.exists() else b""
        count = before.count(b"\n")
        new = moments.randint(2, 7)
        # It cannot end before it is killed, however late that is.
        process = begun(fakes.main, broken, strategy, seconds=0.005, stuck_after=new + 2)
        while process.is_alive() and (log.read_bytes().count(b"\n") if log.exists() else 0) < count + new:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.01))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert log.read_bytes().startswith(before)
    before = len(read_json_lines(log))
    finished(fakes.main, broken, strategy)
    found, expected = read_json_lines(log), read_json_lines(unbroken / "evaluations.jsonl")
    for line in found + expected:
        del line["seconds"]
    assert len(expected) == 30 > before
    assert found == expected


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_finished_search_is_read_and_not_repeated(tmp_path: Path, strategy: str) -> None:
    first = search(tmp_path, strategy)
    accuracy = SyntheticAccuracy()
    assert search(tmp_path, strategy, accuracy=accuracy) == first
    assert accuracy.visited == []


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_torn_last_line_is_evaluated_again(tmp_path: Path, strategy: str) -> None:
    first = search(tmp_path, strategy)
    log = tmp_path / "evaluations.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    accuracy = SyntheticAccuracy()
    again = search(tmp_path, strategy, accuracy=accuracy)
    assert accuracy.visited == [first.evaluations[-1].architecture.id]
    assert [e.architecture for e in again.evaluations] == [e.architecture for e in first.evaluations]


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_an_exhausted_budget_ends_the_search_with_the_reason(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpe, "PATIENCE", 50)  # the tuner's time grows with the square of its proposals
    latency = AdditiveLatency(relative_std=0.0)
    architecture, ms = fastest(SMALL, latency)
    screen = Screen(SMALL, latency, Budget("fake", "latency_ms", 1.1 * ms), SMALL.encode([architecture]))
    nearest = np.sort(latency.predict(screen.sample(np.random.default_rng(0), 2000))[0])
    accuracy = SyntheticAccuracy()
    options = SearchOptions(strategy=strategy, evaluations=60, initial=8)
    budget = Budget("fake", "latency_ms", float(nearest[19]))
    result = run_search(SMALL, latency, budget, accuracy, tmp_path, options)
    assert 8 <= len(result.evaluations) < 60
    if strategy in ("random", "hwnas"):
        assert architecture.id in accuracy.visited
        assert len(result.evaluations) >= 20
    assert "keep the budget" in result.stopped or "keeps the budget" in result.stopped


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_all_of_a_space_of_36_architectures_is_evaluated_and_nothing_twice(tmp_path: Path, strategy: str) -> None:
    free = {"resolution": 2, "stage1.block1.kernel": 3, "stage2.block1.expansion": 3, "stage3.depth": 2}
    choices = [replace(c, values=c.values[: free.get(c.label, 1)]) for c in SMALL.choices]
    space = Space(SMALL.family, SMALL.preset, SMALL.num_classes, choices, SMALL.slots)
    latency, accuracy = AdditiveLatency(space), SyntheticAccuracy(space)
    options = SearchOptions(strategy=strategy, evaluations=100, initial=8)
    result = run_search(space, latency, Budget("fake", "latency_ms", 1e3), accuracy, tmp_path, options)
    every = {architecture.id for architecture in space.decode(distinct(space.sample(np.random.default_rng(0), 5000)))}
    assert len(every) == 36
    assert sorted(accuracy.visited) == sorted(every)
    assert len(result.evaluations) == 36


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_an_infeasible_budget_evaluates_nothing(tmp_path: Path, strategy: str) -> None:
    accuracy = SyntheticAccuracy()
    latency = AdditiveLatency()
    budget = Budget("fake", "latency_ms", 1e-3)
    with pytest.raises(InfeasibleBudgetError, match=r"0\.001 ms on fake: the fastest"):
        run_search(SMALL, latency, budget, accuracy, tmp_path / "run", SearchOptions(strategy=strategy))
    assert accuracy.visited == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
@pytest.mark.parametrize("evaluations", [1, 3])
def test_few_evaluations_suffice_for_a_result(tmp_path: Path, strategy: str, evaluations: int) -> None:
    result = search(tmp_path, strategy, evaluations=evaluations)
    assert len(result.evaluations) == evaluations
    assert result.kendall_tau is None
    assert result.cross_validated_tau is None


def test_the_default_strategy_beats_random_search_at_equal_evaluations(tmp_path: Path) -> None:
    """By true accuracy of the chosen one; the best possible is about 0.005 above random search here."""
    gains = []
    for seed in range(5):
        chosen = {}
        for strategy in ("hwnas", "random"):
            accuracy = SyntheticAccuracy(seed=seed)
            result = search(
                tmp_path / f"{strategy}{seed}", strategy, 5, accuracy, evaluations=48, initial=16, seed=seed
            )
            chosen[strategy] = accuracy.true(SMALL.encode([result.finalists(1)[0].architecture]))[0]
        gains.append(chosen["hwnas"] - chosen["random"])
    assert min(gains) > 0
    assert np.mean(gains) > 0.002


def test_results_are_ranked_and_the_front_is_not_dominated(tmp_path: Path) -> None:
    result = search(tmp_path)
    ranked = list(result.best_first())
    assert sorted(e.index for e in ranked) == list(range(16))
    assert all(a.top1 >= b.top1 for a, b in pairwise(ranked))
    assert result.finalists(5) == tuple(ranked[:5])
    assert result.front == pareto_front(result.evaluations)
    for evaluation in result.evaluations:
        dominating = [
            f for f in result.front if f.top1 >= evaluation.top1 and f.predicted_ms <= evaluation.predicted_ms
        ]
        assert dominating
    assert all(a.top1 < b.top1 and a.predicted_ms < b.predicted_ms for a, b in pairwise(result.front))


def test_another_search_does_not_go_on_with_a_record(tmp_path: Path) -> None:
    search(tmp_path, seed=1)
    with pytest.raises(UserError, match=r"with options\.seed = 1, not 2"):
        search(tmp_path, seed=2)
    with pytest.raises(UserError, match=r"with budget\.limit"):
        search(tmp_path, percentile=60, seed=1)
    accuracy = SyntheticAccuracy()
    accuracy.identity = "other weights"
    with pytest.raises(UserError, match="with evaluator = synthetic, not other weights"):
        search(tmp_path, seed=1, accuracy=accuracy)
    with pytest.raises(UserError, match="with latency_model = "):
        budget = budget_at(30, AdditiveLatency())
        options = SearchOptions(evaluations=16, initial=8, batch=4, seed=1)
        run_search(SMALL, AdditiveLatency(seed=1), budget, SyntheticAccuracy(), tmp_path, options)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda line: "{", "not JSON"),
        (lambda line: line.replace('"top1":0.', '"top1":7.'), "top1"),
        (lambda line: line.replace('"resolution":', '"colour":'), "has no colour"),
        (lambda line: line.replace('"index":1', '"index":5'), "out of order"),
        (lambda line: json.dumps(json.loads(line) | {"surplus": 1}), "surplus"),
    ],
)
def test_a_damaged_record_is_refused_by_line(tmp_path: Path, damage: object, complaint: str) -> None:
    search(tmp_path, "random")
    log = tmp_path / "evaluations.jsonl"
    lines = log.read_text().splitlines()
    lines[1] = damage(lines[1])  # type: ignore[operator]
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadFileError, match=f"line 2: .*{complaint}"):
        search(tmp_path, "random")


def test_a_record_of_other_candidates_is_refused(tmp_path: Path) -> None:
    search(tmp_path, "random")
    lines = read_json_lines(tmp_path / "evaluations.jsonl")
    lines[3]["architecture"], lines[4]["architecture"] = lines[4]["architecture"], lines[3]["architecture"]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="Evaluation 3 of the search on record"):
        search(tmp_path, "random")


def test_two_searches_do_not_share_a_directory(tmp_path: Path) -> None:
    process = begun(fakes.main, tmp_path, "random", stuck_after=0)
    try:
        while not (tmp_path / "search.json").exists():
            assert process.is_alive()
            time.sleep(0.01)
        with pytest.raises(UserError, match="Another process is searching"):
            search(tmp_path)
    finally:
        process.kill()
        process.join()


def test_an_impossible_accuracy_and_an_interrupt_leave_no_line(tmp_path: Path) -> None:
    class Failing(SyntheticAccuracy):
        def __call__(self, architecture: Architecture) -> float:
            if len(self.visited) == 5:
                raise KeyboardInterrupt
            return super().__call__(architecture)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, accuracy=Failing())
    assert len(read_json_lines(tmp_path / "evaluations.jsonl")) == 5

    class Nonsense(SyntheticAccuracy):
        def __call__(self, architecture: Architecture) -> float:
            return float("nan")

    with pytest.raises(HwnasError, match="top-1 of nan"):
        search(tmp_path, accuracy=Nonsense())
    assert len(read_json_lines(tmp_path / "evaluations.jsonl")) == 5
    assert len(search(tmp_path).evaluations) == 16


def test_nothing_is_printed_or_written_outside_the_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-I", str(PROGRAM), str(tmp_path / "run"), "regularized_evolution"]
    done = subprocess.run(command, env={"HOME": str(home)}, cwd=home, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert list(home.iterdir()) == []
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", "search.json", "evaluations.jsonl", "nni"}
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".ckpt", ".pkl", ".pt")]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean random"):
        SearchOptions(strategy="randm")
    with pytest.raises(UserError, match="at least one candidate"):
        SearchOptions(evaluations=0)
    with pytest.raises(UserError, match="seed"):
        SearchOptions(seed=-1)


def test_the_smallest_subnet_is_among_the_first_where_it_keeps_the_budget(tmp_path: Path) -> None:
    """It learns at every step of a sandwich: what is worse in a supernet of a short training need not be deployed."""
    evaluations = search(tmp_path, evaluations=8).evaluations
    assert SMALL.smallest in [evaluation.architecture for evaluation in evaluations]
