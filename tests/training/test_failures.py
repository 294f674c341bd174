from __future__ import annotations

import math
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hwnas.data import load_dataset
from hwnas.errors import DivergedError, UserError
from hwnas.files import read_json_lines, write_atomic
from hwnas.training import judge
from hwnas.training.failures import BLOWN_UP_STEPS, LossWatch, evaluation_explained, memory_explained
from tests.forked import finished

sys.path.insert(0, str(Path(__file__).parent))
import toy


def test_a_learning_rate_that_blows_up_is_told_with_a_mend_and_leaves_no_state_behind(tmp_path: Path) -> None:
    run = toy.thin(tmp_path, learning_rate=1e30, gradient_clip=1e30, checkpoint_steps=1)
    with pytest.raises(DivergedError, match=r"diverged at step \d+ .*lower the learning rate \(1e\+30\), for example"):
        run.run()
    saved = toy.thin(tmp_path, learning_rate=1e30, gradient_clip=1e30, checkpoint_steps=1)
    if (tmp_path / "state.safetensors").exists():
        saved.state.restore(tmp_path / "state.safetensors")
        assert all(torch.isfinite(parameter).all() for parameter in saved.state.average.values())


@pytest.mark.parametrize("full_epochs", [0.0, 1.0])
def test_weights_that_the_last_step_has_spoilt_are_not_saved(tmp_path: Path, full_epochs: float) -> None:
    """Whose losses, of the weights before it, are sound."""
    one_step = {"epochs": 0.1, "full_epochs": full_epochs, "warmup_epochs": 0}
    for _ in range(2):
        run = toy.thin(tmp_path, **one_step, learning_rate=1e30, gradient_clip=1e30)
        with pytest.raises(
            DivergedError, match=r"diverged at step 1: the weights that it left .*; lower the learning rate \(1e\+30\)"
        ):
            run.run()
        assert not (tmp_path / "weights.safetensors").exists()
        assert not (tmp_path / "state.safetensors").exists()
    assert toy.thin(tmp_path, **one_step).run().metrics["validation_top1_largest"] >= 0


def test_so_are_those_of_a_state_that_was_saved_at_the_end(tmp_path: Path) -> None:
    run = toy.thin(tmp_path)
    run.run_until(run.total_steps)
    for average in run.state.average.values():
        average[:1] = math.nan
    run.pause()
    with pytest.raises(DivergedError, match=r"at step 18: the weights that it left are not finite; lower"):
        toy.thin(tmp_path).run()
    assert not (tmp_path / "weights.safetensors").exists()


def test_the_last_look_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = toy.thin(tmp_path / "looked", epochs=1)
    torch.manual_seed(5)
    looked.run()
    after = torch.rand(1)
    monkeypatch.setattr(toy.Trainer, "_require_sound", lambda _: None)
    blind = toy.thin(tmp_path / "blind", epochs=1)
    torch.manual_seed(5)
    blind.run()
    assert torch.equal(after, torch.rand(1))
    for name in ("state.safetensors", "weights.safetensors"):
        both = [load_file(tmp_path / run / name) for run in ("looked", "blind")]
        assert all(torch.equal(both[1][key], tensor) for key, tensor in both[0].items())


def test_weights_that_cost_much_more_than_knowing_nothing_have_blown_up() -> None:
    watch = LossWatch(toy.config(), math.log(3))
    watch.judge_weights(7, [10.9, 500.0], finite=True)
    with pytest.raises(
        DivergedError, match=r"step 7: the weights that it left cost 11.1, while knowing nothing costs 1.1; lower"
    ):
        watch.judge_weights(7, [11.1, 1.0], finite=True)
    with pytest.raises(DivergedError, match="cost nan"):
        watch.judge_weights(7, [1.0, math.nan], finite=True)
    watch.first = 50.0
    watch.judge_weights(7, [499.0], finite=True)


def test_a_loss_that_is_no_number_is_told_with_its_step_however_late_one_looks() -> None:
    watch = LossWatch(toy.config(), math.log(3))
    for step in range(1, 8):
        watch.add(step, torch.tensor([1.0, float("nan") if step >= 5 else 1.0]))
    with pytest.raises(
        DivergedError, match=r"at step 5 \(loss nan\); lower the learning rate \(0.1\), for example to 0.033"
    ):
        watch.look()


