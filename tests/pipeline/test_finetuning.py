"""Fine-tuning and pruning of a toy supernet's subnet, on a device whose times follow from the graph."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.data import Dataset
from hwnas.devices import Engine, Measurement, MeasureOptions
from hwnas.errors import BadFileError, DeviceError, HwnasError, InfeasibleBudgetError, UserError
from hwnas.export import export_onnx, input_resolution
from hwnas.files import read_json_lines, sha256_of, write_json
from hwnas.pipeline.chosen import Chosen, choose
from hwnas.pipeline.config import RunConfig, freeze_config
from hwnas.pipeline.documents import WinnerDocument
from hwnas.pipeline.finetuned import FineTuningResult
from hwnas.pipeline.finetuning import FineTuning
from hwnas.pipeline.finetuning_options import Pruning, training_plan
from hwnas.pipeline.networks import export_network, read_architecture
from hwnas.pipeline.pruning import Limit, Savings
from hwnas.pipeline.run import Run
from hwnas.pipeline.run.finetuning import check_finetuning, finetune_winner, finetuned, finetuned_networks
from hwnas.progress import Silent
from hwnas.report import Latency
from hwnas.report import Measurement as Promise
from hwnas.spaces import Architecture, get_space
from hwnas.supernet import load_network, shipped_supernets
from tests.forked import finished
from tests.latency.fake_device import FakeDevice
from tests.pipeline.stopping import killed_at

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import toy

SPACE = get_space("mobilenet_v3/small", len(toy.CLASSES))
SETTINGS = {"learning_rate": 0.05}


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("supernet")
    toy.trainer(directory, epochs=4).run()
    return directory


def chosen(supernet: Path, dataset: Dataset | None = None) -> Chosen:
    architecture = SPACE.decode(SPACE.sample(np.random.default_rng(3), 1))[0]
    return Chosen(SPACE, architecture, supernet, dataset or toy.dataset())


def fine_tuning(
    directory: Path,
    supernet: Path,
    prune: str | None = None,
    *,
    dataset: Dataset | None = None,
    device: FakeDevice | None = None,
    progress: Silent | None = None,
    **settings: object,
) -> FineTuning:
    plan = training_plan(supernet, SPACE.task, 1, SETTINGS | settings)
    pruning = None if prune is None else Pruning.of(Limit.parse(prune), 2, plan.config, None)
    what, measured_on = chosen(supernet, dataset), device or FakeDevice()
    tables = directory / "no tables"
    return FineTuning(directory, what, plan, measured_on, pruning, tables=tables, progress=progress)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pruned(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FineTuningResult]:
    """A subnet fine-tuned and brought to 75 % of its latency."""
    directory = tmp_path_factory.mktemp("pruned")
    torch.set_num_threads(1)
    return directory, fine_tuning(directory, supernet, "25%").execute()


def test_a_pruned_network_keeps_its_limit_on_fresh_builds(pruned: tuple[Path, FineTuningResult]) -> None:
    directory, result = pruned
    before, tuned, after = (result.of(made) for made in ("extracted", "fine-tuned", "pruned"))
    assert result.limit_ms == pytest.approx(0.75 * before.latency.figure_ms, rel=0.02)
    assert result.kept and after.latency.figure_ms <= result.limit_ms
    # As wide as the limit allows: eight channels are little.
    assert after.latency.figure_ms > 0.9 * result.limit_ms
    assert before.id == tuned.id == chosen(directory).architecture.id != after.id
    assert (before.macs, before.params) == (tuned.macs, tuned.params)
    assert after.macs < tuned.macs and after.params < tuned.params
    assert tuned.score_validation >= before.score_validation
    promises, probes = (
        [line["onnx_sha256"] for line in read_json_lines(directory / name)]
        for name in ("promises.jsonl", "journal.jsonl")
    )
    assert not {*promises} & {*probes}, "the promise rests on builds that had no part in the choice"
    assert result.unpruned_missing is not None and "profile" in result.unpruned_missing
    result.require_kept()


def test_it_goes_below_the_smallest_widths_of_the_space(pruned: tuple[Path, FineTuningResult]) -> None:
    _, record = load_network(pruned[0])
    architecture = chosen(pruned[0]).architecture
    full = SPACE.blocks(architecture)
    assert len(record.network.blocks) == len(full)
    narrowest = {block.in_channels * 2 for block in full if block.op == "mbconv"}  # the least expansion is 2
    inner = [block.mid_channels for block in record.network.blocks if block.op == "mbconv" and block.expands]
    assert min(inner) < min(narrowest)
    assert record.architecture is None
    assert all(
        block.se_channels <= before.se_channels for block, before in zip(record.network.blocks, full, strict=True)
    )


def test_what_is_delivered_is_a_network_for_every_further_step(
    pruned: tuple[Path, FineTuningResult], tmp_path: Path
) -> None:
    directory, result = pruned
    network, record = load_network(directory)
    assert input_resolution(directory / "model.onnx") == record.resolution
    data = toy.dataset()
    model = export_network(network, record, data, tmp_path / "again.onnx")
    assert model.parity is not None and model.parity < 1e-4
    assert sha256_of(tmp_path / "again.onnx") == sha256_of(directory / "model.onnx")
    assert record.identity.id == result.of("pruned").id
    other = Dataset("toy", ("a", "b", "c"), data.mean, data.std, "other", data.readers)
    with pytest.raises(UserError, match=r"whose classes are not those of toy"):
        export_network(network, record, other, tmp_path / "other.onnx")
    with pytest.raises(Exception, match="cannot be exported for 8"):
        export_onnx(network, 8, tmp_path / "small.onnx", metadata={})


def test_nothing_is_done_twice(pruned: tuple[Path, FineTuningResult], supernet: Path) -> None:
    directory, result = pruned
    device = FakeDevice()
    assert fine_tuning(directory, supernet, "25%", device=device).execute() == result
    assert device.measured == []


@pytest.mark.parametrize("damage", ["weights", "record", "missing", "blocks"])
def test_a_damaged_network_is_refused(pruned: tuple[Path, FineTuningResult], tmp_path: Path, damage: str) -> None:
    for name in ("network.safetensors", "network.json"):
        (tmp_path / name).write_bytes((pruned[0] / name).read_bytes())
    record = json.loads((tmp_path / "network.json").read_text())
    if damage == "weights":
        (tmp_path / "network.safetensors").write_bytes(b"\0" * 100)
    elif damage == "record":
        (tmp_path / "network.json").write_text(json.dumps(record | {"schema": 2}))
    elif damage == "missing":
        (tmp_path / "network.safetensors").unlink()
    else:
        record["network"]["blocks"][1]["in_channels"] = 24
        (tmp_path / "network.json").write_text(json.dumps(record))
    message = {
        "weights": "corrupt",
        "record": "field 'schema'",
        "missing": "does not exist",
        "blocks": "field 'network.blocks.1': .* cannot have a skip",
    }[damage]
    with pytest.raises(BadFileError, match=message):
        load_network(tmp_path)


def prune_toy(directory: Path, supernet: Path, progress: Silent | None = None) -> None:
    torch.set_num_threads(1)
    fine_tuning(directory, supernet, "25%", progress=progress).execute()


def test_killed_and_gone_on_with_it_ends_with_the_same_bits(
    pruned: tuple[Path, FineTuningResult], supernet: Path, tmp_path: Path
) -> None:
    # In the fine-tuning, behind its first state, and among the measurements of a round's widths.
    for place in (("training", 1, 5), ("Measuring the finalists", 3, 1)):
        killed_at(place, prune_toy, tmp_path, supernet)
    finished(prune_toy, tmp_path, supernet)
    for name in ("network.safetensors", "model.onnx"):
        assert sha256_of(tmp_path / name) == sha256_of(pruned[0] / name)
    assert not list(tmp_path.rglob(".*.part"))


def test_without_pruning_the_widths_stay(supernet: Path, tmp_path: Path) -> None:
    result = fine_tuning(tmp_path, supernet).execute()
    assert [network.made for network in result.networks] == ["extracted", "fine-tuned"]
    assert (result.limit_ms, result.kept, result.delivered) == (None, None, "fine-tuned")
    network, record = load_network(tmp_path)
    assert record.identity == chosen(supernet).architecture
    assert network.network == SPACE.network(record.identity)
    assert not (tmp_path / "savings.json").exists()


def test_what_makes_it_worse_is_not_taken(supernet: Path, tmp_path: Path) -> None:
    """Validation images decide; weights that decay to nothing do not blow up."""
    result = fine_tuning(tmp_path, supernet, learning_rate=1.0, weight_decay=1.0).execute()
    before, after = result.of("extracted"), result.of("fine-tuned")
    assert after.score_validation == before.score_validation
    assert "Fine-tuning did not help" in " ".join(result.remarks())
    assert load_network(tmp_path)[1].training is None


@pytest.mark.parametrize(
    ("prune", "error", "message"),
    [
        ("99.9%", InfeasibleBudgetError, r"No pruning keeps .* with all its widths at their smallest still"),
        ("1000", UserError, r"Nothing is to be pruned"),
    ],
)
def test_a_limit_out_of_reach_is_refused_before_any_training(
    supernet: Path, tmp_path: Path, prune: str, error: type[HwnasError], message: str
) -> None:
    with pytest.raises(error, match=message):
        fine_tuning(tmp_path, supernet, prune).execute()
    assert not (tmp_path / "fine-tuned").exists()


@pytest.mark.parametrize("text", ["", "-1", "0", "0%", "100%", "nan", "inf", "3ms", "many"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--prune takes milliseconds"):
        Limit.parse(text)


def test_rounds_come_to_the_limit_in_equal_shares() -> None:
    savings = Savings(latency_ms=8, narrowest_ms=0.5, limit_ms=1, per_channel_ms=())
    assert savings.limits_ms(3) == pytest.approx([4, 2, 1])
    assert savings.limits_ms(1) == [1]


def test_another_fine_tuning_in_the_same_directory_is_refused(
    pruned: tuple[Path, FineTuningResult], supernet: Path
) -> None:
    with pytest.raises(UserError, match=r"holds a fine-tuning with training.learning_rate = 0.05, not 0.01"):
        fine_tuning(pruned[0], supernet, learning_rate=0.01).execute()
    with pytest.raises(UserError, match=r"with dataset_fingerprint = toy, not other"):
        fine_tuning(pruned[0], supernet, dataset=toy.dataset("other")).execute()


def test_other_classes_are_refused_before_anything_is_written(supernet: Path, tmp_path: Path) -> None:
    data = toy.dataset()
    other = Dataset("birds", ("a", "b", "c"), data.mean, data.std, "birds", data.readers)
    with pytest.raises(UserError, match=r"classes are not those of birds"):
        fine_tuning(tmp_path / "none", supernet, dataset=other).execute()
    assert not (tmp_path / "none").exists()


def test_a_diverging_fine_tuning_says_so(supernet: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"diverged at step \d+.*lower the learning rate"):
        fine_tuning(tmp_path, supernet, learning_rate=1e30, gradient_clip=1e30).execute()


class BusyDevice(FakeDevice):
    """One that is never in its fast state, and is not waited for long."""

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        return super().measure(engine, replace(options or MeasureOptions(), max_seconds=0.001))


def test_a_device_without_quiet_is_no_reason_to_guess(supernet: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"too few samples to state a p50; give the same command again"):
        fine_tuning(tmp_path, supernet, "25%", device=BusyDevice(slow_share=1.0)).execute()


@pytest.mark.parametrize(
    ("epochs", "settings", "message"),
    [
        (0, {}, r"field 'epochs'"),
        (-1, {}, r"field 'epochs'"),
        (1, {"recipe": "progressive"}, r"has no setting recipe"),
        (1, {"learning_rate": -1}, r"field 'learning_rate'"),
        (1, {"speed": 1}, r"field 'speed'"),
    ],
)
def test_training_settings_out_of_range_are_refused(
    supernet: Path, epochs: float, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        training_plan(supernet, SPACE.task, epochs, settings)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="does not exist"):
        read_architecture(SPACE, str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"is no finished run"):
        choose(str(tmp_path), Silent())


def write_winner(directory: Path, architecture: Architecture) -> None:
    promise = Promise(gated=Latency(samples=700, p50_ms=0.1))
    winner = WinnerDocument(
        id=architecture.id, architecture=architecture.to_json(), promise=promise, promised_ms=0.1, broke_budget=()
    )
    write_json(directory / "winner.json", winner)


def test_a_finished_run_stands_for_its_winner(supernet: Path, tmp_path: Path) -> None:
    architecture = get_space("mobilenet_v3/small").smallest
    freeze_config(tmp_path, RunConfig(target="host-cpu", space="mobilenet_v3/small", dataset="fashion-mnist"))
    write_winner(tmp_path, architecture)
    found = choose(str(tmp_path), Silent())
    assert found.architecture == architecture and found.dataset.name == "fashion-mnist"
    assert found.supernet_directory in shipped_supernets()
    assert found.tables == tmp_path / "latency_tables"
    assert choose(str(tmp_path), Silent(), supernet=supernet).supernet_directory == supernet


def test_as_a_step_of_a_run_it_is_of_the_winner_and_told_in_the_report(supernet: Path, tmp_path: Path) -> None:
    asked = {"target": "host-cpu", "space": SPACE.name, "dataset": "toy", "supernet": str(supernet)}
    run = Run(tmp_path, RunConfig.model_validate(asked | {"finetune_epochs": 1, "prune": "20%"}))
    run.device, run.dataset, run.space = FakeDevice(), toy.dataset(), SPACE  # type: ignore[assignment]
    architecture = chosen(supernet).architecture
    write_winner(tmp_path, architecture)
    finetune_winner(run)
    result = finetuned(run)
    assert result is not None and result.architecture == architecture.id and result.kept
    rows = finetuned_networks(result)
    assert [row.made for row in rows] == ["extracted", "fine-tuned", "pruned"]
    assert rows[-1].figure_ms <= 0.8 * rows[0].figure_ms * 1.01
    again = FakeDevice()
    run.device = again  # type: ignore[assignment]
    finetune_winner(run)
    assert again.measured == [] and "finetuning" in run.steps.skipped


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"prune": "30%"}, "give --prune with --finetune-epochs"),
        ({"prune": "much", "finetune_epochs": 1}, "--prune takes milliseconds"),
        ({"fps": 30, "finetune_epochs": 1}, "without --fps"),
    ],
)
def test_a_run_refuses_what_cannot_be_had_together(wish: dict[str, object], message: str) -> None:
    config = RunConfig.model_validate({"target": "host-cpu", "space": "a/b", "dataset": "toy"} | wish)
    with pytest.raises(UserError, match=message):
        check_finetuning(config)


def test_the_command_refuses_in_a_sentence(tmp_path: Path) -> None:
    for arguments in (["--epochs", "0"], ["--prune", "much"], ["--statistic", "mean"], ["--space", "none/such"]):
        done = CliRunner().invoke(app, ["finetune", "smallest", "--out", str(tmp_path / "out"), *arguments])
        assert done.exit_code == 2, done.output
        assert not (tmp_path / "out").exists()
