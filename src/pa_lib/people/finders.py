"""Finders: detectors of `pretrained` with the scales and tiles that real frames need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection, Silhouettes
from pa_lib.errors import SettingError
from pa_lib.functional.boxes import box_overlaps
from pa_lib.functional.head_outline import head_in_outline
from pa_lib.people.tiles import find_in_tiles, merged, scaled
from pa_lib.people.tracking.heads import expected_head
from pa_lib.pretrained import MTCNN, CenterFace, NanoDet

Image = NDArray[np.uint8]


class AbstractFinder(ABC):
    """Finds faces, whole bodies or both in single frames."""

    @abstractmethod
    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        """The detections in each image, with the detector's raw score; a tracker extends tracks by the low ones.

        Args:
            images: RGB images, shape h w 3 each.

        Raises:
            PaLibError: Weights are missing or damaged: no frame can be searched.
            Exception: Anything else means that these images could not be searched.
        """

    @abstractmethod
    def release(self) -> None:
        """Give the networks' memory back; the next `find` loads them again."""


class CenterFaceFinder(AbstractFinder):
    """Faces by CenterFace: the frame at full resolution, and a small overview for faces that fill it.

    CenterFace measures faces of about 15 to 400 px; a larger one gets a box that is too small, so frames whose longer
    side is above 1.5 `overview_px` are seen once more at that size (13 % more time at 1080p).

    Args:
        min_score: Least score of a detection, in [0, 1]; see `CenterFace`.
        zoom: Enlargement before the search; time grows with its square. None takes up to 1.5 for frames below 1280 px
            and 1 from there on. At 854 x 480, 1.5 instead of 1 finds 310 instead of 301 of 320 crowd faces of 16 px
            and up with a score above 0.4 (0.2: 318 and 313), in 2.8 times the time; 2 finds no more.
        tile_px: Longer side in pixels of the image that the network gets at once; the other is 9/16 of it, rounded up
            to whole steps of 32. Larger frames are cut into tiles, so memory stays that of 1080p (386 MB) at any size.
        overlap_px: Overlap of neighbouring tiles in pixels. Faces larger than this are left to the overview.
        overview_px: Longer side of the overview in pixels.
        n_threads: Number of threads of the network; 0 = automatic.

    Raises:
        SettingError: A setting is out of its range.
    """

    def __init__(
        self,
        min_score: float = 0.2,
        zoom: float | None = None,
        tile_px: int = 1920,
        overlap_px: int = 192,
        overview_px: int = 640,
        n_threads: int = 0,
    ) -> None:
        if zoom is not None and not 0.1 <= zoom <= 8:
            raise SettingError(f"zoom is {zoom}, expected 0.1 to 8, or None")
        if tile_px < 320 or overview_px < 320:
            raise SettingError(f"tile_px is {tile_px} and overview_px {overview_px}, expected at least 320")
        if not 0 <= overlap_px < tile_px // 2:
            raise SettingError(f"overlap_px is {overlap_px}, expected 0 to half of tile_px ({tile_px})")
        self.zoom, self.tile_px, self.overlap_px, self.overview_px = zoom, tile_px, overlap_px, overview_px
        self._detector = CenterFace(min_score, n_threads=n_threads)

    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        """Faces in each image, best first, with landmarks. See `AbstractFinder.find`."""
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Detection]:
        height, width = image.shape[:2]
        short_px = -(-self.tile_px * 9 // 16 // 32) * 32
        tile = (self.tile_px, short_px) if width >= height else (short_px, self.tile_px)
        zoom = self.zoom if self.zoom is not None else float(np.clip(1280 / max(height, width), 1, 1.5))
        found = find_in_tiles(image, self._detector.detect, zoom=zoom, tile=tile, overlap=self.overlap_px)
        if max(height, width) * zoom > 1.5 * self.overview_px:
            scale = self.overview_px / max(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            back = width / size[0], height / size[1]
            found += [scaled(detection, *back) for detection in self._detector.detect([small])[0]]
        return merged(found, 0.3)

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._detector.release()


class MtcnnFinder(AbstractFinder):
    """Faces by MTCNN, which builds its own pyramid of scales.

    Args:
        min_score: Least score of a detection, in [0, 1].
        min_face_px: Size of the smallest faces that are detected, in pixels of the frame.
        max_side_px: Longest side of a frame in pixels; larger frames are shrunk to it, which bounds memory.

    Raises:
        SettingError: A setting is out of its range.
    """

    def __init__(self, min_score: float = 0.5, min_face_px: int = 16, max_side_px: int = 1920) -> None:
        if max_side_px < 64:
            raise SettingError(f"max_side_px is {max_side_px}, expected at least 64")
        self.max_side_px = max_side_px
        self._detector = MTCNN(min_score, min_face_px)

    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        """Faces in each image, best first, with landmarks. See `AbstractFinder.find`."""
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Detection]:
        zoom = min(1.0, self.max_side_px / max(image.shape[:2]))
        side = self.max_side_px
        return find_in_tiles(image, self._detector.detect, zoom=zoom, tile=(side, side), overlap=0)

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._detector.release()


class PeopleFinder(AbstractFinder):
    """Whole people by NanoDet-g, in two passes: the frame at the size it was trained for, and larger for small people.

    The network takes any size, so the larger pass needs no tiles and cuts no person in two. It finds people of 22 px
    and up at its own size reliably (44 px in a frame of 1920 x 1080, 17 px in one of 480 x 360), and two in three of 15
    to 18 px.

    Args:
        min_score: Least score of a detection, in [0, 1]; see `NanoDet`.
        detail_px: Longest side of the larger pass in pixels. It never enlarges a frame by more than a third: beyond
            that recall falls again (measured on the shared pedestrian clip).
        n_threads: Number of threads of the network; 0 = automatic.
        outlines: Network that finds the outline of the person in a box, for example `pa_lib.pretrained.
            SelfieSegmentation`: the detections then say where the head is in it. None: they do not.

    Raises:
        SettingError: A setting is out of its range.
    """

    overview_px = 416

    def __init__(
        self,
        min_score: float = 0.25,
        detail_px: int = 960,
        n_threads: int = 0,
        outlines: Silhouettes | None = None,
    ) -> None:
        if detail_px < self.overview_px:
            raise SettingError(f"detail_px is {detail_px}, expected at least {self.overview_px}")
        self.detail_px = detail_px
        self.outlines = outlines
        self._detector = NanoDet(min_score, self.overview_px, n_threads)

    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        """People in each image, best first. See `AbstractFinder.find`."""
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Detection]:
        longer = max(image.shape[:2])
        people = self._detector.detect([image], side_px=self.overview_px)[0]
        side = round(min(self.detail_px, longer * 4 / 3))
        if side > self.overview_px:
            details = self._detector.detect([image], side_px=side)[0]
            people = people + without_parts(details, people, min_height=self.overview_px * longer / side)
        return [self._with_head(person, image) for person in merged(people, 0.5)]

    def _with_head(self, person: Detection, image: Image) -> Detection:
        if self.outlines is None:
            return person
        (top, left, likely), *_ = self.outlines.silhouette(image, [person.box])
        head = head_in_outline(likely, top, left, person.box, expected_head(person.box, image.shape[0]))
        return replace(person, head=head)

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._detector.release()


