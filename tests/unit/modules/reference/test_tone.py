"""Black and skin that a reference lacks, from scenes whose black and skin are known."""

from __future__ import annotations

import pytest
import torch
from kornia.color import rgb_to_lab
from torch import Tensor

from pa_lib.contracts import HeadPose, PersonMask
from pa_lib.modules import CropAligner, DoublesReference, NoLight, PersonInCrops
from pa_lib.modules.reference.base import Surroundings
from pa_lib.modules.reference.tone import Tone, missing_tone

HEIGHT, WIDTH, SCALE = 220, 200, 12.0
X, Y = 100.0, 60.0
SKIN, BLACK = (0.60, 0.45, 0.38), (0.06, 0.05, 0.05)
WALL = (0.45, 0.50, 0.55)


def painted(color: tuple[float, ...]) -> Tensor:
    return torch.tensor(color)[:, None, None]


def film(skin: tuple[float, ...] | None, black: tuple[float, ...] | None, wall: tuple[float, ...] = WALL) -> Tensor:
    """A wall, a neck and two arms of one skin, and a shirt of one black; shape 3 h w."""
    frame = painted(wall).expand(3, HEIGHT, WIDTH).clone()
    if black is not None:
        frame[:, 110:, 60:140] = painted(black)
    if skin is not None:
        frame[:, 84:110, 92:108] = painted(skin)
        for left in (60, 125):
            frame[:, 130:200, left : left + 15] = painted(skin)
    return frame


def head(skin: tuple[float, ...], black: tuple[float, ...]) -> Tensor:
    """Hair above a face, on the grid of a crop: color times alpha, and alpha; shape 4 s s."""
    picture = torch.zeros(4, 64, 64)
    picture[:3, 8:56, 8:56] = painted(skin)
    picture[:3, 8:20, 8:56] = painted(black)
    picture[3, 8:56, 8:56] = 1
    return picture


def person(*frames: Tensor) -> PersonInCrops:
    clip = (torch.stack(frames) * 255).round().byte()
    masks = [PersonMask(1, at, 30, 74, torch.ones(60, 52), "face") for at in range(len(clip))]
    hidden = torch.zeros(len(clip), HEIGHT, WIDTH, dtype=torch.bool)
    hidden[:, 30:90, 74:126] = True
    crops = CropAligner(64, 1.4).align(clip, masks, hidden)
    rows = [*range(len(clip))]
    poses: list[HeadPose | None] = [HeadPose(X, Y, SCALE)] * len(clip)
    return PersonInCrops(1, 5, poses, crops, around=Surroundings(clip, hidden, rows))


def toned(
    frame: Tensor,
    lit: tuple[tuple[float, ...], tuple[float, ...]],
    own: tuple[tuple[float, ...], tuple[float, ...]] = ((0.62, 0.47, 0.4), (0.02, 0.02, 0.02)),
) -> tuple[Tensor, Tensor]:
    """Skin and black after the change."""
    tone = missing_tone(person(frame), head(*own)[None], head(*lit)[None], 0.0)
    skin, black = tone(torch.tensor(lit).T.view(1, 3, 1, 2))[0, :, 0].T
    return skin, black


def lab(color: Tensor) -> Tensor:
    return rgb_to_lab(color.view(1, 3, 1, 1)).view(3)


def test_levels_that_agree_stay() -> None:
    skin, black = toned(film(SKIN, BLACK), (SKIN, BLACK))
    torch.testing.assert_close(skin, torch.tensor(SKIN), atol=4e-3, rtol=0)
    torch.testing.assert_close(black, torch.tensor(BLACK), atol=4e-3, rtol=0)


def test_haze_is_the_floor_and_skin_stays() -> None:
    haze = (0.18, 0.17, 0.18)
    skin, black = toned(film(None, haze), (SKIN, BLACK))
    torch.testing.assert_close(skin, torch.tensor(SKIN), atol=1e-5, rtol=0)
    torch.testing.assert_close(black, torch.tensor(haze), atol=4e-3, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.03, 0.1, 0.2])
