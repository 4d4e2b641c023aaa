"""The background that other frames show: where it goes, where it does not, and at any resolution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pa_lib.contracts import HeadPose, PersonMask
from pa_lib.modules.crops.aligner import CropAligner, Crops
from pa_lib.modules.reference.background import BackgroundPlate
from pa_lib.modules.reference.base import Surroundings

HEIGHT, WIDTH, N = 60, 160, 12


def wall() -> Tensor:
    """A wall with stripes of 4 px."""
    return (60 + 80 * (torch.arange(WIDTH) // 4 % 2)).byte().expand(N, 3, HEIGHT, WIDTH).clone()


def walking(step: int) -> tuple[list[PersonMask], Tensor]:
    """Masks of a head of 20 px that goes to the right, and all hidden pixels."""
    masks = [PersonMask(1, at, 20, 10 + step * at, torch.ones(20, 20), "face") for at in range(N)]
    hidden = torch.zeros(N, HEIGHT, WIDTH, dtype=torch.bool)
    for at, mask in enumerate(masks):
        hidden[at, 20:40, mask.left : mask.left + 20] = True
    return masks, hidden


def plate_of(
    frames: Tensor, masks: list[PersonMask], hidden: Tensor, side: int = 32, poses: list[HeadPose | None] | None = None
) -> tuple[BackgroundPlate, Crops]:
    crops = CropAligner(side, 1.6).align(frames, masks, hidden)
    return BackgroundPlate(crops, Surroundings(frames, hidden, range(N)), poses or [None] * N), crops


def test_a_person_who_passes_leaves_the_wall_as_it_is() -> None:
    frames = wall()
    masks, hidden = walking(10)
    person = torch.where(hidden[:, None], torch.full_like(frames, 255), frames)
    plate, _ = plate_of(person, masks, hidden)
    for at in (0, 5, N - 1):
        left = masks[at].left
        picture = plate.picture(at, (left, 20, left + 20, 40), 20, 20)
        assert float(picture[3].min()) > 0.95
        shown = picture[:3] / picture[3:]
        torch.testing.assert_close(shown, frames[at, :, 20:40, left : left + 20].float() / 255, atol=0.02, rtol=0)


def test_what_no_frame_shows_goes_on_and_is_the_same_in_all_frames() -> None:
    frames = wall()
    masks, hidden = walking(0)
    hidden[:, 20:40, 10:30] = True
    plate, _ = plate_of(torch.where(hidden[:, None], 255, frames), masks, hidden)
    first, last = (plate.picture(at, (10, 20, 30, 40), 20, 20) for at in (0, N - 1))
    assert float(first[3].min()) > 0.95
    assert torch.equal(first, last)
    error = (first[:3] / first[3:] - frames[0, :, 20:40, 10:30].float() / 255).abs()
    assert float(error.mean()) < 0.03  # stripes differ by 0.31: a smooth fill misses by half of it


def test_what_is_completed_is_not_shown_beside_what_contradicts_it() -> None:
    frames = wall()
    masks, hidden = walking(0)
    hidden[:, 20:40, 10:30] = True
    frames[0, :, 20:40, 24:30] = 250  # uncovered in a single frame, so it is not known, but it is seen there
    masks[0] = PersonMask(1, 0, 20, 10, torch.ones(20, 14), "face")
    hidden[0, 20:40, 24:30] = False
    plate, _ = plate_of(frames, masks, hidden)
    first, last = (plate.picture(at, (18, 20, 24, 40), 20, 6)[3] for at in (0, N - 1))
    assert float(first[4:-4, -2:].mean()) < 0.3
    assert float(last.min()) > 0.9


def test_the_background_is_not_completed_from_a_body_that_stands_still() -> None:
    frames = wall()
    frames[:, :, 34:] = torch.tensor([30, 30, 120]).byte().view(3, 1, 1)  # a shirt, as still as the wall
    masks, hidden = walking(0)
    hidden[:, 20:40, 10:30] = True
    shirt = torch.tensor([30, 30, 120]).view(3, 1, 1) / 255

    def n_shirt(poses: list[HeadPose | None] | None) -> int:
        plate, _ = plate_of(torch.where(hidden[:, None], 255, frames), masks, hidden, poses=poses)
        picture = plate.picture(0, (10, 20, 30, 40), 20, 20)
        color = picture[:3] / picture[3:].clamp(min=0.1)
        return int(((color - shirt).abs().amax(0) < 0.1).logical_and(picture[3] > 0.5).sum())

    assert n_shirt(None) > 0
    assert n_shirt([HeadPose(20.0, 24.0, 5.0)] * N) == 0


def test_where_nothing_stays_the_same_nothing_is_known() -> None:
    masks, hidden = walking(0)
    water = torch.randint(0, 256, (N, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)).byte()
    plate, _ = plate_of(water, masks, hidden)
    assert float(plate.picture(3, (10, 20, 30, 40), 20, 20)[3].max()) == 0


def test_what_moves_beside_the_head_is_not_the_background() -> None:
    frames = wall()
    masks, hidden = walking(0)
    frames[:, :, 36:, :] = torch.randint(0, 256, (N, 3, HEIGHT - 36, WIDTH), generator=torch.Generator().manual_seed(1))
    plate, _ = plate_of(frames, masks, hidden)
    alpha = plate.picture(3, (10, 20, 30, 40), 20, 20)[3]
    assert float(alpha[:5].mean()) > 0.9
    assert float(alpha[-4:].mean()) < 0.3


def test_what_is_behind_a_shoulder_stays_out_of_the_picture() -> None:
    frames = wall()
    masks, hidden = walking(10)
    for at, mask in enumerate(masks):  # a body below the head goes with it
        frames[at, :, 34:, max(mask.left - 6, 0) : mask.left + 26] = torch.tensor([200, 40, 40]).byte().view(3, 1, 1)
    plate, _ = plate_of(frames, masks, hidden)
    left = masks[6].left
    alpha = plate.picture(6, (left, 20, left + 20, 40), 20, 20)[3]
    assert float(alpha[:5].mean()) > 0.9
    assert float(alpha[-4:].mean()) < 0.3


def test_light_that_changes_leaves_no_edge() -> None:
    frames = wall()
    masks, hidden = walking(10)
    frames[6] = (frames[6].float() + 10).byte()  # the camera opens up a little
    plate, _ = plate_of(frames, masks, hidden)
    left = masks[6].left
    picture = plate.picture(6, (left, 20, left + 20, 40), 20, 20)
    shown = picture[:3] / picture[3:].clamp(min=0.1)
    error = (shown - frames[6, :, 20:40, left : left + 20].float() / 255).abs()
    assert float(error.mean()) < 0.012  # without it 10 / 255 = 0.039


def test_hidden_pixels_do_not_matter() -> None:
    masks, hidden = walking(7)
    one = wall()
    two = torch.where(hidden[:, None], 255 - one, one)
    first, second = (plate_of(frames, masks, hidden)[0] for frames in (one, two))
    assert torch.equal(first.grid, second.grid)
    box = (float(masks[4].left), 20.0, masks[4].left + 20.0, 40.0)
    assert torch.equal(first.picture(4, box, 20, 20), second.picture(4, box, 20, 20))


def test_a_camera_that_pans_shows_what_is_behind_a_head_that_goes_along() -> None:
    masks = [PersonMask(1, at, 20, 60, torch.ones(20, 20), "face") for at in range(N)]
    hidden = torch.zeros(N, HEIGHT, WIDTH, dtype=torch.bool)
    hidden[:, 20:40, 60:80] = True
    wide = 128 + 60 * torch.sin(torch.arange(WIDTH + 3 * N) / 2.5) * torch.cos(torch.arange(HEIGHT) / 3.0)[:, None]
    truth = torch.stack([wide[:, 3 * at : 3 * at + WIDTH] for at in range(N)]).round().byte()
    truth = truth[:, None].repeat(1, 3, 1, 1)
    frames = torch.where(hidden[:, None], 255, truth)
    motion = np.array([[[1.0, 0, 3 * (N // 2 - at)], [0, 1, 0], [0, 0, 1]] for at in range(N)])
    crops = CropAligner(64, 1.6).align(frames, masks, hidden)
    nowhere = [None] * N
    moving, still = (
        BackgroundPlate(crops, Surroundings(frames, hidden, range(N), 0, one), nowhere) for one in (motion, None)
    )
    for at in (0, 4, N - 1):
        box = (60.0, 20.0, 80.0, 40.0)
        picture = moving.picture(at, box, 20, 20)
        assert float(picture[3].min()) > 0.9
        shown = picture[:3] / picture[3:]
        torch.testing.assert_close(shown, truth[at, :, 20:40, 60:80].float() / 255, atol=0.04, rtol=0)
        assert float(still.picture(at, box, 20, 20)[3].mean()) < 0.1
