from __future__ import annotations

import errno
import io
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from _clips import ALL_KINDS, CLIPS, make, make_clip, make_exif_image, make_gif, make_image_folder, scene
from pa_lib.errors import PaLibError
from pa_lib.video import (
    Frame,
    VideoInfo,
    VideoWriter,
    WriteSettings,
    check_output,
    default_output,
    find_inputs,
    probe,
    read_frames,
    redacted_picture,
)
from pa_lib.video.files import IMAGE_SUFFIXES


def copy(source: Path, output: Path, settings: WriteSettings | None = None, info: VideoInfo | None = None) -> VideoInfo:
    """Write every frame of `source` as it is."""
    info = info or probe(source)
    settings = settings or WriteSettings()
    check_output(output, info, settings)
    with VideoWriter(output, info, settings) as writer:
        writer.commit(write_all(writer, info))
    return info


def write_all(writer: VideoWriter, info: VideoInfo) -> int:
    n_frames = 0
    for frame in read_frames(info):
        writer.write(frame if frame.picture else frame.with_picture(redacted_picture(info.format)))
        n_frames += 1
    return n_frames


def write_and_commit(output: Path, info: VideoInfo) -> None:
    """As `copy`, but nothing is checked before."""
    with VideoWriter(output, info, WriteSettings(audio="drop")) as writer:
        writer.commit(write_all(writer, info))


