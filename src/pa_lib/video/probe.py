"""Looking at a file before any work: every input that cannot work is refused here, in one line."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error

from pa_lib.errors import InputError
from pa_lib.video.clock import Clock, can_jump
from pa_lib.video.container import (
    Limits,
    audio_faults,
    decoder_of,
    early_end,
    has_transparency,
    is_still,
    open_video,
    reason_of,
    video_stream,
)
from pa_lib.video.files import IMAGE_SUFFIXES, image_files, is_still_image
from pa_lib.video.frame import PixelFormat
from pa_lib.video.images import image_size, read_image
from pa_lib.video.info import VideoInfo
from pa_lib.video.marks import dropped_beside, in_fields, read_marks, turned
from pa_lib.video.orient import orientation_of, upright_format, working_format
from pa_lib.video.timing import FirstPackets, duration_s_of, is_fragment, length_s, rate_of, start_s_of

_LIMITS = Limits()
_MAX_STREAMS = 64
_PACKETS_TO_FIRST_PICTURE = 2000
_PACKETS_IN_DOUBT = 48
_STILL_FPS = 25


def probe(path: str | Path, limits: Limits = _LIMITS) -> VideoInfo:
    """Look at a video, GIF, image or folder of images without working on it.

    Args:
        path: The file or folder.
        limits: Limits on its size.

    Returns:
        What it holds.

    Raises:
        InputError: If it is missing, empty, cut short before its first picture, no video, or beyond a limit.
    """
    path = Path(path)
    try:
        if not os.path.exists(path):
            path.stat()  # says what else may be wrong with the name
        if path.is_dir():
            return _probe_images(path, image_files(path), limits)
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"input {path} is empty (0 bytes); copy it again from its source")
        if size > limits.max_bytes:
            raise InputError(
                f"input {path} has {size} bytes, limits.max_bytes is {limits.max_bytes}; raise it or cut the file"
            )
        if path.suffix.lower() in (".heic", ".heif", ".avif"):
            raise InputError(f"input {path}: {path.suffix} images cannot be read; convert it to PNG or JPEG")
        if is_still_image(path):
            return _probe_images(path, (path,), limits)
        return _probe_video(path, limits)
    except FileNotFoundError as error:
        raise InputError(f"input {path} does not exist; check the path") from error
    except OSError as error:
        raise InputError(f"input {path} cannot be read: {error.strerror or error}") from error


def fingerprint(path: str | Path) -> str:
    """The sha256 of a file as hex; for an image folder that of the names and contents in order.

    Raises:
        InputError: If it cannot be read.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _file_digest(path)
        total = hashlib.sha256()
        for file in image_files(path):
            total.update(f"{file.name}\0{_file_digest(file)}\n".encode(errors="surrogateescape"))
        return total.hexdigest()
    except OSError as error:
        raise InputError(f"input {path} cannot be read: {error.strerror or error}") from error


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _probe_images(path: Path, files: tuple[Path, ...], limits: Limits) -> VideoInfo:
    if not files:
        raise InputError(
            f"input folder {path} holds no image ({' '.join(IMAGE_SUFFIXES)}); give a folder of images or a video file"
        )
    if len(files) > limits.max_frames:
        raise InputError(
            f"input {path} holds {len(files)} images, limits.max_frames is {limits.max_frames}; raise it or split it"
        )
    total = sum(file.stat().st_size for file in files)
    if total > limits.max_bytes:
        raise InputError(
            f"input {path} has {total} bytes, limits.max_bytes is {limits.max_bytes}; raise it or split it"
        )
    first, faults, notes = None, [], []
    for file in files:
        try:
            head = image_size(file, limits.max_pixels)
        except InputError as error:
            # one bad image among many is a frame that cannot be decoded, not the end of the folder
            if len(files) == 1 or "max_pixels" in str(error):
                raise
            faults.append(str(error))
            continue
        if head.note and head.note not in notes:
            notes.append(head.note)
        if first is None:
            first, first_file = head, file
        elif (head.width, head.height) != (first.width, first.height):
            raise InputError(
                f"input folder {path} mixes sizes: {first_file.name} is {first.width}x{first.height}, {file.name} is "
                f"{head.width}x{head.height}; put each size into a folder of its own"
            )
    if len(files) == 1:
        read_image(files[0], limits.max_pixels)  # within the limits, and there would be nothing else to go on with
    if first is None:
        raise InputError(f"input folder {path}: none of its {len(files)} images can be read; the first: {faults[0]}")
    return VideoInfo(
        path=path,
        container="image_folder" if path.is_dir() else "image",
        format=PixelFormat("rgb24", first.width, first.height),
        fps=float(_STILL_FPS),
        time_base=Fraction(1, _STILL_FPS),
        n_frames_estimate=len(files),
        duration_s=len(files) / _STILL_FPS,
        codec=first.codec,
        source_pixel_format=first.mode,
        rotation_deg=first.rotation_deg,
        is_flipped=first.is_flipped,
        files=files,
        faults=tuple(faults),
        notes=tuple(notes),
        limits=limits,
    )


