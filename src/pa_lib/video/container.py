"""Opening a file safely, and the damage that its packets show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.codec
import av.error
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext

# Only what holds pictures and sound in one file: FFmpeg also opens play lists that name other files, scripts and text.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,h264,hevc,m4v,mxf,dv,ivf,obu,"
    "nut,wtv,mjpeg,yuv4mpegpipe,vc1,wav,mp3,flac,aac,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,ppm_pipe,pgm_pipe"
)

_TRANSPARENT = "libvpx-vp9"

_PACKETS_TO_COMPARE = 1000  # of all films of a file together, where its header does not count their pictures


@dataclass(frozen=True)
class Limits:
    """What is too big to begin with; checked before anything is decoded.

    Args:
        max_pixels: Largest number of pixels of one frame.
        max_frames: Largest number of frames by the header; a wrong header is caught while reading.
        max_duration_s: Longest duration by the header, in seconds; a wrong header is caught while reading.
        max_bytes: Largest size of the file, or of all images of a folder, in bytes.
    """

    max_pixels: int = 50_000_000
    max_frames: int = 1_000_000
    max_duration_s: float = 6 * 3600.0
    max_bytes: int = 100_000_000_000


@contextmanager
def open_video(path: Path, limits: Limits) -> Iterator[av.container.InputContainer]:
    """Open a file for demuxing, held to formats that are one file, and to `limits.max_pixels` in every decoder.

    Raises:
        av.error.FFmpegError: If FFmpeg cannot.
    """
    container = av.open(
        str(path.absolute()),
        "r",
        options={"max_pixels": str(limits.max_pixels)},
        container_options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"},
        metadata_errors="replace",
    )
    try:
        yield container
    finally:
        container.close()


def video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    """The stream to work on, the same one every time a file is opened; None: no picture can be decoded.

    Of the streams that are neither cover art nor thumbnails: one with more than a single picture before one without,
    one marked as the default before one that is not, and of these the first that lasts at least half as long as the
    longest. MP4 marks a single picture as the default, too, so that the mark comes second; cameras that record two
    films of one scene end them a frame apart, so that the longest is not simply taken.
    """
    films = [stream for stream in container.streams.video if stream.codec_context is not None and not is_still(stream)]
    if len(films) < 2:
        return films[0] if films else None
    found = _extents(container, films)
    films = [film for film in films if found[film.index][0] > 1] or films
    films = [film for film in films if film.disposition & av.stream.Disposition.default] or films
    longest = max(found[film.index][1] for film in films)
    return next(film for film in films if 2 * found[film.index][1] >= longest)


def decoder_of(stream: av.video.stream.VideoStream, limits: Limits) -> VideoCodecContext:
    """The decoder of a stream: the one that sees which of its places are transparent.

    FFmpeg's own decoder of VP9 passes over transparency, and what its author has hidden by it would show.
    """
    context = stream.codec_context
    if not has_transparency(stream) or context.name == _TRANSPARENT:
        return context
    with suppress(av.codec.codec.UnknownCodecError):
        other = cast("VideoCodecContext", CodecContext.create(_TRANSPARENT, "r"))
        other.extradata = context.extradata
        other.options = {"max_pixels": str(limits.max_pixels)}
        return other
    return context


def has_transparency(stream: av.video.stream.VideoStream) -> bool:
    """Whether the stream is VP9 with a picture of transparency beside each of its pictures."""
    return stream.codec_context.codec.canonical_name == "vp9" and stream.metadata.get("alpha_mode") == "1"


def _extents(
    container: av.container.InputContainer, films: list[av.video.stream.VideoStream]
) -> dict[int, tuple[int, float]]:
    """Number of pictures and length in seconds by index of the stream: of the whole, or of what a file begins with."""
    if all(film.frames and film.duration and film.time_base for film in films):
        return {film.index: (film.frames, float(film.duration * film.time_base)) for film in films}  # type: ignore[operator]
    times: dict[int, list[float]] = {film.index: [] for film in films}
    with suppress(av.error.FFmpegError), open_video(Path(container.name), Limits()) as again:
        for n, packet in enumerate(again.demux([film.index for film in films])):
            if packet.size:
                times[packet.stream_index].append(float((packet.dts or 0) * packet.time_base))
            if n > _PACKETS_TO_COMPARE:
                break
    return {index: (len(own), max(own) - min(own) if own else 0.0) for index, own in times.items()}


def is_still(stream: av.video.stream.VideoStream) -> bool:
    """Whether a stream is cover art or a track of thumbnails."""
    disposition = stream.disposition
    return bool(
        disposition & av.stream.Disposition.attached_pic or disposition & av.stream.Disposition.timed_thumbnails
    )


def early_end(path: Path, limits: Limits, duration_s: float | None, slack_s: float) -> tuple[str, ...]:
    """Whether the last frames that the header promises, to within `slack_s`, are missing."""
    if not duration_s:
        return ()
    enough = duration_s - slack_s
    end = _end_s(path, limits, duration_s - 5) if duration_s > 20 else None
    if end is None or end < enough:  # seeking may mislead: walk through all packets before saying so
        end = _end_s(path, limits, None)
    if end is not None and end >= enough:
        return ()
    found = f"after {end:.1f} s" if end is not None else "at once"
    return (f"the file is cut short: its header promises {duration_s:.1f} s, what can be read ends {found}",)


def _end_s(path: Path, limits: Limits, from_s: float | None) -> float | None:
    """When the last packet ends, seconds from the start; None where no packet can be read."""
    end = None
    try:
        with open_video(path, limits) as container:
            video = cast("av.video.stream.VideoStream", video_stream(container))
            # where the video track does not hold its own length, the file's is that of the longest track of any kind
            streams = [video] if video.duration else list(container.streams)
            if from_s is not None:
                container.seek((video.start_time or 0) + int(from_s / cast("Fraction", video.time_base)), stream=video)
            starts = [s.start_time * cast("Fraction", s.time_base) for s in streams if s.start_time is not None]
            first = float(min(starts, default=Fraction(0)))
            for packet in container.demux(*streams):
                if packet.size and packet.pts is not None and not packet.is_corrupt:
                    end = max(end or 0.0, float((packet.pts + (packet.duration or 0)) * packet.time_base) - first)
    except av.error.FFmpegError:
        pass
    return end


def audio_faults(path: Path, limits: Limits) -> dict[int, str]:
    """Number of an audio track, from 1, -> why it cannot be decoded; only the first packets are tried."""
    faults: dict[int, str] = {}
    with open_video(path, limits) as container:
        known = {}
        for number, stream in enumerate(container.streams.audio, 1):
            if stream.codec_context is None or not stream.codec_context.sample_rate:
                faults[number] = "has a codec that is unknown"
            else:
                known[number] = stream
        streams = list(known.values())
        if not streams:
            return faults
        tried = dict.fromkeys((s.index for s in streams), 0)
        good: set[int] = set()
        try:
            for n, packet in enumerate(container.demux(*streams)):
                index = packet.stream_index
                if packet.size and index not in good:
                    tried[index] += 1
                    try:
                        if cast("Any", packet).decode():
                            good.add(index)
                    except av.error.FFmpegError:
                        pass
                if n > 200 * len(streams) or len(good) == len(streams):
                    break
        except av.error.FFmpegError:
            pass  # damage to the file is found where the pictures are read
        for number, stream in known.items():
            if tried[stream.index] and stream.index not in good:
                faults[number] = "cannot be decoded"
    return faults


def reason_of(error: Exception) -> str:
    """What FFmpeg says, in words."""
    return str(getattr(error, "strerror", None) or error)
