"""Doubles on held-out portraits: whether a face is there, and whose it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import doubles_measures
import numpy as np
import torch
from _bench import shared_data
from doubles_measures import Figure, Measures
from doubles_rows import Row, measured_by
from embedded_faces import measured_faces
from embedded_weights import Record, kept

from pa_lib.cli.compose import build
from pa_lib.contracts import Clip, ClipMasks, Detection, Person, Presence, Result, Sighting, Track
from pa_lib.data import FaceDataModule
from pa_lib.data.faces import FaceClipSet, FacePhoto
from pa_lib.evaluation.memorization import face_identities
from pa_lib.functional import composite, t_interval
from pa_lib.functional.boxes import bounding_box, box_overlaps
from pa_lib.functional.intervals import within
from pa_lib.metrics import FaceComparer
from pa_lib.modules import AbstractAnonymizer
from pa_lib.people import AbstractMasker, MaskRequest
from pa_lib.people.poses import head_poses
from pa_lib.pretrained import CenterFace, FaceIdentity

SIDE = 192  # px: the wide portraits as they are, with hair, neck and shoulders
HEAD_SCALE = 1.6  # of the face's box, for the ellipses that the data set gives


def portraits(row: Row, n: int | None, *, is_asked: bool) -> Record | None:
    """One system on held-out portraits, each a clip of one frame."""

    def measure() -> Record:
        return _measured(row.system(), build(row.config["people"]["masker"]), n)

    what = [row.mark, n, FaceComparer().protocol(), measured_by(__file__, doubles_measures.__file__)]
    return kept("doubles_portraits", what, measure if is_asked else None)


def _measured(system: AbstractAnonymizer, masker: AbstractMasker, n: int | None) -> Record:
    compare = FaceComparer()
    measures = Measures(compare, has_flow=False)

    def results() -> Iterator[Result]:
        for number, photo, who in _photos(n):
            result = anonymized(system, masker, photo, number, who)
            yield result
            measures.add(result)  # the comparer's faces of this result are at hand still

    record: Record = measured_faces(results(), compare) | measures.figures()
    return {"values": record, "strangers": strangers(n), "n": record["detection_rate"]["n"]}


def _held_out() -> FaceClipSet:
    data = FaceDataModule(shared_data() / "faces" / "faces_permissive_wide_192.zip", side=SIDE)
    assert isinstance(data.val_set, FaceClipSet)
    return data.val_set


def _photos(n: int | None) -> Iterator[tuple[int, FacePhoto, int]]:
    """Held-out portraits, evenly spread: number, portrait and number of the person."""
    clips = _held_out()
    rows = np.linspace(0, len(clips) - 1, min(n or len(clips), len(clips))).round().astype(int)
    for row in sorted(set(rows.tolist())):
        yield row, clips.photo(row), -1 if clips.identities is None else clips.identities[row]


@cache
def _finder() -> CenterFace:
    return CenterFace()


def found(photo: FacePhoto) -> Detection:
    """The face of a portrait as the program's finder sees it; where it sees none, as the data set has it."""
    image = np.ascontiguousarray(photo.frame.permute(1, 2, 0).numpy())
    place = bounding_box(photo.mask)
    assert place is not None
    rows, columns = place
    middle = np.array([columns.start + columns.stop, rows.start + rows.stop]) / 2
    half = np.array([columns.stop - columns.start, rows.stop - rows.start]) / 2 / HEAD_SCALE
    box = np.concatenate([middle - half, middle + half]).astype(np.float32)
    seen = [one for one in _finder().detect([image])[0] if one.score >= 0.4]
    overlaps = [float(box_overlaps(np.float32([one.box]), box[None])[0, 0]) for one in seen]
    if overlaps and max(overlaps) >= 0.3:
        return seen[int(np.argmax(overlaps))]
    x0, y0, x1, y1 = box.tolist()
    return Detection("face", (x0, y0, x1, y1), 1.0, photo.landmarks.numpy())


def anonymized(
    system: AbstractAnonymizer, masker: AbstractMasker, photo: FacePhoto, number: int, who: int = -1, seed: int = 0
) -> Result:
    """One portrait as the program anonymizes a video of one frame: pose, mask, what the system adds to it, composite.

    Args:
        system: The anonymizer.
        masker: Masker of the head.
        photo: The portrait.
        number: Number of the portrait: the person's is one more, so each draws a double of their own.
        who: Number of the person; -1 if unknown.
        seed: Seed of the system.
    """
    face = found(photo)
    points = None if face.landmarks is None else face.landmarks[None]
    track = Track(1, "face", np.array([0]), np.float32([face.box]), np.float32([face.score]), points)
    person_id, (height, width) = number + 1, photo.frame.shape[1:]
    found_poses = head_poses(Person(person_id, (track,)), np.zeros(1), height)
    pose = found_poses.at(0)
    image = np.ascontiguousarray(photo.frame.permute(1, 2, 0).numpy())
    poses = None if pose is None else {person_id: pose}
    masked = masker.mask(MaskRequest(image, [Presence(person_id, track, 0)], poses=poses)).masks
    masks = ClipMasks(tuple(replace(mask, pose=found_poses.placed_at(0)) for mask in masked), 1, height, width)
    masks = system.extended(masks, seed=seed)
    frames, alpha = photo.frame[None], masks.union(0)[None, None]
    made = composite(frames, system.anonymize(Clip(frames), masks, seed=seed).frames.cpu(), alpha)
    landmarks = None if face.landmarks is None else tuple((float(x), float(y)) for x, y in face.landmarks)
    seen = Sighting(0, 0, who if who >= 0 else person_id, face.box, landmarks)
    return Result(frames[None], made[None], alpha[None], torch.tensor([number]), torch.tensor([who]), (seen,))


def strangers(n: int | None) -> dict[str, Figure]:
    """What different people on these portraits have: mean distance, and how often it is below that of one person."""
    photos = list(_photos(n))
    frames = torch.stack([photo.frame for _, photo, _ in photos])
    landmarks = torch.stack([photo.landmarks for _, photo, _ in photos])
    people = torch.tensor([who if who >= 0 else -2 - number for number, _, who in photos])
    network = FaceIdentity()
    return apart(face_identities(network, frames, landmarks), people, network.same_person_distance)


def apart(identities: torch.Tensor, people: torch.Tensor, threshold: float) -> dict[str, Figure]:
    """Distances between different people: their mean, and the share below a threshold; intervals over faces."""
    distances = torch.cdist(identities.double(), identities.double())
    is_other = people[:, None] != people
    counts = is_other.sum(1).clamp(min=1)
    means = (distances * is_other).sum(1) / counts
    shares = ((distances < threshold) & is_other).double().sum(1) / counts

    def of(values: torch.Tensor) -> dict[str, Any]:
        interval = within(t_interval(values), 0.0, math.inf)
        return {"value": float(values.mean()), "interval": interval, "n": len(values)}

    return {"distance": of(means), "near": of(shares)}
