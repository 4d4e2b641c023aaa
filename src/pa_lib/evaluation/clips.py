"""A system on the held-out clips of a data module: every clip anonymized as a video would be, and given as a result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pa_lib.contracts import Batch, Kind, PersonInfo, PersonMask, Result, Sighting
from pa_lib.functional.boxes import bounding_box
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people.poses import pose_of_mask
from pa_lib.pipeline.replaced import MaskedFrame, named, replaced_frames
from pa_lib.video import Frame, Picture, PixelFormat


def module_results(
    module: AbstractAnonymizer, batches: Iterable[Batch], *, kind: Kind = "body", seed: int = 0
) -> Iterator[Result]:
    """Results of a system on every batch, composited as in a video: outside the masks nothing changes.

    The clips' pixels are rounded to 8 bit first, as a video's are. Each clip is a video of its own with one person, so
    each draws its own noise; people are numbered by who they are where the data knows, else by their clip. Data gives
    no landmarks, so the pose of a head is what the extent of its mask implies.

    Args:
        module: The anonymizer, any system.
        batches: Clips of one person each.
        kind: Kind of what the masks cover, a face or a body.
        seed: Seed of the system.
    """
    for batch in batches:
        source = (batch.frames.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
        masks = batch.masks.detach().cpu().float()
        made = [
            _as_video(module, frames, alpha, int(clip), kind, seed)
            for frames, alpha, clip in zip(source, masks, batch.clip_ids, strict=True)
        ]
        replaced = torch.stack([alpha for _, alpha in made])
        yield Result(
            source,
            torch.stack([frames for frames, _ in made]),
            replaced,
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


def _as_video(
    module: AbstractAnonymizer, frames: Tensor, alpha: Tensor, clip: int, kind: Kind, seed: int
) -> tuple[Tensor, Tensor]:
    """One clip of t 3 h w as the system makes it, and the masks of what was replaced, t 1 h w."""
    height, width = frames.shape[2:]
    form = PixelFormat("rgb24", width, height)
    items = []
    for at, (pixels, mask) in enumerate(zip(frames, alpha[:, 0], strict=True)):
        people: tuple[PersonMask, ...] = ()
        if (box := bounding_box(mask)) is not None:
            top, left = box[0].start, box[1].start
            pose = pose_of_mask((left, top, box[1].stop, box[0].stop)) if kind == "face" else None
            people = (PersonMask(clip + 1, 0, top, left, mask[box].clone(), kind, pose),)
        picture = Picture((pixels.permute(1, 2, 0).contiguous().numpy(),), form)
        items.append(MaskedFrame(Frame(at, at, 1, at / 25, picture), is_searched=True, people=people))
    known = named({clip + 1: PersonInfo()}, module, seed)
    made, covered = [], []
    for source, (item, own, error) in zip(frames, replaced_frames(items, module, known, seed), strict=True):
        if error is not None:
            raise error
        made.append(source if own is None else own)
        covered.append(item.union())
    return torch.stack(made), torch.stack(covered)[:, None]
