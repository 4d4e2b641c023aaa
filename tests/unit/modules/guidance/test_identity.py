"""Pushed latents leave an identity behind, all frames alike, by steps of a known length, and no further than asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import normal
from pa_lib.modules import IdentityGuidance

SIDE = 32


def pixels(latents: Tensor) -> Tensor:
    """Latents b t 3 s/2 s/2 around 0 to pixels: a decoder without weights."""
    flat = interpolate(latents.flatten(0, 1), scale_factor=2, mode="nearest")
    return flat.unflatten(0, latents.shape[:2]) / 4 + 0.5


def clips(n: int, n_frames: int, *keys: int) -> Tensor:
    """Blobs that stand still, with a little noise of every frame's own."""
    blobs = interpolate(normal((n, 3, 4, 4), *keys), size=(SIDE // 2, SIDE // 2), mode="bicubic")
    return blobs[:, None] + 0.05 * normal((n, n_frames, 3, SIDE // 2, SIDE // 2), *keys, 1)


def distance(push: IdentityGuidance, latents: Tensor, source: Tensor) -> Tensor:
    with torch.no_grad():
        return (push.identities(pixels(latents)) - push.identities(source).mean(1, keepdim=True)).norm(dim=-1)


def test_every_step_leads_away_from_the_source() -> None:
    push = IdentityGuidance(0.1, expansion=1.05)
    source = pixels(clips(2, 3, 1))
    latents = clips(2, 3, 1) + 0.1 * clips(2, 3, 2)
    move = push.away_from(source, pixels)
    before = distance(push, latents, source).mean()
    for _ in range(4):
        latents = move(latents)
        after = distance(push, latents, source).mean()
        assert after > before
        before = after


def test_frames_are_moved_alike_by_the_strength_and_clips_by_themselves() -> None:
    push = IdentityGuidance(0.2, expansion=1.0)
    source, latents = pixels(clips(2, 6, 3)), clips(2, 6, 4)
    moved = push.away_from(source, pixels)(latents)
    by = moved - latents
    torch.testing.assert_close(by, by[:, :1].expand_as(by), rtol=0, atol=1e-6)
    torch.testing.assert_close(by.square().mean((1, 2, 3, 4)).sqrt(), torch.full((2,), 0.2), rtol=1e-4, atol=0)
    alone = push.away_from(source[1:], pixels)(latents[1:])
    torch.testing.assert_close(alone, moved[1:], rtol=0, atol=1e-5)


def test_whoever_is_far_enough_is_left_alone() -> None:
    push = IdentityGuidance(0.2, expansion=1.0, distance=1e-6)
    latents = clips(1, 2, 6)
    assert torch.equal(push.away_from(pixels(clips(1, 2, 5)), pixels)(latents), latents)


def test_it_works_where_gradients_are_off_for_good() -> None:
    push, source, latents = IdentityGuidance(0.1, 1.0), pixels(clips(1, 2, 7)), clips(1, 2, 8)
    expected = push.away_from(source, pixels)(latents)
    with torch.inference_mode():
        found = push.away_from(source.clone(), pixels)(latents.clone())
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_senseless_strengths_are_refused(strength: float) -> None:
    with pytest.raises(PaLibError, match="strength of identity guidance"):
        IdentityGuidance(strength, 1.0)


def test_a_strength_of_zero_is_off_and_looks_at_nothing() -> None:
    off, on = IdentityGuidance(0.0), IdentityGuidance(0.1)
    assert (off.is_active, off.looks_at_hidden, off.notes) == (False, False, ())
    assert (on.is_active, on.looks_at_hidden) == (True, True)
    assert "depends on the person it hides" in on.notes[0]
