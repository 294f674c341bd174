"""Encoded images to RGB arrays of one size (Pillow)."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from statistics import median_low
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hwnas.errors import BadFileError

Pixels = NDArray[np.uint8]
# Formats that Pillow decodes by itself; others may start programs (EPS) or are no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
LARGEST_DEFAULT_SIDE = 256
FILL = 128
"""Grey value beside an image that does not fill its square."""
_BATCH = 256
_BILINEAR = Image.Resampling.BILINEAR
_TURNED = range(5, 9)
"""EXIF orientations that exchange width and height."""

Given = TypeVar("Given")


class Encoded(NamedTuple):
    """An image as it lies in a file, and the file (and row) for messages."""

    where: str
    data: bytes


def decode(image: Encoded, side: int) -> Pixels:
    """Decode one image: upright by its EXIF orientation, short side scaled to ``side``, centre cropped.

    Transparent pixels are laid over white, 16-bit ones keep their upper byte, animations their first frame; colour
    profiles are not applied.

    Returns:
        uint8 [3, side, side], RGB.

    Raises:
        BadFileError: naming the file, for anything that Pillow does not read whole.
    """
    with _refused_by_name(image), Image.open(io.BytesIO(image.data), formats=FORMATS) as opened:
        fitted = ImageOps.fit(_upright(opened, side), (side, side), method=_BILINEAR)
    return _as_pixels(fitted)


def letterbox(image: Encoded, side: int, size: tuple[int, int]) -> Pixels:
    """Decode one image as :func:`decode` does, but whole: long side scaled to ``side``, filled up at right and bottom.

    Args:
        size: width and height that the image has by its annotations.

    Returns:
        uint8 [3, side, side], RGB.

    Raises:
        BadFileError: the image cannot be read whole, or has another size.
    """
    with _refused_by_name(image), Image.open(io.BytesIO(image.data), formats=FORMATS) as opened:
        turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
        found = opened.size[::-1] if turned else opened.size
        if found != size:
            raise ValueError(f"it has {found[0]}×{found[1]} pixels, its annotations are for {size[0]}×{size[1]}")
        upright = _upright(opened, side)
        scale = side / max(size)
        scaled = upright.resize((max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), _BILINEAR)
    canvas = Image.new("RGB", (side, side), (FILL, FILL, FILL))
    canvas.paste(scaled)
    return _as_pixels(canvas)


def decode_all(images: Iterable[Encoded], side: int) -> Iterator[Pixels]:
    """Decode images on all cores, in their order (see :func:`decode`)."""
    return on_all_cores(partial(decode, side=side), images)


def on_all_cores(work: Callable[[Given], Pixels], given: Iterable[Given]) -> Iterator[Pixels]:
    """What ``work`` gives for each of many, in their order."""
    stream = iter(given)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        while batch := list(islice(stream, _BATCH)):
            yield from pool.map(work, batch)


def default_side(images: Sequence[Encoded]) -> int:
    """The side at which images like these are stored: their median short side, at most 256 pixels.

    Raises:
        BadFileError: naming the file whose header cannot be read.
    """
    return min(LARGEST_DEFAULT_SIDE, median_low([_short_side(image) for image in images]))


def _short_side(image: Encoded) -> int:
    with _refused_by_name(image), Image.open(io.BytesIO(image.data), formats=FORMATS) as opened:
        return min(opened.size)


@contextmanager
def _refused_by_name(image: Encoded) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged data
        raise BadFileError(f"{image.where} is not a readable image ({_reason(error)}); mend or remove it.") from error


def _upright(opened: Image.Image, side: int) -> Image.Image:
    """As RGB, by its EXIF orientation, at any size that leaves detail for ``side`` pixels."""
    # JPEG decoders scale by powers of two for next to nothing; twice the size leaves detail to filter.
    opened.draft(None, (2 * side, 2 * side))
    return _to_rgb(ImageOps.exif_transpose(opened))


def _as_pixels(image: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB without the clipping and the hidden colours of a plain ``convert``."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("more than 16 bits a pixel")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layered).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return str(error) or type(error).__name__
