"""Measures that metrics of pa_lib do not have: pose, seam, light, and whether several people are still several."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import Box, Result
from pa_lib.functional import resampled_interval, wilson_interval
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.sharpness import gradient_sums
from pa_lib.metrics import FaceComparer, TemporalWarpingError
from pa_lib.metrics.faces.comparer import FacePairs
from pa_lib.pretrained.optical_flow import AbstractOpticalFlow, DISFlow

BLOCK = 8
"""Frames that are drawn together for an interval: neighbours in time are alike."""
RESAMPLES = 200
EDGE_PX = 3
"""Distance from a mask's edge, on either side, at which colors are compared: beyond the soft edge of head masks, which
is 2 px wide, and its rounding to cells of chroma."""
EYES_APART = 0.928
"""Distance of the eyes over the distance from their middle to that of the mouth, from the front: as in dlib's chips."""
SKIN_CHROMA, SKIN_LIGHTNESS, LEAST_SKIN = 8.0, 20.0, 25
"""How far, in Lab, a visible pixel may be from the filmed face to be skin of the same person, in a b and in L (shadows
of the chin are dark), and the least number of such pixels."""
_HULL = 0.7  # of the quadrilateral of eyes and corners of the mouth: without eyes and lips
Figure = dict[str, Any]
Row = tuple[str, float, float]  # group, numerator, denominator


def figure(rows: Sequence[Row]) -> Figure:
    """Sum of numerators over sum of denominators; interval by draws of groups. A denominator of 1 makes it a mean."""
    rows = [row for row in rows if row[2] > 0]
    names = {name: number for number, name in enumerate(sorted({row[0] for row in rows}))}
    numbers = torch.tensor([row[1:] for row in rows], dtype=torch.float64).reshape(-1, 2)
    groups = torch.tensor([names[row[0]] for row in rows], dtype=torch.int64)

    def ratio(at: Tensor) -> float:
        above, below = numbers[at].sum(0).tolist()
        return float(above / below)

    if not len(rows):
        return {"value": None, "interval": None, "n": 0}
    value = ratio(torch.arange(len(rows)))
    interval = resampled_interval(ratio, groups, value, RESAMPLES)
    return {
        "value": value,
        "interval": None if interval is None else [max(0.0, interval[0]), interval[1]],
        "n": len(rows),
    }


def share(hits: int, n: int) -> Figure:
    """A rate with Wilson's interval."""
    return {"value": hits / n if n else None, "interval": list(wilson_interval(hits, n)) if n else None, "n": n}


# -- faces -------------------------------------------------------------------------------------------------------------


