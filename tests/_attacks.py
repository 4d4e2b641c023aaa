"""Photos whose people are told apart by what is under the mask, and by nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks
from pa_lib.functional.draws import uniform
from pa_lib.modules import AbstractAnonymizer, Photos

SIDE = 48
LANDMARKS = torch.tensor([[16.0, 16.0], [32.0, 16.0], [24.0, 26.0], [17.0, 33.0], [31.0, 33.0]])


def photos(n_people: int, n_photos: int = 2, *, likeness: float = 1.0, n_others: int = 0) -> Photos:
    """Coarse patterns: everybody's own, plus a photo's own in the share that is not `likeness`."""
    people = [person for person in range(n_people) for _ in range(n_photos)]
    people += list(range(n_people, n_people + n_others))
    frames = []
    for number, person in enumerate(people):
        pattern = likeness * uniform((3, 6, 6), 1, person) + (1 - likeness) * uniform((3, 6, 6), 2, number)
        frames.append((pattern * 255).byte().repeat_interleave(8, 1).repeat_interleave(8, 2))
    masks = torch.ones(len(people), 1, SIDE, SIDE)
    return Photos(torch.stack(frames), masks, torch.tensor(people), LANDMARKS.expand(len(people), 5, 2).clone())


class Same(AbstractAnonymizer):
    """Hides nothing."""

    window_frames = 1
    is_non_interfering = False

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


class Static(AbstractAnonymizer):
    """Noise that hangs on the seed alone."""

    window_frames = 1
    is_non_interfering = True

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        self.seeds.append(seed)
        noise: Tensor = (uniform(tuple(clip.frames.shape), seed) * 256).byte()
        return Clip(noise)
