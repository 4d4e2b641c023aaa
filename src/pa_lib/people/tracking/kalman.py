"""From boxes in some frames to a box in every frame: follow each face and each body through the video.

Written here because no tracker library fits: `trackers` needs the OpenCV build with a window system beside the headless
one, `norfair` pins numpy below 2 (both tried), and those inside detector packages bring the detector's licence. All of
them work online, too; here the whole clip is known, so gaps are filled from both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box, Detection, Kind, Track
from pa_lib.errors import PaLibError, SettingError
from pa_lib.people.tracking.association import FOLLOWED, SURE, associate, best_pairs, jumps_between, ways
from pa_lib.people.tracking.base import AbstractTracker
from pa_lib.people.tracking.motion import Array, Motion, buffered_iou, to_corners

if TYPE_CHECKING:
    from pa_lib.people.find import Findings

# A body takes no detection that jumps further than it is known to: at most this much (in sides of the box, and in
# logarithms of its size) plus this many times its usual jump. Otherwise a spectator who stands still takes over the
# box of a dancer who passes in front. New fragments may jump as if they usually did by the third number. Faces do
# without: they are small against their steps, and seldom overlap.
_JUMP, _JUMP_FACTOR, _FIRST_JUMP = 0.3, 2.0, 0.3
# How much higher a person may score in a frame that was not searched than on both sides of it: scores of bodies near
# the threshold change by 0.04 from frame to frame (median; DAVIS dancers and their spectators). In crowds, 5 % more
# is followed by it; with 0.1 it would be 20 %.
_DOUBT = 0.04


@dataclass(eq=False)
class _Fragment:
    """Detections linked so far: frame indices and the detections themselves, in order of time; and their usual jump."""

    frames: list[int] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    jump: float = _FIRST_JUMP

    def boxes(self) -> Array:
        return _boxes(self.detections)


@dataclass(frozen=True)
class KalmanTracker(AbstractTracker):
    """Follows faces and bodies with a Kalman filter and optimal assignment, then fills every track in both directions.

    Detections with a high score start and extend tracks, those with a low score only extend them. Each kind is followed
    by itself and no track crosses a cut. Everything that was detected with a high score ends in a track, even if seen
    only once: hiding a lamp costs less than showing a face. So does who scores almost as high on both sides of frames
    that were not searched, as the score may be high there. The boxes of the searched frames are the detector's own;
    between two that are far apart in place and not in time, a box covers all of the way.

    Args:
        start_score: Least score of a detection that starts a track, in [0, 1]; those below, as far down as the finder
            reports, extend one.
        max_gap_s: Longest time without a detection that is bridged, in seconds.
        margin_s: Time that a track continues before its first and after its last detection, in seconds. It always
            reaches the neighbouring searched frame, as the frames between are not searched.
        margin_frames: Number of frames that a track continues in the same way; the longer one counts.
        growth_per_s: Relative growth of a box per second of distance from the nearest detection, at most by half: the
            longer ago the last detection, the less is known.
        border_px: Distance to the frame's border, in pixels, within which boxes are stretched over it.

    Source: Zhang et al., "ByteTrack: multi-object tracking by associating every detection box" (ECCV 2022), algorithm
    1. Differs: buffered overlap, a third round for sudden moves, and all that happens after the last frame is known.
    """

    start_score: float = 0.4
    max_gap_s: float = 1.5
    margin_s: float = 0.25
    margin_frames: int = 2
    growth_per_s: float = 0.5
    border_px: float = 4.0

    def __post_init__(self) -> None:
        for name in ("max_gap_s", "margin_s", "margin_frames", "growth_per_s", "border_px"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise SettingError(f"tracker {name}={getattr(self, name)}: expected a number from 0 on")
        if not 0 <= self.start_score <= 1:
            raise SettingError(f"tracker start_score={self.start_score}: expected a score in [0, 1]")

    def track(self, findings: Findings, width: int, height: int) -> list[Track]:
        """See `AbstractTracker.track`."""
        times = _usable_times(np.asarray(findings.times_s, dtype=np.float64), findings.n_frames)
        edges = [0, *sorted(c for c in set(findings.cuts) if 0 < c < findings.n_frames), findings.n_frames]
        searched = np.array(sorted(findings.detections), dtype=np.int64)
        tracks: list[Track] = []
        camera = np.asarray(findings.camera, dtype=np.float64)
        findings = _on_the_scene(findings, camera)
        for first, end in pairwise(edges):
            in_shot = searched[np.searchsorted(searched, first) : np.searchsorted(searched, end)]
            for kind in ("face", "body"):
                fragments = self._rejoin(self._link(findings, in_shot, kind, times), times)
                tracks += [self._filled(f, kind, in_shot, first, end, times, camera, width, height) for f in fragments]
        tracks.sort(key=lambda t: (int(t.frames[0]), t.kind == "body", *map(float, t.boxes[0])))
        return [replace(track, track_id=number) for number, track in enumerate(tracks, start=1)]

    def _link(
        self,
        findings: Findings,
        searched: NDArray[np.int64],
        kind: Kind,
        times: Array,
    ) -> list[_Fragment]:
        """Forward through one shot: detections of one kind to fragments."""
        seen_in = [_of_kind(findings, frame, kind) for frame in map(int, searched)]
        fragments: list[_Fragment] = []
        live: list[_Fragment] = []
        motion = Motion.start(np.zeros((0, 4)))
        last_time = 0.0
        for at, (frame, detections) in enumerate(zip(map(int, searched), seen_in, strict=True)):
            alive = [i for i, f in enumerate(live) if times[frame] - times[f.frames[-1]] <= self.max_gap_s]
            live = [live[i] for i in alive]
            motion = motion.rows(np.array(alive, dtype=np.intp)).predicted(times[frame] - last_time)
            last_time = times[frame]
            if not detections:
                continue
            boxes = _boxes(detections)
            # Neighbors with frames between that were not searched
            beyond = [seen_in[i] for i in (at - 1, at + 1) if 0 <= i < len(searched) and abs(searched[i] - frame) > 1]
            is_high = self._may_start(detections, beyond)
            jumps = jumps_between(motion.boxes(), boxes)
            is_allowed = np.ones_like(jumps, dtype=bool)
            if kind == "body":
                limits = _JUMP + _JUMP_FACTOR * np.array([f.jump for f in live])
                is_allowed = jumps <= limits[:, None]
            pairs = associate(motion, boxes, is_high, is_allowed)
            if pairs:
                which = np.array([t for t, _ in pairs], dtype=np.intp)
                seen = np.array([d for _, d in pairs], dtype=np.intp)
                motion = motion.with_rows(which, motion.rows(which).corrected(boxes[seen]))
                for t, d in pairs:
                    live[t].frames.append(frame)
                    live[t].detections.append(detections[d])
                    live[t].jump += (float(jumps[t, d]) - live[t].jump) / 4
            taken = {d for _, d in pairs}
            new = [d for d in range(len(detections)) if is_high[d] and d not in taken]
            if new:
                # Where the camera turns, newcomers move like all others.
                speed = np.median(motion.speed[:, :2], axis=0) if len(live) >= 3 else np.zeros(2)
                motion = motion.joined(Motion.start(boxes[new], speed))
                born = [_Fragment([frame], [detections[d]]) for d in new]
                live += born
                fragments += born
        return fragments

    def _may_start(self, detections: Sequence[Detection], beyond: Sequence[Sequence[Detection]]) -> NDArray[np.bool_]:
        """Which detections start tracks: those with a high score, or almost, where one beyond a gap is like them."""
        boxes, scores = _boxes(detections), np.array([d.score for d in detections])
        is_high: NDArray[np.bool_] = scores >= self.start_score
        for others in beyond:
            almost = _boxes([d for d in others if d.score >= self.start_score - _DOUBT])
            is_near = (ways(boxes[:, None], almost[None]) <= FOLLOWED / 2).any(axis=1)
            is_high |= is_near & (scores >= self.start_score - _DOUBT)
        return is_high

    def _rejoin(self, fragments: list[_Fragment], times: Array) -> list[_Fragment]:
        """Joins a fragment that ended with one that began soon after, where the motion of both agrees.

        Forwards alone a track is lost where a person goes behind a pillar; seen from both ends, the two halves are
        extrapolated to the middle of the gap and compared there.
        """
        fragments = sorted(fragments, key=lambda f: (f.frames[0], f.detections[0].box))
        starts = np.array([times[f.frames[0]] for f in fragments])
        rows, columns, scores = [], [], []
        for i, earlier in enumerate(fragments):
            ended = times[earlier.frames[-1]]
            lo, hi = np.searchsorted(starts, [ended, ended + self.max_gap_s], side="right")
            if lo == hi:
                continue
            middle = (ended + starts[lo:hi]) / 2
            later = range(int(lo), int(hi))
            ahead = np.concatenate([_extrapolated(earlier, times, m, at_end=True) for m in middle])
            back = np.concatenate(
                [_extrapolated(fragments[j], times, m, at_end=False) for j, m in zip(later, middle, strict=True)]
            )
            for n, j in enumerate(later):
                overlap = buffered_iou(ahead[n : n + 1], back[n : n + 1], np.array([SURE[1]]))[0, 0]
                if overlap >= SURE[0]:
                    rows.append(i)
                    columns.append(j)
                    scores.append(float(overlap))
        follower = best_pairs(rows, columns, scores)
        followed = set(follower.values())
        joined = []
        for i, fragment in enumerate(fragments):
            if i in followed:
                continue
            whole, at = _Fragment(list(fragment.frames), list(fragment.detections)), i
            while at in follower:
                at = follower[at]
                whole.frames += fragments[at].frames
                whole.detections += fragments[at].detections
            joined.append(whole)
        return joined

    def _filled(
        self,
        fragment: _Fragment,
        kind: Kind,
        searched: NDArray[np.int64],
        first_of_shot: int,
        end_of_shot: int,
        times: Array,
        camera: Array,
        width: int,
        height: int,
    ) -> Track:
        """A box for every frame from before the first detection to after the last."""
        seen = np.array(fragment.frames, dtype=np.int64)
        start = self._reach(int(seen[0]), -1, searched, first_of_shot, end_of_shot, times)
        stop = self._reach(int(seen[-1]), +1, searched, first_of_shot, end_of_shot, times)
        frames = np.arange(start, stop + 1, dtype=np.int64)
        at = times[frames]
        known = fragment.boxes()
        boxes = _interpolated(at, times[seen], known)
        # The camera may have been measured wrong: between searches that follow each other, cover where the box would be
        # without it, too. Over a steady pan both are the same. Over a longer gap they part, and the scene is right.
        pans = np.tile(camera, 2)
        unmoved = _interpolated(at, times[seen], known + pans[seen]) - pans[frames]
        last = np.maximum(np.searchsorted(seen, frames, side="right") - 1, 0)  # detections around each frame
        following = np.minimum(np.searchsorted(seen, frames), len(seen) - 1)
        is_short = times[seen[following]] - times[seen[last]] <= self.margin_s
        # A fast person may still be at one end of the way, or at the other already: cover all of it.
        is_fast = is_short & (ways(known[last], known[following]) > FOLLOWED)
        for others, where in ((unmoved, is_short), (known[last], is_fast), (known[following], is_fast)):
            boxes = np.where(where[:, None], _around(boxes, others), boxes)
        for outside, at_end in ((frames < seen[0], False), (frames > seen[-1], True)):
            if outside.any():  # the person may have stood still or gone on: cover both
                moved = np.concatenate([_extrapolated(fragment, times, t, at_end=at_end) for t in at[outside]])
                boxes[outside] = _around(boxes[outside], moved)
        distance = np.minimum(np.abs(times[seen[following]] - at), np.abs(at - times[seen[last]]))
        grow = np.minimum(self.growth_per_s * distance, 0.5)[:, None] * (boxes[:, 2:] - boxes[:, :2]) / 2
        boxes = np.concatenate([boxes[:, :2] - grow, boxes[:, 2:] + grow], axis=1)
        boxes = _stretched_over_border(boxes + np.tile(camera[frames], 2), width, height, self.border_px)

        rows = seen - start
        scores = np.full(len(frames), np.nan, dtype=np.float32)
        scores[rows] = [d.score for d in fragment.detections]
        landmarks = None
        if any(d.landmarks is not None for d in fragment.detections):
            landmarks = np.full((len(frames), 5, 2), np.nan, dtype=np.float32)
            for row, detection in zip(rows, fragment.detections, strict=True):
                if detection.landmarks is not None:
                    landmarks[row] = detection.landmarks + camera[frames[row]]
        heads = None
        if any(d.head is not None for d in fragment.detections):
            heads = np.full((len(frames), 4), np.nan, dtype=np.float32)
            for row, detection in zip(rows, fragment.detections, strict=True):
                if detection.head is not None:
                    heads[row] = detection.head + np.tile(camera[frames[row]], 2)
        return Track(0, kind, frames, boxes.astype(np.float32), scores, landmarks, heads=heads)

    def _reach(self, seen: int, step: int, searched: NDArray[np.int64], first: int, end: int, times: Array) -> int:
        """The outermost frame of the margin, within the shot."""
        at = int(np.searchsorted(searched, seen)) + step
        neighbour = int(searched[at]) - step if 0 <= at < len(searched) else (first if step < 0 else end - 1)
        in_time = int(
            np.searchsorted(times, times[seen] - self.margin_s - 1e-9)
            if step < 0
            else np.searchsorted(times, times[seen] + self.margin_s + 1e-9) - 1
        )
        reach = [neighbour, in_time, seen + step * self.margin_frames]
        return max(min(reach), first) if step < 0 else min(max(reach), end - 1)


def _of_kind(findings: Findings, frame: int, kind: Kind) -> list[Detection]:
    return _checked([d for d in findings.detections[frame] if d.kind == kind], frame)


def _boxes(detections: Sequence[Detection]) -> Array:
    return np.array([d.box for d in detections], dtype=np.float64).reshape(-1, 4)


def _around(boxes: Array, others: Array) -> Array:
    """The smallest boxes that hold both, each with its own other one."""
    return np.concatenate([np.minimum(boxes[:, :2], others[:, :2]), np.maximum(boxes[:, 2:], others[:, 2:])], axis=1)


def _interpolated(at: Array, known_at: Array, known: Array) -> Array:
    """Each column of `known` at other times."""
    return np.stack([np.interp(at, known_at, column) for column in known.T], axis=1)


def _on_the_scene(findings: Findings, camera: Array) -> Findings:
    """The same detections, placed on the scene of the first frame: what stands still stays, however the camera pans."""

    def shifted(box: Box, by: Array) -> Box:
        x0, y0, x1, y1 = box
        return x0 - by[0], y0 - by[1], x1 - by[0], y1 - by[1]

    def moved(detection: Detection, by: Array) -> Detection:
        landmarks = None if detection.landmarks is None else (detection.landmarks - by).astype(np.float32)
        head = None if detection.head is None else shifted(detection.head, by)
        return replace(detection, box=shifted(detection.box, by), landmarks=landmarks, head=head)

    return replace(
        findings,
        detections={
            frame: tuple(moved(detection, camera[frame]) for detection in detections)
            for frame, detections in findings.detections.items()
        },
    )


def _checked(detections: Sequence[Detection], frame: int) -> list[Detection]:
    """Detections in an order of their own, so that the detector's order changes nothing; refuses impossible boxes."""
    for d in detections:
        x0, y0, x1, y1 = d.box
        if not (np.isfinite(d.box).all() and x1 > x0 and y1 > y0 and np.isfinite(d.score)):
            raise PaLibError(
                f"frame {frame}: the finder gave a {d.kind} box {d.box} with score {d.score}; expected finite "
                "x0 < x1, y0 < y1"
            )
    return sorted(detections, key=lambda d: (-d.score, d.box))


