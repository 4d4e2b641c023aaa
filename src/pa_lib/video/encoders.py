"""Which encoder writes what into which container, and with which settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import av
import av.codec

from pa_lib.errors import SettingError
from pa_lib.video.frame import PixelFormat
from pa_lib.video.info import VideoInfo

# What each container may hold, best first for a source whose own codec it cannot hold.
_HOLDS = {
    ".mp4": ("mp4", ("h264", "hevc", "av1", "vp9")),
    ".m4v": ("mp4", ("h264", "hevc", "av1", "vp9")),
    ".mov": ("mov", ("h264", "hevc")),
    ".mkv": ("matroska", ("h264", "hevc", "av1", "vp9", "ffv1")),
    ".webm": ("webm", ("vp9", "av1")),
}
VIDEO_OUTPUTS = (*_HOLDS, ".gif")
MUXERS = {suffix: muxer for suffix, (muxer, _) in _HOLDS.items()}  # FFmpeg's names of the containers


@dataclass(frozen=True)
class _Encoder:
    """An encoder's name, its option for speed, and what we ask of it by default.

    The quality numbers are where the decoded output measures about 42 dB or more on luma against its input; the speeds
    are the slowest that keep pace with finding people on two cores. No B-frames: with them the order of decoding is not
    that of showing, and MP4 stores durations in the former, so the last frame of a variable rate would lose its own.
    """

    name: str
    crf: int | None
    max_crf: int
    speed: tuple[str, str] | None
    speeds: tuple[str, ...]
    options: dict[str, str]
    wants_even: bool = False


_X26_SPEEDS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
_ENCODERS = {
    "h264": _Encoder(
        "libx264", 18, 51, ("preset", "veryfast"), _X26_SPEEDS, {"a53cc": "0", "bf": "0"}, wants_even=True
    ),
    "hevc": _Encoder(
        "libx265",
        20,
        51,
        ("preset", "superfast"),
        _X26_SPEEDS,
        {"x265-params": "log-level=none:bframes=0"},
        wants_even=True,
    ),
    "vp9": _Encoder(
        "libvpx-vp9",
        24,
        63,
        ("cpu-used", "6"),
        tuple(map(str, range(9))),
        {"b": "0", "deadline": "realtime", "row-mt": "1", "tile-columns": "2"},
    ),
    "av1": _Encoder("libsvtav1", 24, 63, ("preset", "9"), tuple(map(str, range(14))), {}, wants_even=True),
    "ffv1": _Encoder("ffv1", None, 0, None, (), {"level": "3", "slicecrc": "1"}),
}
CODECS = tuple(_ENCODERS)


@dataclass(frozen=True)
class Encoding:
    """How the pictures of one video are written.

    Args:
        muxer: FFmpeg's name of the container.
        codec: FFmpeg's name of the codec.
        encoder: FFmpeg's name of the encoder.
        format: Pixel format of the planes when they reach the encoder.
        options: Options of the encoder.
    """

    muxer: str
    codec: str
    encoder: str
    format: PixelFormat
    options: dict[str, str]


def choose_encoding(path: Path, info: VideoInfo, codec: str, crf: int | None, preset: str | None) -> Encoding:
    """Find an encoder for `path` by its suffix: the source's own codec where that fits.

    Raises:
        SettingError: If the suffix or the codec is unknown, or they do not go together; names what does.
    """
    suffix = path.suffix.lower()
    if suffix not in _HOLDS:
        raise SettingError(
            f"output {path}: {suffix or 'no suffix'} is no container that can be written; "
            f"use {', '.join(VIDEO_OUTPUTS)}, e.g. {path.with_suffix('.mp4').name}"
        )
    muxer, holds = _HOLDS[suffix]
    if codec != "auto" and codec not in _ENCODERS:
        raise SettingError(f"codec {codec} is unknown; use auto or one of {', '.join(CODECS)}")
    if codec != "auto" and codec not in holds:
        raise SettingError(
            f"output {path}: {suffix} cannot hold {codec}; use one of {', '.join(holds)}, or a .mkv file"
        )
    for candidate in [codec] if codec != "auto" else sorted(holds, key=lambda name: name != info.codec):
        encoder = _ENCODERS[candidate]
        taken = _taken(encoder, info)
        if taken is not None:
            return Encoding(muxer, candidate, encoder.name, taken, _options(encoder, crf, preset))
    raise SettingError(
        f"output {path}: no encoder for {' or '.join(holds if codec == 'auto' else [codec])} takes {info.pixel_format} "
        f"at {info.width}x{info.height}; use a .mkv file with codec hevc or ffv1"
    )


def quiet() -> None:
    """Keep the AV1 encoder's own log, which knows no other switch, off the terminal."""
    os.environ.setdefault("SVT_LOG", "1")


def _options(encoder: _Encoder, crf: int | None, preset: str | None) -> dict[str, str]:
    options = dict(encoder.options)
    if encoder.crf is not None:
        if crf is not None and not 0 <= crf <= encoder.max_crf:
            raise SettingError(
                f"crf {crf} is out of range for {encoder.name}; use 0 (best) to {encoder.max_crf}, or null"
            )
        options["crf"] = str(encoder.crf if crf is None else crf)
    if encoder.speed is not None:
        if preset is not None and preset not in encoder.speeds:
            raise SettingError(f"preset {preset} is unknown to {encoder.name}; use one of {', '.join(encoder.speeds)}")
        options[encoder.speed[0]] = encoder.speed[1] if preset is None else preset
    return options


def _taken(encoder: _Encoder, info: VideoInfo) -> PixelFormat | None:
    """The format in which the encoder takes the pictures; None where it does not."""
    known = _formats(encoder.name)
    format = info.format
    is_odd = bool(format.width % 2 or format.height % 2)
    if format.is_rgb:
        # GIFs and images come with one sample for each pixel, but most players show only 4:2:0
        name = "yuv444p" if info.container == "video" or (is_odd and encoder.wants_even) else "yuv420p"
        format = replace(format, name=name, matrix=1, primaries=1, transfer=1)
    elif is_odd and encoder.wants_even and format.sampling != (1, 1):
        format = replace(format, name="yuv444p" + format.name[7:])
    return format if format.name in known else None


@cache
def _formats(encoder: str) -> frozenset[str]:
    try:
        codec = av.codec.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        return frozenset()
    return frozenset(format.name for format in codec.video_formats or ())