def test_nothing_is_darker_than_the_floor(level: float) -> None:
    """Also where the skin is dark: then black is at most half of it."""
    for lit_skin in (SKIN, (0.3, 0.22, 0.18)):
        skin, black = toned(film(lit_skin, (level,) * 3), (lit_skin, (0.01, 0.02, 0.0)))
        floor = torch.minimum(torch.full((3,), level), 0.5 * skin)
        assert (black >= floor - 4e-3).all()


def test_a_light_that_lifted_without_a_haze_is_taken_back() -> None:
    """Down to the black that the reference has in its own light, dimmed as its skin is, and not below the scene's."""
    lifted = (0.15, 0.15, 0.15)
    own = ((0.6, 0.6, 0.6), (0.1, 0.1, 0.1))
    grey = (0.3, 0.3, 0.3)
    _, black = toned(film(None, (0.0, 0.0, 0.0)), (grey, lifted), own)
    torch.testing.assert_close(black, torch.full((3,), 0.05), atol=4e-3, rtol=0)
    _, black = toned(film(None, (0.08, 0.08, 0.08)), (grey, lifted), own)
    torch.testing.assert_close(black, torch.full((3,), 0.08), atol=4e-3, rtol=0)


def test_where_nothing_dark_is_seen_there_is_no_haze_without_end() -> None:
    _, black = toned(film(None, None, (0.9, 0.9, 0.9)), (SKIN, BLACK))
    assert float(black.max()) <= 0.25 + 1e-4


def test_a_dark_shirt_of_a_color_tints_no_hair() -> None:
    _, black = toned(film(None, (0.05, 0.05, 0.24)), (SKIN, BLACK))
    assert float(black.max()) < 0.07


@pytest.mark.parametrize(("seen", "darker"), [((0.75, 0.58, 0.5), 1.0), ((0.42, 0.31, 0.26), 0.6)])
def test_skin_comes_near_to_visible_skin(seen: tuple[float, ...], darker: float) -> None:
    """By one share in Lab, but less far where visible skin is darker, which may be in the shade."""
    skin, _ = toned(film(seen, BLACK), (SKIN, BLACK))
    whole, done = lab(torch.tensor(seen)) - lab(torch.tensor(SKIN)), lab(skin) - lab(torch.tensor(SKIN))
    expected = whole * torch.tensor([darker, 1.0, 1.0])
    share = float((done @ expected) / (expected @ expected))
    assert 0.7 < share <= 0.8
    torch.testing.assert_close(done, share * expected, atol=0.5, rtol=0)


def test_what_is_not_skin_moves_nothing() -> None:
    """Nor does a red cloth where the arms are."""
    for cloth in ((0.8, 0.05, 0.1), (0.2, 0.4, 0.8), (0.5, 0.5, 0.5)):
        skin, _ = toned(film(cloth, BLACK), (SKIN, BLACK))
        assert float((lab(skin) - lab(torch.tensor(SKIN))).norm()) < 1


def test_little_skin_is_believed_less() -> None:
    seen = (0.42, 0.31, 0.26)
    frame = film(None, BLACK)
    frame[:, 92:94, 96:104] = painted(seen)
    little, _ = toned(frame, (SKIN, BLACK))
    much, _ = toned(film(seen, BLACK), (SKIN, BLACK))
    full = torch.tensor(SKIN)
    assert 0 < float((lab(full) - lab(little)).norm()) < 0.75 * float((lab(full) - lab(much)).norm())


def test_hidden_pixels_say_nothing() -> None:
    frame = film((0.42, 0.31, 0.26), (0.1, 0.1, 0.1))
    other = frame.clone()
    other[:, 30:90, 74:126] = torch.rand(3, 60, 52, generator=torch.Generator().manual_seed(3))
    given = head((0.62, 0.47, 0.4), (0.02, 0.02, 0.02))[None], head(SKIN, BLACK)[None]
    one, two = (missing_tone(person(each), *given, 6.0) for each in (frame, other))
    assert torch.equal(one.gain, two.gain)
    assert torch.equal(one.offset, two.offset)
    assert not torch.equal(one.gain, torch.ones(1, 3))


