"""What pictures mean beyond their samples: kept where the container and the codec hold it, else said, never silent."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _clips import make_clip
from pa_lib.video import (
    Frame,
    Picture,
    PixelFormat,
    VideoWriter,
    WriteSettings,
    check_output,
    deinterlacing,
    probe,
    read_frames,
)
from pa_lib.video.deinterlace import deinterlaced
from pa_lib.video.frame import plane_views
from pa_lib.video.matroska import PADDING, set_pixel_aspect
from pa_lib.video.probe import _MAX_STREAMS

_MS = Fraction(1, 1000)
_DOCUMENT = Path(__file__).parents[3] / "docs" / "anonymize.md"
_SIZE: dict[str, Any] = {"width": 128, "height": 96, "n_frames": 2}
_MASTERING = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000.0)  # of displays with P3 primaries
_TARGETS = [
    *((".mp4", codec) for codec in ("h264", "hevc", "av1", "vp9")),
    *((".mov", codec) for codec in ("h264", "hevc")),
    *((".mkv", codec) for codec in ("h264", "hevc", "av1", "vp9", "ffv1")),
    *((".webm", codec) for codec in ("vp9", "av1")),
]
_TITLES = {
    "aspect": "shape of pixels",
    "mastering": "HDR display",
    "light": "HDR light levels",
    "chroma": "place of chroma",
    "fields": "interlaced",
    "spherical": "360 degrees",
    "stereo": "two views",
}
_SAID = {
    "aspect": "shape of its pixels",
    "mastering": "HDR mastering display",
    "light": "greatest light",
    "chroma": "place of its chroma",
    "fields": "order of its fields",
    "spherical": "360-degree",
    "stereo": "two views",
}


def hdr(path: Path) -> Path:
    """Oblong pixels, and all that HDR10 states, by the encoder's own options; 8 bits, as every encoder takes."""

    def set_up(context):
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        context.sample_aspect_ratio = Fraction(4, 3)

    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    params = f"log-level=none:bframes=0:master-display={display}:max-cll=1000,400"
    options = {"x265-params": params, "chroma_sample_location": "topleft"}
    return make_clip(path, codec="libx265", options=options, set_up=set_up, **_SIZE)


def spherical(path: Path) -> Path:
    """An MP4 of 360 degrees for two eyes side by side, marked as cameras do it: by a note in XML at the track's end."""
    data = make_clip(path, **_SIZE).read_bytes()
    name = "GSpherical"
    fields = {"Spherical": "true", "Stitched": "true", "ProjectionType": "equirectangular"}
    fields |= {"StitchingSoftware": "camera", "StereoMode": "left-right"}
    note = "".join(f"<{name}:{key}>{value}</{name}:{key}>" for key, value in fields.items()).encode()
    box = b"uuid" + bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + note
    box = struct.pack(">I", 4 + len(box)) + box
    moov, trak = data.index(b"moov") - 4, data.index(b"trak") - 4
    assert moov > data.index(b"mdat")  # nothing behind it that would move
    end = trak + int.from_bytes(data[trak : trak + 4], "big")
    made = bytearray(data[:end] + box + data[end:])
    for at in (moov, trak):
        made[at : at + 4] = struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + len(box))
    path.write_bytes(made)
    return path


def interlaced(path: Path) -> Path:
    return make_clip(path, fields="tff", **_SIZE)


