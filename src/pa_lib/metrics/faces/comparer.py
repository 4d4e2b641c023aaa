"""The same face before and after: found, set upright and embedded in both videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import Box, Detection, FaceNetwork, Image, Sighting
from pa_lib.functional.boxes import bounding_box, box_overlaps
from pa_lib.functional.hashing import weights_sha256
from pa_lib.functional.pixels import as_unit, check_videos
from pa_lib.pretrained import CenterFace, FaceIdentity, asset_manifest

Points = NDArray[np.float32]

# Of 79 faces of 9 to 153 px on six real clips that a search of the whole frame found, these find 96 % again, in 3 to
# 7 ms each; at 128 px 91 %, at 1 box of margin the same 96 % in 1.6 times the time. At random places without a face
# they found none in 329.
MARGIN = 0.5  # of the box's longer side, on each side
LOOK_PX = (48.0, 96.0)  # a face is enlarged or shrunk to between these before it is searched for
REGION_PX = (256.0, 640.0)  # and a region in which a face is searched for, a body or a mask, to between these
ALIGN_MARGIN = 1.0  # the network's own picture of a face reaches about 0.8 of its box beyond it


@runtime_checkable
class FaceFinder(Protocol):
    """What a face detector must have."""

    def detect(self, images: Sequence[Image]) -> list[list[Detection]]:
        """Faces in each image, with landmarks."""
        ...


@dataclass(frozen=True, eq=False)
class FacePairs:
    """Faces of one update, one entry for each person and frame; n may be 0.

    Args:
        rows: Row in the batch, shape n.
        person_ids: Id of the person, shape n.
        frames: Index of the frame within the clip, shape n.
        source: Embedding in the source, shape n d; NaN where the face cannot be compared: it is too small, or neither
            its landmarks were given nor did the finder see it.
        anonymized: Embedding at the same place of the anonymized frame, shape n d; NaN exactly where `source` is.
        is_small: Whether the face is too small to be compared, shape n.
        is_found_in_source: Whether the finder sees the face in the source, shape n.
        is_found: Whether the finder sees a face at that place of the anonymized frame, shape n.
        scores: Score of the finder there, shape n; 0 where no face was found.
        n_faceless: Number of hidden bodies and masks in which no face was seen, shape b.
    """

    rows: Int[Tensor, " n"]
    person_ids: Int[Tensor, " n"]
    frames: Int[Tensor, " n"]
    source: Float[Tensor, "n d"]
    anonymized: Float[Tensor, "n d"]
    is_small: Bool[Tensor, " n"]
    is_found_in_source: Bool[Tensor, " n"]
    is_found: Bool[Tensor, " n"]
    scores: Float[Tensor, " n"]
    n_faceless: Int[Tensor, " b"]

    @property
    def is_compared(self) -> Bool[Tensor, " n"]:
        """Shape n: both embeddings are there."""
        return self.source.isfinite().all(1) & self.anonymized.isfinite().all(1)


@dataclass(frozen=True)
class _Face:
    """One face to look at: where it is in the source, and its landmarks if they are known."""

    row: int
    frame: int
    person_id: int
    box: Box
    landmarks: Points | None


class FaceComparer:
    """Finds the hidden faces of the source again in the anonymized video, and embeds both.

    A face counts as found where the finder sees one of at least `min_score` whose box overlaps the place by
    `min_overlap`. Each frame's own landmarks set its face upright where it is found. Where it is not, the source's do,
    in both frames: a face that was destroyed is still embedded, and counted as not found.

    Which faces: the sightings of hidden faces; for a hidden body whose face was not sighted in that frame, the largest
    face that the finder sees inside its box. Without sightings, the largest face that it sees with its centre inside
    the mask, one to a frame, as person 0.

    The last result is cached: metrics that share one comparer compute it once for the same tensors.

    Args:
        finder: Finder of faces with landmarks; `CenterFace` if None.
        network: Network that embeds faces; `FaceIdentity` if None.
        min_score: Least score of the finder, in [0, 1]; 0.4 is that of CenterFace's authors.
        min_overlap: Least intersection over union of a found face with the place, in [0, 1].
        min_face_px: Least size of a face that is compared, the root of its box's area in pixels: below about 20 px
            strangers come as near as pictures of one person. Smaller faces count for detection.

    Raises:
        ValueError: A setting is out of its range.
    """

    def __init__(
        self,
        finder: FaceFinder | None = None,
        network: FaceNetwork | None = None,
        min_score: float = 0.4,
        min_overlap: float = 0.3,
        min_face_px: float = 20.0,
    ) -> None:
        for name, value in (("min_score", min_score), ("min_overlap", min_overlap)):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}, expected a number between 0 and 1")
        if not min_face_px >= 0:
            raise ValueError(f"min_face_px is {min_face_px}, expected 0 or more")
        self.finder: FaceFinder = CenterFace() if finder is None else finder
        self.network: FaceNetwork = FaceIdentity() if network is None else network
        self.min_score, self.min_overlap, self.min_face_px = min_score, min_overlap, min_face_px
        self._last: tuple[tuple[Any, ...], FacePairs] | None = None

    def __call__(
        self,
        source: Tensor,
        anonymized: Tensor,
        people: Sequence[Sighting] | None = None,
        masks: Tensor | None = None,
        context: int = 0,
    ) -> FacePairs:
        """The faces of one update; arguments as in `contracts.Result`. The first `context` frames are left out.

        Raises:
            ValueError: Shapes do not fit, pixels are out of range, or neither `people` nor `masks` are given.
        """
        # Versions change when a tensor is written to; the tensors themselves are held, so that none takes their place.
        tensors = [item for item in (source, anonymized, masks) if item is not None]
        sightings = None if people is None else tuple(people)
        key = (sightings, context, len(tensors), *tensors, *map(_version, tensors))
        if self._last is not None and len(self._last[0]) == len(key) and all(map(_is_same, self._last[0], key)):
            return self._last[1]
        _check(source, anonymized, people, masks, context)
        pairs = self._compare(source, anonymized, people, masks, context)
        self._last = key, pairs
        return pairs

    def release(self) -> None:
        """Drop the cached result, and the frames that it was for."""
        self._last = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_last": None}

    def protocol(self) -> dict[str, Any]:
        """What decides which faces are compared, and how; see `AbstractMetric.protocol`."""
        return {
            "finder": network_protocol(self.finder),
            "finder_min_score": self.min_score,
            "found": f"box overlaps the face's box in the source by IoU >= {self.min_overlap}",
            "look_px": list(LOOK_PX),
            "look_margin": MARGIN,
            "region_px": list(REGION_PX),
            "network": {**network_protocol(self.network), "dimensions": self.network.n_dimensions},
            "landmarks": "each frame's own where the face is found, else those of the source",
            "not_found": "embedded at the landmarks of the source, and counted",
            "least_face_px": self.min_face_px,  # its name in hashes of protocols
            "pixels": "8-bit RGB",
        }

    def _compare(
        self,
        source: Tensor,
        anonymized: Tensor,
        people: Sequence[Sighting] | None,
        masks: Tensor | None,
        context: int,
    ) -> FacePairs:
        n_faceless = [0] * len(source)
        faces: list[_Face] = []
        seen = self._sighted(source, people, context) if people is not None else self._masked(source, masks, context)
        for row, face in seen:
            if face is None:
                n_faceless[row] += 1
            else:
                faces.append(face)
        d = self.network.n_dimensions
        embeddings = np.full((2, len(faces), d), np.nan, np.float32)
        flags, scores = np.zeros((3, len(faces)), bool), np.zeros(len(faces))
        for at, face in enumerate(faces):
            before, after = source[face.row, face.frame], anonymized[face.row, face.frame]
            own = self._near(before, face.box, face.box)
            # A box that was tracked or drawn is less exact than one that was just found. Both frames are looked at
            # through the same window, so that equal pictures have equal landmarks.
            box = face.box if own is None else own.box
            points = face.landmarks if own is None or own.landmarks is None else own.landmarks
            other = self._near(after, face.box, box)
            flags[:, at] = _size(box) < self.min_face_px, own is not None, other is not None
            scores[at] = 0.0 if other is None else other.score
            if points is not None and not flags[0, at]:
                embeddings[0, at] = self._embedded(before, box, points)
                after_points = points if other is None or other.landmarks is None else other.landmarks
                embeddings[1, at] = self._embedded(after, box, after_points)
        embeddings[:, ~np.isfinite(embeddings).all((0, 2))] = np.nan
        numbers = np.array([(face.row, face.person_id, face.frame) for face in faces], np.int64).reshape(-1, 3)
        return FacePairs(
            rows=torch.from_numpy(numbers[:, 0].copy()),
            person_ids=torch.from_numpy(numbers[:, 1].copy()),
            frames=torch.from_numpy(numbers[:, 2].copy()),
            source=torch.from_numpy(embeddings[0]),
            anonymized=torch.from_numpy(embeddings[1]),
            is_small=torch.from_numpy(flags[0]),
            is_found_in_source=torch.from_numpy(flags[1]),
            is_found=torch.from_numpy(flags[2]),
            scores=torch.from_numpy(scores),
            n_faceless=torch.tensor(n_faceless, dtype=torch.int64),
        )

    def _sighted(self, source: Tensor, people: Sequence[Sighting], context: int) -> Iterator[tuple[int, _Face | None]]:
        """The rows and faces of hidden people; None for bodies without."""
        hidden = [one for one in people if one.is_hidden and one.frame >= context]
        with_face = {(one.clip, one.frame, one.person_id) for one in hidden if one.kind == "face"}
        for one in sorted(hidden, key=lambda one: (one.clip, one.frame, one.person_id)):
            if one.kind == "face":
                points = None if one.landmarks is None else np.array(one.landmarks, np.float32)
                yield one.clip, _Face(one.clip, one.frame, one.person_id, one.box, points)
            elif (one.clip, one.frame, one.person_id) not in with_face:
                yield one.clip, self._inside(source, one.clip, one.frame, one.person_id, one.box, None)

    def _masked(self, source: Tensor, masks: Tensor | None, context: int) -> Iterator[tuple[int, _Face | None]]:
        """The rows and faces inside masks; None for masks without."""
        assert masks is not None
        for row in range(len(source)):
            for frame in range(context, source.shape[1]):
                mask = masks[row, frame, 0] > 0.5
                found = bounding_box(mask)
                if found is not None:
                    rows, columns = found
                    box = float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)
                    yield row, self._inside(source, row, frame, 0, box, mask)

    def _inside(
        self, source: Tensor, row: int, frame: int, person_id: int, region: Box, mask: Tensor | None
    ) -> _Face | None:
        """The largest face with its centre in a region."""
        side = max(region[2] - region[0], region[3] - region[1])
        found = []
        for face in self._look(source[row, frame], region, MARGIN / 2, float(np.clip(side, *REGION_PX)) / side):
            x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
            is_in = region[0] <= x < region[2] and region[1] <= y < region[3]
            if is_in and (mask is None or bool(mask[min(int(y), mask.shape[0] - 1), min(int(x), mask.shape[1] - 1)])):
                found.append(face)
        if not found:
            return None
        best = max(found, key=lambda face: _size(face.box))
        return _Face(row, frame, person_id, best.box, best.landmarks)

    def _near(self, frame: Tensor, window: Box, place: Box) -> Detection | None:
        """The face with the highest score at a place, searched for around a window."""
        side = max(window[2] - window[0], window[3] - window[1])
        if not side > 0:
            return None
        found = self._look(frame, window, MARGIN, float(np.clip(side, *LOOK_PX)) / side)
        if not found:
            return None
        overlaps = box_overlaps(np.array([one.box for one in found], np.float32), np.array([place], np.float32))[:, 0]
        there = [one for one, overlap in zip(found, overlaps, strict=True) if overlap >= self.min_overlap]
        return max(there, key=lambda one: one.score, default=None)

    def _look(self, frame: Tensor, box: Box, margin: float, zoom: float) -> list[Detection]:
        """Faces in and around a box, in pixels of the frame."""
        cut = _cut(frame, box, margin)
        if cut is None:
            return []
        image, corner = cut
        height, width = image.shape[:2]
        size = max(1, round(width * zoom)), max(1, round(height * zoom))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        scale = np.array([width / size[0], height / size[1]])
        found = []
        for one in self.finder.detect([image])[0]:
            if one.kind == "face" and one.score >= self.min_score:
                x0, y0, x1, y1 = (np.array(one.box).reshape(2, 2) * scale + corner).ravel().tolist()
                points = None if one.landmarks is None else (one.landmarks * scale + corner).astype(np.float32)
                found.append(Detection("face", (x0, y0, x1, y1), one.score, points))
        return found

    def _embedded(self, frame: Tensor, box: Box, points: Points) -> NDArray[np.float32]:
        cut = _cut(frame, box, ALIGN_MARGIN)
        if cut is None or len(np.unique(points, axis=0)) < 2:
            return np.full(self.network.n_dimensions, np.nan, np.float32)
        image, corner = cut
        # One at a time: sums inside a network change in their last digits with the number of pictures at once.
        embedding: NDArray[np.float32] = self.network.embed(image, (points - corner).astype(np.float32)[None])[0]
        return embedding


def _cut(frame: Tensor, box: Box, margin: float) -> tuple[Image, NDArray[np.float64]] | None:
    """The part of a frame (3 h w) around a box, 8-bit h w 3, and its upper left corner; None beyond the frame."""
    x0, y0, x1, y1 = box
    reach = max(x1 - x0, y1 - y0) * margin
    left, top = max(0, int(np.floor(x0 - reach))), max(0, int(np.floor(y0 - reach)))
    right, bottom = min(frame.shape[2], int(np.ceil(x1 + reach))), min(frame.shape[1], int(np.ceil(y1 + reach)))
    if right <= left or bottom <= top:
        return None
    part = frame[:, top:bottom, left:right].detach()
    if part.is_floating_point():
        part = (part.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(part.permute(1, 2, 0).cpu().numpy()), np.array([left, top], np.float64)


def _size(box: Box) -> float:
    return float(np.sqrt(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])))


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one is other or (isinstance(one, int) and isinstance(other, int) and one == other)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def network_protocol(part: Any) -> dict[str, Any]:
    """A network's class, and the sha256 of its weights where it has any."""
    protocol: dict[str, Any] = {"name": type(part).__name__}
    if isinstance(part, CenterFace):
        protocol["sha256"] = asset_manifest()["centerface.onnx"].sha256
    if isinstance(part, torch.nn.Module):
        protocol["sha256"] = weights_sha256(part.state_dict(), has_header=False)
    return protocol


def _check(
    source: Tensor, anonymized: Tensor, people: Sequence[Sighting] | None, masks: Tensor | None, context: int
) -> None:
    check_videos(source, anonymized, masks, context=context)
    for frames in (source, anonymized):
        if frames.dtype != torch.uint8:
            as_unit(frames)  # refuses what is out of range
    b, t = source.shape[:2]
    if people is None and masks is None:
        raise ValueError("neither people nor masks are given: it is unknown which faces were to be hidden")
    for one in people or ():
        if not (0 <= one.clip < b and 0 <= one.frame < t):
            raise ValueError(
                f"a sighting is of clip {one.clip}, frame {one.frame}, but there are {b} clips of {t} frames"
            )
        if not np.isfinite(one.box).all() or (one.landmarks is not None and not np.isfinite(one.landmarks).all()):
            raise ValueError(f"a sighting of person {one.person_id} has a box or landmarks that are not finite")
