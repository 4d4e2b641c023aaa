"""A system on the held-out clips of a data module: every clip anonymized as a video would be, and given as a result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pa_lib.contracts import Batch, Clip, ClipMasks, Kind, PersonMask, Result, Sighting
from pa_lib.functional import composite
from pa_lib.functional.boxes import bounding_box
from pa_lib.modules.systems.base import AbstractAnonymizer


def module_results(
    module: AbstractAnonymizer, batches: Iterable[Batch], *, kind: Kind = "body", seed: int = 0
) -> Iterator[Result]:
    """Results of a system on every batch, composited as in a video: outside the masks nothing changes.

    The clips' pixels are rounded to 8 bit first, as a video's are. Each clip is a person of its own, so each draws its
    own noise; people are numbered by who they are where the data knows, else by their clip.

    Args:
        module: The anonymizer, any system.
        batches: Clips of one person each.
        kind: Kind of what the masks cover, a face or a body.
        seed: Seed of the system.
    """
    for batch in batches:
        source = (batch.frames.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
        masks = batch.masks.detach().cpu().float()
        anonymized = [
            _in_windows(module, frames, alpha, int(clip), kind, seed)
            for frames, alpha, clip in zip(source, masks, batch.clip_ids, strict=True)
        ]
        yield Result(
            source,
            torch.stack(anonymized),
            masks,
            batch.clip_ids.cpu(),
            batch.identities,
            sightings(batch, masks, kind),
        )


def sightings(batch: Batch, masks: Tensor, kind: Kind) -> tuple[Sighting, ...]:
    """People and their places, by the bounding boxes of the masks; a frame with an empty mask has none."""
    people = []
    for row, (clip, alpha) in enumerate(zip(batch.clip_ids, masks[:, :, 0], strict=True)):
        identity = -1 if batch.identities is None else int(batch.identities[row])
        for frame, mask in enumerate(alpha):
            box = bounding_box(mask)
            if box is not None:
                rows, columns = box
                who = identity if identity >= 0 else int(clip)
                corners = float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)
                people.append(Sighting(row, frame, who, corners, kind=kind))
    return tuple(people)


def _in_windows(module: AbstractAnonymizer, frames: Tensor, alpha: Tensor, clip: int, kind: Kind, seed: int) -> Tensor:
    """One clip of t 3 h w, in windows as long as the system wants."""
    n_frames, _, height, width = frames.shape
    step = max(1, module.window_frames)
    parts = []
    for start in range(0, n_frames, step):
        window = slice(start, min(start + step, n_frames))
        people = []
        for at, mask in enumerate(alpha[window, 0]):
            if (box := bounding_box(mask)) is not None:
                people.append(PersonMask(clip + 1, at, box[0].start, box[1].start, mask[box].clone(), kind))
        masks = ClipMasks(tuple(people), window.stop - window.start, height, width)
        made = module.anonymize(Clip(frames[window], start), masks, seed=seed).frames.cpu()
        parts.append(composite(frames[window], made, alpha[window]))
    return torch.cat(parts)
