from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hwnas.data.decoding import Encoded, Pixels, decode, decode_all, default_side
from hwnas.errors import BadFileError


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> Encoded:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Encoded("picture", file.getvalue())


def pixel(image: Encoded, side: int = 4) -> list[int]:
    """The colour of a picture of one colour."""
    decoded = decode(image, side)
    assert decoded.shape == (3, side, side)
    assert decoded.dtype == np.uint8
    assert (decoded == decoded[:, :1, :1]).all()
    return [int(value) for value in decoded[:, 0, 0]]


def test_images_of_the_stored_size_are_not_changed() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (17, 17, 3), dtype=np.uint8)
    assert np.array_equal(decode(saved(Image.fromarray(pixels)), 17), pixels.transpose(2, 0, 1))


def test_the_centre_is_kept() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255
    assert (decode(saved(Image.fromarray(pixels)), 8) == 255).all()
    assert (decode(saved(Image.fromarray(pixels.transpose(1, 0, 2))), 8) == 255).all()


def test_palettes() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert pixel(saved(image)) == [10, 200, 30]
    assert pixel(saved(image, transparency=1)) == [255, 255, 255]
    assert pixel(saved(image, "GIF")) == [10, 200, 30]


def test_transparency_shows_white_and_never_hidden_colours() -> None:
    assert pixel(saved(Image.new("RGBA", (4, 4), (200, 0, 0, 0)))) == [255, 255, 255]
    assert pixel(saved(Image.new("RGBA", (4, 4), (200, 0, 0, 255)))) == [200, 0, 0]
    assert pixel(saved(Image.new("LA", (4, 4), (0, 128)))) == [127, 127, 127]


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    for value in (0, 300, 0x8000, 0xFFFF):
        grey = Image.fromarray(np.full((4, 4), value, np.uint16))
        assert pixel(saved(grey)) == [value >> 8] * 3
        assert pixel(saved(grey, "TIFF")) == [value >> 8] * 3


def test_grey_and_black_and_white() -> None:
    assert pixel(saved(Image.new("L", (4, 4), 77))) == [77] * 3
    assert pixel(saved(Image.new("1", (4, 4), 1))) == [255] * 3


def test_cmyk() -> None:
    red, green, blue = pixel(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 245
    assert max(green, blue) < 10


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[:8, 8:] = (0, 255, 0)
    # What a camera stores that was held so: the inverse of what the orientation asks for.
    back: dict[int, Callable[[Pixels], Pixels]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(back[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = saved(Image.fromarray(stored), exif=exif)
    assert np.array_equal(decode(image, 16), upright.transpose(2, 0, 1))


def test_large_photographs_are_shrunk_without_aliasing() -> None:
    board = ((np.arange(512)[:, None] + np.arange(512)) % 2 * 255).astype(np.uint8)
    for kind in ("PNG", "JPEG"):
        decoded = decode(saved(Image.fromarray(board), kind), 32).astype(int)
        assert np.abs(decoded - 127).max() < 8


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"],
)
def test_what_is_no_image_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadFileError, match=r"^folder/a\.png is not a readable image"):
        decode(Encoded("folder/a.png", data), 8)
    with pytest.raises(BadFileError, match=r"^folder/a\.png is not a readable image"):
        default_side([Encoded("folder/a.png", data)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_truncated_images_are_refused_by_name(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(pixels), kind).data
    with pytest.raises(BadFileError, match="cut is not a readable image"):
        decode(Encoded("cut", whole[: len(whole) // 2]), 16)


def test_floating_point_and_wide_pixels_are_refused() -> None:
    with pytest.raises(BadFileError, match="floating-point"):
        decode(saved(Image.new("F", (4, 4), 0.5), "TIFF"), 4)
    with pytest.raises(BadFileError, match="more than 16 bits"):
        decode(saved(Image.new("I", (4, 4), 70_000), "TIFF"), 4)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"]))
def test_damaged_images_never_raise_anything_else(data: st.DataObject, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    content = bytearray(saved(Image.fromarray(pixels), kind).data)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        assert decode(Encoded("damaged", bytes(content)), 6).shape == (3, 6, 6)
    except BadFileError as error:
        assert str(error).startswith("damaged is not")


def test_many_images_keep_their_order_and_the_first_bad_one_is_named() -> None:
    images = [saved(Image.new("L", (3, 3), value % 256)) for value in range(600)]
    assert [int(decoded[0, 0, 0]) for decoded in decode_all(images, 3)] == [value % 256 for value in range(600)]
    images[400] = Encoded("number 400", b"?")
    with pytest.raises(BadFileError, match="number 400"):
        list(decode_all(images, 3))


def test_the_default_side_is_the_median_short_side_up_to_256() -> None:
    images = [saved(Image.new("L", size)) for size in ((20, 90), (30, 30), (500, 40))]
    assert default_side(images) == 30
    assert default_side([saved(Image.new("L", (900, 700)))]) == 256
