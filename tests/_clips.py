"""Small synthetic clips of every kind, made on the fly by PyAV and Pillow, never by the code under test."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder knows no other way to be quiet

Draw = Callable[[int, int, int], np.ndarray]
_QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12", "crf": "40"}}
_FAST = {
    "libx264": {"preset": "ultrafast", "crf": "12"},
    "libx265": {"preset": "ultrafast", "crf": "12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
}


def scene(index: int, width: int, height: int) -> np.ndarray:
    """A picture with no symmetry: colour ramps, a red square that walks to the right, a blue corner at the top left."""
    x = np.linspace(40, 210, width)[None, :]
    y = np.linspace(60, 190, height)[:, None]
    image = np.stack([x + 0 * y, y + 0 * x, 0 * x + 0 * y + 90 + 5 * (index % 16)], axis=-1).astype(np.uint8)
    side = max(4, height // 4)
    left = (index * 3) % max(1, width - side)
    image[height // 2 : height // 2 + side, left : left + side] = (220, 30, 30)
    image[: max(2, height // 6), : max(2, width // 6)] = (20, 30, 230)
    return image


def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    width: int = 64,
    height: int = 48,
    n_frames: int = 12,
    fps: int = 25,
    time_base: Fraction | None = None,
    times: Sequence[int] | None = None,
    last_duration: int | None = None,
    rotation_deg: int = 0,
    is_flipped: bool = False,
    audio: Sequence[str] = (),
    audio_s: float | None = None,
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    draw: Draw = scene,
    set_up: Callable[[Any], None] | None = None,
    extra: Callable[[Any], Callable[[], None]] | None = None,
    fields: str | None = None,
) -> Path:
    """Encode one clip.

    Args:
        times: Of the frames in units of `time_base`; by default evenly by `fps`.
        last_duration: How long the last frame is shown, same units.
        rotation_deg, is_flipped: Display matrix: counter-clockwise turn of the coded picture, then mirrored left-right.
        audio: Encoder of each track, e.g. ``("aac", "aac")``; each is a tone of its own.
        set_up: Called with the video stream's codec context before it opens.
        extra: Called with the container before the header; what it returns is called after the video is muxed.
        fields: ``tff`` or ``bff`` codes the pictures as two fields each, by FFmpeg's ``setfield``.
    """
    time_base = time_base or Fraction(1, fps * 512)
    step = int(1 / (fps * time_base))
    times = list(times) if times is not None else [i * step for i in range(n_frames)]
    with av.open(str(path), "w", container_options=container_options or {}) as output:
        output.metadata.update(tags or {})
        coded = {"flags": "+ildct+ilme", "x264-params": f"{fields}=1"} if fields is not None else {}
        merged = {**coded, **_FAST.get(codec, {}), **_QUIET.get(codec, {}), **(options or {})}
        stream = output.add_stream(codec, rate=Fraction(fps), options=merged)
        stream.time_base = time_base
        context = stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = width, height, pixel_format, time_base
        if rotation_deg or is_flipped:
            stream.set_display_rotation(rotation_deg, hflip=is_flipped)
        if set_up is not None:
            set_up(context)
        tracks = [_add_audio(output, name) for name in audio]
        after = extra(output) if extra is not None else None
        durations = {
            t: (times[i + 1] - t if i + 1 < len(times) else last_duration or step) for i, t in enumerate(times)
        }
        for number, track in enumerate(tracks):
            _write_tone(output, track, 300 + 200 * number, audio_s or len(times) / fps)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(index, width, height), format="rgb24").reformat(
                format=pixel_format,
                dst_colorspace="itu601",
                dst_color_range="MPEG" if "j" not in pixel_format else "JPEG",
            )
            if fields is not None:
                frame = _in_fields(frame, fields)
            frame.pts, frame.time_base = time, time_base
            _mux(output, stream.encode(frame), durations)
        _mux(output, stream.encode(None), durations)
        if after is not None:
            after()
    return path


def _in_fields(frame: av.VideoFrame, fields: str) -> av.VideoFrame:
    graph = av.filter.Graph()
    steps = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))]
    steps += [graph.add("setfield", fields), graph.add("buffersink")]
    graph.link_nodes(*steps).configure()
    graph.push(frame)
    return graph.pull()


def _mux(output: Any, packets: list[Any], durations: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = durations.get(packet.pts, packet.duration)
        output.mux(packet)


def _add_audio(output: Any, codec: str) -> Any:
    stream = output.add_stream(codec, rate=48000, options={"strict": "experimental"} if codec == "vorbis" else {})
    stream.codec_context.layout = "stereo" if codec == "vorbis" else "mono"  # what FFmpeg's own encoder takes
    if codec == "wmav2":
        stream.codec_context.bit_rate = 64_000
    return stream


def _write_tone(output: Any, stream: Any, hertz: int, seconds: float) -> None:
    n = int(48000 * seconds)
    tone = (np.sin(2 * np.pi * hertz * np.arange(n) / 48000) * 8000).astype(np.int16)
    for start in range(0, n, 960):
        part = np.ascontiguousarray(tone[None, start : start + 960])
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def make_gif(
    path: Path, *, width: int = 64, height: int = 48, n_frames: int = 8, durations_ms: Sequence[int] = (80,)
) -> Path:
    """A GIF of few colours; `durations_ms` is repeated over the frames."""
    frames = [Image.fromarray(scene(i, width, height)).quantize(64) for i in range(n_frames)]
    shown = [durations_ms[i % len(durations_ms)] for i in range(n_frames)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=shown, loop=0, disposal=1)
    return path


def make_image_folder(
    folder: Path, *, width: int = 40, height: int = 30, n_frames: int = 12, suffix: str = ".png"
) -> Path:
    """``frame 1.png`` to ``frame 12.png``: sorting by letters would put 10 before 2."""
    folder.mkdir()
    for i in range(n_frames):
        Image.fromarray(scene(i, width, height)).save(folder / f"frame {i + 1}{suffix}")
    return folder


def make_exif_image(path: Path, orientation: int, *, width: int = 40, height: int = 30) -> Path:
    """An image whose EXIF orientation says how it lies; EXIF also holds a maker and GPS."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "SecretMaker"
    exif.get_ifd(0x8825)[1] = "N"
    options = {"quality": 95, "subsampling": 0} if path.suffix in (".jpg", ".jpeg") else {}
    Image.fromarray(scene(3, width, height)).save(path, exif=exif, **options)
    return path