def test_a_head_without_contrast_is_moved_only() -> None:
    flat = ((0.5, 0.4, 0.35),) * 2
    tone = missing_tone(person(film(SKIN, BLACK)), head(*flat)[None], head(*flat)[None], 0.0)
    assert torch.equal(tone.gain, torch.ones(1, 3))


def test_tones_do_not_flicker_and_follow_what_fades() -> None:
    n = 12
    own, lit = (head(skin, black).expand(n, -1, -1, -1) for skin, black in (((0.62, 0.47, 0.4), BLACK), (SKIN, BLACK)))
    jumping = person(*(film(None, (0.06 + 0.12 * (at // 3 % 2),) * 3) for at in range(n)))
    rough, smooth = (missing_tone(jumping, own, lit, sigma).offset.diff(dim=0).abs().mean() for sigma in (0.0, 6.0))
    assert float(smooth) < 0.25 * float(rough)
    fading = person(*(film(None, (0.08 + 0.008 * at,) * 3) for at in range(n)))
    every, some = (missing_tone(fading, own, lit, sigma) for sigma in (0.0, 6.0))
    torch.testing.assert_close(some.offset, every.offset, atol=6e-3, rtol=0)


def test_frames_without_a_pose_and_people_without_surroundings_keep_their_tone() -> None:
    given = person(film(SKIN, (0.2, 0.2, 0.2)), film(SKIN, (0.2, 0.2, 0.2)))
    pictures = head(SKIN, BLACK).expand(2, -1, -1, -1), head(SKIN, BLACK).expand(2, -1, -1, -1)
    alone = PersonInCrops(1, 5, given.poses, given.crops)
    colors = torch.rand(2, 3, 4, 4)
    assert torch.equal(missing_tone(alone, *pictures, 6.0)(colors), colors)
    lost = PersonInCrops(1, 5, [None, given.poses[1]], given.crops, around=given.around)
    tone = missing_tone(lost, *pictures, 6.0)
    assert torch.equal(tone(colors)[:1], colors[:1])
    assert not torch.equal(tone(colors)[1:], colors[1:])
    torch.testing.assert_close(tone(colors[1:], 1), tone(colors)[1:])


def test_tones_mix() -> None:
    """Halfway between two of them lies a tone between the two, where nothing is limited."""
    numbers = torch.tensor([[1.2, 1.0, 0.8], [0.6, 0.8, 1.0]])
    both = Tone(numbers, 0.1 * numbers)
    middle = Tone(numbers.mean(0, keepdim=True), 0.1 * numbers.mean(0, keepdim=True))
    colors = 0.2 + 0.4 * torch.rand(1, 3, 4, 4)
    expected = (both(colors, 0) + both(colors, 1)) / 2
    torch.testing.assert_close(middle(colors), expected)


def test_a_double_in_full_has_the_tone_of_its_grid() -> None:
    class Portrait:
        """A casting of one picture."""

        def names_of(self, people: object, seed: int, wishes: object) -> dict[int, str]:
            return {1: "one"}

        def yaws(self, name: str) -> list[float]:
            return [0.0]

        def render(self, name: str, yaw: float, pose: HeadPose, box: object, side: int) -> Tensor:
            return torch.nn.functional.interpolate(head(SKIN, BLACK)[None], (side, side), mode="nearest")[0]

    given = person(film((0.42, 0.31, 0.26), (0.15, 0.15, 0.15)))
    made = {}
    for is_on in (False, True):
        reference = DoublesReference(NoLight(), has_source_texture=False, has_source_tone=is_on, casting=Portrait())
        placed = reference.place(given)
        torch.testing.assert_close(placed.picture(0, given.crops.geometry.box(0), 64, 64), placed.grid[0])
        made[is_on] = placed.grid[0]
    torch.testing.assert_close(made[False], head(SKIN, BLACK))
    assert float(made[True][:3, 10, 30].min()) > 0.12
    assert torch.equal(made[True][3], made[False][3])
    seen, before, after = torch.tensor((0.42, 0.31, 0.26)), torch.tensor(SKIN), made[True][:3, 40, 30]
    assert bool(((after - seen).abs() < 0.6 * (before - seen)).all())
