"""The annotated faces and pedestrians, the clip made from them, and the one rule that says who is covered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _bench import HERE, WORK, frames_of, shared_data, write_clip
from numpy.typing import NDArray

MIN_FACE_PX = 16
COVERED_SHARE = 0.9
"""A face counts as covered where at least this share of the ellipse inscribed in its box is replaced. The ellipse,
because the corners of a face's box are background; not all of it, because the boxes are only good to about a tenth of
their size. The same rule holds for every tool, on the pixels that it replaces, whatever its masks look like."""


@dataclass(frozen=True, eq=False)
class Target:
    """A person annotated in one frame.

    Args:
        identity: The same number in another frame is the same person.
        frame: Index.
        box: ``x0 y0 x1 y1`` px.
        is_ignored: Counts neither as found nor as missed.
        is_subject: The person to keep.
        pixels: Shape h w of the box, bool: the person's own pixels; None for a face (then the inscribed ellipse).
    """

    identity: int
    frame: int
    box: tuple[int, int, int, int]
    is_ignored: bool = False
    is_subject: bool = False
    pixels: NDArray[np.bool_] | None = None

    @property
    def size_px(self) -> float:
        """Square root of the box's area."""
        x0, y0, x1, y1 = self.box
        return float(np.sqrt((x1 - x0) * (y1 - y0)))

    def covered(self, replaced: NDArray[np.bool_]) -> float:
        """The share of the target that a mask of the whole frame (shape h w) replaces."""
        x0, y0, x1, y1 = self.box
        own = ellipse(x1 - x0, y1 - y0) if self.pixels is None else self.pixels
        there = replaced[y0:y1, x0:x1]
        return float(there[own[: there.shape[0], : there.shape[1]]].mean())


@cache
def ellipse(width: int, height: int) -> NDArray[np.bool_]:
    """The ellipse inscribed in a box, shape height width."""
    rows = (np.arange(height) + 0.5) / height * 2 - 1
    columns = (np.arange(width) + 0.5) / width * 2 - 1
    return np.asarray(rows[:, None] ** 2 + columns[None] ** 2 <= 1)


@dataclass(frozen=True, eq=False)
class AnnotatedClip:
    """A clip and who is in it.

    Args:
        name: Short.
        path: Video, GIF or folder of images.
        n_frames: Number of frames.
        targets: By frame.
    """

    name: str
    path: Path
    n_frames: int
    targets: dict[int, list[Target]]

    def counted(self) -> Iterator[Target]:
        """The targets that count: neither ignored nor too small, and not the subject."""
        for found in self.targets.values():
            yield from (t for t in found if not t.is_ignored and not t.is_subject and t.size_px >= MIN_FACE_PX)


def face_clips() -> list[AnnotatedClip]:
    """Every clip with annotated faces."""
    record = json.loads((HERE / "annotations" / "faces.json").read_text())
    return [_face_clip(name, entry) for name, entry in record.items()]


def _face_clip(name: str, entry: dict[str, Any]) -> AnnotatedClip:
    targets: dict[int, list[Target]] = {frame: [] for frame in range(entry["n_frames"])}
    for face in entry["faces"]:
        for frame, box in enumerate(face["boxes"], face["first_frame"]):
            if box is not None:
                x, y, width, height = box
                is_ignored = frame in face["ignore"]
                where = (x, y, x + width, y + height)
                targets[frame].append(Target(face["id"], frame, where, is_ignored, face["is_subject"]))
    return AnnotatedClip(name, shared_data() / entry["source"], entry["n_frames"], targets)


