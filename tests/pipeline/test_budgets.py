from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import UserError
from hwnas.latency import load_table, save_table
from hwnas.pipeline.budgets import WrittenBudgets, open_constraints
from hwnas.spaces import get_space

SMALL = get_space("mobilenet_v3/small")
TABLES = Path(__file__).parents[2] / "latency_tables"
(SHIPPED,) = (TABLES / "host-cpu").glob("mobilenet_v3-small.*.json")


def test_budgets_are_read_as_written() -> None:
    written = WrittenBudgets.parse(["macs=3M", "0.1", "model_mb=1.5", "note10=20", "a=b/c.json=2e1"])
    assert written.latency_ms == 0.1
    assert written.others == (("macs", 3e6), ("model_mb", 1.5), ("note10", 20.0), ("a=b/c.json", 20.0))
    assert WrittenBudgets.parse([]) == WrittenBudgets(None, ())


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["fast"], "positive number of milliseconds"),
        (["-1"], "positive number"),
        (["macs=0"], "positive number"),
        (["macs=nan"], "positive number"),
        (["macs=3MM"], "positive number"),
        (["macs="], "positive number"),
        (["=3"], "name what is limited"),
        (["0.1", "0.2"], "one latency budget"),
        (["macs=1M", "macs=2M"], "macs is limited twice"),
        (["energy_mj=3"], "no latency table holds energies"),
    ],
)
def test_what_cannot_be_read_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        WrittenBudgets.parse(texts)


def test_another_device_is_judged_by_its_own_table(tmp_path: Path) -> None:
    table = load_table(SHIPPED)
    other = table.model_copy(update={"target": "other", "kind": "imported"})
    path = save_table(other, tmp_path)
    for what in ("other", str(path)):
        (constraint,) = open_constraints([(what, 20.0)], SMALL, tmp_path, confidence=0.9)
        assert (constraint.budget.target, constraint.budget.limit, constraint.budget.confidence) == ("other", 20.0, 0.9)
        mean, std = constraint.predictor.predict(SMALL.sample(np.random.default_rng(0), 10))
        assert (mean > 0).all()
        assert (std > 0).all()
    with pytest.raises(UserError, match="knows p50 alone"):
        open_constraints([("other", 20.0)], SMALL, tmp_path, statistic="p99")
    path.with_name(path.name.replace("t1", "t2")).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"several latency tables of mobilenet_v3/small on other: .*by its path"):
        open_constraints([("other", 20.0)], SMALL, tmp_path)


def test_an_emulated_device_limits_nothing(tmp_path: Path) -> None:
    emulated = load_table(SHIPPED).model_copy(update={"target": "other", "kind": "emulated"})
    save_table(emulated, tmp_path)
    with pytest.raises(UserError, match="is emulated: its times are an emulator's"):
        open_constraints([("other", 20.0)], SMALL, tmp_path)


def test_a_device_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no latency table of mobilenet_v3/small below .* none of model_mb, macs"):
        open_constraints([("nothing", 20.0)], SMALL, tmp_path)
    with pytest.raises(UserError, match="mobilenet_v3/small"):
        open_constraints([(str(SHIPPED), 20.0)], get_space("mobilenet_v3/imagenet-w1.0"), tmp_path)
