"""Encoded images to RGB arrays of one size (Pillow)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from statistics import median_low
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from hwnas.errors import BadFileError

Pixels = NDArray[np.uint8]
# Formats that Pillow decodes by itself; others may start programs (EPS) or are no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
LARGEST_DEFAULT_SIDE = 256
_BATCH = 256


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
    try:
        with Image.open(io.BytesIO(image.data), formats=FORMATS) as opened:
            # JPEG decoders scale by powers of two for next to nothing; twice the size leaves detail to filter.
            opened.draft(None, (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(opened)
            fitted = ImageOps.fit(_to_rgb(upright), (side, side), method=Image.Resampling.BILINEAR)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged data
        raise BadFileError(f"{image.where} is not a readable image ({_reason(error)}); mend or remove it.") from error
    return np.ascontiguousarray(np.asarray(fitted).transpose(2, 0, 1))


def decode_all(images: Iterable[Encoded], side: int) -> Iterator[Pixels]:
    """Decode images on all cores, in their order (see :func:`decode`)."""
    stream = iter(images)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        while batch := list(islice(stream, _BATCH)):
            yield from pool.map(partial(decode, side=side), batch)


def default_side(images: Sequence[Encoded]) -> int:
    """The side at which images like these are stored: their median short side, at most 256 pixels.

    Raises:
        BadFileError: naming the file whose header cannot be read.
    """
    return min(LARGEST_DEFAULT_SIDE, median_low([_short_side(image) for image in images]))


def _short_side(image: Encoded) -> int:
    try:
        with Image.open(io.BytesIO(image.data), formats=FORMATS) as opened:
            return min(opened.size)
    except Exception as error:
        raise BadFileError(f"{image.where} is not a readable image ({_reason(error)}); mend or remove it.") from error


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