def _probe_video(path: Path, limits: Limits) -> VideoInfo:
    try:
        with open_video(path, limits) as container:
            if container.format.name.endswith("_pipe"):
                return _probe_images(path, (path,), limits)
            return _describe(path, container, limits)
    except av.error.FFmpegError as error:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            raise InputError(
                f"input {path} is an MP4 without its index: cut short or damaged ({reason_of(error)}); copy it again"
            ) from error
        raise InputError(
            f"input {path} is not a video that can be read, or is cut short ({reason_of(error)})"
        ) from error


def _describe(path: Path, container: av.container.InputContainer, limits: Limits) -> VideoInfo:
    if len(container.streams) > _MAX_STREAMS:
        raise InputError(
            f"input {path} has {len(container.streams)} streams, at most {_MAX_STREAMS} are read; re-mux what you need"
        )
    stream = video_stream(container)
    if stream is None:
        kinds = sorted({str(s.type) for s in container.streams}) or ["nothing"]
        hint = "; its codec is unknown" if any(s.codec_context is None for s in container.streams.video) else ""
        raise InputError(
            f"input {path} has no video stream that can be read (it holds {', '.join(kinds)}){hint}; give a video"
        )
    context = stream.codec_context
    if context.width * context.height > limits.max_pixels:
        raise InputError(
            f"input {path} has frames of {context.width}x{context.height} px, limits.max_pixels is "
            f"{limits.max_pixels}; raise it or scale down"
        )
    time_base = cast("Fraction", stream.time_base)
    fps, is_stated = rate_of(container, stream)
    duration_s = duration_s_of(container, stream)
    if not can_jump(container):
        _check_length(path, limits, duration_s, stream.frames or _count(duration_s, fps))
    frame, packets = _first_picture(path, container, stream, limits)
    clock = Clock(Fraction(0), packets.kind(container), can_jump(container))
    clock = replace(clock, start_s=start_s_of(container, stream, packets.first(clock.times)))
    fps = packets.rate(clock.times, time_base, fps)
    if clock.can_jump:  # the header of such a file says nothing
        duration_s = length_s(path, limits, clock, 1 / fps)
    n_frames = stream.frames or _count(duration_s, fps)
    _check_length(path, limits, duration_s, n_frames)

    if frame.width * frame.height > limits.max_pixels:
        raise InputError(
            f"input {path} has frames of {frame.width}x{frame.height} px, limits.max_pixels is {limits.max_pixels}"
        )
    orientation, notes = orientation_of(frame)
    working, more = working_format(frame)
    films = [s.index for s in container.streams.video if not is_still(s)]
    if len(films) > 1:
        used = films.index(stream.index) + 1
        notes.append(f"video track {used} of {len(films)} is used, the others are dropped")
    notes += _dropped(container)
    coded = read_marks(path, limits)
    marks, lost = turned(coded, orientation)
    notes += [*lost, *dropped_beside(frame)]
    if has_transparency(stream) and decoder_of(stream, limits).name == "vp9":
        notes.append("transparency is dropped, and what it hid may show")
    if packets.is_cut_off:
        notes.append("the file begins between key frames; what leans on frames that it does not hold is left out")
    if not is_stated:
        notes.append(f"the stream states no frame rate; {fps:g} frames per second are assumed")
    is_gif, is_mov = container.format.name == "gif", container.format.name.startswith("mov,")
    # the header of these is exact; others state a duration rounded or guessed
    is_exact = is_mov or container.format.name.startswith("matroska")
    slack_s = (0.1 + 2.5 / fps + 0.001 * (duration_s or 0)) if is_exact else max(0.5, 0.02 * (duration_s or 0))
    end_pts = None
    if is_mov and stream.duration and clock.times == "shown":
        begin = 0 if is_fragment(container, stream) else stream.start_time or 0
        end_pts = begin + stream.duration - clock.units(time_base)
    return VideoInfo(
        path=path,
        container="gif" if is_gif else "video",
        format=in_fields(upright_format(working, orientation), marks),
        fps=fps,
        time_base=time_base,
        n_frames_estimate=n_frames,
        duration_s=duration_s,
        codec=context.codec.canonical_name,
        source_pixel_format=frame.format.name,
        is_variable_rate=packets.are_uneven(clock.times),
        rotation_deg=orientation.rotation_deg,
        is_flipped=orientation.is_flipped,
        marks=marks,
        coded_fields=None if working.is_rgb else coded.fields,
        audio=tuple(
            s.codec_context.codec.canonical_name if s.codec_context else "unknown" for s in container.streams.audio
        ),
        audio_faults=audio_faults(path, limits),
        tags=dict(container.metadata),
        files=(path,),
        faults=() if clock.can_jump else early_end(path, limits, duration_s, slack_s),
        clock=clock,
        end_pts=end_pts,
        notes=tuple(notes + more),
        limits=limits,
        orientation=orientation,
    )


