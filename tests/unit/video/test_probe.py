from __future__ import annotations

import hashlib
import os
import shutil
import struct
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from _clips import make, make_clip, make_exif_image, make_gif, make_image_folder
from pa_lib.errors import PaLibError
from pa_lib.video import Limits, fingerprint, is_supported, probe, read_frames


def huge_png(path: Path, width: int, height: int) -> Path:
    """A small file whose header promises a huge image; its data is never looked at."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )
    return path


def only_audio(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        stream.codec_context.layout = "mono"
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def without_frames(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.codec_context.width, stream.codec_context.height = 64, 48
        output.start_encoding()
    return path


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    clip = make_clip(folder / "clip.mp4", n_frames=4)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video\n" * 500)
    (folder / "text.png").write_text("no image\n" * 500)
    (folder / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(50_000))
    (folder / "cut.mp4").write_bytes(clip.read_bytes()[:-300])
    image = make_exif_image(folder / "whole.png", 1).read_bytes()
    (folder / "cut.png").write_bytes(image[:150])
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n")
    (folder / "script.mp4").write_text(f"ffconcat version 1.0\nfile {clip}\n")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(
        folder / "moving.webp", save_all=True, append_images=[Image.new("RGB", (4, 4), "red")], duration=100
    )
    (folder / "no_images").mkdir()
    (folder / "no_images" / "notes.txt").write_text("x")
    mixed = make_image_folder(folder / "mixed", n_frames=2)
    Image.new("RGB", (8, 8)).save(mixed / "frame 9.png")
    return {
        "missing": (folder / "nobody.mp4", "does not exist"),
        "empty": (folder / "empty.mp4", "is empty"),
        "text": (folder / "text.mp4", "not a video"),
        "text_image": (folder / "text.png", "no image"),
        "noise": (folder / "noise.mkv", "not a video"),
        "mp4_without_index": (folder / "cut.mp4", "cut short"),
        "cut_image": (folder / "cut.png", "cut|truncated"),
        "heic": (folder / "photo.heic", "convert it to PNG"),
        "playlist": (folder / "list.m3u8", "not a video"),
        "script": (folder / "script.mp4", "not a video"),
        "only_audio": (only_audio(folder / "sound.mp4"), "no video stream"),
        "no_frames": (without_frames(folder / "none.mp4"), "no video stream|no picture"),
        "animated_webp": (folder / "moving.webp", "holds 2 pictures"),
        "no_images": (folder / "no_images", "holds no image"),
        "mixed_sizes": (mixed, "mixes sizes"),
        "30000_px": (huge_png(folder / "huge.png", 30_000, 2_000), "limits.max_pixels"),
        "bomb": (huge_png(folder / "bomb.png", 30_000, 30_000), "limits.max_pixels"),
    }


KINDS = [
    "missing", "empty", "text", "text_image", "noise", "mp4_without_index", "cut_image", "heic", "playlist", "script",
    "only_audio", "no_frames", "animated_webp", "no_images", "mixed_sizes", "30000_px", "bomb",
]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    return bad_inputs(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_bad_input_is_refused_in_one_line_that_names_it(inputs, kind):
    path, told = inputs[kind]
    with pytest.raises(PaLibError, match=told) as caught:
        probe(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_every_bad_input_is_tested(inputs):
    assert sorted(inputs) == sorted(KINDS)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(max_pixels=64 * 48 - 1), "max_pixels"),
        (Limits(max_frames=11), "max_frames"),
        (Limits(max_duration_s=0.4), "max_duration_s"),
        (Limits(max_bytes=1000), "max_bytes"),
    ],
)
def test_limits_are_checked_before_anything_is_decoded(tmp_path, limits, told, monkeypatch):
    path = make_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(sys.modules["pa_lib.video.probe"], "_first_picture", lambda *_: pytest.fail("decoded"))
    with pytest.raises(PaLibError, match=f"limits.{told}"):
        probe(path, limits)


def test_limits_for_images(tmp_path):
    folder = make_image_folder(tmp_path / "f", n_frames=3)
    with pytest.raises(PaLibError, match="max_frames"):
        probe(folder, Limits(max_frames=2))
    with pytest.raises(PaLibError, match="max_bytes"):
        probe(folder, Limits(max_bytes=10))
    with pytest.raises(PaLibError, match="max_pixels"):
        probe(folder, Limits(max_pixels=40 * 30 - 1))
    assert probe(folder, Limits(max_frames=3, max_pixels=40 * 30)).n_frames_estimate == 3


@pytest.mark.parametrize(
    ("name", "container", "codec", "pixel_format", "grid", "size", "audio"),
    [
        ("h264", "video", "h264", "yuv420p", (2, 2), (64, 48), ("aac",)),
        ("hevc_10bit", "video", "hevc", "yuv420p10le", (2, 2), (64, 48), ()),
        ("rotated_90", "video", "h264", "yuv420p", (2, 2), (48, 64), ()),
        ("rotated_90_422", "video", "h264", "yuv444p", (1, 1), (48, 64), ()),
        ("two_audio_tracks", "video", "h264", "yuv420p", (2, 2), (64, 48), ("aac", "aac")),
        ("vp9", "video", "vp9", "yuv420p", (2, 2), (64, 48), ("opus",)),
        ("av1", "video", "av1", "yuv420p", (2, 2), (128, 96), ()),
        ("mjpeg", "video", "mjpeg", "yuv422p", (1, 2), (64, 48), ()),
        ("gray", "video", "ffv1", "yuv420p", (2, 2), (64, 48), ()),
        ("rgb_ffv1", "video", "ffv1", "rgb24", (1, 1), (64, 48), ()),
        ("gif", "gif", "gif", "rgb24", (1, 1), (64, 48), ()),
        ("image_folder", "image_folder", "png", "rgb24", (1, 1), (40, 30), ()),
        ("image", "image", "jpeg", "rgb24", (1, 1), (30, 40), ()),
    ],
)
def test_what_probe_tells(tmp_path, name, container, codec, pixel_format, grid, size, audio):
    info = probe(make(name, tmp_path))
    assert (info.container, info.codec, info.pixel_format) == (container, codec, pixel_format)
    assert (info.chroma_grid, (info.width, info.height), info.audio) == (grid, size, audio)
    assert info.faults == ()


@pytest.mark.parametrize("name", ["variable_rate", "variable_rate_hevc", "variable_rate_vp9"])
def test_a_variable_rate_is_noticed(tmp_path, name):
    assert probe(make(name, tmp_path)).is_variable_rate


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_the_rounding_of_milliseconds_is_no_variable_rate(tmp_path, fps):
    times = [round(i * 1000 / fps) for i in range(30)]
    info = probe(make_clip(tmp_path / "a.mkv", time_base=Fraction(1, 1000), times=times, fps=fps))
    assert not info.is_variable_rate
    assert info.fps == pytest.approx(fps, rel=0.02)


def test_an_image_under_a_videos_name_is_read_as_an_image(tmp_path):
    shutil.copy(make_exif_image(tmp_path / "a.png", 6), tmp_path / "a.mp4")
    info = probe(tmp_path / "a.mp4")
    assert (info.container, info.width, info.height) == ("image", 30, 40)


def test_transparency_is_told(tmp_path):
    Image.new("RGBA", (6, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    info = probe(tmp_path / "clear.png")
    assert info.notes == ("transparent places are shown on white",)
    assert (next(read_frames(info)).picture.rgb() == 255).all()


def test_a_gif_with_transparency_reads_as_white(tmp_path):
    frames = [Image.new("RGBA", (20, 10), (0, 0, 0, 0)) for _ in range(2)]
    frames[1].paste((255, 0, 0, 255), (0, 0, 5, 5))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    info = probe(tmp_path / "a.gif")
    first, second = (f.picture.rgb() for f in read_frames(info))
    assert (first == 255).all()
    assert (second[:5, :5] == (255, 0, 0)).all()
    assert (second[5:] == 255).all()


def test_16_bit_grey_images_are_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    rgb = next(read_frames(probe(tmp_path / "a.png"))).picture.rgb()
    assert np.abs(rgb[..., 1].astype(int) - grey // 256).max() <= 1


def test_unreadable_audio_is_told_apart_from_unreadable_video(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", audio=("aac", "aac"), n_frames=30)
    with av.open(str(clip)) as container:
        spots = [(p.pos, p.size) for p in container.demux(audio=1) if p.size]
    data = bytearray(clip.read_bytes())
    for position, size in spots:
        data[position : position + size] = b"\xff" * size
    clip.write_bytes(data)
    info = probe(clip)
    assert info.audio_faults == {2: "cannot be decoded"}
    assert info.faults == ()


def test_cover_art_is_not_the_video(tmp_path):
    def add_cover(output):
        picture = make_exif_image(tmp_path / "cover.jpg", 1).read_bytes()
        output.add_attachment("cover.jpg", "image/jpeg", picture)
        return lambda: None

    info = probe(make_clip(tmp_path / "a.mkv", time_base=Fraction(1, 1000), extra=add_cover))
    assert (info.codec, info.notes) == ("h264", ())


def test_fingerprint_is_the_sha256_of_the_file(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", n_frames=2)
    assert fingerprint(clip) == hashlib.sha256(clip.read_bytes()).hexdigest()
    with pytest.raises(PaLibError, match="cannot be read"):
        fingerprint(tmp_path / "none.mp4")


def test_fingerprint_of_a_folder_sees_names_and_contents(tmp_path):
    folder = make_image_folder(tmp_path / "f", n_frames=3)
    first = fingerprint(folder)
    (folder / "frame 3.png").rename(folder / "frame 4.png")
    renamed = fingerprint(folder)
    (folder / "frame 4.png").write_bytes((folder / "frame 1.png").read_bytes())
    assert len({first, renamed, fingerprint(folder)}) == 3


@pytest.mark.parametrize(
    ("name", "is_it"),
    [("a.mp4", True), ("A.MOV", True), ("b.gif", True), ("c.JPG", True), ("d.txt", False), ("e", False)],
)
def test_is_supported(name, is_it):
    assert is_supported(Path(name)) is is_it


def test_relative_names_that_look_like_options_or_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-i.mp4", "file:x.mp4", "a%03d.mp4"):
        shutil.move(make_clip(tmp_path / "plain.mp4", n_frames=2), os.path.join(tmp_path, name))
        assert probe(name).width == 64


def test_a_gif_of_uneven_delays(tmp_path):
    info = probe(make_gif(tmp_path / "a.gif", durations_ms=(50, 200)))
    assert info.is_variable_rate
    assert [f.duration for f in read_frames(info)] == [5, 20] * 4
