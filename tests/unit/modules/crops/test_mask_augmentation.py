"""Augmented masks cover at least what they covered, alike in every frame of a clip."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import uniform
from pa_lib.modules.crops.mask_augmentation import MaskAugmentation

SHARES = st.floats(0, 1)


@settings(deadline=None, max_examples=60)
@given(SHARES, SHARES, SHARES, st.integers(0, 99), st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_masks_never_shrink_and_stay_masks(
    dilation: float, box: float, jitter: float, seed: int, density: float
) -> None:
    masks = uniform((2, 3, 1, 9, 12), seed)
    masks = torch.where(uniform(masks.shape, seed, 1) < density, masks, 0.0)
    before = masks.clone()
    changed = MaskAugmentation(dilation, box, jitter=jitter)(masks, [(seed, 0), (seed, 1)])
    assert torch.equal(masks, before)
    assert changed.shape == masks.shape
    assert (changed >= masks).all()
    assert changed.max() <= 1
    assert not changed[:, :, :, :, :][masks.amax((3, 4), keepdim=True).expand(masks.shape) == 0].any()


def test_a_clips_draw_depends_on_its_keys_alone() -> None:
    masks = (uniform((4, 2, 1, 32, 32), 1) < 0.01).float()
    keys = [(5, clip) for clip in range(4)]
    augmentation = MaskAugmentation(0.3, 0.5, jitter=0.2)
    together = augmentation(masks, keys)
    for index in range(4):
        assert torch.equal(together[index : index + 1], augmentation(masks[index : index + 1], keys[index : index + 1]))


def test_growth_is_a_square_of_at_most_the_share_the_same_in_every_frame_and_of_every_size() -> None:
    masks = torch.zeros(60, 2, 1, 40, 50)
    masks[:, 0, 0, 20, 10] = masks[:, 1, 0, 15, 40] = 1
    grown = MaskAugmentation(0.1, 0.0)(masks, [(0, clip) for clip in range(60)])
    seen = set()
    for clip, before in zip(grown, masks, strict=True):
        reach = round((float(clip[0].sum()) ** 0.5 - 1) / 2)
        for frame in range(2):
            kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
            assert np.array_equal(clip[frame, 0].numpy(), cv2.dilate(before[frame, 0].numpy(), kernel))
        seen.add(reach)
    assert seen == {0, 1, 2, 3, 4}


def test_boxes_hold_each_frames_mask_tightly() -> None:
    masks = torch.zeros(1, 3, 1, 8, 8)
    masks[0, 0, 0, 2, 3] = masks[0, 0, 0, 5, 1] = 1
    masks[0, 1, 0, 7, 7] = 0.2
    boxes = MaskAugmentation(box_probability=1)(masks, [(0,)])
    expected = torch.zeros_like(masks)
    expected[0, 0, 0, 2:6, 1:4] = 1
    expected[0, 1, 0, 7, 7] = 1
    assert torch.equal(boxes, expected)


def test_boxes_come_as_often_as_asked() -> None:
    masks = torch.zeros(400, 1, 1, 6, 6)
    masks[..., 0, 0] = masks[..., 3, 3] = 1
    boxes = MaskAugmentation(0, 0.2)(masks, [(1, clip) for clip in range(400)])
    share = float((boxes.sum((1, 2, 3, 4)) == 16).float().mean())
    assert share == pytest.approx(0.2, abs=5 * (0.16 / 400) ** 0.5)


def test_a_body_is_hidden_below_the_head_down_to_the_frames_end() -> None:
    masks = torch.zeros(300, 2, 1, 20, 40)
    masks[:, 0, 0, 2:12, 16:24] = 1  # a head 8 px wide and 10 px high: its body begins 7 px below its top
    changed = MaskAugmentation(0, 0, body_probability=0.3)(masks, [(3, clip) for clip in range(300)])
    assert torch.equal(changed[:, 1], masks[:, 1])  # nobody there: no body
    assert torch.equal(changed[:, 0, 0, :9], masks[:, 0, 0, :9])
    is_body = changed[:, 0, 0, 19].any(-1)
    assert float(is_body.float().mean()) == pytest.approx(0.3, abs=5 * (0.21 / 300) ** 0.5)
    bodies = changed[is_body, 0, 0, 9:]
    assert torch.equal(bodies, bodies[:, :1].expand_as(bodies))
    assert torch.equal(bodies, bodies.flip(-1))  # in the middle of the frame, as the head is
    widths = bodies[:, 0].sum(-1)
    assert (widths >= 8).all()
    assert (widths <= 20).all()
    assert widths.unique().numel() > 4


def test_every_side_of_every_frame_jitters_by_itself() -> None:
    masks = torch.zeros(40, 4, 1, 40, 50)
    masks[..., 15:25, 20:27] = 1
    jittered = MaskAugmentation(0, 0, jitter=0.05)(masks, [(7, clip) for clip in range(40)])  # up to 2 of 40 px
    moved = []
    for mask in jittered.reshape(160, 40, 50):
        rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
        assert mask.sum() == len(rows) * len(columns)
        moved.append([15 - rows[0], rows[-1] - 24, 20 - columns[0], columns[-1] - 26])
    out = torch.tensor(moved, dtype=torch.float64)
    assert set(out.flatten().tolist()) == {0, 1, 2}
    # Uniform and independent: means of 1, and no correlation between sides nor between frames that follow each other.
    assert (out.mean(0) - 1).abs().max() < 0.3
    assert (torch.corrcoef(out.T) - torch.eye(4)).abs().max() < 0.3
    assert abs(float(np.corrcoef(out[:-1].flatten().numpy(), out[1:].flatten().numpy())[0, 1])) < 0.2


def test_senseless_settings_and_missing_keys_are_refused() -> None:
    with pytest.raises(PaLibError, match="max_dilation"):
        MaskAugmentation(max_dilation=-0.1)
    with pytest.raises(PaLibError, match="box_probability"):
        MaskAugmentation(box_probability=1.5)
    with pytest.raises(PaLibError, match="body_probability"):
        MaskAugmentation(body_probability=-1)
    with pytest.raises(PaLibError, match="jitter of the mask augmentation is 2"):
        MaskAugmentation(jitter=2)
    with pytest.raises(ValueError, match="1 keys were given for 2 clips"):
        MaskAugmentation()(torch.zeros(2, 1, 1, 4, 4), [(0,)])
