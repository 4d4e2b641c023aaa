"""Sinks, which take the pictures of one output: a video, a GIF, one image or a folder of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal, cast

import av
import av.error
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pa_lib.video.audio import AudioCopy, AudioWish
from pa_lib.video.encoders import Encoding, choose_encoding, quiet
from pa_lib.video.files import distinct_names
from pa_lib.video.frame import Frame, Picture, converted, to_av_frame
from pa_lib.video.gif import to_palette_frame
from pa_lib.video.images import colour_profile, image_size, write_image
from pa_lib.video.info import VideoInfo
from pa_lib.video.marks import lost_marks, read_marks
from pa_lib.video.matroska import PADDING, set_pixel_aspect
from pa_lib.video.write_marks import describe, encoder_options, marker


@dataclass(frozen=True)
class WriteSettings:
    """How the output is written.

    Args:
        codec: Codec of the output: ``auto`` = the source's own where the container and an encoder allow, else the
            container's usual one; or ``h264``, ``hevc``, ``vp9``, ``av1``, ``ffv1`` (lossless).
        crf: Quality, lower is better, in the encoder's own scale; None = near the limit of what the eye sees.
        preset: Preset of the encoder for its speed, its own name or number; None = fast.
        audio: Treatment of audio tracks: ``copy`` every track byte for byte, ``convert`` those that the container
            cannot hold (to AAC, in WebM to Opus) and copy the others, or ``drop`` them.
        keep_metadata: Keys of the container's metadata to keep, e.g. ``("title", "creation_time")``; all else is
            dropped, and so is every stream that is neither the pictures nor sound.
        image_suffix: Suffix, and so the format, of the images in a folder.
        image_quality: Quality of JPEG and WebP, 1 to 100.
    """

    codec: str = "auto"
    crf: int | None = None
    preset: str | None = None
    audio: AudioWish = "copy"
    keep_metadata: tuple[str, ...] = ()
    image_suffix: str = ".png"
    image_quality: int = 95


_SILENT = (av.error.FFmpegError, OSError, ValueError)  # what closing an unfinished container may raise


class AbstractSink(ABC):
    """Takes the pictures of one output.

    Args:
        target: File that the bytes go to.
        path: Name of the output as the user knows it.
        info: Description of the source.
        settings: Settings of the writer.
    """

    @abstractmethod
    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None: ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the output does not have of the source, or in another way, one line each."""
        return ()

    @abstractmethod
    def write(self, frame: Frame, picture: Picture) -> None:
        """Take the picture of one frame."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is left and close the file."""

    @abstractmethod
    def count_frames(self) -> int:
        """Read back what was written, and count."""

    @abstractmethod
    def abandon(self) -> None:
        """Close what is open, if anything is. Never raises."""


class _Mux:
    """A container that is being written and its one stream of pictures."""

    def __init__(self, target: Path | IO[bytes], muxer: str, options: dict[str, str]) -> None:
        where = str(target) if isinstance(target, Path) else target
        self.output = av.open(where, "w", format=muxer, container_options=options)
        self._is_open = True
        self._durations: dict[int, int] = {}

    def add(
        self, encoder: str, info: VideoInfo, format: str, options: dict[str, str], codec: str | None = None
    ) -> VideoCodecContext:
        """Add the stream of pictures; what it returns may be set up further before the first picture.

        Args:
            encoder: FFmpeg's name of the encoder.
            info: The source.
            format: Name of the pixel format.
            options: Options of the encoder.
            codec: FFmpeg's name of the codec, where the marks of the source go along.
        """
        rate = Fraction(info.fps).limit_denominator(100_000)
        self._stream = cast("VideoStream", self.output.add_stream(encoder, rate=rate, options=options))
        if codec is not None:
            describe(self._stream, codec, (info.width, info.height), info.marks)
            self._stream.codec_context.framerate = rate
        self._stream.time_base = info.time_base
        self._stream.disposition = Disposition.default
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, format
        context.time_base = info.time_base
        return context

    def encode(self, frame: Frame | None, encoded: av.VideoFrame | None) -> list[av.Packet[Any]]:
        """The packets that are ready after one more picture, or after the last one (None)."""
        if frame is not None and encoded is not None:
            encoded.pts, encoded.time_base = frame.pts, self._stream.codec_context.time_base
            self._durations[frame.pts] = frame.duration
        packets: list[av.Packet[Any]] = list(self._stream.encode(encoded))
        for packet in packets:
            # encoders guess durations from the rate; where the rate varies the last one would be wrong
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
        return packets

    def close(self) -> None:
        self._is_open = False
        self.output.close()

    def abandon(self) -> None:
        if self._is_open:
            with suppress(*_SILENT):
                self.close()


