"""Frames of a video one after the other, upright, in constant memory, with a placeholder for each that is damaged."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av
import av.error

from pa_lib.errors import InputError
from pa_lib.video.container import open_video, video_stream
from pa_lib.video.deinterlace import deinterlaced
from pa_lib.video.frame import Frame, Picture
from pa_lib.video.images import read_image
from pa_lib.video.info import VideoInfo
from pa_lib.video.orient import picture_of


def read_frames(info: VideoInfo) -> Iterator[Frame]:
    """Decode a video from the start, lazily.

    A packet that cannot be decoded, or a frame that the decoder flags as corrupt, gives a frame without a picture in
    its place, so that index, time and number of frames are the same in every pass. What a truncated file no longer
    holds is not made up: the frame in which it ends, if any of it is there, is the last.

    Args:
        info: Description of the video, from `probe`.

    Yields:
        Frames in order of presentation. Hold few of them: each keeps its planes alive.

    Raises:
        InputError: If the file cannot be opened any more, or goes beyond its limits in spite of its header.
    """
    try:
        yield from _read_within_limits(info)
    except av.error.FFmpegError as error:
        raise InputError(f"input {info.path} cannot be read any more ({error}); was it changed meanwhile?") from error


def _read_within_limits(info: VideoInfo) -> Iterator[Frame]:
    source = _read_images(info) if info.container in ("image", "image_folder") else _read_video(info)
    if info.deinterlaced is not None:
        source = deinterlaced(source, info.format, info.deinterlaced)
    limits = info.limits
    start: int | None = None
    for frame in source:
        start = frame.pts if start is None else start
        if frame.index >= limits.max_frames:
            raise InputError(
                f"input {info.path} has more than limits.max_frames = {limits.max_frames} frames, against its header; "
                "raise it or cut it"
            )
        if (frame.pts - start) * info.time_base > limits.max_duration_s:
            raise InputError(
                f"input {info.path} is longer than limits.max_duration_s = {limits.max_duration_s:g}, against its "
                "header; raise it or cut it"
            )
        yield frame


def _read_images(info: VideoInfo) -> Iterator[Frame]:
    for index, file in enumerate(info.files):
        picture, fault = None, None
        try:
            picture = Picture((read_image(file, info.limits.max_pixels),), info.format)
        except (InputError, ValueError) as error:
            fault = str(error)
        yield Frame(index, index, 1, float(index * info.time_base), picture, fault)


def _read_video(info: VideoInfo) -> Iterator[Frame]:
    """Number the decoder's output and give each frame the time to the next as its duration."""
    held: Frame | None = None
    for pts, duration, picture, fault in _decode(info):
        if held is not None:
            # an encoder refuses two frames of one moment, so a repeated time moves on by one unit
            pts = max(pts, held.pts + 1)
            yield replace(held, duration=pts - held.pts)
        index = held.index + 1 if held is not None else 0
        held = Frame(index, pts, duration or info.nominal_duration, float(pts * info.time_base), picture, fault)
    if held is None:
        raise InputError(f"input {info.path} has no picture any more; was it changed while it was read?")
    if info.is_variable_rate and info.end_pts is not None and info.end_pts > held.pts and not info.faults:
        # MP4 keeps durations in the order of decoding, so that of the last frame shown may be another's
        held = replace(held, duration=info.end_pts - held.pts)
    yield held


_Shown = tuple[int, int, Picture | None, str | None]


def _decode(info: VideoInfo) -> Iterator[_Shown]:
    """Pictures in order of presentation, and a placeholder for every packet from which none came.

    Their times show which packets those are: the decoder gives back pictures in order of time, so a packet whose
    time is passed over is lost. Counting exceptions instead would depend on how the decoder's threads were scheduled.
    """
    with open_video(info.path, info.limits) as container:
        stream = video_stream(container)
        if stream is None:
            raise InputError(f"input {info.path} has no video stream any more; was it changed while it was read?")
        stream.thread_type = "AUTO"
        waiting: list[
            tuple[int, int, bool]
        ] = []  # time, duration and damage of what the decoder has not given back yet
        first: tuple[int | None, bool] | None = None  # time of the first packet, and whether it needs no other
        last: int | None = None
        for packet in _packets(container, stream):
            if packet is not None:
                first = first or (packet.pts, packet.is_keyframe)
                if packet.pts is not None and not packet.is_discard:
                    heapq.heappush(waiting, (packet.pts, packet.duration or 0, packet.is_corrupt))
            try:
                frames = stream.decode(packet)
            except av.error.EOFError:
                frames = []
            except av.error.FFmpegError as error:
                frames = []
                if packet is not None and packet.pts is None:  # no time to find it by, so it is missing here
                    last = 0 if last is None else last + info.nominal_duration
                    yield last, 0, None, f"decoding failed: {error.strerror}"
            for frame in frames:
                pts = frame.pts
                if pts is None:
                    pts = 0 if last is None else last + info.nominal_duration
                if last is None and first == (pts, True):
                    # pictures shown before the first key frame lean on frames from before the file began; no player
                    # shows them
                    waiting = [entry for entry in waiting if entry[0] >= pts]
                    heapq.heapify(waiting)
                if last is not None and pts < last:
                    continue  # its place was passed and is already filled
                while waiting and waiting[0][0] < pts:
                    yield _lost(heapq.heappop(waiting))
                is_damaged = frame.is_corrupt
                if waiting and waiting[0][0] == pts:
                    is_damaged |= heapq.heappop(waiting)[2]
                last = pts
                yield _shown(info, frame, pts, is_damaged)
        while waiting:
            yield _lost(heapq.heappop(waiting))


def _packets(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[av.Packet[Any] | None]:
    """The packets of the stream and a last None, with which the decoder gives back what it holds."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        pass  # the rest of the file is unreadable; `probe` has reported it
    yield None


def _lost(entry: tuple[int, int, bool]) -> _Shown:
    pts, duration, is_corrupt = entry
    fault = (
        "the file ends or is damaged within this frame" if is_corrupt else "the decoder gave no picture for this frame"
    )
    return pts, duration, None, fault


def _shown(info: VideoInfo, frame: av.VideoFrame, pts: int, is_damaged: bool) -> _Shown:
    duration = frame.duration or 0
    if is_damaged:
        return pts, duration, None, "the decoder flags this frame as corrupt"
    try:
        return pts, duration, picture_of(frame, info.format, info.orientation), None
    except (ValueError, av.error.FFmpegError) as error:
        return pts, duration, None, str(error)