def _usable_times(times: Array, n_frames: int) -> Array:
    """Strictly increasing seconds per frame; frame numbers at 25 frames per second where the file's times are not."""
    if len(times) == n_frames and np.isfinite(times).all() and (np.diff(times) > 0).all():
        return times
    return np.arange(n_frames) / 25.0


def _extrapolated(fragment: _Fragment, times: Array, time_s: float, *, at_end: bool) -> Array:
    """The box of a fragment at a time beyond one of its ends, shape 1 4.

    A straight line through the detections of the last half second gives the speed; one outlying detection does not send
    the box away, as it moves by at most its own size.
    """
    frames = np.array(fragment.frames[-12:] if at_end else fragment.frames[:12])
    boxes = np.array([d.box for d in (fragment.detections[-12:] if at_end else fragment.detections[:12])])
    end = -1 if at_end else 0
    near = np.abs(times[frames] - times[frames[end]]) <= 0.5
    t, known = times[frames[near]], boxes[near]
    centres, size = (known[:, :2] + known[:, 2:]) / 2, known[end, 2:] - known[end, :2]
    speed = np.zeros(2)
    if len(t) > 1:
        offset = t - t.mean()
        speed = (offset[:, None] * (centres - centres.mean(axis=0))).sum(axis=0) / (offset**2).sum()
    shift = np.clip(speed * (time_s - t[end]), -size, size)
    return to_corners(np.concatenate([centres[end] + shift, size])[None])


def _stretched_over_border(boxes: Array, width: int, height: int, border_px: float) -> Array:
    """Boxes that come within `border_px` of the border reach as far beyond it.

    A face cut by the border has a box that ends a pixel or two short of it; without this the last row or column shows.
    """
    stretched = boxes.copy()
    for axis, end in ((0, width), (1, height)):
        low, high = boxes[:, axis], boxes[:, axis + 2]
        stretched[:, axis] = np.where(low <= border_px, np.minimum(low, -border_px), low)
        stretched[:, axis + 2] = np.where(high >= end - border_px, np.maximum(high, end + border_px), high)
    return stretched
