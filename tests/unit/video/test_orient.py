from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from _clips import make_clip, make_exif_image, scene
from pa_lib.video import probe, read_frames

# what EXIF 2.3 means by its eight orientations, as operations on the stored rows and columns
EXIF = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", EXIF)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    path = make_exif_image(tmp_path / f"a{suffix}", orientation)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    info = probe(path)
    frame = next(read_frames(info))
    upright = EXIF[orientation](stored)
    assert (info.height, info.width) == upright.shape[:2]
    assert np.array_equal(frame.picture.rgb(), upright)
    turned = np.rot90(np.fliplr(stored) if info.is_flipped else stored, -info.rotation_deg // 90)
    assert np.array_equal(turned, upright)


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize(
    ("codec", "pixel_format", "size"),
    [("libx264", "yuv420p", (64, 48)), ("libvpx-vp9", "yuv420p", (67, 51)), ("libx264", "yuv422p", (64, 48))],
)
def test_the_display_matrix_is_baked_in_without_loss(tmp_path, degrees, is_flipped, codec, pixel_format, size):
    path = make_clip(
        tmp_path / "a.mp4", n_frames=2, rotation_deg=degrees, is_flipped=is_flipped, codec=codec,
        pixel_format=pixel_format, width=size[0], height=size[1],
    )  # fmt: skip
    with av.open(str(path)) as container:
        coded = next(container.decode(video=0))
    luma = np.ndarray((coded.height, coded.width), np.uint8, coded.planes[0], strides=(coded.planes[0].line_size, 1))
    expected = np.rot90(luma, degrees // 90)  # PyAV: a counter-clockwise turn, then mirrored
    expected = np.fliplr(expected) if is_flipped else expected
    info = probe(path)
    picture = next(read_frames(info)).picture
    assert np.array_equal(picture.planes[0], expected)
    assert picture.format == info.format
    # chroma lies where its luma lies: the picture still looks like the scene that was drawn
    drawn = np.rot90(scene(0, *size), degrees // 90)
    drawn = np.fliplr(drawn) if is_flipped else drawn
    assert np.abs(picture.rgb().astype(int) - drawn).mean() < 8


def test_pixels_that_are_not_square_are_turned_along(tmp_path):
    def squeeze(context):
        context.sample_aspect_ratio = Fraction(4, 3)

    info = probe(make_clip(tmp_path / "a.mp4", rotation_deg=90, set_up=squeeze))
    assert info.sample_aspect_ratio == pytest.approx(0.75)