class VideoSink(AbstractSink):
    """A video container: pictures by an encoder, sound copied beside them."""

    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        quiet()
        self._encoding = choose_encoding(path, info, settings.codec, settings.crf, settings.preset)
        self._target, self._path = target, path
        self._info = info
        self._mux = _Mux(target, self._encoding.muxer, _container_options(self._encoding, info, settings))
        self._audio: AudioCopy | None = None
        try:
            self._set_up(info)
            self._audio = AudioCopy(info, self._mux.output, settings.audio, path.suffix.lower())
            kept = {key.casefold() for key in settings.keep_metadata}
            self._mux.output.metadata.update({k: v for k, v in info.tags.items() if k.casefold() in kept})
            self._mux.output.start_encoding()
        except BaseException:
            self.abandon()
            raise

    @property
    def remarks(self) -> tuple[str, ...]:
        """What becomes of sound tracks that are not copied."""
        return self._audio.remarks if self._audio is not None else ()

    def _set_up(self, info: VideoInfo) -> None:
        format = self._encoding.format
        codec = self._encoding.codec
        options = encoder_options(codec, format, info.marks, self._encoding.options)
        context = self._mux.add(self._encoding.encoder, info, format.name, options, codec)
        self._marked = marker(format, codec, info.marks)
        context.color_range = 2 if format.is_full_range else 1
        context.colorspace = format.matrix
        context.color_primaries = format.primaries
        context.color_trc = format.transfer
        context.sample_aspect_ratio = info.sample_aspect_ratio
        if self._encoding.codec == "hevc" and self._encoding.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players refuse FFmpeg's usual hev1

    def write(self, frame: Frame, picture: Picture) -> None:
        """Take the picture of one frame."""
        if picture.format != self._encoding.format:
            chroma = cast("Literal['yuv420p', 'yuv444p']", self._encoding.format.name[:7])
            picture = converted(picture, chroma)
        self._put(self._mux.encode(frame, self._marked(to_av_frame(picture))))

    def _put(self, packets: list[av.Packet[Any]]) -> None:
        assert self._audio is not None
        for packet in packets:
            if packet.dts is not None:
                self._audio.copy_until(packet.dts * packet.time_base)
            self._mux.output.mux(packet)

    def finish(self) -> None:
        """Write what is left and close the file."""
        assert self._audio is not None
        self.finish_pictures()
        self._audio.copy_until(None)
        self._close()

    def finish_trial(self) -> tuple[str, ...]:
        """Close a file of pictures without sound, read it back, and say what it lacks of the source, one line each."""
        self.finish_pictures()
        self._close()
        where = f"{self._encoding.codec} in a {self._path.suffix.lower()} file"
        return tuple(lost_marks(self._info.marks, read_marks(cast("Path", self._target), self._info.limits), where))

    def _close(self) -> None:
        self._mux.close()
        if _is_shaped_by_container(self._encoding, self._info):
            set_pixel_aspect(cast("Path", self._target), self._info.marks.pixel_aspect)

    def finish_pictures(self) -> None:
        """Write the pictures that the encoder still holds."""
        self._put(self._mux.encode(None, None))

    def count_frames(self) -> int:
        """Read back what was written, and count; the sound, too."""
        assert self._audio is not None
        with av.open(str(self._target), "r", format=_DEMUXER_OF[self._encoding.muxer]) as written:
            packets, sizes = Counter[int](), Counter[int]()
            for packet in written.demux():
                packets[packet.stream_index] += packet.size > 0
                sizes[packet.stream_index] += packet.size
            self._audio.check([(packets[stream.index], sizes[stream.index]) for stream in written.streams.audio])
            return packets[written.streams.video[0].index]

    def abandon(self) -> None:
        """Close what is open, if anything is. Never raises."""
        if self._audio is not None:
            self._audio.close()
        self._mux.abandon()


