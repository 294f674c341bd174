from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hwnas.data.detection import NO_OBJECT, load_detection
from hwnas.data.detection import jitter as jittering
from hwnas.errors import BadFileError, UserError
from hwnas.training.batches import AUGMENTED_TOGETHER, Batches, stream
from hwnas.training.state import STATE_FILE
from hwnas.training.tasks import Classification, Detection

sys.path.insert(0, str(Path(__file__).parent))
import toy
import toy_detector

from tests.rectangles import make_set

# Rounding, which differs with the order of sums, grows with the rate: at 0.02 to 0.01 in 20 steps.
SETTINGS = {"epochs": 10, "batch_size": 32, "full_epochs": 2, "learning_rate": 0.001, "checkpoint_steps": 1000}
SETTINGS |= {
    "drop_connect": 0.1,
    "random_subnets": 1,
    "augmentation": {"crop": "padded", "randaugment": 1, "mixup": 0.5, "erasing": 0.5},
}
STEPS = 20


def together(directory: Path, last_step: int) -> None:
    toy.in_two_processes(toy.thin_until, directory, last_step, **SETTINGS)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Parameters and their moving averages."""
    tensors = load_file(directory / STATE_FILE)
    return {name: tensor for name, tensor in tensors.items() if name.startswith("average.")} | {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith("model.") and f"average.{name.removeprefix('model.')}" in tensors
    }


def test_two_processes_give_what_one_gives_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    toy.thin(tmp_path / "one", **SETTINGS).run_until(STEPS)
    together(tmp_path / "two", STEPS)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert set(one) == set(two)
    assert max((two[name] - tensor).abs().max().item() for name, tensor in one.items()) < 1e-5
    together(tmp_path / "stopped", STEPS // 2)
    together(tmp_path / "stopped", STEPS)
    stopped = weights(tmp_path / "stopped")
    assert all(torch.equal(stopped[name], tensor) for name, tensor in two.items())


def test_two_processes_train_the_detector_that_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though one's pictures have more anchors that answer for a box than the other's."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("HWNAS_CACHE", str(cache))
    pictures = make_set(tmp_path / "set", train=16)
    toy_detector.trainer(tmp_path / "one", pictures).run_until(toy_detector.STEPS)
    toy.in_two_processes(toy_detector.first_steps, tmp_path / "two", pictures, cache)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((two[name] - tensor).abs().max().item() for name, tensor in one.items()) < 1e-5


def shared(task: Classification | Detection, images: int, batch_size: int, processes: int) -> list[Tensor]:
    """The second batch of a run, made by so many processes and put together."""
    config = toy.config(batch_size=batch_size)
    make = task.maker(torch.device("cpu"))
    parts = [Batches(images, make, config, process, processes)(1) for process in range(processes)]
    return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_a_batch_of_labelled_images_is_the_same_in_any_number_of_processes(processes: int) -> None:
    task = Classification(toy.dataset(), toy.config(augmentation=SETTINGS["augmentation"]))
    whole = shared(task, 96, 32, 1)
    assert all(torch.equal(*pair) for pair in zip(whole, shared(task, 96, 32, processes), strict=True))


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_a_batch_of_pictures_with_boxes_is_the_same_in_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """And no process jitters more of them than it learns from."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    batch_size = AUGMENTED_TOGETHER + 16
    pictures = load_detection(make_set(tmp_path / "set", train=2 * batch_size), side=48)
    task = Detection(pictures, toy_detector.settings(batch_size=batch_size))
    whole = shared(task, len(pictures.train), batch_size, 1)
    jittered = []
    warped = jittering._warped
    monkeypatch.setattr(
        jittering, "_warped", lambda images, *rest: (jittered.append(len(images)), warped(images, *rest))[1]
    )
    assert all(
        torch.equal(*pair) for pair in zip(whole, shared(task, len(pictures.train), batch_size, processes), strict=True)
    )
    assert sum(jittered) == batch_size


class Copies(TorchDispatchMode):
    """Keeps, of each copy to another device, whether it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device:
            self.waiting.append(not kwargs.get("non_blocking"))
        return func(*args, **kwargs)


def test_no_batch_of_workers_waits_for_the_device() -> None:
    """Which has no data here, but is another one."""
    config = toy.config()
    batches = Batches(96, Classification(toy.dataset(), config).maker(torch.device("cpu")), config)
    with Copies() as copies:
        made = list(stream(batches, 0, 3, 1, torch.device("meta")))
    assert [images.device.type for images, _ in made] == ["meta"] * 3
    assert copies.waiting == [False] * 6


def pretended(*_: Any) -> tuple[Tensor, ...]:
    raise BadFileError("picture 7 is damaged; remove it.")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_is_told_as_it_is_in_whichever_process_it_is_found(workers: int) -> None:
    with pytest.raises(BadFileError, match=r"^picture 7 is damaged; remove it\.$"):
        list(stream(Batches(96, pretended, toy.config()), 0, 3, workers, torch.device("cpu")))


@pytest.mark.parametrize("change", ["saturation", "hue"])
def test_colours_of_grey_images_are_refused_before_anything_is_written(tmp_path: Path, change: str) -> None:
    with pytest.raises(UserError, match=r"^Grey images have no saturation and no hue to change; set both to 0"):
        toy.thin(tmp_path / "run", augmentation={change: 0.5}, workers=1)
    assert not (tmp_path / "run").exists()
    toy.thin(tmp_path / "run", augmentation={change: 0.5, "strength": 0})


def detector_loss(task: Detection, device: torch.device) -> Tensor:
    """Of answers to two pictures of 48 pixels with up to two boxes, on a device, as a training has them."""
    maps = [torch.zeros(2, 18, side, side, device=device, requires_grad=True) for side in (12, 6, 3)]
    maps += [torch.zeros(2, 36, side, side, device=device, requires_grad=True) for side in (12, 6, 3)]
    boxes = torch.zeros(2, 2, 4, device=device)
    labels = torch.full((2, 2), NO_OBJECT, device=device)
    cost = task.loss(tuple(maps), (boxes, labels), 48, None)
    cost.backward()
    return cost


def test_no_pass_of_a_detector_waits_for_what_is_in_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device without data, which refuses to tell of any; and what comes from the CPU is there after one pass."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    task = Detection(load_detection(make_set(tmp_path / "set"), side=48), toy_detector.settings())
    device = torch.device("meta")
    detector_loss(task, device)
    with Copies() as copies:
        assert detector_loss(task, device).shape == ()
    assert not copies.waiting


@pytest.mark.skipif(not torch.cuda.is_available(), reason="waiting for a GPU can be seen on one alone")
def test_neither_batches_nor_passes_wait_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    pictures, config = load_detection(make_set(tmp_path / "set"), side=48), toy_detector.settings()
    task, device = Detection(pictures, config), torch.device("cuda", torch.cuda.current_device())
    batches = Batches(len(pictures.train), task.maker(torch.device("cpu")), config)
    made = stream(batches, 0, 8, 1, device)
    next(made)
    detector_loss(task, device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in made:
            detector_loss(task, device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