def stated(path: Path) -> dict[str, Any]:
    """What a file states, by PyAV and FFmpeg's own summary and tracer."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        av.logging.set_level(av.logging.INFO)
        summary = container.dumps_format()
        packet = next(p for p in container.demux(stream) if p.size)
        places = []
        if stream.codec_context.name in ("h264", "hevc", "libdav1d"):
            with av.logging.Capture() as lines:
                av.BitStreamFilterContext("trace_headers", stream).filter(packet)
            found = [re.search(r"chroma_sample_(loc_type_top|position).* = (\d)", line[2]) for line in lines]
            places = [int(match[2]) for match in found if match]
        av.logging.set_level(None)
        result: dict[str, Any] = {"aspect": stream.sample_aspect_ratio, "chroma": 2 in places}
        result["fields"] = "top first" in summary
    if stream.codec.name in ("vp9", "ffv1"):  # ChromaSitingHorz and -Vert of Matroska, each the number 1 in one byte
        result["chroma"] = bytes.fromhex("55b7810155b88101") in path.read_bytes()
    with av.open(str(path)) as container:
        sides = {side.type.name: bytes(side) for side in next(container.decode(video=0)).side_data}
    if data := sides.get("MASTERING_DISPLAY_METADATA"):
        pairs = struct.unpack("20i", data[:80])
        result["mastering"] = [a / b for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
    if data := sides.get("CONTENT_LIGHT_LEVEL"):
        result["light"] = struct.unpack("2I", data)
    if data := sides.get("SPHERICAL"):
        result["spherical"] = struct.unpack("i", data[:4])[0]
    result["stereo"] = struct.unpack("i", sides["STEREO3D"][:4])[0] if "STEREO3D" in sides else None
    if b"st3d" in path.read_bytes():  # FFmpeg writes Google's box and one of Apple's, and reads only the latter
        result["stereo"] = 1 if path.read_bytes().split(b"st3d")[1][4] == 2 else None
    return result


def is_kept(mark: str, found: dict[str, Any]) -> bool:
    if mark == "aspect":
        return found["aspect"] is not None and abs(found["aspect"] / Fraction(4, 3) - 1) < 0.01
    if mark == "mastering":
        return found.get("mastering") == pytest.approx(_MASTERING, abs=1e-4)
    return {"light": (1000, 400), "chroma": True, "fields": True, "spherical": 0, "stereo": 1}[mark] == found.get(mark)


_SOURCES = {
    hdr: ("aspect", "mastering", "light", "chroma"),
    spherical: ("spherical", "stereo"),
    interlaced: ("fields",),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[tuple[str, str], dict[str, tuple[bool, bool]]]:
    """(Suffix, codec) -> mark -> whether the result holds it by `stated`, and whether a line says that it is lost."""
    folder = tmp_path_factory.mktemp("marks")
    found: dict[tuple[str, str], dict[str, tuple[bool, bool]]] = {target: {} for target in _TARGETS}
    for make, marks in _SOURCES.items():
        source = make(folder / f"{make.__name__}.mp4")
        info, held = probe(source), stated(source)
        assert all(is_kept(mark, held) for mark in marks)
        frames = list(read_frames(info))
        for suffix, codec in _TARGETS:
            output, chosen = folder / f"{make.__name__}_{codec}{suffix}", WriteSettings(codec=codec)
            remarks = check_output(output, info, chosen)
            with VideoWriter(output, info, chosen) as writer:
                for frame in frames:
                    writer.write(frame)
                writer.commit(len(frames))
            held = stated(output)
            for mark in marks:
                is_said = any(_SAID[mark] in line and line.endswith("does not hold it") for line in remarks)
                found[suffix, codec][mark] = (is_kept(mark, held), is_said)
    return found


@pytest.mark.parametrize("target", _TARGETS, ids=lambda target: "".join(target))
def test_a_mark_is_kept_or_its_loss_is_said(results, target):
    for mark, (kept, said) in results[target].items():
        assert kept != said, mark


def test_the_table_in_the_documents_is_true(results):
    lines = [
        f"| container | codec | {' | '.join(_TITLES.values())} |",
        "|" + "---|" * (2 + len(_TITLES)),
    ]
    for (suffix, codec), found in results.items():
        cells = ["kept" if found[mark][0] else "-" for mark in _TITLES]
        lines.append(f"| `{suffix}` | `{codec}` | {' | '.join(cells)} |")
    table = "\n".join(lines)
    assert table in _DOCUMENT.read_text(), f"the table should be:\n{table}"


def test_nothing_is_said_of_a_plain_clip(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4"))
    for suffix, codec in _TARGETS:
        assert check_output(tmp_path / f"out{suffix}", info, WriteSettings(codec=codec)) == ()


@pytest.mark.parametrize("fields", ["tff", "bff"])
@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_every_picture_of_an_interlaced_video_is_marked(tmp_path, fields, codec):
    source = make_clip(tmp_path / "a.mkv", fields=fields, time_base=_MS, n_frames=6)
    info = probe(source)
    assert info.format.is_interlaced
    with VideoWriter(tmp_path / "out.mkv", info, WriteSettings(codec=codec)) as writer:
        for frame in read_frames(info):
            writer.write(frame)
        writer.commit(6)
    with av.open(str(tmp_path / "out.mkv")) as container:
        stream = container.streams.video[0]
        assert {"tff": 2, "bff": 3}[fields] == stream.codec_context.field_order
        pictures = list(container.decode(stream))
    assert [picture.interlaced_frame for picture in pictures] == [True] * 6
    if codec == "ffv1":  # lossless: both fields as they were
        with av.open(str(source)) as container:
            for was, now in zip(container.decode(video=0), pictures, strict=True):
                assert np.array_equal(was.to_ndarray(), now.to_ndarray())


@pytest.mark.parametrize("size", [(64, 50), (66, 54), (67, 51)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_interlaced_video_of_a_size_that_cannot_be_coded_in_fields_is_written(tmp_path, size, suffix):
    width, height = size
    source = make_clip(
        tmp_path / "a.mkv", codec="ffv1", fields="bff", time_base=_MS, width=width, height=height, n_frames=3
    )
    info, output, chosen = probe(source), tmp_path / f"out{suffix}", WriteSettings(codec="h264")
    lost = check_output(output, info, chosen)
    with VideoWriter(output, info, chosen) as writer:
        for frame in read_frames(info):
            writer.write(frame)
        writer.commit(3)
    said = "the order of its fields (bff) is lost: h264 in a .mp4 file does not hold it"
    with av.open(str(output)) as container:
        assert lost == (() if container.streams.video[0].codec_context.field_order == 3 else (said,))


_INTERLACED = PixelFormat("yuv420p", 16, 16, matrix=6, is_interlaced=True)


def test_each_field_has_the_colors_of_its_own_chroma():
    """Even rows red, odd rows blue: by whole frames, chroma would be shared by a red and a blue row."""
    luma = np.empty((16, 16), np.uint8)
    chroma = [np.empty((8, 8), np.uint8) for _ in range(2)]
    for at, values in enumerate([(81, 90, 240), (41, 240, 110)]):  # red and blue by BT.601, studio range
        for plane, value in zip((luma, *chroma), values, strict=True):
            plane[at::2] = value
    rgb = Picture((luma, *chroma), _INTERLACED).rgb().astype(int)
    assert np.abs(rgb[0::2] - (255, 0, 0)).max() <= 3
    assert np.abs(rgb[1::2] - (0, 0, 255)).max() <= 3


@given(st.integers(0, 3), st.integers(0, 7), st.integers(1, 4), st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_what_is_replaced_in_fields_is_replaced_whole_and_alone(top, left, rows, columns, seed):
    """Outside the mask no sample changes; inside, each field has what a picture of that field alone would get."""
    random = np.random.default_rng(seed)
    planes = tuple(random.integers(16, 235, shape, dtype=np.uint8) for shape in _INTERLACED.plane_shapes())
    where = np.zeros((16, 16), bool)
    where[4 * top : 4 * (top + rows), 2 * left : 2 * (left + columns)] = True
    rgb = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    done = Picture(planes, _INTERLACED).replaced(rgb, where).planes
    assert _INTERLACED.chroma_grid == (4, 2)
    for old, new, mask in zip(planes, done, (where, where[::2, ::2], where[::2, ::2]), strict=True):
        mask = where if old.shape == (16, 16) else where.reshape(4, 4, 8, 2)[:, :2, :, 0].reshape(8, 8)
        assert np.array_equal(old[~mask], new[~mask])
    for at in range(2):
        alone = Picture(tuple(plane[at::2] for plane in planes), PixelFormat("yuv420p", 16, 8, matrix=6))
        expected = alone.replaced(np.ascontiguousarray(rgb[at::2]), where[at::2]).planes
        assert all(np.array_equal(a, b[at::2]) for a, b in zip(expected, done, strict=True))


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=15, deadline=None)
def test_the_shape_of_pixels_is_set_in_place(tmp_path_factory, across, down):
    aspect = Fraction(across, down)
    if not Fraction(1, 8) < aspect < 8:
        return
    path = tmp_path_factory.mktemp("shape") / "a.mkv"
    make_clip(path, codec="ffv1", time_base=_MS, n_frames=3, audio=("aac",), container_options=PADDING)
    before = path.stat().st_size
    packets = [bytes(p) for p in av.open(str(path)).demux() if p.size]
    set_pixel_aspect(path, aspect)
    assert path.stat().st_size == before
    with av.open(str(path)) as container:
        found = container.streams.video[0].sample_aspect_ratio
        assert abs(found / aspect - 1) < 0.02
        assert [bytes(p) for p in container.demux() if p.size] == packets
        container.seek(80_000)
        assert next(container.decode(video=0)).pts is not None


def test_the_shape_of_pixels_has_room_beside_as_many_tracks_as_are_read(tmp_path):
    audio = ("pcm_s16le",) * (_MAX_STREAMS - 1)
    path = make_clip(
        tmp_path / "a.mkv", codec="ffv1", time_base=_MS, n_frames=3, audio=audio, container_options=PADDING
    )
    set_pixel_aspect(path, Fraction(2))
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
        assert len(container.streams.audio) == len(audio)


def test_marks_that_a_turn_makes_wrong_are_said(tmp_path):
    source = make_clip(tmp_path / "a.mp4", rotation_deg=-90, fields="tff", set_up=lambda c: None, **_SIZE)
    info = probe(source)
    assert info.marks.fields is None
    assert not info.format.is_interlaced
    why = "the pictures are turned upright; is_deinterlaced=true deinterlaces them"
    assert info.notes == (f"the order of its fields (tff) is dropped: {why}",)


def two_moments(index: int, width: int, height: int) -> np.ndarray:
    """A white bar that moves by 4 px from field to field, so that a picture of both has combs."""
    image = np.zeros((height, width, 3), np.uint8)
    for field in range(2):
        left = 8 * index + 4 * field
        image[field::2, left : left + 16] = 255
    return image


def combs(luma: np.ndarray) -> float:
    """How far rows are from those above and below, where these agree."""
    above, at, below = (luma[first : len(luma) - 2 + first].astype(int) for first in range(3))
    return float((np.abs(at - (above + below) // 2) * (np.abs(above - below) < 20)).mean())


def test_deinterlacing_on_request_leaves_no_combs_and_every_time(tmp_path):
    source = make_clip(tmp_path / "a.mp4", fields="tff", n_frames=8, draw=two_moments, width=128, height=96)
    plain = probe(source)
    info = deinterlacing(plain)
    assert (info.format.is_interlaced, info.marks.fields, info.notes) == (
        False,
        None,
        ("interlaced pictures are deinterlaced",),
    )
    before, after = list(read_frames(plain)), list(read_frames(info))
    assert [(f.index, f.pts, f.duration) for f in before] == [(f.index, f.pts, f.duration) for f in after]
    for was, now in zip(before, after, strict=True):
        assert np.array_equal(was.picture.planes[0][0::2], now.picture.planes[0][0::2])  # the first field stays
    assert np.mean([combs(f.picture.planes[0]) for f in before]) > 5
    assert np.mean([combs(f.picture.planes[0]) for f in after]) < 1.5
    with VideoWriter(tmp_path / "out.mp4", info, WriteSettings()) as writer:
        for frame in after:
            writer.write(frame)
        writer.commit(8)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not any(frame.interlaced_frame for frame in container.decode(video=0))


@pytest.mark.parametrize("rotation_deg", [90, -90, 180])
def test_pictures_that_are_turned_are_deinterlaced_as_they_lie(tmp_path, rotation_deg):
    """The same pictures as those of the file without a turn, which are turned afterwards."""
    clip: dict[str, Any] = {"fields": "tff", "n_frames": 4, "draw": two_moments, "width": 128, "height": 96}
    plain, turned = (make_clip(tmp_path / f"{name}.mp4", **clip, rotation_deg=name) for name in (0, rotation_deg))
    info = deinterlacing(probe(turned))
    assert info.notes == ("interlaced pictures are deinterlaced",)
    wanted = [frame.picture.planes for frame in read_frames(deinterlacing(probe(plain)))]
    found = [frame.picture.planes for frame in read_frames(info)]
    for before, after in zip(wanted, found, strict=True):
        for one, other in zip(before, after, strict=True):
            assert any(
                np.array_equal(np.rot90(one, turns), other) for turns in (rotation_deg // 90, -rotation_deg // 90)
            )
    lying = [np.rot90(planes[0], rotation_deg // 90) for planes in found]
    assert np.mean([combs(luma) for luma in lying]) < 1.5


def test_a_lost_picture_stays_lost_when_deinterlaced():
    form = PixelFormat("yuv420p", 16, 16)
    planes = tuple(np.full(shape, 90, np.uint8) for shape in form.plane_shapes())
    given = [Frame(at, at, 1, at / 25, None if at in (0, 3) else Picture(planes, form)) for at in range(6)]
    done = list(deinterlaced(given, form, "bff"))
    assert [frame.index for frame in done] == list(range(6))
    assert [frame.picture is None for frame in done] == [True, False, False, True, False, False]
    assert all((frame.picture.planes[0] == 90).all() for frame in done if frame.picture)


def test_a_progressive_video_is_left_alone(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4"))
    assert deinterlacing(info) is info


def transparent_clip(path: Path, codec: str, pixel_format: str) -> tuple[Path, np.ndarray]:
    """Two frames: opaque, half and quite transparent by columns, in uneven places; and the alpha of each pixel."""
    bits = 10 if pixel_format.endswith("10le") else 8
    alpha = np.zeros((48, 64), np.uint16)
    alpha[:, :33], alpha[7:, 33:47] = (1 << bits) - 1, 1 << (bits - 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options={"lossless": "1"} if codec == "libvpx-vp9" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for index in range(2):
            frame = av.VideoFrame(64, 48, pixel_format)
            frame.pts = index
            rng = np.random.default_rng(index)
            for number, view in enumerate(plane_views(frame)):
                random = rng.integers(16 << (bits - 8), 236 << (bits - 8), view.shape)
                view[...] = alpha if number == 3 else random
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path, alpha.astype(float) / ((1 << bits) - 1)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "libvpx-vp9", "yuva420p"),
        ("b.mkv", "ffv1", "yuva420p"),
        ("b.mkv", "ffv1", "yuva444p10le"),
        ("b.mkv", "ffv1", "yuva422p"),
    ],
)
def test_what_is_transparent_does_not_show(tmp_path, name, codec, pixel_format):
    """Opaque samples are those of the file; the others are mixed with white, whole ones are white."""
    source, alpha = transparent_clip(tmp_path / name, codec, pixel_format)
    info = probe(source)
    assert info.notes == ("transparent places are shown on white",)
    with av.open(str(source)) as container:  # by FFmpeg's own decoders: that of VP9 passes over transparency
        own = [plane_views(frame)[:3] for frame in container.decode(video=0)]
    found = [frame.picture.planes for frame in read_frames(info)]
    assert len(found) == len(own) == 2
    scale = 1 << (info.format.bits - 8)
    for planes, coded in zip(found, own, strict=True):
        mixed = alpha * coded[0] + (1 - alpha) * 235 * scale
        assert np.abs(planes[0] - mixed).max() <= 0.5 + 1e-6
        for plane, before in zip(planes, coded, strict=True):
            rows, columns = 48 // plane.shape[0], 64 // plane.shape[1]
            least = alpha.reshape(plane.shape[0], rows, plane.shape[1], columns).min(axis=(1, 3))
            assert np.array_equal(plane[least == 1], before[least == 1])
        for plane in planes[1:]:
            columns = 64 // plane.shape[1]
            assert (plane[:, 48 // columns :] == 128 * scale).all()


def test_damaged_pictures_with_transparency_are_counted(tmp_path):
    source, _ = transparent_clip(tmp_path / "a.webm", "libvpx-vp9", "yuva420p")
    with av.open(str(source)) as container:
        first, second = (packet for packet in container.demux(video=0) if packet.size)
        at = source.read_bytes().index(bytes(second)[:64])
    data = bytearray(source.read_bytes())
    data[at : at + 24] = bytes(24)
    source.write_bytes(data)
    frames = list(read_frames(probe(source)))
    assert [frame.picture is None for frame in frames] == [False, True]
    assert first.pts == frames[0].pts


def test_closed_captions_are_said_to_be_dropped(tmp_path):
    """A caption as broadcasts hold it: a message of user data (ATSC A/53, GA94) before the first picture."""
    data = make_clip(tmp_path / "a.h264", n_frames=3).read_bytes()
    caption = bytes.fromhex("b50031" + b"GA94".hex() + "03c1fffc9420ff")
    message = b"\x00\x00\x00\x01\x06\x04" + bytes([len(caption)]) + caption + b"\x80"
    at = data.index(b"\x00\x00\x01\x65")  # the first slice
    (tmp_path / "b.h264").write_bytes(data[:at] + message[1:] + data[at:])
    assert "closed captions are dropped" in probe(tmp_path / "b.h264").notes
    assert "closed captions are dropped" not in probe(tmp_path / "a.h264").notes
