from __future__ import annotations

import torch

from _attacks import SIDE, photos
from pa_lib.modules import Anonymized, Photos
from pa_lib.modules.attackers.chips import hidden_chips, hidden_part, near_duplicates, original_chips


def _seen(masks: torch.Tensor | None = None) -> Anonymized:
    made = photos(2, 1)
    made = Photos(made.frames, made.masks if masks is None else masks, made.people, made.landmarks)
    return Anonymized(made, made.frames, torch.arange(2))


class TestHiddenChips:
    def test_shows_nothing_from_outside_the_mask(self) -> None:
        masks = torch.zeros(2, 1, SIDE, SIDE)
        masks[:, :, :24] = 1
        seen = _seen(masks)
        outside = torch.where(masks.bool(), seen.frames, torch.randint(0, 256, (2, 3, SIDE, SIDE)).byte())
        other = Anonymized(seen.photos, outside, seen.photo)
        rows = torch.arange(2)
        # The row of pixels at the mask's edge is a mixture, and left out.
        assert torch.equal(hidden_chips(seen, rows, 30), hidden_chips(other, rows, 30))
        assert not torch.equal(
            hidden_chips(seen, rows, 30, is_masked=False), hidden_chips(other, rows, 30, is_masked=False)
        )
        part = hidden_part(seen, rows, 30)
        assert 0 < part.float().mean() < 0.6
        assert (hidden_chips(seen, rows, 30)[~part.expand(-1, 3, -1, -1)] == 128).all()

    def test_full_mask_shows_the_disc(self) -> None:
        part = hidden_part(_seen(), torch.arange(2), 40)
        assert torch.equal(part[0], part[1])
        assert abs(float(part.float().mean()) - 0.97**2 * torch.pi / 4) < 0.02

    def test_landmarks_come_to_their_places(self) -> None:
        seen = _seen()
        frames = torch.zeros_like(seen.frames)
        for x, y in seen.photos.landmarks[0].long().tolist()[:2]:
            frames[:, :, y - 1 : y + 2, x - 1 : x + 2] = 255
        made = Photos(frames, seen.photos.masks, seen.photos.people, seen.photos.landmarks)
        chip = original_chips(Anonymized(made, frames, torch.arange(2)), torch.tensor([0]), 50)[0, 0].float()
        left, right = chip[:, :25], chip[:, 25:]
        for half, offset, expected in ((left, 0, 48.9 / 3), (right, 25, 102.0 / 3)):
            row, column = divmod(int(half.argmax()), 25)
            assert abs(column + offset - expected) < 2.5
            assert abs(row - 45.7 / 3) < 2.5


class TestNearDuplicates:
    def test_finds_the_same_picture_in_another_light(self) -> None:
        torch.manual_seed(0)
        pictures = torch.randint(0, 200, (3, 3, 8, 8)).byte()
        pictures[1] = pictures[0] + 40
        told = near_duplicates(pictures, torch.tensor([0, 2]), [torch.tensor([1]), torch.tensor([0, 1])])
        assert told.tolist() == [True, False]