_DEMUXER_OF = {"mp4": "mov", "mov": "mov", "matroska": "matroska", "webm": "matroska"}


def _container_options(encoding: Encoding, info: VideoInfo, settings: WriteSettings) -> dict[str, str]:
    if encoding.muxer not in ("mp4", "mov"):
        room = PADDING if _is_shaped_by_container(encoding, info) else {}
        return {"default_mode": "passthrough", **room}  # else the muxer marks tracks as default by its own rule
    flags = "+faststart" + ("+use_metadata_tags" if settings.keep_metadata else "")
    # by default a late start would be rounded to 1/1000 s
    options = {"movflags": flags, "movie_timescale": str(min(info.time_base.denominator, 1_000_000))}
    # how pictures of 360 degrees and two views are marked in MP4 is Google's rule, not the standard's
    return options | ({"strict": "unofficial"} if info.marks.spherical or info.marks.stereo else {})


def _is_shaped_by_container(encoding: Encoding, info: VideoInfo) -> bool:
    """Whether the shape of pixels is stated by the container alone, after all else is written."""
    return (
        encoding.muxer in ("matroska", "webm")
        and encoding.codec in ("vp9", "av1", "ffv1")
        and info.marks.pixel_aspect != 1
    )


class GifSink(AbstractSink):
    """A GIF, repeated for ever, with a palette for each frame."""

    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        self._target = target
        self._mux = _Mux(target, "gif", {"loop": "0"})
        self._mux.add("gif", info, "pal8", {})

    def write(self, frame: Frame, picture: Picture) -> None:
        """Take the picture of one frame."""
        self._mux.output.mux(self._mux.encode(frame, to_palette_frame(picture.rgb())))

    def finish(self) -> None:
        """Write what is left and close the file."""
        self._mux.output.mux(self._mux.encode(None, None))
        self._mux.close()

    def count_frames(self) -> int:
        """Read back what was written, and count."""
        with av.open(str(self._target), "r", format="gif") as written:
            return sum(packet.size > 0 for packet in written.demux(video=0))

    def abandon(self) -> None:
        """Close what is open, if anything is. Never raises."""
        self._mux.abandon()


class ImageSink(AbstractSink):
    """One image file."""

    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        self._target, self._path, self._info, self._settings = cast("Path", target), path, info, settings
        self._n_written = 0

    def write(self, frame: Frame, picture: Picture) -> None:
        """Take the picture of one frame."""
        suffix = self._path.suffix.lower()
        with self._target.open("wb") as file:
            write_image(file, picture.rgb(), suffix, self._settings.image_quality, _profile(self._info, frame))
        self._n_written += 1

    def finish(self) -> None:
        """Nothing is left to write."""

    def count_frames(self) -> int:
        """Read back what was written, and count."""
        return self._n_written if _is_whole(self._target, self._info) else 0

    def abandon(self) -> None:
        """Nothing is open."""


class FolderSink(AbstractSink):
    """A folder of images, named as the source's images, or by number where the source is a video."""

    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        self._target, self._info, self._settings = cast("Path", target), info, settings
        self._names: list[str] = []
        if info.container in ("image", "image_folder"):
            names = distinct_names(file.name for file in info.files)
            self._names = [names[file.name] for file in info.files]

    def write(self, frame: Frame, picture: Picture) -> None:
        """Take the picture of one frame."""
        name = self._names[frame.index] if self._names else f"{frame.index:06d}"
        suffix, quality = self._settings.image_suffix, self._settings.image_quality
        with (self._target / f"{name}{suffix}").open("xb") as file:
            write_image(file, picture.rgb(), suffix, quality, _profile(self._info, frame))

    def finish(self) -> None:
        """Nothing is left to write."""

    def count_frames(self) -> int:
        """Read back what was written, and count."""
        return sum(_is_whole(file, self._info) for file in self._target.iterdir())

    def abandon(self) -> None:
        """Nothing is open."""


def _is_whole(file: Path, info: VideoInfo) -> bool:
    head = image_size(file, info.limits.max_pixels)
    return (head.width, head.height) == (info.width, info.height)


def _profile(info: VideoInfo, frame: Frame) -> bytes | None:
    """The ICC profile of the image that a frame came from."""
    if info.container not in ("image", "image_folder") or frame.fault is not None:
        return None
    return colour_profile(info.files[frame.index])
