"""The clean plate: against numpy's median, only where a pixel stays the same, and never from hidden pixels."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.functional.clean_plate import clean_plate


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
