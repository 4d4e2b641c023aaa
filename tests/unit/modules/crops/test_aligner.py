"""Crops show nothing that is hidden, and go back where they came from and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.contracts import PersonMask
from pa_lib.errors import PaLibError
from pa_lib.functional.draws import uniform
from pa_lib.modules.crops.aligner import CropAligner, CropGeometry, Reintegrator

HEIGHT, WIDTH = 40, 56


def random_frames(n_frames: int, *keys: int) -> torch.Tensor:
    return (uniform((n_frames, 3, HEIGHT, WIDTH), *keys) * 256).byte()


def random_mask(frame: int, *keys: int) -> PersonMask:
    y, x, h, w, density = uniform((5,), *keys).tolist()
    top, left = int(y * (HEIGHT - 4)), int(x * (WIDTH - 4))
    rows, columns = 2 + int(h * (HEIGHT - top - 2)), 2 + int(w * (WIDTH - left - 2))
    alpha = uniform((rows, columns), *keys, 1) * (uniform((rows, columns), *keys, 2) < density + 0.05)
    alpha[0, 0] = 1
    return PersonMask(1, frame, top, left, alpha)


def where(masks: list[PersonMask | None]) -> torch.Tensor:
    covered = torch.zeros(len(masks), HEIGHT, WIDTH, dtype=torch.bool)
    for index, mask in enumerate(masks):
        if mask is not None:
            rows, columns = mask.alpha.shape
            covered[index, mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.alpha > 0
    return covered


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999), st.sampled_from([8, 16, 33]), st.floats(1, 2))
def test_crops_do_not_depend_on_what_is_hidden(seed: int, side: int, expansion: float) -> None:
    masks: list[PersonMask | None] = [random_mask(0, seed, 0), None, random_mask(2, seed, 2)]
    others = where([random_mask(0, seed, 3), random_mask(1, seed, 4), None])
    frames, aligner = random_frames(3, seed), CropAligner(side, expansion)
    crops = aligner.align(frames, masks, others)
    hidden = (where(masks) | others)[:, None]
    for other in (torch.zeros_like(frames), torch.full_like(frames, 255), random_frames(3, seed, 9)):
        again = aligner.align(torch.where(hidden, other, frames), masks, others)
        assert torch.equal(again.pixels, crops.pixels)
        assert torch.equal(again.geometry.boxes, crops.geometry.boxes)
    assert crops.pixels.shape == (3, 3, side, side)
    assert crops.own.shape == crops.hidden.shape == (3, 1, side, side)
    assert set(crops.hidden.unique().tolist()) | set(crops.own.unique().tolist()) <= {0.0, 1.0}
    assert (crops.own <= crops.hidden).all()
    assert crops.own[0].any()
    assert not crops.own[1].any()
    assert crops.pixels.min() >= 0
    assert crops.pixels.max() <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.sampled_from([8, 24, 64]), st.sampled_from(["bicubic", "bilinear"]))
def test_pasting_changes_nothing_outside_the_persons_mask(seed: int, side: int, interpolation: Any) -> None:
    masks: list[PersonMask | None] = [random_mask(0, seed, 0), None, random_mask(2, seed, 2)]
    frames = random_frames(3, seed)
    crops = CropAligner(side).align(frames, masks, where(masks))
    pasted = frames.clone()
    white = torch.full_like(crops.pixels, 1.2)
    assert Reintegrator(interpolation).paste(pasted, white, crops.geometry, masks) is pasted
    assert torch.equal(pasted, torch.where(where(masks)[:, None], torch.full_like(frames, 255), frames))


def test_a_frame_is_cut_the_same_whatever_frames_come_with_it() -> None:
    frames, masks = random_frames(4, 1), [random_mask(index, 1, index) for index in range(4)]
    together = CropAligner(16).align(frames, masks, where([*masks]))
    for index in range(4):
        part = slice(index, index + 1)
        alone = CropAligner(16).align(frames[part], masks[part], where([*masks])[part])
        assert torch.equal(alone.pixels, together.pixels[part])
        assert torch.equal(alone.geometry.boxes, together.geometry.boxes[part])


def smooth_frames() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    waves = [torch.sin(x / 9 + k) * torch.cos(y / 11 - k) for k in range(3)]
    return ((torch.stack(waves) * 0.45 + 0.5) * 255).round().byte()[None]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [40, 64, 96])
def test_smooth_content_survives_the_way_there_and_back(side: int, interpolation: Any) -> None:
    frames = smooth_frames()
    mask = PersonMask(1, 0, 10, 20, torch.ones(20, 12))
    nobody = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    geometry = CropAligner(side, 1.5).align(frames, [mask], nobody).geometry
    assert geometry.box(0) == (11, 5, 41, 35)
    # the crop of the same square with nobody hidden: what a perfect network would give back
    cropped = torch.nn.functional.interpolate(
        frames[:, :, 5:35, 11:41].float() / 255, size=(side, side), mode="bilinear", antialias=True
    )
    pasted = Reintegrator(interpolation).paste(torch.zeros_like(frames), cropped, geometry, [mask])
    inside = where([mask])[:, None].expand_as(frames)
    assert (pasted[inside].int() - frames[inside].int()).abs().max() <= 3
    assert not pasted[~inside].any()


def test_a_crop_at_its_own_size_is_a_copy() -> None:
    frames = random_frames(1, 3)
    mask = PersonMask(1, 0, 10, 12, torch.ones(16, 8))
    crops = CropAligner(16, expansion=1.0).align(frames, [mask], torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool))
    assert crops.geometry.boxes.tolist() == [[8, 10, 24, 26]]
    expected = frames[:, :, 10:26, 8:24].float() / 255
    expected[..., 4:12] = 0  # the person is blanked
    torch.testing.assert_close(crops.pixels, expected)
    assert torch.equal(crops.hidden[0, 0, :, 4:12], torch.ones(16, 8))
    assert int(crops.hidden.sum()) == 16 * 8
    source = frames[:, :, 10:26, 8:24].float() / 255
    assert torch.equal(Reintegrator().paste(frames.clone(), source, crops.geometry, [mask]), frames)


def test_beyond_the_frame_it_is_black_and_not_hidden() -> None:
    frames = torch.full((1, 3, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    mask = PersonMask(1, 0, 0, 0, torch.ones(8, 8))
    crops = CropAligner(16, expansion=2.0).align(frames, [mask], torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool))
    assert crops.geometry.boxes.tolist() == [[-4, -4, 12, 12]]
    assert not crops.pixels[..., :4, :].any()
    assert not crops.hidden[..., :4, :].any()
    assert (crops.pixels[..., 12:, 4:] == 1).all()
    pasted = Reintegrator().paste(frames.clone(), torch.zeros(1, 3, 16, 16), crops.geometry, [mask])
    assert int((pasted == 0).sum()) == 3 * 64


def test_several_masks_of_a_person_are_one_person() -> None:
    frames = random_frames(1, 5)
    face, body = PersonMask(1, 0, 2, 10, torch.ones(5, 5), "face"), PersonMask(1, 0, 6, 8, torch.ones(20, 10))
    nobody = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    crops = CropAligner(24, 1.0).align(frames, [[face, body]], nobody)
    assert crops.geometry.boxes.tolist() == [[1, 2, 25, 26]]
    assert int(crops.own.sum()) == 25 + 200 - 5
    pasted = Reintegrator().paste(frames.clone(), torch.zeros(1, 3, 24, 24), crops.geometry, [[face, body]])
    assert not pasted[:, :, 2:7, 10:15].any()
    assert not pasted[:, :, 6:26, 8:18].any()


def test_between_pixels_what_is_painted_glides_with_the_square() -> None:
    # A ramp painted at a square a third of a pixel further right is that ramp a third of a pixel further right.
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    mask = PersonMask(1, 0, 12, 12, torch.ones(6, 6))
    pasted = []
    for shift in (0.0, 1 / 3):
        square = torch.tensor([[8.0 + shift, 8.0, 24.0 + shift, 24.0]])
        frames = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
        pasted.append(Reintegrator().paste(frames, ramp, CropGeometry(square), [mask])[0, 0, 12:18, 12:18].float())
    per_px = 255 * 0.6 / 31 * 2
    torch.testing.assert_close(pasted[0] - pasted[1], torch.full((6, 6), per_px / 3), rtol=0, atol=1.0)


def test_values_are_rounded_and_clamped() -> None:
    frames = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    mask = PersonMask(1, 0, 0, 0, torch.ones(2, 2))
    geometry = CropGeometry(torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    pixels = torch.tensor([[[-0.5, 1.5], [100.4 / 255, 100.6 / 255]]] * 3)[None]
    pasted = Reintegrator("bilinear").paste(frames, pixels, geometry, [mask])
    assert pasted[0, 0, :2, :2].tolist() == [[0, 255], [100, 101]]


NOBODY = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
MASK = PersonMask(1, 0, 4, 4, torch.ones(6, 6))
SQUARE = torch.tensor([[4.0, 4.0, 10.0, 10.0]] * 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CropAligner(side=0), PaLibError, "side"),
        (lambda: CropAligner(expansion=0.9), PaLibError, "expansion"),
        (lambda: CropAligner(expansion=math.nan), PaLibError, "expansion"),
        (lambda: CropAligner(temporal_smoothing=-1), PaLibError, "temporal_smoothing"),
        pytest.param(
            lambda: Reintegrator("nearest"),  # type: ignore[arg-type]
            PaLibError,
            "unknown interpolation",
            marks=pytest.mark.wrong_types,
        ),
        (lambda: CropAligner().align(random_frames(2, 1), [None, []], NOBODY), PaLibError, "in none of 2 frames"),
        (lambda: CropAligner().align(random_frames(2, 1), [MASK], NOBODY), ValueError, "masks for 1 frames"),
        pytest.param(
            lambda: CropAligner().align(random_frames(2, 1), [MASK] * 2, NOBODY[:1]),
            ValueError,
            "hidden pixels",
            marks=pytest.mark.wrong_types,
        ),
        (
            lambda: CropAligner().align(random_frames(2, 1), [PersonMask(3, 0, 38, 0, torch.ones(6, 6)), None], NOBODY),
            ValueError,
            "mask of person 3 reaches beyond its frame",
        ),
        (
            lambda: Reintegrator().paste(
                random_frames(2, 1), torch.full((2, 3, 8, 8), math.nan), CropGeometry(SQUARE), [MASK] * 2
            ),
            ValueError,
            "NaN",
        ),
        pytest.param(
            lambda: Reintegrator().paste(random_frames(2, 1), torch.ones(1, 3, 8, 8), CropGeometry(SQUARE), [MASK] * 2),
            ValueError,
            "1 crops",
            marks=pytest.mark.wrong_types,
        ),
        (
            lambda: Reintegrator().paste(
                random_frames(2, 1), torch.ones(2, 3, 8, 8), CropGeometry(SQUARE + 1), [MASK] * 2
            ),
            ValueError,
            "does not hold its person's mask",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@given(left=st.integers(0, 20), top=st.integers(0, 20), side=st.sampled_from([16, 32]))
def test_beyond_the_frame_is_where_a_white_frame_is_not_white(left: int, top: int, side: int) -> None:
    frames = torch.full((1, 3, 30, 30), 255, dtype=torch.uint8)
    mask = PersonMask(1, 0, top, left, torch.ones(10, 10))
    crops = CropAligner(side=side, expansion=2.0).align(frames, [mask], torch.zeros(1, 30, 30, dtype=torch.bool))
    beyond = crops.beyond(30, 30)
    visible = crops.hidden == 0
    assert torch.equal(beyond[visible], (crops.pixels[:, :1] < 0.999).float()[visible])
