"""Frames to a file: same codec, times and sound as the source; whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import av.error

from pa_lib.errors import PaLibError, SettingError
from pa_lib.video.audio import is_sound_held
from pa_lib.video.encoders import MUXERS, VIDEO_OUTPUTS, choose_encoding
from pa_lib.video.files import IMAGE_SUFFIXES, result_stem
from pa_lib.video.frame import Frame, redacted_picture
from pa_lib.video.info import VideoInfo
from pa_lib.video.sinks import AbstractSink, FolderSink, GifSink, ImageSink, VideoSink, WriteSettings
from pa_lib.video.staging import AbstractStaged, StagedFile, StagedFolder, check_writable, commit_together

_PLAYED_IN_MP4 = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}  # MP4 holds more, which few players know
_DEFAULT = WriteSettings()


def default_output(info: VideoInfo, folder: Path | None = None, settings: WriteSettings = _DEFAULT) -> Path:
    """The name of the result where the user gives none: ``clip.anonymized.mp4`` beside ``clip.mp4``, or in `folder`.

    Where another input has the same stem it is ``clip.mp4.anonymized.mp4``, see `result_stem`.
    A container that cannot be written becomes MP4, or Matroska where few players would find the sound in MP4. Where
    sound is copied and the container cannot hold it, it becomes Matroska or MOV, whichever can.
    """
    path = info.path.absolute()
    suffix = path.suffix.lower()
    if info.container == "image_folder":
        suffix = ""
    elif info.container == "image":
        suffix = settings.image_suffix
    elif suffix != ".gif":
        if suffix not in VIDEO_OUTPUTS:
            sound = {codec for number, codec in enumerate(info.audio, 1) if number not in info.audio_faults}
            suffix = ".mp4" if sound <= _PLAYED_IN_MP4 else ".mkv"
        if info.audio and settings.audio == "copy":
            others = (other for other in (suffix, ".mkv", ".mov") if is_sound_held(info, MUXERS[other]))
            suffix = next(others, suffix)
    return (folder or path.parent) / f"{result_stem(path)}.anonymized{suffix}"


def check_output(path: Path, info: VideoInfo, settings: WriteSettings = _DEFAULT) -> tuple[str, ...]:
    """Find out before any work whether the output can be written: name, folder, codec, container and sound.

    Returns:
        What the output will not have of the source, or in another way, one line each.

    Raises:
        PaLibError: If it cannot, saying what to do.
    """
    _check_not_input(path, info)
    if _kind(path, info, settings) is not VideoSink:
        check_writable(path)
        is_silent = not info.audio or settings.audio == "drop"
        return () if is_silent else ("all sound is left out: images hold none",)
    with StagedFile(path) as staged, _errors_as_one_line(path):
        sink = VideoSink(staged.path, path, info, settings)
        sink.abandon()
    # what the file will not hold of the pictures' marks is found by trial, with one picture and no sound
    with StagedFile(path) as staged, _errors_as_one_line(path):
        trial = VideoSink(staged.path, path, info, replace(settings, audio="drop"))
        try:
            picture = redacted_picture(info.format)
            trial.write(Frame(0, 0, info.nominal_duration, 0.0, picture), picture)
            return (*trial.finish_trial(), *sink.remarks)
        finally:
            trial.abandon()


class VideoWriter:
    """Writes one video, GIF, image or image folder. Leaving it without `commit` removes everything.

    Args:
        path: The output; its suffix names the container, no suffix = a folder of images.
        info: Description of the source: times, format, sound and metadata come from there.
        settings: Settings of the writer.

    Raises:
        PaLibError: If it cannot be written.

    Example:
        >>> with VideoWriter(path, info, settings) as writer:  # doctest: +SKIP
        ...     for frame in read_frames(info):
        ...         writer.write(frame)
        ...     writer.commit(n_frames)
    """

    def __init__(self, path: Path, info: VideoInfo, settings: WriteSettings = _DEFAULT) -> None:
        self.path, self._info = Path(path), info
        self._n_frames, self._last_pts = 0, -(1 << 62)
        _check_not_input(self.path, info)
        kind = _kind(self.path, info, settings)
        self._staged: AbstractStaged = StagedFolder(self.path) if kind is FolderSink else StagedFile(self.path)
        try:
            with _errors_as_one_line(self.path):
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
        with _errors_as_one_line(self.path):
            self._sink.write(frame, frame.picture)
        self._last_pts = frame.pts
        self._n_frames += 1

    def commit(self, n_frames: int, beside: Sequence[StagedFile] = ()) -> None:
        """Finish, read back what was written, and give it its final name.

        Args:
            n_frames: Number of frames that the file must hold.
            beside: Files that belong to the video. They get their names just before it, see `commit_together`.

        Raises:
            PaLibError: If writing fails, or the file does not hold that many frames; every file is as it was before.
        """
        if self._n_frames == 0:
            raise PaLibError(f"output {self.path}: no frame was written; nothing was left there")
        with _errors_as_one_line(self.path):
            self._sink.finish()
            found = self._sink.count_frames()
        if found != n_frames or self._n_frames != n_frames:
            raise PaLibError(
                f"output {self.path} holds {found} frames, {self._n_frames} were written, {n_frames} expected; "
                "nothing was left there"
            )
        commit_together(beside, self._staged)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sink.abandon()
        finally:
            self._staged.discard()


def _kind(path: Path, info: VideoInfo, settings: WriteSettings) -> type[AbstractSink]:
    suffix = path.suffix.lower()
    if (
        path.is_dir()
        or not suffix
        or (info.container == "image_folder" and suffix not in (*VIDEO_OUTPUTS, *IMAGE_SUFFIXES))
    ):
        if settings.image_suffix not in IMAGE_SUFFIXES:
            raise SettingError(
                f"image_suffix {settings.image_suffix} is unknown; use one of {', '.join(IMAGE_SUFFIXES)}"
            )
        return FolderSink
    if suffix in IMAGE_SUFFIXES:
        if info.container != "image":
            raise SettingError(
                f"output {path} is one image, the input is a {info.container}; name a folder or a .mp4 file"
            )
        return ImageSink
    if suffix == ".gif":
        if info.audio and settings.audio != "drop":
            raise SettingError(
                f"output {path}: a GIF cannot hold sound; name a .mp4 file, or go on without sound by write.audio=drop"
            )
        return GifSink
    choose_encoding(path, info, settings.codec, settings.crf, settings.preset)
    return VideoSink


def _check_not_input(path: Path, info: VideoInfo) -> None:
    path = Path(path)
    for file in (info.path, *info.files):
        same = os.path.realpath(file) == os.path.realpath(path)
        if same or (path.exists() and file.exists() and os.path.samefile(file, path)):
            raise SettingError(f"output {path} is the input {file} itself; choose another name")


@contextmanager
def _errors_as_one_line(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one line."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise PaLibError(
            f"writing output {path} failed ({getattr(error, 'strerror', None) or error}); nothing was left there; "
            "check the free space and the folder"
        ) from error
