"""References to learn from: the head that is cut out, the light it gets, and what is hidden of the scene."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from _portraits import DrawnSilhouettes, write_portraits
from pa_lib.data import ClipAugmentation, FaceDataModule, PortraitReference
from pa_lib.data.references import Portrait, Tone
from pa_lib.errors import SettingError

SIDE = 32


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pa_lib.data.views.SelfieSegmentation", DrawnSilhouettes)


def portrait(n_frames: int = 2) -> Portrait:
    """A person as a wide bar from the top of the picture; eyes in the middle of row 10, mouth 6 px below."""
    silhouette = torch.zeros(n_frames, 1, SIDE, SIDE)
    silhouette[..., 4:, 8:24] = 1
    is_photo = torch.ones_like(silhouette)
    is_photo[..., :3] = 0
    y, x = torch.meshgrid(torch.arange(SIDE) - 10.0, torch.arange(SIDE) - 15.5, indexing="ij")
    chart = torch.stack([x, y]).expand(n_frames, 2, -1, -1) / 6
    return Portrait(silhouette, is_photo, chart, torch.full((n_frames,), 6.0))


def made(reference: PortraitReference, pixels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return reference(pixels, pixels, portrait(), torch.Generator().manual_seed(seed))


def noise() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("seed", range(5))
def test_without_a_change_of_light_the_reference_is_the_portrait(seed: int) -> None:
    pixels = noise()
    frames, mask, reference = made(PortraitReference(scene_p=0, relit=0), pixels, seed)
    alpha = reference[:, 3:]
    is_photo = portrait().is_photo
    torch.testing.assert_close(frames, pixels * is_photo)
    torch.testing.assert_close(alpha * frames, reference[:, :3])  # set over the portrait it gives the portrait back
    assert bool((mask[alpha > 0] == 1).all())
    assert not mask[is_photo == 0].any()  # padding is never a target
    assert float(alpha[:, :, 4:18, 10:22].min()) > 0.99  # the head
    assert float(alpha[:, :, 27:].max()) < 0.05  # chin at row 20.5, collar 3.6 px below at most
    assert float(mask.mean()) > float((alpha > 0).float().mean())


def test_the_reference_has_another_light_that_falls_evenly() -> None:
    pixels = torch.tensor([0.5, 0.4, 0.3])[:, None, None].expand(2, 3, SIDE, SIDE)
    found = []
    for seed in range(4):
        frames, _, reference = made(PortraitReference(scene_p=0, relit=0.3), pixels, seed)
        inside = slice(6, 18), slice(12, 20)
        logs = (reference[0, :3] / reference[0, 3:])[:, inside[0], inside[1]].log()
        places = portrait().chart[0][:, inside[0], inside[1]]
        terms = torch.stack([torch.ones_like(places[0]), *places]).flatten(1).T
        solved = torch.linalg.lstsq(terms, logs.flatten(1).T)
        torch.testing.assert_close(terms @ solved.solution, logs.flatten(1).T, atol=1e-4, rtol=0)
        slopes = solved.solution[1:]
        torch.testing.assert_close(slopes, slopes[:, :1].expand(2, 3), atol=1e-4, rtol=0)  # light falls on all colors
        torch.testing.assert_close(frames, pixels * portrait().is_photo)
        found.append(solved.solution)
    assert float(torch.stack(found).std(0).min()) > 0.001  # another one for each clip


def test_a_tone_can_be_undone() -> None:
    pixels, chart = 0.1 + 0.8 * noise(), portrait().chart
    tone = Tone(1.3, 0.7, (1.1, 1.0, 0.9), -0.5, (0.4, -0.2))
    fall = (0.4 * chart[:, :1] - 0.2 * chart[:, 1:]) / 2
    level = tone(pixels, chart) / torch.exp(fall.clamp(-1.5, 1.5) - 0.5) / torch.tensor([1.1, 1.0, 0.9])[:, None, None]
    mean = level.mean(1, keepdim=True)
    torch.testing.assert_close((mean + (level - mean) / 0.7) ** (1 / 1.3), pixels, atol=1e-5, rtol=0)


def test_what_is_behind_gets_a_color_of_its_own() -> None:
    settings = {"scene_p": 1.0, "haze_p": 0.0}
    plain, _, _ = made(PortraitReference(**settings, background=0), noise())  # type: ignore[arg-type]
    colored, _, _ = made(PortraitReference(**settings, background=0.5), noise())  # type: ignore[arg-type]
    person = portrait().silhouette.expand_as(plain) == 1
    torch.testing.assert_close(plain[person], colored[person])
    assert float((plain - colored)[~person].abs().max()) > 0.02


def test_what_is_behind_is_as_bright_as_it_likes_and_the_person_is_not() -> None:
    person = portrait().silhouette.expand(2, 3, -1, -1) == 1
    is_photo = portrait().is_photo.expand(2, 3, -1, -1) == 1
    ratios = []
    for seed in range(30):
        alike, _, _ = made(PortraitReference(scene_p=1, haze_p=0, background=0, behind_p=0), noise(), seed)
        apart, _, _ = made(PortraitReference(scene_p=1, haze_p=0, background=0, behind_p=1), noise(), seed)
        torch.testing.assert_close(alike[person], apart[person])
        ratios.append(float(apart[~person & is_photo].mean() / alike[~person & is_photo].mean()))
    assert min(ratios) < 0.7
    assert max(ratios) > 1.4


def test_lamps_are_warm_or_cool_and_hardly_green() -> None:
    grey = torch.full((2, 3, SIDE, SIDE), 0.4)
    settings = {"scene_p": 1.0, "haze_p": 0.0, "one_sided": 0.0, "saturation": (1.0, 1.0)}
    warmth, tint = [], []
    for seed in range(40):
        frames, _, _ = made(PortraitReference(**settings), grey, seed)  # type: ignore[arg-type]
        red, green, blue = frames[0, :, 10, 15].log().tolist()
        warmth.append(red - blue)
        tint.append(green - (red + blue) / 2)
    assert 0.2 < float(torch.tensor(warmth).std()) < 0.45  # two of the deviations of `cast`
    assert float(torch.tensor(tint).std()) < 0.06
    assert min(warmth) < 0 < max(warmth)


def test_a_scene_is_dimmer_than_a_studio() -> None:
    pixels = noise()
    means = [float(made(PortraitReference(scene_p=1), pixels, seed)[0].mean() / pixels.mean()) for seed in range(60)]
    assert min(means) < 0.4
    assert sum(means) / len(means) < 0.85


def test_out_of_range() -> None:
    for wrong in ({"saturation": (1.1, 0.6)}, {"haze": 1.0}, {"dim": -1.0}, {"margin": 0.6}):
        with pytest.raises(SettingError, match="expected"):
            PortraitReference(**wrong)  # type: ignore[arg-type]


def test_of_a_data_module(tmp_path: Path) -> None:
    path = write_portraits(tmp_path / "faces")
    options = {"side": 32, "n_frames": 3, "batch_size": 4, "val_share": 0.0}
    data = FaceDataModule(path, **options, reference=PortraitReference())  # type: ignore[arg-type]
    again = FaceDataModule(path, **options, reference=PortraitReference())  # type: ignore[arg-type]
    batch = next(iter(data.train_dataloader()))
    assert batch.reference is not None
    assert batch.reference.shape == (4, 3, 4, 32, 32)
    alpha = batch.reference[:, :, 3:]
    assert bool((batch.masks[alpha > 0] == 1).all())
    assert bool((batch.reference[:, :, :3] <= alpha + 1e-6).all())
    clip, same = data.train_set[1], again.train_set[1]
    assert clip.reference is not None
    assert torch.equal(clip.reference, same.reference)
    assert not clip.frames[:1, :, :, :2].any()  # the padding: four columns of 48
    plain = FaceDataModule(path, **options)  # type: ignore[arg-type]
    assert plain.train_set[1].reference is None
    assert next(iter(plain.train_dataloader())).reference is None


def test_the_reference_goes_with_the_frames(tmp_path: Path) -> None:
    path = write_portraits(tmp_path / "faces")
    still = {"color_p": 0, "blur_p": 0, "downscale_p": 0, "jpeg_p": 0}
    clips = []
    for flip_p, geometry_p in ((0, 0), (1, 0), (0, 1)):
        data = FaceDataModule(
            path,
            side=32,
            val_share=0,
            reference=PortraitReference(scene_p=0, relit=0),
            augmentation=ClipAugmentation(flip_p=flip_p, geometry_p=geometry_p, **still),
        )
        clips.append(data.train_set[2])
    as_it_is, flipped, warped = clips
    assert as_it_is.reference is not None
    assert flipped.reference is not None
    assert warped.reference is not None
    assert torch.equal(flipped.reference, as_it_is.reference.flip(-1))
    assert not torch.equal(warped.reference, as_it_is.reference)
    is_whole = warped.reference[:, 3:] > 0.999  # the portrait itself lies there in the frame
    difference = (warped.reference[:, :3] - warped.frames) * is_whole
    assert float(difference.abs().max()) < 0.02
    assert float(is_whole.float().mean()) > 0.05
