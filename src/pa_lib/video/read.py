"""Frames of a video one after the other, upright, in constant memory, with a placeholder for each that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Literal

import av
import av.error
from av.video.codeccontext import VideoCodecContext

from pa_lib.errors import InputError
from pa_lib.video.clock import film_packets
from pa_lib.video.container import decoder_of, open_video, video_stream
from pa_lib.video.deinterlace import deinterlaced
from pa_lib.video.frame import Frame, Picture
from pa_lib.video.images import read_image
from pa_lib.video.info import VideoInfo
from pa_lib.video.orient import picture_of
from pa_lib.video.pending import Pending, PendingPackets


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
    if info.is_deinterlaced and info.coded_fields is not None:
        source = deinterlaced(source, info.format, info.coded_fields, info.orientation)
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
        # an encoder refuses two frames of one moment, so a repeated time moves on by one unit
        pts = max(pts, 0 if held is None else held.pts + 1)
        if held is not None:
            yield replace(held, duration=pts - held.pts)
        if info.clock.times == "decoded":
            duration = 0  # that of a slot, and the next ones may be empty
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
    """Pictures in order of presentation, and a placeholder for every packet whose picture is lost."""
    with _opened(info, "AUTO") as (container, stream, decoder):
        pending = PendingPackets(info, stream)
        for packet in _packets(container, stream, info):
            if packet is not None:
                pending.take(packet)
            yield from _taken(info, pending, _outcomes(decoder, packet, is_last=packet is None))
        if pending.is_any_awaited:
            # where the last packets are damaged, all that the decoder's threads still held went with the error
            yield from _taken(info, pending, _decode_again(info, pending))
        yield from map(_lost, pending.rest())


_Outcome = av.VideoFrame | av.error.FFmpegError


def _outcomes(
    decoder: VideoCodecContext, packet: av.Packet[Any] | None, *, is_last: bool = False
) -> Iterator[_Outcome]:
    """What the decoder gives when it gets a packet: pictures, or an error; no error at the end, see `_decode`."""
    try:
        yield from decoder.decode(packet)
    except av.error.EOFError:
        return
    except av.error.FFmpegError as error:
        if not is_last:
            yield error


def _decode_again(info: VideoInfo, pending: PendingPackets) -> Iterator[_Outcome]:
    """Pictures that are still awaited, and errors that have not been seen yet, one packet after the other."""
    n_seen = pending.n_errors
    with _opened(info, "SLICE") as (container, stream, decoder):
        first = pending.restart
        for index, packet in enumerate(_packets(container, stream, info)):
            if packet is not None:
                packet.opaque = index
            for outcome in _outcomes(decoder, packet) if index >= first else ():
                source: Any = outcome.opaque if isinstance(outcome, av.VideoFrame) else index
                if not pending.is_open(source):
                    continue
                if isinstance(outcome, av.VideoFrame) or n_seen == 0:
                    yield outcome
                else:
                    n_seen -= 1


def _taken(info: VideoInfo, pending: PendingPackets, outcomes: Iterator[_Outcome]) -> Iterator[_Shown]:
    """What there is to show after the decoder gave something."""
    for outcome in outcomes:
        if isinstance(outcome, av.error.FFmpegError):
            for loss in pending.fail():
                yield _lost(loss, f"decoding failed: {outcome.strerror}")
        else:
            yield from map(_lost, pending.lost_before(outcome))
            source = pending.picture(outcome)
            if source is not None:
                yield _shown(info, outcome, source)


@contextmanager
def _opened(
    info: VideoInfo, threads: Literal["AUTO", "SLICE"]
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream, VideoCodecContext]]:
    with open_video(info.path, info.limits) as container:
        stream = video_stream(container)
        if stream is None:
            raise InputError(f"input {info.path} has no video stream any more; was it changed while it was read?")
        decoder = decoder_of(stream, info.limits)
        decoder.thread_type, decoder.copy_opaque = threads, True
        yield container, stream, decoder


def _packets(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, info: VideoInfo
) -> Iterator[av.Packet[Any] | None]:
    """The packets of the stream and a last None, with which the decoder gives back what it holds."""
    with suppress(av.error.FFmpegError):  # the rest of the file is unreadable then; `probe` has reported it
        yield from film_packets(container, [stream], info.clock)
    yield None


def _lost(packet: Pending, fault: str = "the decoder gave no picture for this frame") -> _Shown:
    assert packet.time is not None
    if packet.is_corrupt:
        fault = "the file ends or is damaged within this frame"
    return packet.time, packet.duration, None, fault


def _shown(info: VideoInfo, frame: av.VideoFrame, source: Pending) -> _Shown:
    assert source.time is not None
    pts, duration = source.time, source.duration
    if frame.is_corrupt or source.is_corrupt:
        return pts, duration, None, "the decoder flags this frame as corrupt"
    try:
        return pts, duration, picture_of(frame, info.format, info.orientation, is_scaled=info.is_scaled), None
    except (ValueError, av.error.FFmpegError) as error:
        return pts, duration, None, str(error)