def test_losses_that_stay_far_above_knowing_nothing_are_a_divergence_and_a_peak_is_not() -> None:
    watch = LossWatch(toy.config(), math.log(3))
    for step in range(1, 101):
        watch.add(step, torch.tensor([500.0 if step % BLOWN_UP_STEPS != 1 else 1.0]))
    assert watch.look() == [500.0]
    with pytest.raises(DivergedError, match=rf"above 500 for {BLOWN_UP_STEPS} steps, while knowing nothing costs 1.1"):
        for step in range(101, 130):
            watch.add(step, torch.tensor([500.0]))
            watch.look()


def test_a_loss_that_is_high_from_the_first_step_on_is_no_divergence() -> None:
    watch = LossWatch(toy.config(), 2.0)
    for step in range(1, 2 * BLOWN_UP_STEPS):
        watch.add(step, torch.tensor([50.0, 1.0]))
    assert watch.look() == [50.0, 1.0]
    with pytest.raises(DivergedError, match="while knowing nothing costs 50"):
        for step in range(100, 130):
            watch.add(step, torch.tensor([501.0, 1.0]))
            watch.look()


def test_a_run_that_goes_on_remembers_its_first_loss(tmp_path: Path) -> None:
    run = toy.thin(tmp_path)
    run.run_until(1)
    again = toy.thin(tmp_path)
    again.run_until(2)
    assert again.losses.first == run.losses.first > 0


def starved(directory: Path) -> None:
    """A run whose process may have little more memory than it has already."""
    torch.set_num_threads(1)
    run = toy.trainer(directory, batch_size=96)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 60 * 2**20
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        run.run_until(1)
    except UserError as error:
        resource.setrlimit(resource.RLIMIT_AS, before)
        write_atomic(directory / "told", str(error))


def test_a_batch_that_memory_does_not_hold_is_told_with_one_that_it_may(tmp_path: Path) -> None:
    finished(starved, tmp_path)
    told = (tmp_path / "told").read_text()
    assert told.startswith("A batch of 96 images does not fit into memory; try a batch of 48")
    assert "learning rate of 0.05" in told


def test_only_a_lack_of_memory_is_taken_for_one() -> None:
    with pytest.raises(UserError, match="try a batch of 8 "), memory_explained(toy.config(), 2):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(UserError, match="a device with more"), memory_explained(toy.config(batch_size=2), 2):
        raise MemoryError
    with pytest.raises(RuntimeError, match="shape"), memory_explained(toy.config(), 1):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize("where", ["in the last step", "after it"])
def test_memory_that_does_not_hold_an_evaluation_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "after it":
        toy.thin(tmp_path, epochs=1).run_until(6)

    def starve(*_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(judge, "validation_score", starve)
        with pytest.raises(UserError, match="too little memory to evaluate subnets") as told:
            toy.thin(tmp_path, epochs=1).run()
    assert "try a batch of" not in str(told.value)
    assert toy.thin(tmp_path, epochs=1).run().training["steps"] == 6
    assert [line["step"] for line in read_json_lines(tmp_path / "metrics.jsonl")] == [6]
    with pytest.raises(RuntimeError, match="shape"), evaluation_explained():
        raise RuntimeError("shape mismatch")


def test_a_batch_of_one_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two images"):
        toy.thin(tmp_path, batch_size=1)


def picture(path: Path, mode: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, *channels), np.uint8)
    Image.fromarray(pixels, mode).save(path)


def test_grey_and_transparent_pictures_mixed_in_one_folder_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    for number, mode in enumerate(["L", "LA", "RGB", "RGBA"] * 6):
        picture(tmp_path / "photos" / "abc"[number % 3] / f"{number}.png", mode, number)
    dataset = load_dataset(str(tmp_path / "photos"))
    assert dataset.train.pixels.shape[1:] == (3, 20, 20)
    space = toy.thin_space()
    run = toy.Trainer(tmp_path / "run", space, dataset, toy.config(batch_size=4, epochs=1, full_epochs=0))
    assert 0 <= run.run().metrics["validation_top1_largest"] <= 1


def test_a_class_of_one_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    for number in range(8):
        picture(tmp_path / "photos" / "many" / f"{number}.png", "RGB", number)
    picture(tmp_path / "photos" / "one" / "0.png", "RGB", 9)
    with pytest.raises(UserError, match=r"class 'one' has 1 training image.*add images or give those splits"):
        load_dataset(str(tmp_path / "photos"))
