"""Doubles as references: who is asked for, where they are placed, which view they show, and steady light."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from _portraits import DiscCasting
from pa_lib.contracts import ClipMasks, HeadPose, PersonInfo, PersonMask, Replacement
from pa_lib.errors import SettingError
from pa_lib.modules import ClosedFormLight, CropAligner, DoublesReference, NoLight, NoReference, PersonInCrops
from pa_lib.modules.reference.base import light_error
from pa_lib.modules.reference.doubles import dissolving

HEIGHT, WIDTH, N = 60, 80, 4


def person(frames: Tensor, poses: list[HeadPose | None], wish: str | None = None, side: int = 32) -> PersonInCrops:
    masks = [PersonMask(2, at, 10, 20, torch.ones(30, 24), "face") for at in range(len(frames))]
    crops = CropAligner(side, 1.4).align(frames, masks, torch.zeros(len(frames), HEIGHT, WIDTH, dtype=torch.bool))
    return PersonInCrops(2, 7, poses, crops, None if wish is None else Replacement(wish))


def grey(*levels: int) -> Tensor:
    return torch.stack([torch.full((3, HEIGHT, WIDTH), level, dtype=torch.uint8) for level in levels])


POSES: list[HeadPose | None] = [HeadPose(31.0 + at, 24.0, 4.0) for at in range(N)]


def test_the_double_stands_where_the_pose_says() -> None:
    casting = DiscCasting()
    placed = DoublesReference(NoLight(), casting=casting).place(person(grey(9, 9, 9, 9), POSES))
    assert placed.grid.shape == (N, 4, 32, 32)
    assert casting.asked == [(2, 7, None)]
    for frame, pose in enumerate(POSES):
        assert pose is not None
        picture = placed.picture(frame, (20, 10, 44, 40), 30, 24)  # at the frame's own resolution
        rows, columns = torch.meshgrid(torch.arange(30) + 10.5, torch.arange(24) + 20.5, indexing="ij")
        weight = picture[3] / picture[3].sum()
        assert float((weight * columns).sum()) == pytest.approx(pose.x, abs=0.05)
        assert float((weight * rows).sum()) == pytest.approx(pose.y, abs=0.05)
        color = casting.color("double 4").view(3, 1, 1)
        torch.testing.assert_close(picture[:3], color * picture[3:], atol=1e-4, rtol=0)


def test_the_same_picture_at_the_grid_and_in_full() -> None:
    given = person(grey(30, 60, 90, 120), POSES)
    placed = DoublesReference(ClosedFormLight(), casting=DiscCasting()).place(given)
    again = placed.picture(1, given.crops.geometry.box(1), 32, 32)
    torch.testing.assert_close(again, placed.grid[1], atol=1e-5, rtol=0)


def test_a_wish_is_fulfilled() -> None:
    casting = DiscCasting()
    placed = DoublesReference(NoLight(), casting=casting).place(person(grey(9, 9, 9, 9), POSES, "double 1"))
    assert casting.asked == [(2, 7, "double 1")]
    middle = placed.grid[0][:, placed.grid[0, 3] > 0.999].mean(1)
    torch.testing.assert_close(middle[:3], casting.color("double 1"), atol=1e-4, rtol=0)


def test_no_pose_no_picture_and_nobody_is_asked() -> None:
    casting = DiscCasting()
    reference = DoublesReference(casting=casting)
    assert not reference.place(person(grey(9, 9, 9, 9), [None] * N)).grid.any()
    assert casting.asked == []
    some = reference.place(person(grey(9, 9, 9, 9), [*POSES[:2], None, None])).grid
    assert some[:2].any()
    assert not some[2:].any()


def test_light_does_not_flicker() -> None:
    frames = grey(60, 140, 60, 140, 60, 140, 60, 140)
    poses: list[HeadPose | None] = [HeadPose(31.0, 24.0, 4.0)] * 8
    spread = []
    for smoothing in (0.0, 6.0):
        reference = DoublesReference(ClosedFormLight(), light_smoothing=smoothing, casting=DiscCasting())
        grid = reference.place(person(frames, poses)).grid
        spread.append(float(grid[:, :3, 13, 13].diff(dim=0).abs().mean()))
    assert spread[1] < 0.25 * spread[0]


def test_light_that_fades_is_followed() -> None:
    """Numbers that change evenly stay as they are: lines are fitted, not means."""
    reference = DoublesReference(ClosedFormLight(), light_smoothing=6.0, casting=DiscCasting())
    single = DoublesReference(ClosedFormLight(), light_smoothing=0.0, casting=DiscCasting())
    given = person(grey(*range(100, 120, 2)), [HeadPose(31.0, 24.0, 4.0)] * 10)
    torch.testing.assert_close(reference.place(given).grid, single.place(given).grid, atol=5e-3, rtol=0)


def test_views_change_late_and_softly() -> None:
    turning: list[HeadPose | None] = [HeadPose(0, 0, 1, yaw=yaw) for yaw in (0, 24, 20, 25, 21, 40, 41, 42, 43, 44)]
    views = dissolving([0.0, 45.0, 180.0], turning, 3)
    assert [max(view, key=lambda yaw, view=view: view[yaw]) for view in views] == [0.0] * 5 + [45.0] * 5  # type: ignore[misc]
    assert views[4] == pytest.approx({0.0: 2 / 3, 45.0: 1 / 3})
    assert all(sum(view.values()) == pytest.approx(1) for view in views)
    behind: list[HeadPose | None] = [HeadPose(0, 0, 1, yaw=-175), None]
    assert dissolving([0.0, 45.0, 180.0], behind, 3) == [{180.0: 1.0}, {}]


def test_the_error_of_a_light_is_that_of_its_colors() -> None:
    reference = DoublesReference(NoLight(), casting=DiscCasting())
    frames = torch.full((2, 1, 3, 8, 8), 0.5)
    alpha = torch.zeros(2, 1, 1, 8, 8)
    alpha[..., 2:6, 2:6] = 1
    pictures = torch.cat([(frames + torch.tensor([0.1, -0.3]).view(2, 1, 1, 1, 1)) * alpha, alpha], 2)
    relit = reference.relit(frames, alpha, pictures)
    assert float(light_error(relit, frames, alpha)) == pytest.approx(0.2, abs=1e-6)
    assert float(light_error(relit, frames, torch.zeros_like(alpha))) == 0


def test_masks_hold_the_whole_double() -> None:
    """A head of 8 px radius at the edge of the frame, around a smaller mask; bodies and heads without a pose stay."""
    small = PersonMask(2, 0, 3, 20, torch.full((4, 4), 0.5), "face", HeadPose(22.0, 5.0, 4.0))
    others = [
        PersonMask(2, 0, 20, 10, torch.ones(30, 24), "body", small.pose),
        PersonMask(3, 0, 40, 60, torch.ones(5, 5)),
    ]
    masks = ClipMasks((small, *others), 1, HEIGHT, WIDTH)
    extended = DoublesReference(casting=DiscCasting()).extended(masks, seed=7)
    assert list(extended.people[1:]) == others
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    away = ((columns - 22) ** 2 + (rows - 5) ** 2).sqrt()
    alpha = ClipMasks(extended.people[:1], 1, HEIGHT, WIDTH).union(0)
    assert (alpha[away < 7] == 1).all()
    assert not alpha[away > 9].any()
    assert (alpha >= ClipMasks((small,), 1, HEIGHT, WIDTH).union(0)).all()


@pytest.mark.parametrize("place", [(-40, 30), (WIDTH + 14, 30), (WIDTH + 60, 30), (30, -40), (30, HEIGHT + 14)])
def test_a_head_outside_of_the_frame_extends_no_mask(place: tuple[int, int]) -> None:
    """As of people who leave it."""
    mask = PersonMask(2, 0, 3, 20, torch.full((4, 4), 0.5), "face", HeadPose(*place, 4.0))
    extended = DoublesReference(casting=DiscCasting()).extended(ClipMasks((mask,), 1, HEIGHT, WIDTH), seed=7)
    torch.testing.assert_close(extended.union(0), ClipMasks((mask,), 1, HEIGHT, WIDTH).union(0))


def test_neighbours_get_different_doubles_of_the_bank() -> None:
    people = {number: PersonInfo() for number in range(1, 31)}
    wished = PersonInfo(replacement=Replacement("P005"))
    names = DoublesReference().replacements(people | {7: wished}, seed=3)
    assert list(names) == list(people)
    assert len(set(names.values())) == len(people)
    assert names[7] == "P005"
    with pytest.raises(SettingError, match="no double is named 'Ann'"):
        DoublesReference().replacements({1: PersonInfo(replacement=Replacement("Ann"))})


def test_out_of_range() -> None:
    for wrong in ({"light_smoothing": -1.0}, {"dissolve": 0}):
        with pytest.raises(SettingError, match="expected"):
            DoublesReference(**wrong)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        NoReference().place(person(grey(9, 9, 9, 9), POSES))
