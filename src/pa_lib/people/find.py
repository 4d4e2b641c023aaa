"""The search through a video: which frames are searched, who is detected there, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import PaLibError, SettingError, first_line
from pa_lib.people.finders import AbstractFinder
from pa_lib.people.unsearched import Glance, Searched, next_search
from pa_lib.people.views import camera_view, detail_view, motion
from pa_lib.video.frame import Frame, Picture


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
    interval_s: float = 0.25,
    batch: int = 1,
    cut_threshold: float = 0.14,
) -> Findings:
    """Search a video, one pass, in constant memory but for the records.

    Searched are every `stride`-th frame of each shot, the first and the last frame of the video and of every shot, and
    after a frame that failed the very next one (with `batch` above 1: the next one after its batch). Of the frames
    between, those are searched as well that need it (`next_search`): all of them where frames are further apart than
    `interval_s`, and where a person may be in sight that the searched frames do not show.

    Args:
        frames: Frames in order; a frame without a picture is a fault.
        finder: Finder of people in single frames. Any error but `PaLibError` is a fault of that frame alone.
        stride: Largest distance between searched frames, in frames, >= 1; 1 searches every frame.
        interval_s: Longest time between searched frames, in seconds, >= 0.
        batch: Number of frames that the finder gets at a time, >= 1; `stride` times as many are held in memory.
        cut_threshold: Mean change of a grey thumbnail, in [0, 1], from which a frame begins a new shot.

    Returns:
        Also of a video without frames.

    Raises:
        PaLibError: From the finder, where no frame can be searched (weights that are missing or damaged).
        SettingError: A setting is out of its range.
    """
    if stride < 1 or batch < 1:
        raise SettingError(f"stride is {stride} and batch {batch}, expected at least 1")
    if not interval_s >= 0:
        raise SettingError(f"interval_s is {interval_s}, expected a number of seconds from 0 on")
    search = _Search(finder, batch, interval_s)
    view: NDArray[np.float32] | None = None
    place = np.zeros(2)
    camera: list[NDArray[np.float64]] = []
    cuts: list[int] = []
    times: list[float] = []
    countdown = 0  # frames until the next search
    due_s = 0.0  # time of the last one
    for frame in frames:
        step_s = frame.time_s - times[-1] if times else 0.0  # the next frame is expected to be as far away
        times.append(frame.time_s)
        index, picture = frame.index, frame.picture
        if picture is None:
            search.faults[index] = frame.fault or "could not be decoded"
            countdown = 0
        else:
            seen, is_cut = camera_view(picture), False
            if view is not None:
                shift, change = motion(view, seen)
                is_cut = change > cut_threshold
                if not is_cut:
                    place = place + shift * (picture.format.width / seen.shape[1])
            view = seen
            if is_cut:
                cuts.append(index)
                search.end_shot()
                countdown = 0
            is_due = countdown <= 0 or search.must_retry or frame.time_s + step_s - due_s > interval_s + 1e-6
            search.add(_glance(frame, picture, place), picture, is_due=is_due)
            countdown, due_s = (stride - 1, frame.time_s) if is_due else (countdown - 1, due_s)
        camera.append(place)
    search.end_shot()
    return Findings(
        detections=dict(sorted(search.detections.items())),
        faults=dict(sorted(search.faults.items())),
        cuts=tuple(cuts),
        n_frames=len(times),
        times_s=np.array(times, np.float64),
        camera=np.array(camera, np.float64).reshape(-1, 2),
    )


def _glance(frame: Frame, picture: Picture, scene: NDArray[np.float64]) -> Glance:
    view = detail_view(picture)
    return Glance(frame.index, frame.time_s, view, view.shape[1] / picture.format.width, scene)


@dataclass(frozen=True, eq=False)
class _Held:
    """A frame whose picture is kept until it is searched, or known not to need it.

    Args:
        glance: Time, place and view of the frame.
        picture: The frame in full.
    """

    glance: Glance
    picture: Picture

    @property
    def index(self) -> int:
        return self.glance.index


class _Search:
    """Batches for the finder, their results, and the frames of a shot that wait between searched ones."""

    def __init__(self, finder: AbstractFinder, batch: int, interval_s: float) -> None:
        self.finder = finder
        self.batch = batch
        self.interval_s = interval_s
        self.detections: dict[int, tuple[Detection, ...]] = {}
        self.faults: dict[int, str] = {}
        self.must_retry = False
        self._held: list[_Held] = []  # since the last searched frame of the shot, in order
        self._due: list[_Held] = []  # those of them that are searched with the next batch
        self._last: Glance | None = None

    def add(self, glance: Glance, picture: Picture, *, is_due: bool) -> None:
        """The next frame of the shot: searched now or with its batch if it is due, else only where it needs it."""
        held = _Held(glance, picture)
        self._held.append(held)
        if is_due:
            self._due.append(held)
            self.must_retry = False
            if len(self._due) >= self.batch:
                self._flush()

    def end_shot(self) -> None:
        """Search the last frame of the shot, and all that waits; what follows is not compared with it."""
        if self._held and self._held[-1] not in self._due:
            self._due.append(self._held[-1])
        self._flush()
        self._settle(self._last, self._held, None)
        self._held, self._last = [], None

    def _flush(self) -> None:
        """Search the due frames. A batch that fails is searched again, frame by frame."""
        due, self._due = self._due, []
        self.must_retry = False
        if due and not self._try(due) and len(due) > 1:
            for held in due:
                self.faults.pop(held.index, None)
                self._try([held])
        self.must_retry = any(held.index in self.faults for held in due)
        between: list[_Held] = []
        for held in self._held:
            if held.index in self.detections:
                self._settle(self._last, between, held.glance)
                self._last, between = held.glance, []
            elif held.index not in self.faults:
                between.append(held)
        self._held = between

    def _settle(self, before: Glance | None, between: Sequence[_Held], after: Glance | None) -> None:
        """Search those frames between two searched ones that need it; without one of the two, the frame at that end."""
        if not between:
            return
        if before is None or after is None:
            at = 0 if before is None else len(between) - 1
        else:
            ends = (Searched(one, self.detections[one.index]) for one in (before, after))
            asked = next_search(next(ends), [held.glance for held in between], next(ends), self.interval_s)
            if asked is None:
                return
            at = asked
        middle, earlier, later = between[at], between[:at], between[at + 1 :]
        if self._try([middle]):
            self._settle(before, earlier, middle.glance)
            self._settle(middle.glance, later, after)
        else:
            self._settle(before, [*earlier, *later], after)

    def _try(self, frames: Sequence[_Held]) -> bool:
        try:
            found = self.finder.find([held.picture.rgb() for held in frames])
            if len(found) != len(frames):
                raise RuntimeError(f"the finder gave {len(found)} lists for {len(frames)} frames")
            checked = {held.index: _checked(seen) for held, seen in zip(frames, found, strict=True)}
        except PaLibError:
            raise
        except Exception as error:  # any other failure costs this frame, not the run: it will be redacted
            reason = first_line(error)
            failed = [held.index for held in frames]
            self.faults |= dict.fromkeys(failed, f"search failed: {type(error).__name__}: {reason}")
            return False
        self.detections |= checked
        return True


def _checked(detections: list[Detection]) -> tuple[Detection, ...]:
    for detection in detections:
        x0, y0, x1, y1 = detection.box
        if not (np.isfinite(detection.box).all() and x1 > x0 and y1 > y0 and 0 <= detection.score <= 1):
            raise RuntimeError(f"the finder gave a box {detection.box} with score {detection.score}")
    return tuple(detections)