class FaceReadings:
    """What a comparer reads off a face in the place of an identity: landmarks, and the color of the skin.

    Before and after are cut out at the same place, so that landmarks compare.
    """

    n_dimensions = 13
    same_person_distance = 0.0

    def embed(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Five points in pixels of the image, then the median Lab color between eyes and mouth; shape n 13."""
        rows = [np.concatenate([points.ravel(), inner_color(image, points)]) for points in landmarks]
        return np.array(rows, np.float32).reshape(-1, self.n_dimensions)


def lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE Lab of RGB, L in 0..100."""
    found: NDArray[np.float32] = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return found


def inner_color(image: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median Lab color of a face between eyes and mouth; of the whole image where these lie beyond it."""
    corners = points[[0, 1, 4, 3]].astype(np.float64)
    hull = corners.mean(0) + _HULL * (corners - corners.mean(0))
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(hull.round().astype(np.int32)), 1)
    colors = lab(image)
    seen = colors[inside > 0] if inside.any() else colors.reshape(-1, 3)
    return np.asarray(np.median(seen, axis=0), np.float32)


def pose_error(filmed: NDArray[np.float32], shown: NDArray[np.float32]) -> tuple[float, float]:
    """How well one face has the pose of another.

    Args:
        filmed: Landmarks of the filmed face in the order of `Detection`, shape 5 2 px.
        shown: Landmarks of what took its place.

    Returns:
        Angle between the lines of the eyes in degrees, in [0, 180], and the mean distance of the five points as a share
        of the distance of the filmed eyes, as it would be from the front.
    """
    tilts = [math.degrees(math.atan2(*(points[1] - points[0])[::-1])) for points in (filmed, shown)]
    turn = abs((tilts[1] - tilts[0] + 180) % 360 - 180)
    left, right, _, *mouth = filmed
    down = float(np.linalg.norm((mouth[0] + mouth[1]) / 2 - (left + right) / 2))
    eyes = max(float(np.linalg.norm(right - left)), EYES_APART * down)  # the latter where the face is turned
    return turn, float(np.linalg.norm(shown - filmed, axis=1).mean()) / max(eyes, 1e-6)


# -- edge and light ----------------------------------------------------------------------------------------------------


def edge_steps(frames: Tensor, hidden: NDArray[np.bool_], reach: float = EDGE_PX) -> NDArray[np.float64]:
    """Change of color across the edge of a mask, summed along it: RGB, between points `reach` px inside and outside.

    Args:
        frames: Pictures to compare, shape n 3 h w in [0, 1].
        hidden: Pixels that are hidden, shape h w. Where they end with the frame there is no edge.
        reach: Distance of both points from the edge in px.

    Returns:
        The sums, one for each picture. The ratio of two of them is that of gradients across the edge.
    """
    box = bounding_box(hidden)
    if box is None or hidden.all():
        return np.zeros(len(frames))
    far = math.ceil(reach) + 3
    rows, columns = (slice(max(0, part.start - far), part.stop + far) for part in box)
    inside = hidden[rows, columns].astype(np.uint8)
    depth, height = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (inside, 1 - inside))
    down, along = np.gradient(cv2.GaussianBlur(depth - height, (0, 0), 1.5))
    y, x = np.nonzero((depth > 0) & (depth <= 1))
    normal = np.stack([along[y, x], down[y, x]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    edge = np.stack([x, y], 1) - 0.5 * normal  # pixels' middles lie half a pixel inside
    inner, outer = edge + reach * normal, edge - reach * normal
    size = np.array(inside.shape[::-1])
    at = [np.clip(points.round().astype(int), 0, size - 1) for points in (inner, outer)]
    is_there = ((outer >= 0) & (outer <= size - 1) & (inner >= 0) & (inner <= size - 1)).all(1)
    is_there &= (inside[at[0][:, 1], at[0][:, 0]] == 1) & (inside[at[1][:, 1], at[1][:, 0]] == 0)
    inner, outer = (points[is_there].astype(np.float32) for points in (inner, outer))
    if not len(inner):
        return np.zeros(len(frames))
    sums = []
    for frame in frames[..., rows, columns]:
        picture = np.ascontiguousarray(frame.permute(1, 2, 0).float().numpy())
        # One pixel to a row: remap refuses pictures wider than 32767.
        there, here = (
            cv2.remap(picture, points[:, None, :1], points[:, None, 1:], cv2.INTER_LINEAR)[:, 0]
            for points in (inner, outer)
        )
        sums.append(float(np.linalg.norm(there - here, axis=1).sum()))
    return np.array(sums)


def visible_skin(
    image: NDArray[np.uint8], hidden: NDArray[np.bool_], box: Box, filmed: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Median Lab color of skin that stays visible around a head: neck and hands.

    Args:
        image: The filmed frame, shape h w 3.
        hidden: Pixels that are hidden, shape h w.
        box: Box of the filmed face; what is from its top to four of its heights below, and one and a half widths to
            either side, is looked at.
        filmed: Lab color of the filmed face: skin is what has nearly this color.

    Returns:
        None where there are fewer than `LEAST_SKIN` such pixels.
    """
    x0, y0, x1, y1 = box
    wide, tall = x1 - x0, y1 - y0
    rows = slice(max(0, math.floor(y0)), max(0, math.ceil(y1 + 4 * tall)))
    columns = slice(max(0, math.floor(x0 - 1.5 * wide)), max(0, math.ceil(x1 + 1.5 * wide)))
    part = image[rows, columns]
    if not part.size:
        return None
    colors = lab(part)
    away = colors - filmed
    is_skin = (np.hypot(away[..., 1], away[..., 2]) <= SKIN_CHROMA) & (np.abs(away[..., 0]) <= SKIN_LIGHTNESS)
    is_skin &= ~hidden[rows, columns]
    if is_skin.sum() < LEAST_SKIN:
        return None
    return np.asarray(np.median(colors[is_skin], axis=0), np.float32)


# -- whole results -----------------------------------------------------------------------------------------------------


class Measures:
    """Gathers all measures over the results of one clip, or of many clips of one frame.

    Args:
        has_flow: Whether pairs of frames are compared.
        compare: The comparer of the metrics, which has the identities already.
    """

    def __init__(self, compare: FaceComparer, *, has_flow: bool) -> None:
        self.compare = compare
        self.readings = FaceComparer(finder=compare.finder, network=FaceReadings())
        self.flow: AbstractOpticalFlow | None = DISFlow() if has_flow else None
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self.identities: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        self.filmed: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        self._n_frames = 0

    def add(self, result: Result) -> None:
        """Add one clip, or the next frames of it. Frames of context were added before."""
        context, n_frames = result.context, result.source.shape[1]
        blocks = [f"{(self._n_frames + at - context) // BLOCK}" for at in range(n_frames)]
        if n_frames == 1:
            blocks = [f"clip {int(result.clip_ids[0])}"]
        for at in range(context, n_frames):
            self._add_frame(result, at, blocks[at])
        if self.flow is not None:
            for at, after, before in pair_errors(result, self.flow):
                self.rows["warping"].append((blocks[at], after, before))
        self._add_faces(result, blocks)
        self._n_frames += n_frames - context

    def _add_frame(self, result: Result, at: int, block: str) -> None:
        mask = result.masks[0, at]
        box = bounding_box(mask[0])
        if box is None:
            return
        pair = torch.stack([result.anonymized[0, at], result.source[0, at]]).float() / 255
        after, before = gradient_sums(pair[..., *box], mask[None, :, *box].float())[0].tolist()
        self.rows["sharpness"].append((block, after, before))
        after, before = edge_steps(pair, (mask[0] > 0).numpy()).tolist()
        self.rows["seam"].append((block, after, before))

    def _add_faces(self, result: Result, blocks: Sequence[str]) -> None:
        given = (result.source, result.anonymized, result.people, result.masks, result.context)
        known: FacePairs = self.compare(*given)
        for face in known.is_compared.nonzero()[:, 0].tolist():
            person_id = int(known.person_ids[face])
            self.identities[person_id].append(known.anonymized[face].double().numpy())
            self.filmed[person_id].append(known.source[face].double().numpy())
        read: FacePairs = self.readings(*given)
        boxes = {(one.frame, one.person_id): one.box for one in result.people or () if one.kind == "face"}
        is_found = read.is_found & read.is_found_in_source & read.is_compared
        for face in read.is_compared.nonzero()[:, 0].tolist():
            frame, person_id = int(read.frames[face]), int(read.person_ids[face])
            before, after = (part[face].numpy() for part in (read.source, read.anonymized))
            group = f"{person_id}, {blocks[frame]}"
            if bool(is_found[face]):
                turn, away = pose_error(before[:10].reshape(5, 2), after[:10].reshape(5, 2))
                self.rows["eye_line"].append((group, turn, 1.0))
                self.rows["landmarks"].append((group, away, 1.0))
            box = boxes.get((frame, person_id))
            image = result.source[0, frame].permute(1, 2, 0).numpy()
            skin = None if box is None else visible_skin(image, result.masks[0, frame, 0].numpy() > 0, box, before[10:])
            if skin is not None:
                self.rows["light"].append((group, float(np.linalg.norm(after[10:] - skin)), 1.0))
                self.rows["light_filmed"].append((group, float(np.linalg.norm(before[10:] - skin)), 1.0))

    def figures(self) -> dict[str, Figure]:
        """All that was gathered, by name."""
        names = ("warping", "sharpness", "seam", "eye_line", "landmarks", "light", "light_filmed")
        found = {name: figure(self.rows[name]) for name in names}
        if found["warping"]["n"] == 0:
            del found["warping"]
        return found

    def apart(self, threshold: float) -> dict[str, Figure]:
        """Whether people of a clip got faces of different people: share of pairs, the nearest, and as they were."""
        found: dict[str, Figure] = {}
        for suffix, identities in (("", self.identities), ("_filmed", self.filmed)):
            means = [np.mean(faces, axis=0) for faces in identities.values()]
            distances = [float(np.linalg.norm(one - other)) for one, other in itertools.combinations(means, 2)]
            beyond = sum(distance > threshold for distance in distances)
            found[f"pairs_apart{suffix}"] = share(beyond, len(distances))
            found[f"nearest_pair{suffix}"] = {
                "value": min(distances, default=None),
                "interval": None,
                "n": len(distances),
            }
        return found


def pair_errors(result: Result, flow: AbstractOpticalFlow) -> Iterator[tuple[int, float, float]]:
    """Warping errors inside the mask of every pair of frames: row of the later one, of the output and of the source.

    As `TemporalWarpingError` has them; pairs of which nothing inside can be compared are left out.
    """
    for at in range(max(1, result.context), result.source.shape[1]):
        metric, pair = TemporalWarpingError(flow), slice(at - 1, at + 1)
        metric.update(result.source[:, pair], result.anonymized[:, pair], result.masks[:, pair], context=1)
        values = {value.name: value.value for value in metric.measure().values}
        after, before = values["warping_error_inside"], values["warping_error_inside_source"]
        if math.isfinite(after) and math.isfinite(before):
            yield at, after, before
