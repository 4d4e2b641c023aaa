from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from _clips import ALL_KINDS, CLIPS, make, make_clip, make_image_folder, scene
from pa_lib.errors import PaLibError
from pa_lib.video import Limits, probe, read_frames


def packets(path: Path, kind: str = "video", number: int = 0) -> list[av.Packet]:
    with av.open(str(path)) as container:
        stream = container.streams.get(**{kind: number})[0]
        return [packet for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize("name", CLIPS)
def test_times_and_number_are_those_of_the_packets(tmp_path, name):
    path = make(name, tmp_path)
    expected = sorted(packet.pts for packet in packets(path))
    info = probe(path)
    frames = list(read_frames(info))
    assert [frame.pts for frame in frames] == expected
    assert [frame.index for frame in frames] == list(range(len(expected)))
    assert all(frame.fault is None and frame.picture.format == info.format for frame in frames)
    assert [f.duration for f in frames[:-1]] == list(np.diff(expected))
    assert frames[-1].time_s == pytest.approx(float(expected[-1] * info.time_base))


@pytest.mark.parametrize(
    "name", ["h264", "hevc_10bit", "vp9_odd", "av1", "full_range", "h264_444", "mjpeg", "gif", "rgb_ffv1"]
)
def test_pictures_look_like_what_was_drawn(tmp_path, name):
    info = probe(make(name, tmp_path))
    for frame in read_frames(info):
        drawn = scene(frame.index, info.width, info.height)
        assert np.abs(frame.picture.rgb().astype(int) - drawn).mean() < 8


@pytest.mark.parametrize("name", ALL_KINDS)
def test_two_passes_are_the_same(tmp_path, name):
    info = probe(make(name, tmp_path))
    for one, two in zip(read_frames(info), read_frames(info), strict=True):
        assert (one.index, one.pts, one.duration) == (two.index, two.pts, two.duration)
        assert all(map(np.array_equal, one.picture.planes, two.picture.planes))


def test_planes_are_the_decoders_own_samples(tmp_path):
    path = make("hevc_10bit", tmp_path)
    with av.open(str(path)) as container:
        for frame, decoded in zip(read_frames(probe(path)), container.decode(video=0), strict=True):
            stacked = decoded.to_ndarray().ravel()
            assert np.array_equal(np.concatenate([plane.ravel() for plane in frame.picture.planes]), stacked)


def test_the_last_frame_of_a_variable_rate_keeps_its_duration(tmp_path):
    frames = list(read_frames(probe(make("variable_rate", tmp_path))))
    assert frames[-1].duration == 1700


def test_the_last_duration_survives_reordering(tmp_path):
    """With B-frames the sample that MP4 lists last is another than the one shown last."""
    times = [0, 512, 1024, 2000, 2512, 3500, 4012, 4524]
    path = make_clip(tmp_path / "a.mp4", times=times, last_duration=512, options={"preset": "medium", "bf": "3"})
    info = probe(path)
    frames = list(read_frames(info))
    assert [f.pts for f in frames] == times
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert frames[-1].pts + frames[-1].duration == stream.start_time + stream.duration


def test_images_are_in_natural_order(tmp_path):
    folder = make_image_folder(tmp_path / "f", n_frames=12)
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    for frame in read_frames(probe(folder)):
        assert np.array_equal(frame.picture.rgb(), scene(frame.index, 40, 30))


def test_reading_is_lazy(tmp_path, monkeypatch):
    info = probe(make_image_folder(tmp_path / "f", n_frames=5))
    opened = []
    monkeypatch.setattr(
        "pa_lib.video.read.read_image", lambda path, _: opened.append(path) or np.zeros((30, 40, 3), np.uint8)
    )
    frames = read_frames(info)
    next(frames)
    next(frames)
    assert len(opened) <= 2


@pytest.mark.parametrize(
    ("codec", "suffix", "pixel_format"),
    [("libx264", ".mp4", "yuv420p"), ("libx265", ".mp4", "yuv420p"), ("libsvtav1", ".mp4", "yuv420p"),
     ("mjpeg", ".mov", "yuvj420p"), ("libvpx-vp9", ".mp4", "yuv420p")],
)  # fmt: skip
def test_a_damaged_packet_is_a_frame_without_a_picture_in_its_place(tmp_path, codec, suffix, pixel_format):
    path = make_clip(
        tmp_path / f"a{suffix}", codec=codec, pixel_format=pixel_format, n_frames=30, width=128, height=96,
        options={"g": "10", "bf": "0"},
    )  # fmt: skip
    expected = sorted(packet.pts for packet in packets(path))
    victim = packets(path)[13]
    data = bytearray(path.read_bytes())
    data[victim.pos : victim.pos + victim.size] = bytes(victim.size)
    path.write_bytes(data)
    passes = [list(read_frames(probe(path))) for _ in range(2)]
    for frames in passes:
        assert [frame.pts for frame in frames] == expected
        lost = next(frame for frame in frames if frame.pts == victim.pts)
        assert lost.picture is None
        assert lost.fault
        assert all(frame.picture is not None for frame in frames if frame.index < lost.index or frame.index >= 20)
    assert [f.fault for f in passes[0]] == [f.fault for f in passes[1]]


def test_a_frame_that_the_decoder_flags_is_not_shown(tmp_path):
    """A transport stream cut in the middle of its last picture: the decoder still gives one, flagged."""
    path = make_clip(tmp_path / "a.ts", n_frames=30, time_base=Fraction(1, 90000))
    last = packets(path)[-1]
    path.write_bytes(path.read_bytes()[: last.pos + 188])
    frames = list(read_frames(probe(path)))
    assert len(frames) == 30
    assert frames[-1].picture is None
    assert "corrupt" in frames[-1].fault


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_mp4_gives_what_is_there_and_tells(tmp_path, share):
    whole = make_clip(tmp_path / "a.mp4", n_frames=40, audio=("aac",), container_options={"movflags": "+faststart"})
    times = sorted(p.pts for p in packets(whole))
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * share)])
    info = probe(cut)
    frames = list(read_frames(info))
    assert any("cut short" in fault for fault in info.faults) or frames[-1].fault
    assert 0 < len(frames) < 40
    assert [f.pts for f in frames] == times[: len(frames)]
    assert all(f.picture is not None for f in frames[:-1])


