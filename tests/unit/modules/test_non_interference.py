"""The check tells systems that look at hidden pixels from those that do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pa_lib.contracts import Clip, ClipMasks, PersonMask
from pa_lib.functional.draws import uniform
from pa_lib.modules.non_interference import interference
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.modules.systems.conventional.system import ConventionalAnonymizer

FRAMES = (uniform((3, 3, 24, 32), 1) * 256).byte()
CLIP = Clip(FRAMES, first_frame=4)
MASKS = ClipMasks(
    (
        PersonMask(1, 0, 4, 5, torch.ones(10, 8)),
        PersonMask(2, 0, 8, 9, torch.full((9, 9), 0.4)),
        PersonMask(1, 2, 0, 20, torch.ones(6, 12)),
    ),
    n_frames=3,
    height=24,
    width=32,
)


@pytest.mark.parametrize("method", ["fill", "noise", "blur", "mosaic"])
def test_conventional_systems_are_what_they_claim(method: Any) -> None:
    system = ConventionalAnonymizer(method)
    before = FRAMES.clone()
    found = interference(system, CLIP, MASKS)
    assert (found == 0) == system.is_non_interfering
    assert torch.equal(FRAMES, before)


class Peeking(AbstractAnonymizer):
    """Fills with black, but one value of one pixel under a soft mask tells one bit of one hidden pixel."""

    window_frames = 3
    is_non_interfering = True

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        frames = torch.zeros_like(clip.frames)
        frames[0, 2, 16, 17] = clip.frames[2, 0, 0, 20] // 128
        return Clip(frames, clip.first_frame, clip.fps)


def test_a_single_bit_is_found_even_under_a_soft_mask() -> None:
    assert interference(Peeking(), CLIP, MASKS, trials=0) == 1


class Outside(AbstractAnonymizer):
    """What it does outside of the masks is nobody's business: the caller does not use it."""

    window_frames = 1
    is_non_interfering = True

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        hidden = torch.stack([masks.union(frame) > 0 for frame in range(masks.n_frames)])[:, None]
        mean = clip.frames.float().mean().byte()
        return Clip(torch.where(hidden, torch.zeros_like(clip.frames), mean), clip.first_frame, clip.fps)


def test_only_what_lies_under_the_masks_counts() -> None:
    assert interference(Outside(), CLIP, MASKS) == 0


def test_nobody_hidden_leaves_nothing_to_find() -> None:
    assert interference(ConventionalAnonymizer("blur"), CLIP, ClipMasks((), 3, 24, 32)) == 0
