"""The conventional anonymizer as the pipeline uses it: through masks, person by person."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.contracts import Clip, ClipMasks, PersonMask
from pa_lib.errors import PaLibError
from pa_lib.functional import composite
from pa_lib.modules import AbstractAnonymizer, ConventionalAnonymizer

METHODS = ("blur", "mosaic", "fill", "noise")
HEIGHT, WIDTH = 48, 64


def random_clip(seed: int = 0, n_frames: int = 2) -> Clip:
    draw = np.random.default_rng(seed)
    return Clip(torch.from_numpy(draw.integers(0, 256, (n_frames, 3, HEIGHT, WIDTH), dtype=np.uint8)), first_frame=5)


def random_masks(seed: int, n_frames: int = 2, n_people: int = 4) -> ClipMasks:
    """Overlapping people with soft and hard edges, some at the border of the frame."""
    draw = np.random.default_rng(seed)
    people = []
    for person in range(n_people):
        height, width = (int(draw.integers(2, 30)) for _ in range(2))
        top, left = int(draw.integers(0, HEIGHT - height + 1)), int(draw.integers(0, WIDTH - width + 1))
        alpha = np.clip(draw.random((height, width), dtype=np.float32) * 3 - 1, 0, 1)
        people.append(PersonMask(person + 1, int(draw.integers(n_frames)), top, left, torch.from_numpy(alpha)))
    return ClipMasks(tuple(people), n_frames, HEIGHT, WIDTH)


def union(masks: ClipMasks) -> torch.Tensor:
    return torch.stack([masks.union(frame) for frame in range(masks.n_frames)])[:, None]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.sampled_from(METHODS))
def test_outside_the_masks_every_pixel_is_the_source(seed: int, method: str) -> None:
    clip, masks = random_clip(seed), random_masks(seed)
    before = clip.frames.clone()
    result = ConventionalAnonymizer(method).anonymize(clip, masks)  # type: ignore[arg-type]
    outside = (union(masks) == 0).expand_as(clip.frames)
    assert torch.equal(result.frames[outside], before[outside])
    assert torch.equal(clip.frames, before)
    assert (result.first_frame, result.fps, result.frames.dtype) == (clip.first_frame, clip.fps, torch.uint8)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.sampled_from(["fill", "noise"]), st.booleans())
def test_fill_and_noise_do_not_depend_on_one_hidden_pixel(seed: int, method: str, is_flickering: bool) -> None:
    clip, masks = random_clip(seed), random_masks(seed)
    hidden = (union(masks) > 0).expand_as(clip.frames)
    changed = Clip(torch.where(hidden, random_clip(seed + 1).frames, clip.frames), clip.first_frame)
    system = ConventionalAnonymizer(method, is_flickering=is_flickering)  # type: ignore[arg-type]
    assert system.is_non_interfering
    assert torch.equal(system.anonymize(clip, masks).frames, system.anonymize(changed, masks).frames)


@pytest.mark.parametrize("method", ["blur", "mosaic"])
def test_blur_and_mosaic_own_up_to_using_hidden_pixels(method: str) -> None:
    clip, masks = random_clip(), random_masks(0)
    hidden = (union(masks) > 0).expand_as(clip.frames)
    changed = Clip(torch.where(hidden, random_clip(1).frames, clip.frames), clip.first_frame)
    system = ConventionalAnonymizer(method)  # type: ignore[arg-type]
    assert not system.is_non_interfering
    assert not torch.equal(system.anonymize(clip, masks).frames, system.anonymize(changed, masks).frames)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_people_makes_no_difference(method: str) -> None:
    clip, masks = random_clip(), random_masks(4, n_people=8)
    turned = ClipMasks(masks.people[::-1], masks.n_frames, masks.height, masks.width)
    system = ConventionalAnonymizer(method)  # type: ignore[arg-type]
    assert torch.equal(system.anonymize(clip, masks).frames, system.anonymize(clip, turned).frames)


def one_person(alpha: torch.Tensor, top: int = 0, left: int = 0) -> ClipMasks:
    return ClipMasks((PersonMask(1, 0, top, left, alpha),), 1, HEIGHT, WIDTH)


@pytest.mark.parametrize("method", ["blur", "mosaic"])
def test_strength_is_relative_to_the_person(method: str) -> None:
    """The same picture at three times the size is hidden to the same degree."""
    small = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    left = []
    for scale in (2, 6):
        size = 6 * scale
        frames = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
        frames[0, :, :size, :size] = small.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        result = ConventionalAnonymizer(method).anonymize(Clip(frames), one_person(torch.ones(size, size)))  # type: ignore[arg-type]
        left.append(float(result.frames[0, :, :size, :size].float().std()))
    assert left[0] == pytest.approx(left[1], rel=0.15)


@pytest.mark.parametrize("method", ["blur", "mosaic"])
def test_stronger_leaves_less(method: str) -> None:
    clip, masks = random_clip(n_frames=1), one_person(torch.ones(40, 40))
    spread = [
        float(ConventionalAnonymizer(method, strength).anonymize(clip, masks).frames[0, :, :40, :40].float().std())  # type: ignore[arg-type]
        for strength in (0.5, 1.0, 4.0)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_fill_takes_the_colour_it_is_told_or_that_of_the_surroundings() -> None:
    frames = torch.full((1, 3, HEIGHT, WIDTH), 40, dtype=torch.uint8)
    frames[0, :, 10:20, 10:20] = 250
    masks = one_person(torch.ones(10, 10), 10, 10)
    around = ConventionalAnonymizer("fill").anonymize(Clip(frames), masks).frames
    assert around.unique().tolist() == [40]
    told = ConventionalAnonymizer("fill", color=[0, 255, 0]).anonymize(Clip(frames), masks).frames
    assert told[0, :, 15, 15].tolist() == [0, 255, 0]
    everybody = one_person(torch.ones(HEIGHT, WIDTH))
    assert ConventionalAnonymizer("fill").anonymize(Clip(frames), everybody).frames.unique().tolist() == [128]


def test_still_noise_stays_flickering_noise_changes_and_the_seed_matters() -> None:
    clip = random_clip()
    people = tuple(PersonMask(3, frame, 4, 4, torch.ones(8, 8)) for frame in range(2))
    masks = ClipMasks(people, 2, HEIGHT, WIDTH)
    where = (slice(None), slice(None), slice(4, 12), slice(4, 12))
    still = ConventionalAnonymizer("noise").anonymize(clip, masks).frames[where]
    flickering = ConventionalAnonymizer("noise", is_flickering=True).anonymize(clip, masks).frames[where]
    reseeded = ConventionalAnonymizer("noise").anonymize(clip, masks, seed=1).frames[where]
    assert torch.equal(still[0], still[1])
    assert not torch.equal(flickering[0], flickering[1])
    assert not torch.equal(still, reseeded)


@pytest.mark.parametrize("method", METHODS)
def test_a_hidden_person_changes_and_composites(method: str) -> None:
    clip, masks = random_clip(), random_masks(2)
    result = ConventionalAnonymizer(method).anonymize(clip, masks)  # type: ignore[arg-type]
    alpha = union(masks)
    put_together = composite(clip.frames, result.frames, alpha)
    whole = (alpha == 1).expand_as(clip.frames)
    assert torch.equal(put_together[whole], result.frames[whole])
    assert float((put_together[whole] != clip.frames[whole]).float().mean()) > 0.9


def test_masks_of_another_clip_are_refused() -> None:
    system = ConventionalAnonymizer("fill")
    with pytest.raises(ValueError, match="the masks are for 1 frames of 64 x 48, the clip has 2"):
        system.anonymize(random_clip(), one_person(torch.ones(2, 2)))
    for top, left, frame in [(-1, 0, 0), (0, 63, 0), (47, 0, 0), (0, 0, 1)]:
        person = PersonMask(1, frame, top, left, torch.ones(2, 2))
        with pytest.raises(ValueError, match="outside of its clip"):
            system.anonymize(random_clip(n_frames=1), ClipMasks((person,), 1, HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"method": "smudge"}, "smudge.*blur, mosaic, fill, noise", marks=pytest.mark.wrong_types),
        ({"strength": 0.0}, "0.5.*10"),
        ({"strength": float("nan")}, "nan.*0.5.*10"),
        ({"strength": 11}, "out of range"),
        ({"strength": True}, "out of range"),
        pytest.param({"strength": "much"}, "out of range", marks=pytest.mark.wrong_types),
        pytest.param({"method": "fill", "color": "pink"}, "pink.*surroundings", marks=pytest.mark.wrong_types),
        ({"method": "fill", "color": (1, 2)}, "three whole numbers"),
        ({"method": "fill", "color": (1, 2, 256)}, "three whole numbers"),
    ],
)
def test_wrong_settings_name_the_right_ones(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        ConventionalAnonymizer(**arguments)  # type: ignore[arg-type]


def test_it_is_what_every_system_is() -> None:
    system = ConventionalAnonymizer()
    assert isinstance(system, AbstractAnonymizer)
    assert system.window_frames == 1


def test_naming_the_modules_imports_nothing_heavy() -> None:
    code = (
        "import sys, pa_lib.modules as m; assert 'ConventionalAnonymizer' in dir(m); assert 'torch' not in sys.modules;"
        "from pa_lib.modules import ConventionalAnonymizer; ConventionalAnonymizer();"
        "assert not {'lightning', 'kornia', 'torchvision', 'diffusers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