def shown(path: Path) -> list[tuple[Fraction, Fraction]]:
    """When each frame is shown and for how long, in seconds, by the packets of the file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = sorted((p for p in container.demux(stream) if p.size), key=lambda p: p.pts)
        times = [p.pts * p.time_base for p in packets]
        ends = [*times[1:], times[-1] + packets[-1].duration * packets[-1].time_base]
        return [(a, b - a) for a, b in zip(times, ends, strict=True)]


def sound(path: Path) -> list[list[tuple[Fraction, bytes]]]:
    """Time and bytes of every packet of every audio track."""
    with av.open(str(path)) as container:
        tracks = {stream.index: [] for stream in container.streams.audio}
        for packet in container.demux():
            if packet.size and packet.stream_index in tracks:
                tracks[packet.stream_index].append((packet.pts * packet.time_base, bytes(packet)))
        return list(tracks.values())


@pytest.mark.parametrize("name", ALL_KINDS)
def test_fidelity(tmp_path, name):
    """Number of frames, times, sizes, colours, codec and sound come out as they went in."""
    source = make(name, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    info = probe(source)
    output = default_output(info, out)
    copy(source, output)
    assert os.listdir(out) == [output.name]
    again = probe(output)
    assert (again.width, again.height, again.rotation_deg) == (info.width, info.height, 0)
    frames, written = list(read_frames(info)), list(read_frames(again))
    assert len(frames) == len(written)
    if name in CLIPS:
        grain = Fraction(1, 1000) if output.suffix in (".mkv", ".webm") else Fraction(0)
        for was, now in zip(frames, written, strict=True):
            assert abs(was.pts * info.time_base - now.pts * again.time_base) <= grain / 2
            assert abs(was.duration * info.time_base - now.duration * again.time_base) <= grain
        pairs = zip(sound(source), sound(output), strict=True)
        for was, now in pairs:
            header = 7 if name == "mpegts" else 0  # a transport stream repeats AAC's settings in each packet (ADTS)
            assert [data for _, data in now] == [data[header:] for _, data in was]
            assert all(abs(a - b) <= Fraction(1, 1000) * (grain > 0) for (a, _), (b, _) in zip(was, now, strict=True))
        if info.pixel_format != "rgb24":
            assert again.format == info.format
        if info.codec in ("h264", "hevc", "vp9", "av1"):
            assert again.codec == info.codec
    else:
        assert [(f.pts, f.duration) for f in frames] == [(f.pts, f.duration) for f in written]
        assert again.container == info.container
    for was, now in zip(frames, written, strict=True):
        assert np.abs(was.picture.rgb().astype(int) - now.picture.rgb()).mean() < 5


@pytest.mark.parametrize(
    "name", ["h264", "two_audio_tracks", "variable_rate", "starts_late", "ntsc_rate", "rotated_270"]
)
def test_mp4_times_and_sound_are_exact_by_the_packets(tmp_path, name):
    source = make(name, tmp_path)
    copy(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [
        (f.pts * i.time_base, f.duration * i.time_base) for i in [probe(source)] for f in read_frames(i)
    ]
    assert sound(tmp_path / "out.mp4") == sound(source)
    assert len(sound(source)) == len(CLIPS[name][1].get("audio", ()))


@pytest.mark.parametrize(
    "name",
    [
        "h264",
        "h264_10bit",
        "hevc_10bit",
        "rotated_90",
        "rotated_90_422",
        "vp9_odd",
        "vp9_odd_flipped",
        "full_range",
        "h264_444",
    ],
)
def test_what_is_not_replaced_reaches_the_encoder_bit_for_bit(tmp_path, name):
    """Through an encoder without loss the samples outside the mask come back equal, and those inside do not."""
    source = make(name, tmp_path)
    info = probe(source)
    where = np.zeros((info.height, info.width), bool)
    where[8:24, 16:32] = True
    output = tmp_path / "out.mkv"
    with VideoWriter(output, info, WriteSettings(codec="ffv1")) as writer:
        for frame in read_frames(info):
            grey = np.full((info.height, info.width, 3), 128, np.uint8)
            writer.write(frame.with_picture(frame.picture.replaced(grey, where)))
        writer.commit(frame.index + 1)
    rows, columns = info.chroma_grid
    for was, now in zip(read_frames(info), read_frames(probe(output)), strict=True):
        for number, (a, b) in enumerate(zip(was.picture.planes, now.picture.planes, strict=True)):
            under = where if number == 0 else where[::rows, ::columns]
            assert np.array_equal(a[~under], b[~under])
            assert len(np.unique(b[under])) == 1


def test_an_image_folder_is_written_without_loss_under_the_same_names(tmp_path):
    source = make_image_folder(tmp_path / "in", n_frames=3, suffix=".jpg")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(source / "frame 3.png")  # same stem as a .jpg
    info = copy(source, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["frame 1.png", "frame 2.png", "frame 3.jpg.png", "frame 3.png.png"]
    for frame in read_frames(probe(tmp_path / "out")):
        assert np.array_equal(frame.picture.rgb(), list(read_frames(info))[frame.index].picture.rgb())


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_an_image_of_every_suffix_is_read_and_written(tmp_path: Path, suffix: str) -> None:
    source, output = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    format = {".pgm": "PPM", ".jpe": "JPEG", ".jfif": "JPEG"}.get(suffix)
    Image.fromarray(np.full((8, 8, 3), 80, np.uint8)).save(source, format)
    copy(source, output)
    assert find_inputs(tmp_path) == [tmp_path]
    assert abs(int(np.asarray(Image.open(output))[4, 4, 1]) - 80) <= 1


@pytest.mark.parametrize("names", ["a.jpg a.png a.png.png", "a.png a.PNG", "a.png A.jpg a.jpg.webp"])
def test_every_image_of_a_folder_keeps_a_name_of_its_own(tmp_path: Path, names: str) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(names.split()):
        Image.fromarray(np.full((8, 8, 3), 80 * number, np.uint8)).save(tmp_path / "in" / name)
    copy(tmp_path / "in", tmp_path / "out")
    written = [np.asarray(Image.open(file))[0, 0, 0] for file in (tmp_path / "out").iterdir()]
    assert len({file.name.casefold() for file in (tmp_path / "out").iterdir()}) == len(names.split())
    assert sorted(round(int(value) / 80) for value in written) == list(range(len(names.split())))


def test_an_image_folder_as_jpeg_where_asked(tmp_path):
    source = make_image_folder(tmp_path / "in", n_frames=2)
    copy(source, tmp_path / "out", WriteSettings(image_suffix=".jpg"))
    assert sorted(os.listdir(tmp_path / "out")) == ["frame 1.jpg", "frame 2.jpg"]


def test_a_video_becomes_a_folder_and_a_folder_a_video(tmp_path):
    source = make_clip(tmp_path / "a.mp4", n_frames=3)
    info = copy(source, tmp_path / "images")
    assert sorted(os.listdir(tmp_path / "images")) == ["000000.png", "000001.png", "000002.png"]
    for frame, image in zip(read_frames(info), read_frames(probe(tmp_path / "images")), strict=True):
        assert np.array_equal(frame.picture.rgb(), image.picture.rgb())
    copy(tmp_path / "images", tmp_path / "back.mp4")
    assert probe(tmp_path / "back.mp4").n_frames_estimate == 3


@pytest.mark.parametrize("size", [(64, 48), (67, 51)])
def test_a_gif_becomes_a_video_of_the_same_size(tmp_path, size):
    source = make_gif(tmp_path / "a.gif", width=size[0], height=size[1])
    info = copy(source, tmp_path / "out.mp4")
    again = probe(tmp_path / "out.mp4")
    assert (again.width, again.height) == size
    for was, now in zip(read_frames(info), read_frames(again), strict=True):
        assert np.abs(was.picture.rgb().astype(int) - now.picture.rgb()).mean() < 6


def test_a_gif_of_few_colours_is_written_without_loss(tmp_path):
    info = copy(make_gif(tmp_path / "a.gif"), tmp_path / "out.gif")
    for was, now in zip(read_frames(info), read_frames(probe(tmp_path / "out.gif")), strict=True):
        assert np.array_equal(was.picture.rgb(), now.picture.rgb())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_images_without_loss(tmp_path, suffix):
    info = copy(make_exif_image(tmp_path / "a.jpg", 6), tmp_path / f"out{suffix}")
    again = next(read_frames(probe(tmp_path / f"out{suffix}"))).picture.rgb()
    assert np.array_equal(again, next(read_frames(info)).picture.rgb())


def test_exif_is_dropped_and_the_colour_profile_kept(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(make_exif_image(tmp_path / "a.jpg", 6)) as image:
        image.save(tmp_path / "b.jpg", exif=image.getexif(), icc_profile=profile)
    copy(tmp_path / "b.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert dict(image.getexif()) == {}
        kept = image.info["icc_profile"]
    grey, space = Image.fromarray(scene(3, 40, 30)), ImageCms.createProfile("LAB")
    before, after = (
        np.asarray(ImageCms.profileToProfile(grey, io.BytesIO(one), space, outputMode="LAB")) for one in (profile, kept)
    )
    assert np.array_equal(before, after)
    assert b"SecretMaker" in (tmp_path / "b.jpg").read_bytes()
    assert b"SecretMaker" not in (tmp_path / "out.jpg").read_bytes()


def test_colour_codes_and_pixel_shape_are_kept(tmp_path):
    def hdr(context):
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        context.sample_aspect_ratio = Fraction(4, 3)

    source = make_clip(tmp_path / "a.mp4", codec="libx265", pixel_format="yuv420p10le", set_up=hdr)
    info = copy(source, tmp_path / "out.mp4")
    again = probe(tmp_path / "out.mp4")
    assert (info.format.matrix, info.format.primaries, info.format.transfer) == (9, 9, 16)
    assert again.format == info.format
    assert again.sample_aspect_ratio == Fraction(4, 3)


def with_secrets(path: Path) -> Path:
    """A clip with tags, a chapter, a subtitle and cover art, each of which gives something away."""
    cover = make_exif_image(path.with_name("cover.jpg"), 1).read_bytes()
    is_mp4 = path.suffix == ".mp4"

    def add(output):
        chapter = {
            "id": 1,
            "start": 0,
            "end": 200,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": "SecretChapter"},
        }
        output.set_chapters([chapter])
        subtitles = output.add_mux_stream("mov_text" if is_mp4 else "subrip", time_base=Fraction(1, 1000))
        if not is_mp4:
            output.add_attachment("secret.jpg", "image/jpeg", cover)

        def write():
            packet = av.Packet(b"\x00\x06Secret" if is_mp4 else b"Secret")
            packet.stream, packet.pts, packet.dts, packet.duration = subtitles, 0, 0, 100
            packet.time_base = Fraction(1, 1000)
            output.mux(packet)

        return write

    tags = {"title": "SecretTitle", "location": "+48.1+011.5/", "comment": "SecretComment"}
    return make_clip(path, audio=("aac",), tags=tags, extra=add, time_base=None if is_mp4 else Fraction(1, 1000))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_metadata_is_dropped(tmp_path, suffix):
    source = with_secrets(tmp_path / f"a{suffix}")
    assert b"Secret" in source.read_bytes()
    assert any(key.lower().startswith("location") for key in probe(source).tags)
    copy(source, tmp_path / f"out{suffix}")
    data = (tmp_path / f"out{suffix}").read_bytes()
    assert b"Secret" not in data
    assert not {"location", "title", "comment"} & {key.lower() for key in probe(tmp_path / f"out{suffix}").tags}
    assert not any(mark in data for mark in (b"+48.1", b"loci", b"\xa9xyz", b"chpl"))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.chapters() == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_metadata_on_the_allow_list_is_kept(tmp_path, suffix):
    source = with_secrets(tmp_path / f"a{suffix}")
    copy(source, tmp_path / f"out{suffix}", WriteSettings(keep_metadata=("Title", "location")))
    tags = {key.lower(): value for key, value in probe(tmp_path / f"out{suffix}").tags.items()}
    assert tags["title"] == "SecretTitle"
    assert tags["location"].startswith("+48.1")
    assert "comment" not in tags


def test_the_language_of_a_track_is_kept(tmp_path):
    def speak(output):
        output.streams.audio[0].metadata["language"] = "deu"
        return lambda: None

    copy(make_clip(tmp_path / "a.mp4", audio=("aac",), extra=speak), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].language == "deu"


def test_what_an_edit_list_cuts_away_is_not_copied(tmp_path):
    """The first second of a clip is trimmed as phones do it: by an edit list, with everything still in the file."""
    source = make_clip(tmp_path / "a.mp4", n_frames=50, audio=("aac",), options={"g": "10"})
    whole = sound(source)[0]
    data = bytearray(source.read_bytes())
    position = 0
    while (position := data.find(b"elst", position + 1)) > 0:
        duration, start, rate = struct.unpack(">IiI", data[position + 12 : position + 24])
        later = 48000 if start else 12800  # the sound's list starts after its encoder's 1024 samples
        data[position + 12 : position + 24] = struct.pack(">IiI", duration // 2, start + later, rate)
    source.write_bytes(data)
    info = copy(source, tmp_path / "out.mp4")
    assert len(list(read_frames(info))) == 25
    kept = sound(tmp_path / "out.mp4")[0]
    # a run of the original packets that starts a little before the cut: a decoder needs that to get going
    starts = [i for i in range(len(whole)) if [d for _, d in whole[i : i + len(kept)]] == [d for _, d in kept]]
    assert any(0.85 <= whole[i][0] <= 1 for i in starts)
    assert len(kept) >= 47  # a second of 1024-sample packets
    assert Fraction(-1, 8) <= kept[0][0] <= 0


@pytest.mark.parametrize(
    ("output", "settings", "told"),
    [
        ("x.avi", {}, r"no container that can be written; use \.mp4.*x\.mp4"),
        ("x.txt", {}, "no container"),
        ("x.png", {}, "is one image"),
        ("x.gif", {}, "cannot hold sound"),
        (
            "x.webm",
            {},
            r"sound track 1 \(aac\) does not fit into a \.webm file; convert it by write\.audio=convert, leave all "
            r"sound out by write\.audio=drop, or name a \.mkv file",
        ),
        ("x.mp4", {"codec": "ffv1"}, r"cannot hold ffv1; use one of h264.*\.mkv"),
        ("x.mp4", {"codec": "mpeg9"}, "unknown; use auto or one of"),
        ("x.mp4", {"crf": 99}, "out of range"),
        ("x.mp4", {"preset": "warp"}, "preset warp is unknown to libx264; use one of ultrafast"),
        ("nowhere/x.mp4", {}, "does not exist; create it"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(tmp_path, output, settings, told):
    info = probe(make_clip(tmp_path / "a.mp4", audio=("aac",), n_frames=2))
    for refuse in (check_output, VideoWriter):
        with pytest.raises(PaLibError, match=told):
            refuse(tmp_path / output, info, WriteSettings(**settings))
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("how", ["same", "relative", "symlink", "hardlink", "symlinked_folder"])
def test_the_input_is_never_the_output(tmp_path, how, monkeypatch):
    source = make_clip(tmp_path / "a.mp4", n_frames=2)
    before = source.read_bytes()
    output = tmp_path / "b.mp4"
    monkeypatch.chdir(tmp_path)
    if how == "same":
        output = source
    elif how == "relative":
        output = Path("a.mp4")
    elif how == "symlink":
        output.symlink_to(source)
    elif how == "hardlink":
        os.link(source, output)
    else:
        (tmp_path / "folder").symlink_to(tmp_path)
        output = tmp_path / "folder" / "a.mp4"
    info = probe(source)
    for refuse in (check_output, VideoWriter):
        with pytest.raises(PaLibError, match="is the input"):
            refuse(output, info)
    assert source.read_bytes() == before


def test_an_image_of_the_input_folder_is_never_the_output(tmp_path):
    info = probe(make_image_folder(tmp_path / "in", n_frames=2))
    with pytest.raises(PaLibError, match="is the input"):
        check_output(tmp_path / "in", info)


def test_the_writer_refuses_what_is_not_a_frame_of_this_video(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", n_frames=3))
    frames = list(read_frames(info))
    with VideoWriter(tmp_path / "out.mp4", info) as writer:
        with pytest.raises(ValueError, match="has no picture"):
            writer.write(Frame(0, 0, 1, 0.0, None, "lost"))
        writer.write(frames[1])
        with pytest.raises(ValueError, match="comes after"):
            writer.write(frames[0])
        other = probe(make_clip(tmp_path / "b.mp4", width=32))
        with pytest.raises(ValueError, match="the video"):
            writer.write(frames[2].with_picture(redacted_picture(other.format)))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.gif", "out"])
def test_a_wrong_number_of_frames_is_no_output(tmp_path, output):
    info = probe(make_clip(tmp_path / "a.mp4", n_frames=4))
    with VideoWriter(tmp_path / output, info) as writer:
        for frame in read_frames(info):
            writer.write(frame)
        with pytest.raises(PaLibError, match="holds 4 frames, 4 were written, 5 expected"):
            writer.commit(5)
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("output", ["out.mp4", "out.gif", "out"])
def test_no_frame_is_no_output(tmp_path, output):
    info = probe(make_clip(tmp_path / "a.mp4", n_frames=4))
    with VideoWriter(tmp_path / output, info) as writer, pytest.raises(PaLibError, match="no frame was written"):
        writer.commit(0)
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
def test_a_truncated_file_is_copied_as_far_as_it_goes(tmp_path, share):
    whole = make_clip(
        tmp_path / "a.mp4",
        n_frames=60,
        audio=("aac",),
        container_options={"movflags": "+frag_keyframe"},
        options={"g": "5"},
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    info = copy(cut, tmp_path / "out.mp4")
    assert len(list(read_frames(info))) == len(list(read_frames(probe(tmp_path / "out.mp4"))))
    assert sound(tmp_path / "out.mp4")[0]


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.gif", "out"])
def test_an_exception_in_between_leaves_nothing(tmp_path, output):
    info = probe(make_clip(tmp_path / "a.mp4", n_frames=4))

    def start_and_stop() -> None:
        with VideoWriter(tmp_path / output, info) as writer:
            writer.write(next(read_frames(info)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        start_and_stop()
    assert os.listdir(tmp_path) == ["a.mp4"]


def noise(index: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    """A clip of about half a megabyte: noise does not compress."""
    path = tmp_path_factory.mktemp("noisy") / "a.mp4"
    return make_clip(path, width=128, height=96, n_frames=30, draw=noise, options={"crf": "18"}, audio=("aac",))


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.gif", "out"])
def test_a_limit_on_file_size_is_a_clear_error_and_leaves_nothing(tmp_path, noisy, output):
    info = probe(noisy)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(PaLibError, match="failed"):
            write_and_commit(tmp_path / output, info)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.gif", "out"])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path, noisy, output):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        info = probe(noisy)
        with pytest.raises(PaLibError, match="No space left"):
            write_and_commit(tmp_path / output, info)
        assert os.listdir(tmp_path) == []
        assert os.statvfs(tmp_path).f_bfree >= 30  # of 32 blocks: nothing is held by a file without a name
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_injected_disk_error_is_told(tmp_path, monkeypatch):
    info = probe(make_image_folder(tmp_path / "in", n_frames=3))

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pa_lib.video.sinks.write_image", fail)
    with pytest.raises(PaLibError, match="No space left"), VideoWriter(tmp_path / "out", info) as writer:
        writer.write(next(read_frames(info)))
    assert os.listdir(tmp_path) == ["in"]


_VICTIM = """
import sys
from pathlib import Path
from pa_lib.video import *
info = probe(sys.argv[1])
print("ready", flush=True)
while True:
    with VideoWriter(Path(sys.argv[2]), info) as writer:
        for frame in read_frames(info):
            writer.write(frame)
        writer.commit(frame.index + 1)
    if not Path(sys.argv[2]).is_file():
        break
