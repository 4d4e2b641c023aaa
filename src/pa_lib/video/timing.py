"""When a film begins, how long it is and at which rate, by the header of a file and its first packets."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import av.error

from pa_lib.video.clock import Clock, Times, can_jump, film_packets, has_no_times
from pa_lib.video.container import Limits, open_video, video_stream

_USUAL_FPS = 25.0
_EMPTY_SLOTS = 1.5  # slots from picture to picture, from which some are empty


@dataclass
class FirstPackets:
    """Times of the first packets in order of decoding, and of the first pictures in the decoder's order."""

    shown: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    has_key: bool = False
    first_key: int | None = None
    n_before_key: int = 0

    def add(self, packet: av.Packet[Any]) -> None:
        """Note the times of the next packet."""
        if packet.is_discard:  # cut away by an edit list, and decoded only for what leans on it
            self.has_key |= packet.is_keyframe
            return
        if packet.is_keyframe and not self.has_key:
            self.has_key, self.first_key = True, packet.pts
        self.n_before_key += not self.has_key
        for times, time in ((self.shown, packet.pts), (self.decoded, packet.dts)):
            if time is not None:
                times.append(time)

    def kind(self, container: av.container.InputContainer) -> Times:
        """What the times say."""
        if has_no_times(container) or not (self.shown or self.decoded):
            return "none"
        if container.format.name == "avi" or not self.shown:
            return "decoded"
        is_contradicted = any(b < a for a, b in pairwise(self.pictures))
        return "rising" if self.may_be_of_decoding and is_contradicted else "shown"

    def rate(self, times: Times, time_base: Fraction, stated: float) -> float:
        """Frames per second: what is stated, but of an AVI what most pictures keep, since slots may be empty there."""
        gaps = sorted(b - a for a, b in pairwise(self.decoded)) if times == "decoded" else []
        usual_s = gaps[len(gaps) // 2] * time_base if gaps else Fraction(0)
        return float(1 / usual_s) if usual_s * stated > _EMPTY_SLOTS else stated

    @property
    def may_be_of_decoding(self) -> bool:
        """Whether the times rise in order of decoding, so that they may be those of decoding."""
        return all(b > a for a, b in pairwise(self.shown))

    def first(self, times: Times) -> int | None:
        """The time of the first picture."""
        if times == "decoded":
            return min(self.decoded or self.shown, default=None)
        if times == "rising":
            return min(self.shown)
        if self.first_key is None:
            return min([*self.shown, *self.pictures], default=None)
        # a decoder may show what comes before the first key frame
        return min([self.first_key, *self.pictures[: min(1, self.n_before_key)]])

    @property
    def is_cut_off(self) -> bool:
        """Whether pictures before the first key frame cannot be shown."""
        return self.has_key and self.n_before_key > 0

    def are_uneven(self, times: Times) -> bool:
        """Whether the pictures lie unevenly in time."""
        stamps = [] if times == "none" else self.shown
        if times == "decoded":
            stamps = self.decoded or self.shown
        # the last few are left out: with reordering their neighbours may not have been read yet
        shown = sorted(set(stamps))[:-8] if len(stamps) > 16 else sorted(set(stamps))
        gaps = [b - a for a, b in pairwise(shown)]
        # a clock of 1/1000 s rounds 30 frames a second to gaps of 33 and 34
        return bool(gaps) and max(gaps) - min(gaps) > max(1, 0.02 * max(gaps))


def rate_of(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> tuple[float, bool]:
    """Frames per second, and whether the file states them in any way."""
    is_bare = has_no_times(container)
    # the average of a bare stream is the demuxer's own setting; what its headers say is in the guess
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    rate = stream.guessed_rate if is_bare else next((rate for rate in rates if rate), None)
    if not rate or not 0 < rate <= 1000:
        return _USUAL_FPS, False
    return float(rate), not is_bare or bool(stream.codec_context.framerate)


def is_fragment(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> bool:
    """Whether an MP4 is in fragments, as streams are: its clock may be that of the stream, not of the file."""
    return container.format.name.startswith("mov,") and not stream.frames


def duration_s_of(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> float | None:
    """Duration of the pictures by the header, in seconds; None if it states none."""
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration:
        duration = container.duration / 1e6
    else:
        return None
    # these count from 0, wherever the film begins
    if container.format.name.startswith("matroska") or is_fragment(container, stream):
        duration -= max(0, container.start_time or 0) / 1e6
    return max(0.0, duration)


def length_s(path: Path, limits: Limits, clock: Clock, frame_s: float) -> float | None:
    """How long the film is by the times of all packets; None if they have none."""
    end: Fraction | None = None
    with open_video(path, limits) as container:
        stream = cast("av.video.stream.VideoStream", video_stream(container))
        try:
            for packet in film_packets(container, [stream], clock):
                if packet.pts is not None:
                    time = (packet.pts + (packet.duration or 0)) * packet.time_base
                    end = time if end is None else max(end, time)
        except av.error.FFmpegError:
            pass  # what can be read is what the film is
    return None if end is None else max(frame_s, float(end))


def start_s_of(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, first: int | None
) -> Fraction:
    """Time by the file's clock at which the film begins: with its first picture or its first sound.

    A film in MP4, MOV or Matroska counts from 0, so that what is before 0 is sound that a decoder needs to get going,
    and an MP4 that is not in fragments may begin with nothing to show on purpose.
    """
    if first is None or has_no_times(container):
        return Fraction(0)
    begin = first * cast("Fraction", stream.time_base)
    sounds = (s.start_time * cast("Fraction", s.time_base) for s in container.streams.audio if s.start_time is not None)
    earliest = min([begin, *sounds])
    if can_jump(container):
        return earliest
    if begin < 0:
        return begin
    is_whole_mov = container.format.name.startswith("mov,") and not is_fragment(container, stream)
    return Fraction(0) if is_whole_mov else max(Fraction(0), earliest)