def uneven_times(n_frames: int, step: int = 512) -> list[int]:
    """Times of a phone's video: mostly even, some frames late, one long pause."""
    gaps = [step, step, step + step // 3, step, 3 * step, step - 7]
    times = [0]
    for i in range(n_frames - 1):
        times.append(times[-1] + gaps[i % len(gaps)])
    return times


_VFR = {"times": uneven_times(12), "last_duration": 1700}
_MS = {"time_base": Fraction(1, 1000)}
_ODD = {"width": 67, "height": 51}
_AV1 = {"codec": "libsvtav1", "width": 128, "height": 96}
CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": (".mp4", {"audio": ("aac",)}),
    "h264_mkv": (".mkv", {"audio": ("aac",), **_MS}),
    "h264_mov_pcm": (".mov", {"audio": ("pcm_s16le",)}),
    "no_audio": (".mp4", {}),
    "two_audio_tracks": (".mp4", {"audio": ("aac", "aac"), "n_frames": 30}),
    "audio_longer": (".mp4", {"audio": ("aac",), "audio_s": 2.0}),
    "variable_rate": (".mp4", {**_VFR, "audio": ("aac",)}),
    "variable_rate_hevc": (".mp4", {**_VFR, "codec": "libx265"}),
    "variable_rate_vp9": (".webm", {"codec": "libvpx-vp9", **_MS, "times": uneven_times(12, 40)}),
    "starts_late": (".mp4", {"times": [5000 + 512 * i for i in range(12)], "audio": ("aac",)}),
    "ntsc_rate": (".mp4", {"times": [1001 * i for i in range(12)], "time_base": Fraction(1, 30000), "fps": 30}),
    "rotated_90": (".mp4", {"rotation_deg": -90}),
    "rotated_180": (".mp4", {"rotation_deg": 180}),
    "rotated_270": (".mp4", {"rotation_deg": 90, "audio": ("aac",)}),
    "flipped": (".mp4", {"is_flipped": True}),
    "rotated_90_422": (".mp4", {"rotation_deg": -90, "pixel_format": "yuv422p"}),
    "hevc": (".mp4", {"codec": "libx265"}),
    "hevc_10bit": (".mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
    "h264_10bit": (".mkv", {"pixel_format": "yuv420p10le", **_MS}),
    "h264_444": (".mp4", {"pixel_format": "yuv444p"}),
    "full_range": (".mp4", {"pixel_format": "yuvj420p"}),
    "vp9": (".webm", {"codec": "libvpx-vp9", "audio": ("libopus",), **_MS}),
    "vp9_odd": (".webm", {"codec": "libvpx-vp9", **_ODD, **_MS}),
    "vp9_odd_flipped": (".mp4", {"codec": "libvpx-vp9", **_ODD, "is_flipped": True}),
    "h264_odd_444": (".mp4", {"pixel_format": "yuv444p", **_ODD}),
    "av1": (".mp4", _AV1),
    "av1_10bit": (".mkv", {**_AV1, **_MS, "pixel_format": "yuv420p10le"}),
    "mpeg4_avi": (".avi", {"codec": "mpeg4", "audio": ("mp2",), "time_base": Fraction(1, 25)}),
    "mjpeg": (".mov", {"codec": "mjpeg", "pixel_format": "yuvj422p"}),
    "gray": (".mkv", {"codec": "ffv1", "pixel_format": "gray", **_MS}),
    "rgb_ffv1": (".mkv", {"codec": "ffv1", "pixel_format": "bgr0", **_MS}),
    "mpegts": (".ts", {"audio": ("aac",), "time_base": Fraction(1, 90000)}),
    "one_frame": (".mp4", {"n_frames": 1}),
}  # fmt: skip


def make(name: str, folder: Path) -> Path:
    """One of the named kinds: `CLIPS`, ``gif``, ``gif_odd``, ``image_folder`` or ``image``."""
    if name == "gif":
        return make_gif(folder / "gif.gif", durations_ms=(80, 120, 200))
    if name == "gif_odd":
        return make_gif(folder / "gif_odd.gif", width=67, height=51)
    if name == "image_folder":
        return make_image_folder(folder / "image_folder")
    if name == "image":
        return make_exif_image(folder / "image.jpg", 6)
    suffix, options = CLIPS[name]
    return make_clip(folder / f"{name}{suffix}", **options)


ALL_KINDS = (*CLIPS, "gif", "gif_odd", "image_folder", "image")
