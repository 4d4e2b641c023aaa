"""The search through a video: which frames are looked at, who is seen there, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection, PaLibError
from pa_lib.people.finders import (
    AbstractFinder,
    CenterFaceFinder,
    FacesAndPeopleFinder,
    MtcnnFinder,
    PeopleFinder,
)
from pa_lib.video.frame import Frame, Picture

__all__ = [
    "AbstractFinder",
    "CenterFaceFinder",
    "FacesAndPeopleFinder",
    "Findings",
    "MtcnnFinder",
    "PeopleFinder",
    "find_people",
]

THUMBNAIL = (48, 27)  # width, height: a person who walks moves less than a pixel in it, a new shot changes them all


@dataclass(frozen=True, eq=False)
class Findings:
    """What the search of a video gave.

    Args:
        detections: Frame index -> who was seen, for every frame that was searched, also where it is nobody.
        faults: Frame index -> one line, for frames that could not be decoded or whose search failed.
        cuts: Index of the first frame of each shot but the first, increasing.
        n_frames: Frames of the video.
        times_s: Shape n_frames, when each is shown, s.
    """

    detections: dict[int, tuple[Detection, ...]]
    faults: dict[int, str]
    cuts: tuple[int, ...]
    n_frames: int
    times_s: NDArray[np.float64]


def find_people(
    frames: Iterable[Frame],
    finder: AbstractFinder,
    *,
    stride: int = 3,
    batch: int = 1,
    cut_threshold: float = 0.12,
    on_frame: Callable[[int], None] | None = None,
) -> Findings:
    """Search a video, one pass, in constant memory but for the records.

    Searched are every `stride`-th frame of each shot, the first and the last frame of the video and of every shot, and
    after a frame that failed the very next one (with `batch` above 1: the next one after its batch).

    Args:
        frames: In order; a frame without a picture is a fault.
        finder: Sees people in single frames. Any error but `PaLibError` is a fault of that frame alone.
        stride: At least 1.
        batch: Frames handed to the finder at a time, at least 1; so many are held in memory, too.
        cut_threshold: Mean change of a grey thumbnail, in [0, 1], from which a frame begins a new shot.
        on_frame: Called with the number of frames done, after each.

    Returns:
        Also of a video without frames.

    Raises:
        PaLibError: From the finder, where no frame can be searched (weights that are missing or damaged).
        ValueError: A setting is out of its range.
    """
    if stride < 1 or batch < 1:
        raise ValueError(f"stride is {stride} and batch {batch}, expected at least 1")
    search = _Search(finder, batch)
    previous: tuple[int, Picture] | None = None
    thumbnail: NDArray[np.float32] | None = None
    cuts: list[int] = []
    times: list[float] = []
    countdown = 0  # frames until the next search
    for frame in frames:
        times.append(frame.time_s)
        index, picture = frame.index, frame.picture
        if picture is None:
            search.faults[index] = frame.fault or "could not be decoded"
            countdown = 0
        else:
            fresh = _thumbnail(picture)
            is_cut = thumbnail is not None and float(np.abs(fresh - thumbnail).mean()) > cut_threshold
            thumbnail = fresh
            if is_cut:
                cuts.append(index)
                if previous is not None:
                    search.add(*previous)
                countdown = 0
            if countdown <= 0 or search.must_retry:
                search.add(index, picture)
                countdown = stride
            countdown -= 1
            previous = index, picture
        if on_frame is not None:
            on_frame(len(times))
    if previous is not None:
        search.add(*previous)
    search.flush()
    return Findings(
        detections=dict(sorted(search.detections.items())),
        faults=dict(sorted(search.faults.items())),
        cuts=tuple(cuts),
        n_frames=len(times),
        times_s=np.array(times, np.float64),
    )


class _Search:
    """Batches for the finder, and what came of them."""

    def __init__(self, finder: AbstractFinder, batch: int) -> None:
        self.finder = finder
        self.batch = batch
        self.detections: dict[int, tuple[Detection, ...]] = {}
        self.faults: dict[int, str] = {}
        self.must_retry = False
        self._waiting: dict[int, Picture] = {}

    def add(self, index: int, picture: Picture) -> None:
        """Search this frame now or with its batch; not twice."""
        if index in self.detections or index in self.faults or index in self._waiting:
            return
        self._waiting[index] = picture
        self.must_retry = False
        if len(self._waiting) >= self.batch:
            self.flush()

    def flush(self) -> None:
        """Search what waits. A batch that fails is searched again frame by frame, to tell whose fault it is."""
        waiting, self._waiting = self._waiting, {}
        self.must_retry = False
        if waiting and not self._try(waiting) and len(waiting) > 1:
            for index, picture in waiting.items():
                self.faults.pop(index, None)
                self._try({index: picture})
        self.must_retry = any(index in self.faults for index in waiting)

    def _try(self, pictures: dict[int, Picture]) -> bool:
        try:
            found = self.finder.find([picture.rgb() for picture in pictures.values()])
            if len(found) != len(pictures):
                raise RuntimeError(f"the finder gave {len(found)} lists for {len(pictures)} frames")
            checked = {index: _checked(seen) for index, seen in zip(pictures, found, strict=True)}
        except PaLibError:
            raise
        except Exception as error:  # any other failure costs this frame, not the run: it will be redacted
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.faults |= dict.fromkeys(pictures, f"search failed: {type(error).__name__}: {reason}")
            return False
        self.detections |= checked
        return True


def _checked(detections: list[Detection]) -> tuple[Detection, ...]:
    for detection in detections:
        x0, y0, x1, y1 = detection.box
        if not (np.isfinite(detection.box).all() and x1 > x0 and y1 > y0 and 0 <= detection.score <= 1):
            raise RuntimeError(f"the finder gave a box {detection.box} with score {detection.score}")
    return tuple(detections)


def _thumbnail(picture: Picture) -> NDArray[np.float32]:
    """The picture as a few grey numbers in [0, 1]; from its luma where it has one, which spares a conversion."""
    small = cv2.resize(picture.planes[0], THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
    grey: NDArray[np.float32] = small.mean(axis=2) if small.ndim == 3 else small
    return grey / np.float32((1 << picture.format.bits) - 1)
