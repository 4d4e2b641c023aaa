"""Frames to a file: same codec, times and sound as the source; whole or not at all."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, cast

import av
import av.error

from pa_lib.contracts import PaLibError
from pa_lib.video.audio import AudioCopy
from pa_lib.video.encoders import VIDEO_OUTPUTS, choose_encoding, quiet
from pa_lib.video.frame import Frame, Picture, converted, redacted_picture, to_av_frame
from pa_lib.video.gif import to_palette_frame
from pa_lib.video.images import IMAGE_SUFFIXES, colour_profile, image_size, write_image
from pa_lib.video.probe import VideoInfo
from pa_lib.video.staging import AbstractStaged, StagedFile, StagedFolder, check_writable

_AUDIO_OF_MP4 = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}


@dataclass(frozen=True)
class WriteSettings:
    """How the output is written.

    Args:
        codec: ``auto`` = the source's own where the container and an encoder allow, else the container's usual one; or
            ``h264``, ``hevc``, ``vp9``, ``av1``, ``ffv1`` (without loss).
        crf: Quality, lower is better, in the encoder's own scale; None = near the limit of what the eye sees.
        preset: The encoder's own name or number for its speed; None = fast.
        audio: ``copy`` every track byte for byte, or ``drop``.
        keep_metadata: Keys of the container's metadata to keep, e.g. ``("title", "creation_time")``; all else, and every
            stream that is neither the pictures nor sound, is dropped.
        image_suffix: What an image folder is written as.
        image_quality: For JPEG and WebP, 1..100.
    """

    codec: str = "auto"
    crf: int | None = None
    preset: str | None = None
    audio: Literal["copy", "drop"] = "copy"
    keep_metadata: tuple[str, ...] = ()
    image_suffix: str = ".png"
    image_quality: int = 95


def default_output(info: VideoInfo, folder: Path | None = None, settings: WriteSettings = WriteSettings()) -> Path:
    """Where the result goes if nobody says: ``clip.anonymized.mp4`` beside ``clip.mp4``, or in `folder`.

    A container that cannot be written becomes MP4, or Matroska where MP4 cannot hold the sound.
    """
    path = info.path.absolute()
    suffix = path.suffix.lower()
    if info.container == "image_folder":
        suffix = ""
    elif info.container == "image":
        suffix = settings.image_suffix
    elif suffix not in VIDEO_OUTPUTS:
        suffix = ".mp4" if set(info.audio) <= _AUDIO_OF_MP4 else ".mkv"
    stem = path.name if info.container == "image_folder" else path.stem
    return (folder or path.parent) / f"{stem}.anonymized{suffix}"


def check_output(path: Path, info: VideoInfo, settings: WriteSettings = WriteSettings()) -> None:
    """Find out before any work whether the output can be written: name, folder, codec, container and sound.

    Raises:
        PaLibError: If it cannot, saying what to do.
    """
    _check_not_input(path, info)
    kind = _kind(path, info, settings)
    check_writable(path)
    if kind is _VideoSink:
        with _told(path):
            sink = _VideoSink(io.BytesIO(), path, info, settings)
            try:
                sink.write(
                    Frame(0, 0, info.nominal_duration, 0.0, redacted_picture(info.format)),
                    redacted_picture(info.format),
                )
                sink.finish_pictures()
            finally:
                sink.abandon()


class VideoWriter:
    """Writes one video, GIF, image or image folder. Leaving it without `commit` removes everything.

    Args:
        path: The output; its suffix names the container, no suffix = a folder of images.
        info: The source: times, format, sound and metadata come from there.
        settings: How to write it.

    Raises:
        PaLibError: If it cannot be written.

    Example:
        >>> with VideoWriter(path, info, settings) as writer:  # doctest: +SKIP
        ...     for frame in read_frames(info):
        ...         writer.write(frame)
        ...     writer.commit(n_frames)
    """

    def __init__(self, path: Path, info: VideoInfo, settings: WriteSettings = WriteSettings()) -> None:
        self.path, self._info = Path(path), info
        self._n_frames, self._last_pts = 0, -(1 << 62)
        _check_not_input(self.path, info)
        kind = _kind(self.path, info, settings)
        self._staged: AbstractStaged = StagedFolder(self.path) if kind is _FolderSink else StagedFile(self.path)
        try:
            with _told(self.path):
                self._sink = kind(self._staged.path, self.path, info, settings)
        except BaseException:
            self._staged.discard()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one frame; they come in order.

        Raises:
            PaLibError: If writing fails, e.g. because the disk is full, or the source's sound cannot be read.
            ValueError: If the frame has no picture (redact it first), another format, or is out of order.
        """
        if frame.picture is None:
            raise ValueError(f"frame {frame.index} has no picture; give it redacted_picture(info.format)")
        if frame.picture.format != self._info.format:
            raise ValueError(f"frame {frame.index} is {frame.picture.format}, the video {self._info.format}")
        if frame.pts <= self._last_pts:
            raise ValueError(f"frame {frame.index} at {frame.pts} comes after one at {self._last_pts}")
        with _told(self.path):
            self._sink.write(frame, frame.picture)
        self._last_pts = frame.pts
        self._n_frames += 1

    def commit(self, n_frames: int) -> None:
        """Finish, read back what was written, and give it its final name.

        Args:
            n_frames: How many frames there should be.

        Raises:
            PaLibError: If writing fails, or the file does not hold that many frames; nothing is left then.
        """
        with _told(self.path):
            self._sink.finish()
            found = self._sink.count_frames()
        if found != n_frames or self._n_frames != n_frames:
            raise PaLibError(
                f"output {self.path} holds {found} frames, {self._n_frames} were written, {n_frames} expected; nothing was left there"
            )
        self._staged.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sink.abandon()
        finally:
            self._staged.discard()