def _dropped(container: av.container.InputContainer) -> list[str]:
    """Tracks that never reach a result, since what they say may name people or places."""
    counts = Counter(str(stream.type) for stream in container.streams)
    numbers = {kind: counts[kind] for kind in ("subtitle", "data") if counts[kind]}
    return [f"{n} {kind} track{'s are' if n > 1 else ' is'} dropped" for kind, n in numbers.items()]


def _check_length(path: Path, limits: Limits, duration_s: float | None, n_frames: int | None) -> None:
    if duration_s and duration_s > limits.max_duration_s:
        raise InputError(
            f"input {path} is {duration_s:.0f} s long, "
            f"limits.max_duration_s is {limits.max_duration_s:g}; raise it or cut it"
        )
    if n_frames and n_frames > limits.max_frames:
        raise InputError(
            f"input {path} has about {n_frames} frames, limits.max_frames is {limits.max_frames}; raise it or cut it"
        )


def _count(duration_s: float | None, fps: float) -> int | None:
    return round(duration_s * fps) if duration_s else None


def _first_picture(
    path: Path, container: av.container.InputContainer, stream: av.video.stream.VideoStream, limits: Limits
) -> tuple[av.VideoFrame, FirstPackets]:
    """The first frame that decodes, and the times of the packets up to there and a few more."""
    found: av.VideoFrame | None = None
    packets, decoder = FirstPackets(), decoder_of(stream, limits)
    reason = "it holds no frames"
    try:
        for n, packet in enumerate(container.demux(stream)):
            if packet.size:
                packets.add(packet)
            # further pictures are looked at only where the times may turn out not to be those of showing
            is_doubtful = stream.codec_context.has_b_frames and packets.may_be_of_decoding
            if found is None or (is_doubtful and n < _PACKETS_IN_DOUBT):
                try:
                    for frame in decoder.decode(packet if packet.size else None):
                        found = found or frame
                        if frame.pts is not None:
                            packets.pictures.append(frame.pts)
                except av.error.EOFError:
                    pass
                except av.error.FFmpegError as error:
                    reason = f"none of its first {n + 1} frames can be decoded ({reason_of(error)})"
            if n > _PACKETS_TO_FIRST_PICTURE or (found is not None and n > 120):
                break
    except av.error.FFmpegError as error:
        reason = f"it cannot be read ({reason_of(error)})"
    if found is None:
        raise InputError(
            f"input {path} has no picture: {reason}; it may be cut short or damaged, copy it again from its source"
        )
    return found, packets