def pedestrian_clip() -> AnnotatedClip:
    """The static street scene with pedestrians; identities are linked by overlap, for the neighbours in time only."""
    folder = shared_data() / "clips_with_masks" / "pets_vtest"
    plate = cv2.imread(str(folder / "clean_plate_median.png"))[:, :, ::-1].astype(np.int16)
    records = json.loads((folder / "boxes.json").read_text())
    masks = sorted((folder / "masks").iterdir())
    targets: dict[int, list[Target]] = {}
    next_identity = 0
    for record, mask_path, image in zip(records, masks, frames_of(folder / "frames"), strict=True):
        frame = record["frame"]
        mask = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE) > 127
        own = mask & (np.abs(image - plate).max(axis=2) > 24)
        targets[frame] = []
        taken: set[int] = set()
        for x, y, width, height, _ in record["persons"]:
            box = (
                max(0, round(x)),
                max(0, round(y)),
                min(mask.shape[1], round(x + width)),
                min(mask.shape[0], round(y + height)),
            )
            pixels = own[box[1] : box[3], box[0] : box[2]]
            if pixels.mean() < 0.15:
                continue
            before = [t for t in targets.get(frame - 1, []) if t.identity not in taken and overlap(t.box, box) > 0.3]
            if before:
                identity = max(before, key=lambda t: overlap(t.box, box)).identity
            else:
                identity, next_identity = next_identity, next_identity + 1
            taken.add(identity)
            targets[frame].append(Target(identity, frame, box, pixels=pixels))
    return AnnotatedClip("pets_vtest", folder / "frames", len(records), targets)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def walking_clip_1080p(n_frames: int) -> AnnotatedClip:
    """The two walking clips, enlarged (Lanczos) to 1920 x 1080, there and back again and again; 25 fps, H.264.

    The annotations are enlarged with them.
    """
    parts = [clip for clip in face_clips() if clip.name in ("intel_walking", "intel_walking_pause")]
    order: list[tuple[AnnotatedClip, int]] = []
    while len(order) < n_frames:
        for part in parts:
            order += [(part, at) for at in (*range(part.n_frames), *reversed(range(part.n_frames)))]
    order = order[:n_frames]
    pictures = {part.name: list(frames_of(part.path)) for part in parts}
    enlarged = (
        cv2.resize(pictures[part.name][at], (1920, 1080), interpolation=cv2.INTER_LANCZOS4) for part, at in order
    )
    path = write_clip(WORK / f"walking_1080p_{n_frames}.mp4", enlarged)
    targets = {
        frame: [
            replace(
                t, frame=frame, identity=t.identity + 100 * parts.index(part), box=tuple(4 * side for side in t.box)
            )
            for t in part.targets[at]
        ]
        for frame, (part, at) in enumerate(order)
    }
    return AnnotatedClip(path.stem, path, n_frames, targets)


@dataclass(frozen=True)
class Recall:
    """How many targets were covered.

    Args:
        n_targets: All that count.
        n_covered: Of them covered by at least `COVERED_SHARE`.
        n_between: Missed, although the same person is covered in the frame before and in the frame after.
        mean_share: Mean covered share of a target.
        worst_frame: Smallest share of covered targets in one frame.
    """

    n_targets: int
    n_covered: int
    n_between: int
    mean_share: float
    worst_frame: float

    @property
    def share(self) -> float | None:
        """Recall in [0, 1]; None without targets."""
        return self.n_covered / self.n_targets if self.n_targets else None


def recall(targets: Iterator[Target] | Sequence[Target], shares: dict[tuple[int, int], float]) -> Recall:
    """Recall from the covered share of each (identity, frame)."""
    counted = list(targets)
    is_covered = {key: share >= COVERED_SHARE for key, share in shares.items()}
    by_frame: dict[int, list[bool]] = {}
    n_between = 0
    for target in counted:
        who, frame = target.identity, target.frame
        here = is_covered[who, frame]
        by_frame.setdefault(frame, []).append(here)
        n_between += not here and is_covered.get((who, frame - 1), False) and is_covered.get((who, frame + 1), False)
    covered = [is_covered[t.identity, t.frame] for t in counted]
    mean = float(np.mean([shares[t.identity, t.frame] for t in counted])) if counted else 1.0
    worst = min((float(np.mean(found)) for found in by_frame.values()), default=1.0)
    return Recall(len(counted), sum(covered), n_between, mean, worst)