def test_a_truncated_matroska_file_tells(tmp_path):
    whole = make_clip(tmp_path / "a.mkv", n_frames=40, time_base=Fraction(1, 1000))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    info = probe(cut)
    assert "cut short" in info.faults[0]
    assert 10 < len(list(read_frames(info))) < 35


def of_two_sizes(folder: Path) -> Path:
    """Five frames of 64 x 48 px, then five of 80 x 48."""
    small = make_clip(folder / "small.h264", n_frames=5, width=64, height=48)
    large = make_clip(folder / "large.h264", n_frames=5, width=80, height=48)
    both = folder / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    return both


def test_a_change_of_size_within_the_stream_is_a_fault_not_a_crash(tmp_path):
    frames = list(read_frames(probe(of_two_sizes(tmp_path))))
    assert len(frames) == 10
    assert [frame.picture is None for frame in frames] == [False] * 5 + [True] * 5
    assert frames[-1].fault == (
        "the frame is 80x48 yuv420p, the video began with 64x48 yuv420p; other_sizes=scale scales such frames"
    )
    assert all(b.pts > a.pts for a, b in pairwise(frames))


def test_frames_of_another_size_are_scaled_in_proportion_where_asked(tmp_path):
    info = replace(probe(of_two_sizes(tmp_path)), is_scaled=True)
    frames = list(read_frames(info))
    assert [frame.fault for frame in frames] == [None] * 10
    for number, frame in enumerate(frames[5:]):
        luma, blue, red = frame.picture.planes
        assert (luma.shape, blue.shape, red.shape) == ((48, 64), (24, 32), (24, 32))
        # 80 x 48 fits as 64 x 38: 4 rows of black above and 6 below, since chroma samples are shared by two rows
        assert (luma[:4] == 16).all()
        assert (luma[42:] == 16).all()
        assert (blue[:2] == 128).all()
        assert (red[21:] == 128).all()
        drawn = Image.fromarray(scene(number, 80, 48)).resize((64, 38), Image.Resampling.BICUBIC)
        assert np.abs(frame.picture.rgb()[4:42].astype(int) - np.asarray(drawn)).mean() < 10


@pytest.mark.parametrize("rotation_deg", [0, -90])
def test_scaling_fits_a_turned_video(tmp_path, rotation_deg):
    info = probe(make_clip(tmp_path / "a.mp4", rotation_deg=rotation_deg, width=64, height=48))
    other = probe(make_clip(tmp_path / "b.mp4", rotation_deg=rotation_deg, width=96, height=96, n_frames=2))
    mixed = replace(other, format=info.format, is_scaled=True)
    for frame in read_frames(mixed):
        assert frame.picture.format == info.format
        luma = frame.picture.planes[0]
        wide, margin = (luma, 8) if rotation_deg == 0 else (luma.T, 8)
        assert (wide[:, :margin] == 16).all()
        assert (wide[:, -margin:] == 16).all()
        assert wide[:, margin:-margin].min() > 16


def test_one_bad_image_among_many_is_a_fault(tmp_path):
    folder = make_image_folder(tmp_path / "f", n_frames=5)
    whole = (folder / "frame 3.png").read_bytes()
    (folder / "frame 3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "frame 4.png").write_bytes(b"no image")
    info = probe(folder)
    frames = list(read_frames(info))
    assert [frame.picture is None for frame in frames] == [False, False, True, True, False]
    assert "frame 3.png" in frames[2].fault
    assert "frame 4.png" in info.faults[0]


def test_limits_hold_against_a_header_that_lies(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4"))
    with pytest.raises(PaLibError, match="max_frames = 5"):
        list(read_frames(replace(info, limits=Limits(max_frames=5))))
    with pytest.raises(PaLibError, match="max_duration_s"):
        list(read_frames(replace(info, limits=Limits(max_duration_s=0.1))))


def test_a_file_that_is_gone_is_told(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    info = probe(path)
    path.write_bytes(b"")
    with pytest.raises(PaLibError, match=r"a\.mp4"):
        list(read_frames(info))


def test_images_that_grow_after_the_look_are_faults(tmp_path):
    folder = make_image_folder(tmp_path / "f", n_frames=2)
    info = probe(folder)
    Image.new("RGB", (50, 50)).save(folder / "frame 2.png")
    frames = list(read_frames(info))
    assert frames[1].picture is None
