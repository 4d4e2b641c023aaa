"""Augmentation of clips: one draw for all frames, masks go along, and nothing hangs on anybody else's draws."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from pa_lib.data import ClipAugmentation, Draw, Sample
from pa_lib.data.synthetic import SyntheticClipSet
from pa_lib.errors import PaLibError

OFF = {field.name: 0.0 for field in fields(ClipAugmentation) if field.name.endswith("_p")}
ALL = dict.fromkeys(OFF, 1.0)
SINGLE = ["geometry_p", "color_p", "blur_p", "downscale_p", "jpeg_p", "haze_p"]


def only(name: str, **strengths: float) -> ClipAugmentation:
    return ClipAugmentation(**{**OFF, name: 1.0, **strengths})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def clip() -> Sample:
    return SyntheticClipSet([1], n_frames=3, side=40, n_identities=4, speed_px=1.5, seed=0).sample(Draw(0, 0))


def test_all_off_changes_nothing_but_the_flow(clip: Sample) -> None:
    result = ClipAugmentation(**OFF)(clip, generator())
    assert torch.equal(result.frames, clip.frames)
    assert torch.equal(result.mask, clip.mask)
    assert result.flow is None
    assert (result.clip_id, result.identity) == (clip.clip_id, clip.identity)


def test_flip_is_a_mirror(clip: Sample) -> None:
    result = only("flip_p")(clip, generator())
    assert torch.equal(result.frames, clip.frames.flip(3))
    assert torch.equal(result.mask, clip.mask.flip(3))


@pytest.mark.parametrize("name", SINGLE)
def test_each_changes_frames_and_only_geometry_masks(name: str, clip: Sample) -> None:
    results = [only(name, blur_px=4)(clip, generator(seed)) for seed in range(4)]
    for result in results:
        assert result.frames.shape == clip.frames.shape
        assert 0 <= result.frames.min() <= result.frames.max() <= 1
        assert torch.equal(result.mask, clip.mask) == (name != "geometry_p")
    assert max((result.frames - clip.frames).abs().mean() for result in results) > 5e-3


def test_mask_goes_where_the_frames_go(clip: Sample) -> None:
    painted = Sample(clip.mask.expand(-1, 3, -1, -1).clone(), clip.mask, 0)
    for seed in range(5):
        result = only("geometry_p", rotation_deg=30, zoom=0.3, shift=0.2)(painted, generator(seed))
        torch.testing.assert_close(result.frames[:, :1], result.mask)


def test_shift_is_as_large_as_told() -> None:
    mask = torch.zeros(1, 1, 41, 41)
    mask[..., 20, 20] = 1
    augmentation = only("geometry_p", rotation_deg=0, zoom=0, shift=0.1)
    places = []
    for seed in range(40):
        result = augmentation(Sample(mask.expand(-1, 3, -1, -1), mask, 0), generator(seed)).mask[0, 0]
        assert result.sum() == pytest.approx(1, abs=1e-4)
        grid = torch.arange(41.0)
        places.append([float((result.sum(0) * grid).sum()) - 20, float((result.sum(1) * grid).sum()) - 20])
    extreme = torch.tensor(places).abs().max()
    assert 3.5 < extreme <= 4.1


def test_veil_takes_contrast_and_gives_back_at_most_half_of_it_as_light() -> None:
    ramp = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16).expand(1, 3, -1, -1)
    ranges, floors = [], []
    for seed in range(60):
        veiled = only("haze_p", haze=0.6)(Sample(ramp, torch.ones(1, 1, 16, 16), 0), generator(seed)).frames
        low, high = float(veiled.min()), float(veiled.max())
        torch.testing.assert_close(veiled, low + (high - low) * ramp)
        assert 0 <= low <= (1 - (high - low)) / 2 + 1e-6
        ranges.append(high - low)
        floors.append(low)
    assert 0.4 <= min(ranges) < 0.45
    assert max(ranges) > 0.95
    assert max(floors) > 0.2


@pytest.mark.parametrize("name", ["geometry_p", "color_p", "blur_p", "downscale_p", "jpeg_p", "haze_p", "flip_p"])
def test_same_for_all_frames_of_a_clip(name: str, clip: Sample) -> None:
    still = Sample(clip.frames[:1].expand(3, -1, -1, -1), clip.mask[:1].expand(3, -1, -1, -1), 0)
    result = only(name)(still, generator(1))
    torch.testing.assert_close(result.frames[1:], result.frames[:1].expand(2, -1, -1, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(result.mask[1:], result.mask[:1].expand(2, -1, -1, -1), atol=1e-6, rtol=0)


def test_hangs_on_its_generator_alone(clip: Sample) -> None:
    augmentation = ClipAugmentation(**ALL)
    torch.manual_seed(1)
    one = augmentation(clip, generator(7))
    before = torch.get_rng_state()
    two = augmentation(clip, generator(7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    three = augmentation(clip, generator(7))
    assert torch.equal(one.frames, two.frames)
    assert torch.equal(one.frames, three.frames)
    assert torch.equal(one.mask, three.mask)
    assert not torch.equal(one.frames, augmentation(clip, generator(8)).frames)


def test_one_option_does_not_change_what_another_draws(clip: Sample) -> None:
    alone = only("geometry_p")(clip, generator(5))
    together = ClipAugmentation(**{**OFF, "geometry_p": 1.0, "color_p": 1.0, "jpeg_p": 1.0})(clip, generator(5))
    assert torch.equal(alone.mask, together.mask)


def test_lower_quality_loses_more(clip: Sample) -> None:
    def loss(quality: float) -> float:
        return float((only("jpeg_p", jpeg_quality=quality)(clip, generator(2)).frames - clip.frames).square().mean())

    assert loss(95) < loss(40) < loss(5)


def test_probabilities_are_kept(clip: Sample) -> None:
    augmentation = ClipAugmentation(**{**OFF, "flip_p": 0.3})
    flipped = sum(not torch.equal(augmentation(clip, generator(seed)).mask, clip.mask) for seed in range(300))
    assert 65 < flipped < 115  # 90 expected, standard deviation 8


def test_a_single_tiny_picture_goes_through() -> None:
    picture = Sample(torch.rand(1, 3, 16, 24), torch.ones(1, 1, 16, 24), 0)
    result = ClipAugmentation(**ALL, blur_px=3)(picture, generator())
    assert result.frames.shape == (1, 3, 16, 24)
    assert is_finite(result.frames)


def is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


@pytest.mark.parametrize(
    "arguments", [{"flip_p": 1.5}, {"zoom": -0.1}, {"downscale": 0.5}, {"jpeg_quality": 0.0}, {"color": float("nan")}]
)
def test_wrong_settings_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(PaLibError, match=next(iter(arguments))):
        ClipAugmentation(**arguments)