class _AbstractSink(ABC):
    """What takes the pictures: `target` is where the bytes go, `path` the name that the user knows."""

    @abstractmethod
    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None: ...

    @abstractmethod
    def write(self, frame: Frame, picture: Picture) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    @abstractmethod
    def count_frames(self) -> int:
        """Read back what was written."""

    @abstractmethod
    def abandon(self) -> None:
        """Close what is open, if anything is; never raises for what was not finished."""


class _VideoSink(_AbstractSink):
    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        quiet()
        self._encoding = choose_encoding(path, info, settings.codec, settings.crf, settings.preset)
        self._target, self._info = target, info
        self._durations: dict[int, int] = {}
        flags = "+faststart" + ("+use_metadata_tags" if settings.keep_metadata else "")
        options = {"movflags": flags} if self._encoding.muxer in ("mp4", "mov") else {}
        where = str(target) if isinstance(target, Path) else target
        self._output: av.container.OutputContainer | None = av.open(
            where, "w", format=self._encoding.muxer, container_options=options
        )
        self._audio: AudioCopy | None = None
        try:
            self._stream = self._add_stream(self._output)
            silent = replace(info, audio=(), audio_faults=())
            self._audio = AudioCopy(info if settings.audio == "copy" else silent, self._output)
            kept = {key.casefold() for key in settings.keep_metadata}
            self._output.metadata.update({k: v for k, v in info.tags.items() if k.casefold() in kept})
            self._output.start_encoding()
        except BaseException:
            self.abandon()
            raise

    def _add_stream(self, output: av.container.OutputContainer) -> av.video.stream.VideoStream:
        info, encoding = self._info, self._encoding
        rate = Fraction(info.fps).limit_denominator(100_000)
        stream = cast(
            "av.video.stream.VideoStream", output.add_stream(encoding.encoder, rate=rate, options=encoding.options)
        )
        stream.time_base = info.time_base
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, encoding.format.name
        context.time_base = info.time_base
        context.color_range = 2 if encoding.format.is_full_range else 1
        context.colorspace = encoding.format.matrix
        context.color_primaries = encoding.format.primaries
        context.color_trc = encoding.format.transfer
        context.sample_aspect_ratio = info.sample_aspect_ratio
        if encoding.codec == "hevc" and encoding.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players refuse FFmpeg's usual hev1
        return stream

    def write(self, frame: Frame, picture: Picture) -> None:
        if picture.format != self._encoding.format:
            chroma = cast("Literal['yuv420p', 'yuv444p']", self._encoding.format.name[:7])
            picture = converted(picture, chroma)
        encoded = to_av_frame(picture)
        encoded.pts, encoded.time_base = frame.pts, self._info.time_base
        self._durations[frame.pts] = frame.duration
        self._mux(self._stream.encode(encoded))

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        assert self._output is not None
        assert self._audio is not None
        for packet in packets:
            # encoders guess durations from the rate; the last one would be wrong where the rate varies
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            if packet.dts is not None:
                self._audio.copy_until(packet.dts * packet.time_base)
            self._output.mux(packet)

    def finish_pictures(self) -> None:
        """Get the encoder's last packets."""
        self._mux(self._stream.encode(None))

    def finish(self) -> None:
        assert self._output is not None
        assert self._audio is not None
        self.finish_pictures()
        self._audio.copy_until(None)
        self._output.close()
        self._output = None

    def count_frames(self) -> int:
        counts: Counter[int] = Counter()
        with av.open(str(self._target), "r", format="mov" if self._encoding.muxer == "mp4" else None) as written:
            for packet in written.demux():
                counts[packet.stream_index] += packet.size > 0
            video = counts[written.streams.video[0].index]
            sound = [counts[stream.index] for stream in written.streams.audio]
        assert self._audio is not None
        if sound != self._audio.n_packets:
            raise PaLibError(f"the output holds {sound} audio packets, {self._audio.n_packets} were written")
        return video

    def abandon(self) -> None:
        if self._audio is not None:
            self._audio.close()
        if self._output is not None:
            try:
                self._output.close()
            except (av.error.FFmpegError, OSError, ValueError):
                pass  # nobody wants what was being written
            self._output = None