"""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("output", ["out.mp4", "out"])
def test_sigkill_at_any_moment_leaves_no_partial_file(tmp_path, noisy, seed, output):
    victim = subprocess.Popen([sys.executable, "-c", _VICTIM, noisy, tmp_path / output], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"ready\n"
    time.sleep(random.Random(seed).uniform(0, 0.25))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    end = time.monotonic() + 5
    while set(os.listdir(tmp_path)) - {output} and time.monotonic() < end:
        time.sleep(0.01)
    assert set(os.listdir(tmp_path)) <= {output}
    if (tmp_path / output).exists():  # then it is whole
        assert len(list(read_frames(probe(tmp_path / output)))) == 30


def test_long_sound_is_not_read_ahead(tmp_path):
    """Sound is muxed beside the pictures of the same time, so neither waits in memory for the other."""
    source = make_clip(tmp_path / "a.mp4", audio=("aac",), n_frames=100)
    copy(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        order = [(p.pos, p.dts * p.time_base) for p in container.demux() if p.size]
    times = [time for _, time in sorted(order)]
    assert max(a - b for a, b in pairwise(times)) < 1.2


def test_mp4_starts_with_its_index(tmp_path):
    copy(make_clip(tmp_path / "a.mp4"), tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_encoders_say_nothing(tmp_path, capfd):
    for codec in ("h264", "hevc", "vp9", "av1"):
        info = probe(make_clip(tmp_path / "a.mp4", width=128, height=96, n_frames=2))
        with VideoWriter(tmp_path / f"{codec}.mp4", info, WriteSettings(codec=codec)) as writer:
            for frame in read_frames(info):
                writer.write(frame)
            writer.commit(2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "default"),
    [("h264", "h264.anonymized.mp4"), ("mpeg4_avi", "mpeg4_avi.anonymized.mkv"), ("mpegts", "mpegts.anonymized.mp4"),
     ("gif", "gif.anonymized.gif"), ("image_folder", "image_folder.anonymized"), ("image", "image.anonymized.png")],
)  # fmt: skip
def test_default_output(tmp_path, name, default):
    info = probe(make(name, tmp_path))
    assert default_output(info) == tmp_path / default
    assert default_output(info, Path("elsewhere")) == Path("elsewhere") / default
