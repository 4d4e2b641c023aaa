"""A system on clips of a data module, as videos would be anonymized."""

from __future__ import annotations

import torch

from pa_lib.contracts import Batch, Clip, ClipMasks
from pa_lib.evaluation.clips import module_results, sightings
from pa_lib.modules import AbstractAnonymizer, ConventionalAnonymizer


def batch() -> Batch:
    frames = torch.rand(2, 5, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 5, 1, 12, 16)
    masks[:, :, :, 2:8, 4:11] = 1
    masks[1, 3] = 0  # nobody there
    masks[0, 0, 0, 2, 4:11] = 0.5
    return Batch(frames, masks, torch.tensor([7, 9]), torch.tensor([3, -1]))


class Counting(AbstractAnonymizer):
    window_frames = 2
    is_non_interfering = True

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, set[int], int]] = []

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        people = {mask.person_id for mask in masks.people}
        self.seen.append((clip.first_frame, len(clip.frames), people, seed))
        return Clip(torch.full_like(clip.frames, 200), clip.first_frame, clip.fps)


def test_only_what_is_masked_changes_and_edges_are_blended() -> None:
    (result,) = module_results(ConventionalAnonymizer("fill", color=(0, 0, 0)), [batch()])
    assert result.source.dtype == torch.uint8
    same = (result.source == result.anonymized).all(2, keepdim=True)
    assert bool(same[result.masks == 0].all())
    assert int(result.anonymized[:, :, :, 3:8, 4:11][0].max()) == 0
    half = result.anonymized[0, 0, :, 2, 4:11].int() - result.source[0, 0, :, 2, 4:11].int().div(2).int()
    assert int(half.abs().max()) <= 1
    assert result.clip_ids.tolist() == [7, 9]


def test_the_system_sees_windows_of_its_length_and_each_clip_as_somebody() -> None:
    system = Counting()
    list(module_results(system, [batch()], seed=4))
    assert system.seen == [
        (0, 2, {8}, 4),
        (2, 2, {8}, 4),
        (4, 1, {8}, 4),
        (0, 2, {10}, 4),
        (2, 2, {10}, 4),
        (4, 1, {10}, 4),
    ]


def test_sightings_are_the_masks_extents() -> None:
    told = sightings(batch(), batch().masks, "face")
    assert len(told) == 9
    assert {(one.clip, one.person_id) for one in told} == {(0, 3), (1, 9)}  # unknown people by their clip
    assert {one.box for one in told} == {(4.0, 2.0, 11.0, 8.0)}
    assert (1, 3) not in {(one.clip, one.frame) for one in told}
    assert all(one.kind == "face" for one in told)