def without_parts(details: Sequence[Detection], people: Sequence[Detection], min_height: float) -> list[Detection]:
    """Drop from `details` the pieces of people who are too large for the pass that found them.

    Seen too large, a person falls into pieces: head and trunk, legs. A piece is at least 70 % inside a confidently seen
    person of more than `min_height` and at least a fifth of their area; people behind or before them are smaller or
    stick out.

    Args:
        details: Detections of the larger pass.
        people: Detections of the overview.
        min_height: Height of the tallest person that the larger pass sees whole, in pixels of the frame.
    """
    large = [person for person in people if person.score >= 0.4 and person.box[3] - person.box[1] > min_height]
    if not large or not details:
        return list(details)
    boxes, wholes = (np.array([one.box for one in group], np.float32) for group in (details, large))
    area, whole_area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (boxes, wholes))
    share = area[:, None] / whole_area
    inside = box_overlaps(boxes, wholes, of_smaller=True)
    # An almost equal box is the same person: that is for the merge to decide.
    parts = set(np.nonzero((inside >= 0.7) & (share >= 0.2) & (share <= 0.8))[0].tolist())
    return [detail for at, detail in enumerate(details) if at not in parts]


class FacesAndPeopleFinder(AbstractFinder):
    """Faces and whole people together: a person who turns away still has a body, one cut by the frame still has a face.

    Args:
        faces: Finder of faces; `CenterFaceFinder` if None.
        people: Finder of people; `PeopleFinder` if None.
    """

    def __init__(self, faces: AbstractFinder | None = None, people: AbstractFinder | None = None) -> None:
        self.faces = faces if faces is not None else CenterFaceFinder()
        self.people = people if people is not None else PeopleFinder()

    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        """Faces, then people, in each image. See `AbstractFinder.find`."""
        both = zip(self.faces.find(images), self.people.find(images), strict=True)
        return [[*faces, *people] for faces, people in both]

    def release(self) -> None:
        """Give the networks' memory back until the next call."""
        self.faces.release()
        self.people.release()
