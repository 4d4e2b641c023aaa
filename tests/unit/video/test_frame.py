from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.video import Picture, PixelFormat, redacted_picture
from pa_lib.video.frame import converted, to_av_frame

YUV = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le"]


def random_picture(format: PixelFormat, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if format.bits == 8 else np.uint16
    scale = 1 << (format.bits - 8)
    return Picture(tuple(rng.integers(40 * scale, 200 * scale, s, dtype) for s in format.plane_shapes()), format)


def exact_rgb(picture: Picture, k_r: float, k_b: float) -> np.ndarray:
    """ITU-R BT.601/709 from their definition: E'Y = K_r R + K_g G + K_b B, E'Cr = (R - E'Y) / (2 - 2 K_r)."""
    format = picture.format
    rows, columns = format.chroma_grid
    step = 2.0 ** (format.bits - 8)
    y, u, v = (p.astype(float) / step for p in picture.planes)
    u, v = (np.kron(c, np.ones((rows, columns)))[: format.height, : format.width] for c in (u, v))
    if format.is_full_range:
        y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r = y + v * (2 - 2 * k_r)
    b = y + u * (2 - 2 * k_b)
    g = (y - k_r * r - k_b * b) / (1 - k_r - k_b)
    return np.clip(np.stack([r, g, b], -1) * 255, 0, 255)


@pytest.mark.parametrize("name", YUV)
@pytest.mark.parametrize(("matrix", "k_r", "k_b"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (9, 0.2627, 0.0593)])
@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("size", [(64, 48), (67, 51)])
def test_rgb_is_within_five_levels_of_the_standards_formula(name, matrix, k_r, k_b, is_full_range, size):
    picture = random_picture(PixelFormat(name, *size, is_full_range, matrix=matrix))
    assert np.abs(picture.rgb() - exact_rgb(picture, k_r, k_b)).max() <= 5


@pytest.mark.parametrize(
    ("rgb", "matrix", "is_full_range", "yuv"),
    [  # textbook values: 8-bit colour bars of BT.601 and BT.709, and of JFIF
        ((255, 0, 0), 6, False, (81, 90, 240)),
        ((0, 0, 255), 6, False, (41, 240, 110)),
        ((255, 0, 0), 1, False, (63, 102, 240)),
        ((0, 255, 0), 1, False, (173, 42, 26)),
        ((255, 255, 255), 1, False, (235, 128, 128)),
        ((0, 0, 0), 6, False, (16, 128, 128)),
        ((255, 0, 0), 6, True, (76, 85, 255)),
        ((255, 255, 255), 6, True, (255, 128, 128)),
    ],
)
def test_replaced_writes_the_textbook_yuv_of_a_colour(rgb, matrix, is_full_range, yuv):
    picture = random_picture(PixelFormat("yuv420p", 8, 6, is_full_range, matrix=matrix))
    new = picture.replaced(np.full((6, 8, 3), rgb, np.uint8), np.ones((6, 8), bool))
    assert tuple(int(p[0, 0]) for p in new.planes) == yuv
    assert all((p == p[0, 0]).all() for p in new.planes)


@pytest.mark.parametrize("matrix", ["itu709", "itu601"])
def test_replaced_agrees_with_swscale(matrix):
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format="yuv444p", dst_colorspace=matrix, src_color_range="JPEG", dst_color_range="MPEG"
    )
    format = PixelFormat("yuv444p", 64, 48, matrix={"itu709": 1, "itu601": 6}[matrix])
    ours = redacted_picture(format).replaced(image, np.ones((48, 64), bool))
    for plane, theirs in zip(ours.planes, frame.to_ndarray(), strict=True):
        assert np.abs(plane.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", [*YUV, "rgb24"])
@pytest.mark.parametrize("size", [(64, 48), (67, 51)])
def test_to_rgb_and_back_changes_little(name, size):
    noise = np.random.default_rng(2).integers(50, 200, (6, 8, 3), dtype=np.uint8)
    format = PixelFormat(name, *size, matrix=1)
    every = np.ones((size[1], size[0]), bool)
    picture = redacted_picture(format).replaced(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC), every)
    again = picture.replaced(picture.rgb(), every)
    for a, b in zip(picture.planes, again.planes, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 3 * (1 << (format.bits - 8))


@given(
    name=st.sampled_from([*YUV, "rgb24"]),
    width=st.integers(1, 21),
    height=st.integers(1, 17),
    seed=st.integers(0, 1 << 16),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_replaced_leaves_every_other_sample_bit_identical(name, width, height, seed, share):
    format = PixelFormat(name, width, height, matrix=6)
    picture = random_picture(format, seed)
    rng = np.random.default_rng(seed)
    rows, columns = format.chroma_grid
    blocks = rng.random((-(-height // rows), -(-width // columns))) < share
    where = np.kron(blocks, np.ones((rows, columns), bool))[:height, :width]
    before = [plane.copy() for plane in picture.planes]
    new = picture.replaced(np.full((height, width, 3), (10, 200, 90), np.uint8), where)
    constant = picture.replaced(np.full((height, width, 3), (10, 200, 90), np.uint8), np.ones((height, width), bool))
    for old, now, kept, full in zip(picture.planes, new.planes, before, constant.planes, strict=True):
        under = where if old.shape[:2] == where.shape else blocks
        assert np.array_equal(now[~under], kept[~under])
        assert np.array_equal(now[under], full[under])
        assert np.array_equal(old, kept)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p"])
def test_a_mask_that_cuts_through_a_chroma_sample_is_refused(name):
    picture = random_picture(PixelFormat(name, 8, 8))
    where = np.zeros((8, 8), bool)
    where[2:4, 3:6] = True
    with pytest.raises(ValueError, match="cuts through chroma samples"):
        picture.replaced(picture.rgb(), where)


@pytest.mark.wrong_types
def test_wrong_shapes_are_refused():
    picture = random_picture(PixelFormat("yuv420p", 8, 8))
    with pytest.raises(ValueError, match="want uint8 rgb"):
        picture.replaced(np.zeros((8, 6, 3), np.uint8), np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="want uint8 rgb"):
        picture.replaced(np.zeros((8, 8, 3), np.float32), np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="planes of"):
        Picture((np.zeros((8, 8), np.uint8),), PixelFormat("yuv420p", 8, 8))


@pytest.mark.parametrize("name", [*YUV, "rgb24"])
def test_redacted_is_uniform_and_the_same_for_every_picture(name):
    format = PixelFormat(name, 21, 17)
    one, other = (redacted_picture(random_picture(format, seed).format) for seed in (1, 2))
    assert len(np.unique(one.rgb().reshape(-1, 3), axis=0)) == 1
    for a, b, c in zip(one.planes, other.planes, redacted_picture(format).planes, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
        assert len(np.unique(a)) == 1


@pytest.mark.parametrize(("width", "height", "matrix"), [(640, 480, 6), (1280, 544, 1), (960, 720, 1), (720, 576, 6)])
def test_without_a_stated_matrix_large_pictures_are_bt709(width, height, matrix):
    assert PixelFormat("yuv420p", width, height).working_matrix == matrix
    assert PixelFormat("yuv420p", width, height, matrix=9).working_matrix == 9


def test_an_encoder_gets_samples_and_colour_codes_and_nothing_else():
    format = PixelFormat("yuv420p10le", 22, 18, True, matrix=9, primaries=9, transfer=16)
    picture = random_picture(format)
    frame = to_av_frame(picture)
    assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (9, 2, 9, 16)
    assert len(frame.side_data) == 0
    assert np.array_equal(frame.to_ndarray()[:18, :22], picture.planes[0])


def test_converted_to_444_repeats_chroma():
    picture = random_picture(PixelFormat("yuv420p", 5, 3))
    full = converted(picture, "yuv444p")
    assert np.array_equal(full.planes[0], picture.planes[0])
    assert full.planes[1][2, 4] == picture.planes[1][1, 2]
    assert full.planes[2][1, 3] == picture.planes[2][0, 1]
    with pytest.raises(ValueError, match="cannot take"):
        converted(full, "yuv420p")