class _GifSink(_AbstractSink):
    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        self._target, self._info = target, info
        self._durations: dict[int, int] = {}
        self._output: av.container.OutputContainer | None = av.open(
            str(target), "w", format="gif", container_options={"loop": "0"}
        )
        rate = Fraction(info.fps).limit_denominator(100)
        self._stream = cast("av.video.stream.VideoStream", self._output.add_stream("gif", rate=rate))
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, "pal8"
        context.time_base = info.time_base
        self._stream.time_base = info.time_base

    def write(self, frame: Frame, picture: Picture) -> None:
        encoded = to_palette_frame(picture.rgb())
        encoded.pts, encoded.time_base = frame.pts, self._info.time_base
        self._durations[frame.pts] = frame.duration
        self._mux(self._stream.encode(encoded))

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        assert self._output is not None
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._output.mux(packet)

    def finish(self) -> None:
        assert self._output is not None
        self._mux(self._stream.encode(None))
        self._output.close()
        self._output = None

    def count_frames(self) -> int:
        with av.open(str(self._target), "r", format="gif") as written:
            return sum(packet.size > 0 for packet in written.demux(video=0))

    def abandon(self) -> None:
        if self._output is not None:
            try:
                self._output.close()
            except (av.error.FFmpegError, OSError, ValueError):
                pass
            self._output = None


class _ImageSink(_AbstractSink):
    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        self._target, self._path, self._info, self._settings = cast("Path", target), path, info, settings
        self._n_written = 0

    def write(self, frame: Frame, picture: Picture) -> None:
        suffix = self._path.suffix.lower()
        with self._target.open("wb") as file:
            write_image(file, picture.rgb(), suffix, self._settings.image_quality, colour_profile(self._info.files[0]))
        self._n_written += 1

    def finish(self) -> None:
        pass

    def count_frames(self) -> int:
        head = image_size(self._target, self._info.limits.max_pixels)
        return self._n_written if (head.width, head.height) == (self._info.width, self._info.height) else 0

    def abandon(self) -> None:
        pass


class _FolderSink(_AbstractSink):
    def __init__(self, target: Path | IO[bytes], path: Path, info: VideoInfo, settings: WriteSettings) -> None:
        self._target, self._info, self._settings = cast("Path", target), info, settings
        stems = Counter(file.stem for file in info.files)
        self._names = [file.stem if stems[file.stem] == 1 else file.name for file in info.files]
        self._is_from_images = info.container in ("image", "image_folder")

    def write(self, frame: Frame, picture: Picture) -> None:
        name = self._names[frame.index] if self._is_from_images else f"{frame.index:06d}"
        profile = None
        if self._is_from_images and frame.fault is None:
            profile = colour_profile(self._info.files[frame.index])
        with (self._target / f"{name}{self._settings.image_suffix}").open("xb") as file:
            write_image(file, picture.rgb(), self._settings.image_suffix, self._settings.image_quality, profile)

    def finish(self) -> None:
        pass

    def count_frames(self) -> int:
        size = (self._info.width, self._info.height)
        heads = (image_size(file, self._info.limits.max_pixels) for file in self._target.iterdir())
        return sum((head.width, head.height) == size for head in heads)

    def abandon(self) -> None:
        pass


def _kind(path: Path, info: VideoInfo, settings: WriteSettings) -> type[_AbstractSink]:
    suffix = path.suffix.lower()
    if (
        path.is_dir()
        or not suffix
        or (info.container == "image_folder" and suffix not in (*VIDEO_OUTPUTS, *IMAGE_SUFFIXES))
    ):
        if settings.image_suffix not in IMAGE_SUFFIXES:
            raise PaLibError(f"image_suffix {settings.image_suffix} is unknown; use one of {', '.join(IMAGE_SUFFIXES)}")
        return _FolderSink
    if suffix in IMAGE_SUFFIXES:
        if info.container != "image":
            raise PaLibError(
                f"output {path} is one image, the input is a {info.container}; name a folder or a .mp4 file"
            )
        return _ImageSink
    if suffix == ".gif":
        if info.audio and settings.audio == "copy":
            raise PaLibError(
                f"output {path}: a GIF cannot hold sound; write a .mp4 file, or go on without sound by audio=drop"
            )
        return _GifSink
    choose_encoding(path, info, settings.codec, settings.crf, settings.preset)
    return _VideoSink


def _check_not_input(path: Path, info: VideoInfo) -> None:
    path = Path(path)
    for file in (info.path, *info.files):
        same = os.path.realpath(file) == os.path.realpath(path)
        if same or (path.exists() and file.exists() and os.path.samefile(file, path)):
            raise PaLibError(f"output {path} is the input {file} itself; choose another name")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one line."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise PaLibError(
            f"writing output {path} failed ({getattr(error, 'strerror', None) or error}); nothing was left there; "
            "check the free space and the folder"
        ) from error
