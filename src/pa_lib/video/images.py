"""Still images by Pillow: order in a folder, size before decoding, orientation, reading and writing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (  # Pillow knows a format only once its plugin is imported
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from pa_lib.errors import InputError
from pa_lib.video.icc import colors_alone

_FORMATS = (
    PngImagePlugin.PngImageFile.format,
    JpegImagePlugin.JpegImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    PpmImagePlugin.PpmImageFile.format,
)
_ORIENTATION_TAG = 0x0112
_KINDS = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG") | {".tif": "TIFF", ".pgm": "PPM"}
# EXIF orientation -> clockwise turn that sets it upright, and whether a mirror image comes first
_TURNS = {2: (0, True), 3: (180, False), 4: (180, True), 5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False)}
# a damaged file raises any of these inside Pillow
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageHead:
    """The header of an image: upright size, Pillow's mode, codec name and how it is turned."""

    width: int
    height: int
    mode: str
    codec: str
    rotation_deg: int
    is_flipped: bool
    note: str | None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit on pixels is checked before anything is decoded
        try:
            image = Image.open(path, formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise InputError(f"image {path} cannot be read: it is no image, or is cut short") from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"image {path} is far beyond limits.max_pixels, a decompression bomb by Pillow's measure; scale it down"
            ) from error
        except _DAMAGE as error:
            raise InputError(f"image {path} cannot be read: {error}") from error
        with image:
            yield image


def image_size(path: Path, max_pixels: int) -> ImageHead:
    """Read the header only.

    Raises:
        InputError: If it is no image, has more than `max_pixels`, or is an animation.
    """
    with _opened(path) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise InputError(
                f"image {path} is {width}x{height} px, limits.max_pixels is {max_pixels}; raise it or scale it down"
            )
        n_frames = getattr(image, "n_frames", 1)
        if n_frames > 1 and image.format != "MPO":  # a second picture in a JPEG is a preview or the other eye
            raise InputError(f"image {path} holds {n_frames} pictures; convert it to GIF or MP4 first")
        turn, is_flipped = _TURNS.get(_orientation(image, path), (0, False))
        if turn in (90, 270):
            width, height = height, width
        note = "transparent places are shown on white" if image.has_transparency_data else None
        codec = "jpeg" if image.format == "MPO" else (image.format or "").lower()
        return ImageHead(width, height, image.mode, codec, turn, is_flipped, note)


def _orientation(image: Image.Image, path: Path) -> int:
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # else Pillow would decode the picture in search of EXIF behind it
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DAMAGE as error:
        raise InputError(f"image {path} cannot be read: {error}") from error


def read_image(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """The image upright as uint8 RGB, shape h w 3; transparent places on white, more than 8 bits brought to 8.

    Raises:
        InputError: If it cannot be decoded or has more than `max_pixels`.
    """
    image_size(path, max_pixels)
    with _opened(path) as image:
        try:
            upright: Image.Image = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey: Pillow would clip it to 255
                grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return grey[..., None].repeat(3, axis=2)
            if upright.has_transparency_data:
                rgba = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.asarray(upright.convert("RGB"))
        except _DAMAGE as error:
            raise InputError(f"image {path} cannot be decoded: {error}") from error


def colour_profile(path: Path) -> bytes | None:
    """The ICC profile of an image: part of what its colours mean, like the matrix of a video; no more of it."""
    with _opened(path) as image:
        profile = image.info.get("icc_profile")
    return colors_alone(profile) if isinstance(profile, bytes) else None


def write_image(file: BinaryIO, rgb: NDArray[np.uint8], suffix: str, quality: int, profile: bytes | None) -> None:
    """Encode one image: PNG, BMP, TIFF and PPM without loss; JPEG and WebP at `quality` 1..100 (WebP 100: no loss).

    Raises:
        OSError: If writing fails.
    """
    options: dict[str, object] = {"icc_profile": profile} if profile else {}
    kind = _KINDS.get(suffix, suffix[1:].upper())
    if kind == "JPEG":
        options |= {"quality": quality, "subsampling": 0 if quality >= 90 else 2}
    elif kind == "WEBP":
        options |= {"lossless": True} if quality == 100 else {"quality": quality}
    elif kind == "PNG":
        options |= {"compress_level": 4}
    elif kind == "TIFF":
        options |= {"compression": "tiff_deflate"}
    Image.fromarray(rgb).save(file, kind, **options)
