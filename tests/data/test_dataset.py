from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.data import Dataset, ImageSet, to_input


def images(count: int, channels: int = 1, side: int = 6) -> ImageSet:
    return ImageSet(torch.zeros(count, channels, side, side, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize(
    ("pixels", "labels", "complaint"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), "pixels"),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "pixels"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "labels"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), "labels"),
    ],
)
def test_image_sets_of_wrong_tensors_are_refused(pixels: torch.Tensor, labels: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ImageSet(pixels, labels)


def test_a_split_is_read_once_and_only_when_asked_for() -> None:
    reads: list[str] = []

    def reader(name: str, count: int) -> ImageSet:
        reads.append(name)
        return images(count)

    names = ("train", "validation", "recalibration", "test")
    readers = {name: lambda name=name, count=n: reader(name, count) for n, name in enumerate(names)}
    ds = Dataset("x", ("a", "b"), (0.5,) * 3, (1.0,) * 3, "00", readers)
    assert reads == []
    assert len(ds.test) == 3
    assert ds.test is ds.test
    assert reads == ["test"]
    assert [len(getattr(ds, name)) for name in names] == [0, 1, 2, 3]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([1, 3]), st.integers(5, 24), st.integers(5, 24), st.integers(0, 255), st.integers(1, 3))
def test_flat_images_become_flat_inputs_of_the_known_value(
    channels: int, side: int, resolution: int, value: int, count: int
) -> None:
    pixels = torch.full((count, channels, side, side), value, dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    inputs = to_input(pixels, resolution, mean, std)
    assert inputs.dtype == torch.float32
    assert inputs.shape == (count, 3, resolution, resolution)
    for channel in range(3):
        expected = (value / 255 - mean[channel]) / std[channel]
        assert torch.allclose(inputs[:, channel], torch.tensor(expected), atol=1e-5)


def test_equal_size_changes_no_pixel_and_floats_are_taken_as_scaled() -> None:
    pixels = torch.randint(0, 256, (4, 3, 9, 9), dtype=torch.uint8)
    before = pixels.clone()
    inputs = to_input(pixels, 9, (0.0,) * 3, (1.0,) * 3)
    assert torch.equal(inputs, pixels.float() / 255)
    scaled = pixels.float() / 255
    assert torch.equal(to_input(scaled, 7, (0.3,) * 3, (0.2,) * 3), to_input(pixels, 7, (0.3,) * 3, (0.2,) * 3))
    assert torch.equal(pixels, before)
    assert torch.equal(scaled, pixels.float() / 255)


def test_shrinking_is_antialiased() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 255
    inputs = to_input(board.to(torch.uint8).view(1, 1, 32, 32), 8, (0.0,) * 3, (1.0,) * 3)
    assert (inputs - 0.5).abs().max() < 0.01
