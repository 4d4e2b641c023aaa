"""Does what comes out depend on what was to be hidden? Measured by changing what was to be hidden."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks
from pa_lib.functional.draws import uniform
from pa_lib.modules.systems.base import AbstractAnonymizer


def interference(system: AbstractAnonymizer, clip: Clip, masks: ClipMasks, *, seed: int = 0, trials: int = 2) -> float:
    """Largest change of any output pixel under the masks when the hidden pixels are replaced.

    They are replaced by black, by white and by `trials` draws of noise; the masks and the seed stay. 0 says that on
    this clip the output did not depend on these hidden pixels, which is what `AbstractAnonymizer.is_non_interfering`
    claims for all. Soft edges are the caller's: where alpha is between 0 and 1 `functional.composite` blends the source
    in.

    Args:
        system: The anonymizer. Its `anonymize` is called ``trials + 3`` times.
        clip: The clip, frames t 3 h w, uint8. Not changed.
        masks: Masks of the hidden people. A pixel counts as hidden where the alpha of any mask is above 0.
        seed: Seed of the system and of the noise.
        trials: Number of draws of noise, >= 0.

    Returns:
        A change in 0..255; 0 also if no pixel is hidden.

    >>> from pa_lib.contracts import PersonMask
    >>> from pa_lib.modules.systems.conventional.system import ConventionalAnonymizer
    >>> clip = Clip(torch.full((1, 3, 8, 8), 90, dtype=torch.uint8))
    >>> masks = ClipMasks((PersonMask(1, 0, 2, 2, torch.ones(4, 4)),), n_frames=1, height=8, width=8)
    >>> interference(ConventionalAnonymizer("fill"), clip, masks)
    0.0
    >>> interference(ConventionalAnonymizer("mosaic"), clip, masks)
    165.0
    """
    hidden = _hidden(clip, masks)
    if not bool(hidden.any()):
        return 0.0
    expected = system.anonymize(clip, masks, seed=seed).frames[hidden].int()
    largest = 0
    for frames in _replaced(clip.frames, hidden, seed, trials):
        changed = Clip(frames, clip.first_frame, clip.fps)
        got = system.anonymize(changed, masks, seed=seed).frames[hidden].int()
        largest = max(largest, int((got - expected).abs().max()))
    return float(largest)


def mean_interference(system: AbstractAnonymizer, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> float:
    """Mean change of the output under the masks when the hidden pixels are replaced once, by dark noise.

    A sample that costs two calls of the system, where `interference` is thorough. The noise is dark so that brightness
    changes with structure.

    Args:
        system: The anonymizer. Its `anonymize` is called twice.
        clip: The clip, frames t 3 h w, uint8. Not changed.
        masks: Masks of the hidden people.
        seed: Seed of the system and of the noise.

    Returns:
        A change in 0..255; 0 also if no pixel is hidden.

    >>> from pa_lib.contracts import PersonMask
    >>> from pa_lib.modules.systems.conventional.system import ConventionalAnonymizer
    >>> clip = Clip(torch.full((1, 3, 8, 8), 190, dtype=torch.uint8))
    >>> masks = ClipMasks((PersonMask(1, 0, 2, 2, torch.ones(4, 4)),), n_frames=1, height=8, width=8)
    >>> mean_interference(ConventionalAnonymizer("fill"), clip, masks)
    0.0
    >>> mean_interference(ConventionalAnonymizer("mosaic"), clip, masks) > 63
    True
    """
    hidden = _hidden(clip, masks)
    if not bool(hidden.any()):
        return 0.0
    noise = (uniform(clip.frames.shape, seed, 0) * 128).to(torch.uint8).to(clip.frames.device)
    changed = Clip(torch.where(hidden, noise, clip.frames), clip.first_frame, clip.fps)
    one, two = (system.anonymize(each, masks, seed=seed).frames[hidden].float() for each in (clip, changed))
    return float((one - two).abs().mean())


def _hidden(clip: Clip, masks: ClipMasks) -> Bool[Tensor, "t 3 h w"]:
    """Where the alpha of any mask is above 0, in every channel."""
    hidden = torch.stack([masks.union(frame) > 0 for frame in range(masks.n_frames)])[:, None]
    return hidden.to(clip.frames.device).expand_as(clip.frames)


def _replaced(
    frames: UInt8[Tensor, "t 3 h w"], hidden: Bool[Tensor, "t 3 h w"], seed: int, trials: int
) -> Iterator[UInt8[Tensor, "t 3 h w"]]:
    """The clip with other hidden pixels."""
    for value in (0, 255):
        yield torch.where(hidden, torch.full_like(frames, value), frames)
    for trial in range(trials):
        noise = (uniform(frames.shape, seed, trial) * 256).to(torch.uint8).to(frames.device)
        yield torch.where(hidden, noise, frames)
