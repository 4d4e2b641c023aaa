"""The search through a video: which frames are searched, who is detected there, and what failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import PaLibError, SettingError, first_line
from pa_lib.people.finders import AbstractFinder
from pa_lib.video.frame import Frame, Picture

VIEW_PX = 256  # longer side of the small grey view in which the motion of the camera is measured
_BETTER = 0.95  # what a shift must leave of the difference between two views; over a still scene it is never below 1
THUMBNAIL = (48, 27)  # width, height: a person who walks moves less than a pixel in it, a new shot changes them all


@dataclass(frozen=True, eq=False)
class Findings:
    """The result of searching a video for people.

    Args:
        detections: Detections of every frame that was searched, by index of the frame; empty if there are none.
        faults: Description in one line of what failed, by index of the frame, for frames that could not be decoded or
            whose search failed.
        cuts: Index of the first frame of each shot but the first, increasing.
        n_frames: Number of frames of the video.
        times_s: Presentation time of each frame in seconds, shape n_frames.
        camera: Motion of the scene in the picture since the first frame, in pixels to the right and down, shape
            n_frames 2; it does not move over a cut. Zeros if it was not measured.
    """

    detections: dict[int, tuple[Detection, ...]]
    faults: dict[int, str]
    cuts: tuple[int, ...]
    n_frames: int
    times_s: NDArray[np.float64]
    camera: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))

    def __post_init__(self) -> None:
        if not len(self.camera):
            object.__setattr__(self, "camera", np.zeros((self.n_frames, 2)))


def find_people(
    frames: Iterable[Frame],
    finder: AbstractFinder,
    *,
    stride: int = 2,
    batch: int = 1,
    cut_threshold: float = 0.14,
) -> Findings:
    """Search a video, one pass, in constant memory but for the records.

    Searched are every `stride`-th frame of each shot, the first and the last frame of the video and of every shot, and
    after a frame that failed the very next one (with `batch` above 1: the next one after its batch).

    Args:
        frames: Frames in order; a frame without a picture is a fault.
        finder: Finder of people in single frames. Any error but `PaLibError` is a fault of that frame alone.
        stride: Distance between searched frames, in frames, >= 1.
        batch: Number of frames that the finder gets at a time, >= 1; as many are held in memory.
        cut_threshold: Mean change of a grey thumbnail, in [0, 1], from which a frame begins a new shot.

    Returns:
        Also of a video without frames.

    Raises:
        PaLibError: From the finder, where no frame can be searched (weights that are missing or damaged).
        SettingError: A setting is out of its range.
    """
    if stride < 1 or batch < 1:
        raise SettingError(f"stride is {stride} and batch {batch}, expected at least 1")
    search = _Search(finder, batch)
    previous: tuple[int, Picture] | None = None
    view: NDArray[np.float32] | None = None
    place = np.zeros(2)
    camera: list[NDArray[np.float64]] = []
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
            seen, is_cut = _view(picture), False
            if view is not None:
                shift, change = _motion(view, seen)
                is_cut = change > cut_threshold
                if not is_cut:
                    place = place + shift * (picture.format.width / seen.shape[1])
            view = seen
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
        camera.append(place)
    if previous is not None:
        search.add(*previous)
    search.flush()
    return Findings(
        detections=dict(sorted(search.detections.items())),
        faults=dict(sorted(search.faults.items())),
        cuts=tuple(cuts),
        n_frames=len(times),
        times_s=np.array(times, np.float64),
        camera=np.array(camera, np.float64).reshape(-1, 2),
    )


class _Search:
    """Batches for the finder, and their results."""

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
        """Search the waiting frames. A batch that fails is searched again, frame by frame."""
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
            reason = first_line(error)
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


def _view(picture: Picture) -> NDArray[np.float32]:
    """The picture as a small grey one in [0, 1]; from its luma where it has one, which spares a conversion."""
    scale = VIEW_PX / max(picture.format.width, picture.format.height)
    size = max(8, round(picture.format.width * scale)), max(8, round(picture.format.height * scale))
    plane = picture.planes[0]
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    grey = small.mean(axis=2) if plane.ndim == 3 else small
    top = (1 << picture.format.bits) - 1
    return cast("NDArray[np.float32]", grey.astype(np.float32) / top)


def _motion(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """How far the scene moved between two views, in their px, and how much else has changed, as a mean in [0, 1].

    The shift is found by phase correlation. Tracks lie in the moving scene, so that a crowd stands still while a camera
    pans. A wrong shift does little harm: it is the same at both ends of what the tracker fills in, and those are the
    detector's own boxes. The change is that of two thumbnails, after the shift: a fast pan is no cut.
    """
    still = np.zeros(2)
    if before.shape != after.shape:
        return still, 1.0
    whole = np.ones_like(before)
    change = _change(before, after, whole)
    window = cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F)
    # Copies: OpenCV puts the window onto the very pictures it is given.
    shift = np.array(cv2.phaseCorrelate(before.copy(), after.copy(), window)[0], np.float64)
    if not np.isfinite(shift).all():
        return still, change
    path = np.concatenate([np.eye(2), shift[:, None]], axis=1)
    moved, known = (cv2.warpAffine(view, path, before.shape[::-1]) for view in (before, whole))
    both = known > 0.99
    if both.mean() < 0.5 or np.abs(after - moved)[both].mean() > _BETTER * np.abs(after - before)[both].mean():
        return still, change
    return shift, min(change, _change(moved, after, known))


def _change(before: NDArray[np.float32], after: NDArray[np.float32], known: NDArray[np.float32]) -> float:
    """Mean difference of two views at the size of a thumbnail, where both are known."""
    old, new, share = (cv2.resize(view, THUMBNAIL, interpolation=cv2.INTER_AREA) for view in (before, after, known))
    return float(np.abs(new - old)[share > 0.99].mean())
