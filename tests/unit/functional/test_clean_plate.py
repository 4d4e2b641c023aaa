"""The clean plate: against numpy's median, only where a pixel stays the same, and never from hidden pixels."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.functional.clean_plate import clean_plate, moving_clean_plate


def film(seed: int, n_frames: int) -> tuple[Tensor, Tensor]:
    """A still background with a little noise, and a disc of pixels hidden at random."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.randint(10, 240, (3, 12, 14), generator=generator)
    frames = still + torch.randint(-2, 3, (n_frames, 3, 12, 14), generator=generator)
    hidden = torch.rand(n_frames, 12, 14, generator=generator) < 0.4
    return frames.byte(), hidden


@given(seed=st.integers(0, 100), n_frames=st.integers(1, 16))
def test_it_is_the_median_of_the_visible_frames(seed: int, n_frames: int) -> None:
    frames, hidden = film(seed, n_frames)
    plate, known = clean_plate(frames, hidden)
    assert torch.equal(known, (~hidden).sum(0) >= 3)
    seen = np.where(hidden[:, None].numpy(), np.nan, frames.float().numpy())
    for row, column in known.nonzero().tolist():
        middle = np.nanmedian(seen[..., row, column], axis=0)
        assert (np.abs(plate[:, row, column].numpy() - middle) <= 2.5).all()  # of an even number one of the middle two
    assert not plate[:, ~known].any()


@given(seed=st.integers(0, 100))
def test_hidden_pixels_do_not_matter(seed: int) -> None:
    frames, hidden = film(seed, 9)
    other = torch.where(hidden[:, None], 255 - frames, frames)
    for one, two in zip(clean_plate(frames, hidden), clean_plate(other, hidden), strict=True):
        assert torch.equal(one, two)


def test_what_moves_is_unknown_and_what_passes_by_is_left_out() -> None:
    frames = torch.full((10, 3, 1, 20), 90, dtype=torch.uint8)
    frames[..., 10:] = (torch.arange(10) * 20).byte()[:, None, None, None]  # a light that changes
    for at in range(10):
        frames[at, :, :, at] = 200  # a thing that passes, one pixel a frame
    plate, known = clean_plate(frames, torch.zeros(10, 1, 20, dtype=torch.bool))
    assert known[0].tolist() == [True] * 10 + [False] * 10
    assert (plate[:, 0, :10] == 90).all()


def rippled(width: int, shift: float) -> Tensor:
    """A picture that is known between its pixels, too: waves, seen from a place to the right by some pixels."""
    x = torch.arange(width)[None, :] + shift
    y = torch.arange(60)[:, None]
    waves = torch.stack([torch.sin(x / 3) * torch.cos(y / 4), torch.sin(x / 2.2 + y / 5), torch.cos(x / 4 - y / 3)])
    return 128 + 80 * waves


def panning(step: float = 2.3) -> tuple[Tensor, Tensor, np.ndarray]:
    """Frames of a camera that pans, with a head that stays in the middle of the picture; and the homographies."""
    frames = torch.stack([rippled(120, step * at) for at in range(-8, 9)]).round().byte()
    hidden = torch.zeros(17, 60, 120, dtype=torch.bool)
    hidden[:, 20:40, 50:62] = True
    motion = np.array([[[1, 0, -step * at], [0, 1, 0], [0, 0, 1]] for at in range(-8, 9)], np.float64)
    return torch.where(hidden[:, None], 255, frames), hidden, motion


def test_a_moving_camera_sees_behind_a_head() -> None:
    frames, hidden, motion = panning()
    plate, known = moving_clean_plate(frames, hidden, motion, (-10, 5, 130, 55))
    inside = known[5:-5, 30:110]  # seen well by enough frames
    assert inside.float().mean() > 0.98
    truth = rippled(160, -20.0)[:, 5:55, 10:150]
    error = (plate - truth).abs().amax(0)[5:-5, 30:110]
    assert float(error[inside].mean()) < 2
    assert float(error[inside].max()) < 9  # of waves of 160


def test_hidden_pixels_do_not_matter_to_a_moving_camera() -> None:
    frames, hidden, motion = panning()
    other = torch.where(hidden[:, None], 13, frames)
    one, two = (moving_clean_plate(film, hidden, motion, (0, 0, 120, 60)) for film in (frames, other))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_a_wrong_motion_leaves_texture_unknown() -> None:
    frames, hidden, motion = panning()
    motion[:, 0, 2] *= 0.5
    _, known = moving_clean_plate(frames, hidden, motion, (0, 0, 120, 60))
    assert known.float().mean() < 0.05
    motion[:] = np.nan
    plate, known = moving_clean_plate(frames, hidden, motion, (0, 0, 120, 60))
    assert not known.any()
    assert not plate.any()


def test_a_camera_at_rest_gives_what_the_plain_median_gives() -> None:
    frames, hidden = film(3, 16)
    still = np.broadcast_to(np.eye(3), (16, 3, 3)).copy()
    plain, known = clean_plate(frames, hidden)
    moved, also = moving_clean_plate(frames, hidden, still, (0, 0, 14, 12))
    assert torch.equal(moved[:, also & known], plain[:, also & known]) or not (also & known).any()
