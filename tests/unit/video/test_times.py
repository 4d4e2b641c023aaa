"""Which packets are pictures and when these are shown, in every container that says it in its own way.

Expected numbers and times come from how the clip was made, or from PyAV's own decoding of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _clips import make_clip, scene
from pa_lib.video import VideoInfo, VideoWriter, WriteSettings, default_output, probe, read_frames, redacted_picture
from pa_lib.video.shown import header_reader

WIDTH, HEIGHT = 64, 48
SLOW = {"preset": "medium", "bf": "3", "g": "12"}  # with B-frames, which are decoded in another order than shown


def written(source: Path, output: Path | None = None) -> Path:
    """A copy of every frame and all sound, through the reader and the writer."""
    info = probe(source)
    output = output or default_output(info, source.parent / "out")
    output.parent.mkdir(exist_ok=True)
    with VideoWriter(output, info, WriteSettings()) as writer:
        n_frames = 0
        for frame in read_frames(info):
            writer.write(frame if frame.picture else frame.with_picture(redacted_picture(info.format)))
            n_frames += 1
        writer.commit(n_frames)
    return output


@dataclass
class Played:
    """What PyAV finds in a file: times of pictures and of the first sound in seconds, and the length of it all."""

    pictures: list[float]
    sound: float | None
    duration: float | None

    @property
    def offset(self) -> float:
        assert self.sound is not None
        return self.pictures[0] - self.sound


def played(path: Path) -> Played:
    with av.open(str(path)) as container:
        pictures = sorted(frame.time for frame in container.decode(video=0))
        duration = container.duration / 1e6 if container.duration else None
    sound = None
    with av.open(str(path)) as container:
        if container.streams.audio:
            sound = next(float(p.pts * p.time_base) for p in container.demux(audio=0) if p.size)
    return Played(pictures, sound, duration)


def packets(path: Path) -> list[av.Packet[Any]]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def muxed(
    path: Path, source: Path, parts: Iterable[tuple[bytes, int | None, int | None]], fps: int = 25, tag: str = ""
) -> Path:
    """A file of these packets (bytes, time of showing and of decoding in frames), of the stream of `source`."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(container.streams.video[0])
        stream.time_base = Fraction(1, fps)
        if tag:
            stream.codec_context.codec_tag = tag
        for data, pts, dts in parts:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, fps), 1
            packet.pts, packet.dts = pts, dts
            output.mux(packet)
    return path


def assert_whole_and_in_order(info: VideoInfo, n_frames: int, first: int = 0) -> None:
    """Every picture is there, and is the one that was drawn for its place."""
    frames = list(read_frames(info))
    assert [frame.fault for frame in frames] == [None] * n_frames
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    errors = np.array(
        [
            [
                np.abs(f.picture.rgb().astype(int) - scene(i + first, info.width, info.height)).mean()
                for i in range(n_frames)
            ]
            for f in frames
        ]
    )
    # neighbours look alike where the encoder is coarse, so the whole order is compared, not each picture alone
    assert np.array_equal(errors.argmin(1), np.arange(n_frames)), errors.argmin(1)


# -- section: clocks that begin anywhere -------------------------------------------------------------------------------

STREAMS = {  # suffix: codec, audio, units
    ".ts": ("libx264", "aac", Fraction(1, 90000)),
    ".mts": ("libx264", "ac3", Fraction(1, 90000)),
    ".m2ts": ("libx265", "aac", Fraction(1, 90000)),
    ".mpg": ("mpeg2video", "mp2", Fraction(1, 25)),
    ".vob": ("mpeg2video", "ac3", Fraction(1, 25)),
    ".flv": ("libx264", "aac", Fraction(1, 1000)),
    ".mkv": ("libx264", "aac", Fraction(1, 1000)),
}


@pytest.mark.parametrize("start_s", [0, 1.4, 50_000])
@pytest.mark.parametrize("suffix", STREAMS)
def test_the_start_of_the_clock_is_taken_off(tmp_path, suffix, start_s):
    codec, audio, units = STREAMS[suffix]
    if suffix == ".flv" and start_s == 50_000:
        start_s = 5_000  # its times have 32 bits of milliseconds
    source = make_clip(
        tmp_path / f"a{suffix}", codec=codec, audio=(audio,), time_base=units, n_frames=25,
        options={"g": "12"}, container_options={"output_ts_offset": str(start_s)},
    )  # fmt: skip
    before, after = played(source), played(written(source))
    assert before.pictures[0] >= start_s - 0.1
    assert len(after.pictures) == len(before.pictures) == 25
    assert np.allclose(np.diff(after.pictures), 0.04, atol=0.0011)
    assert after.offset == pytest.approx(before.offset, abs=0.0011)
    assert min(after.pictures[0], after.sound) == pytest.approx(0, abs=0.022)  # AAC's encoder begins 21 ms early
    assert after.duration == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("start_s", [95443.2, 95440.0, 95380.0])
def test_a_clock_that_wraps_or_is_below_zero(tmp_path, start_s):
    """A transport stream counts to 2**33 at 90 kHz, 95,443.7 s, and begins again."""
    source = make_clip(
        tmp_path / "a.ts", audio=("aac",), time_base=Fraction(1, 90000), n_frames=50,
        container_options={"output_ts_offset": str(start_s)},
    )  # fmt: skip
    before, after = played(source), played(written(source))
    assert len(after.pictures) == 50
    assert np.allclose(np.diff(after.pictures), 0.04, atol=1e-4)
    assert after.offset == pytest.approx(before.offset, abs=1e-4)
    assert after.duration == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize(("suffix", "codec", "audio", "n_shown"), [
    (".mp4", "libx264", "aac", 20), (".mov", "libx264", "aac", 20), (".asf", "mpeg4", "mp2", 30),
])  # fmt: skip
def test_times_below_zero(tmp_path, suffix, codec, audio, n_shown):
    """In MP4 and MOV what lies before 0 is cut away by an edit list; elsewhere the film begins there."""
    units = Fraction(1, 1000) if suffix == ".asf" else Fraction(1, 12800)
    source = make_clip(
        tmp_path / f"a{suffix}", codec=codec, times=[round((i - 10) / 25 / units) for i in range(30)], time_base=units,
        audio=(audio,), container_options={"avoid_negative_ts": "disabled"}, options=SLOW if codec == "libx264" else {},
    )  # fmt: skip
    before, after = played(source), played(written(source))
    assert len(after.pictures) == len(before.pictures) == n_shown
    assert after.pictures == pytest.approx([0.04 * i for i in range(n_shown)], abs=1e-4)
    assert after.offset == pytest.approx(before.offset, abs=0.0011)
    assert not any("between key frames" in note for note in probe(source).notes)


@pytest.mark.parametrize("starts_s", [(50_000, 10), (10, 50_000), (1.4, 1.4), (1.4, 1.4, 700)])
def test_a_clock_that_begins_again_runs_on(tmp_path, starts_s):
    """Recordings joined byte by byte, as cameras' parts are: each begins its clock for itself."""
    parts = [
        make_clip(
            tmp_path / f"{i}.ts", audio=("aac",), time_base=Fraction(1, 90000), n_frames=30, options=SLOW,
            container_options={"output_ts_offset": str(start_s)},
        )
        for i, start_s in enumerate(starts_s)
    ]  # fmt: skip
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    info = probe(joined)
    frames = list(read_frames(info))
    # the demuxer flags the packet that the next recording cuts off, one of the last two pictures: it may be damaged
    flagged = [frame.index for frame in frames if frame.fault]
    assert {index % 30 for index in flagged} <= {28, 29}
    assert len(flagged) <= len(parts) - 1
    assert np.allclose(np.diff([frame.time_s for frame in frames]), 0.04, atol=1e-4)
    assert info.duration_s == pytest.approx(1.2 * len(parts), abs=0.1)
    after = played(written(joined))
    assert len(after.pictures) == len(frames) == 30 * len(parts)
    assert after.duration == pytest.approx(1.2 * len(parts), abs=0.1)
    # every part's sound lies beside its pictures as in the part alone
    offset = played(parts[0]).offset
    with av.open(str(default_output(info, tmp_path / "out"))) as container:
        sounds = np.array([float(p.pts * p.time_base) for p in container.demux(audio=0) if p.size])
    for number in range(len(parts)):
        assert np.abs(sounds + offset - after.pictures[30 * number]).min() < 0.025


def test_a_piece_of_a_fragmented_mp4_begins_at_zero(tmp_path):
    """A stream's segment: the header, and a fragment from the middle with its place on the stream's clock."""
    whole = make_clip(
        tmp_path / "a.mp4", n_frames=50, options={"g": "10"},
        container_options={"movflags": "+frag_keyframe+empty_moov+default_base_moof"},
    )  # fmt: skip
    data = whole.read_bytes()
    marks = [at - 4 for at in range(len(data)) if data[at : at + 4] == b"moof"]
    clock = data.index(b"tfdt", marks[2]) + 4
    piece = bytearray(data[: marks[0]] + data[marks[2] : marks[3]])
    at = clock - marks[2] + marks[0]
    assert piece[at] == 1  # 64 bits
    piece[at + 4 : at + 12] = struct.pack(">Q", 50_000 * 12800)
    (tmp_path / "piece.mp4").write_bytes(piece)
    after = played(written(tmp_path / "piece.mp4"))
    assert after.pictures == pytest.approx([0.04 * i for i in range(10)])
    assert after.duration == pytest.approx(0.4, abs=0.001)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", ".ts", SLOW),
        ("libx265", ".ts", {"x265-params": "log-level=none:keyint=12"}),  # with an open group of pictures
        ("mpeg2video", ".ts", {"g": "12", "bf": "2"}),
        ("libx264", ".h264", SLOW),
    ],
)
def test_a_recording_that_begins_between_key_frames(tmp_path, codec, suffix, options):
    """As every piece of a broadcast does: what leans on frames before it was never there, so it is no loss."""
    units = Fraction(1, 25) if suffix == ".h264" or codec == "mpeg2video" else Fraction(1, 90000)
    audio = () if suffix == ".h264" else ("mp2",)
    source = make_clip(tmp_path / f"a{suffix}", codec=codec, n_frames=50, time_base=units, options=options, audio=audio)
    piece = tmp_path / f"b{suffix}"
    piece.write_bytes(source.read_bytes()[packets(source)[5].pos :])
    assert not packets(piece)[0].is_keyframe
    info = probe(piece)
    assert "begins between key frames" in info.notes[0]
    frames = list(read_frames(info))
    with av.open(str(piece)) as container:
        assert len(frames) == sum(1 for _ in container.decode(video=0)) < 45
    assert [frame.fault for frame in frames] == [None] * len(frames)
    if audio:
        before, after = played(piece), played(written(piece))
        assert after.offset == pytest.approx(before.offset, abs=1e-4)
        assert after.sound == pytest.approx(0, abs=1e-4)


# -- section: streams without times ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [24, 50])
@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".h264"), ("libx265", ".hevc"), ("mpeg2video", ".m2v")])
def test_a_bare_stream_has_the_rate_of_its_headers(tmp_path, codec, suffix, fps):
    options = {"qmin": "2", "qmax": "3"} if codec == "mpeg2video" else SLOW
    source = make_clip(
        tmp_path / f"a{suffix}", codec=codec, n_frames=20, fps=fps, time_base=Fraction(1, fps), options=options
    )
    info = probe(source)
    assert info.fps == fps
    assert info.notes == ()
    assert_whole_and_in_order(info, 20)
    after = played(written(source))
    assert after.pictures == pytest.approx([i / fps for i in range(20)], abs=1e-5)


def test_ntsc_in_a_bare_stream_does_not_drift(tmp_path):
    source = make_clip(
        tmp_path / "a.h264", n_frames=40, fps=30, time_base=Fraction(1001, 30000), times=list(range(40)), options=SLOW
    )
    with av.open(str(source)) as container:
        rate = container.streams.video[0].codec_context.framerate
    times = [frame.time_s for frame in read_frames(probe(source))]
    assert times == pytest.approx([float(i / rate) for i in range(40)], abs=1e-6)


def test_a_bare_stream_without_a_rate_says_what_is_assumed(tmp_path):
    source = make_clip(
        tmp_path / "a.mjpeg", codec="mjpeg", pixel_format="yuvj420p", fps=50, time_base=Fraction(1, 50), n_frames=5
    )
    info = probe(source)
    assert info.fps == 25
    assert "25 frames per second are assumed" in info.notes[0]
    assert len(list(read_frames(info))) == 5


# -- section: the decoder's order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_with_b_frames(tmp_path, codec):
    options = SLOW if codec != "mpeg4" else {"bf": "2", "g": "12", "qmin": "2", "qmax": "3"}
    source = make_clip(
        tmp_path / "a.avi", codec=codec, n_frames=30, time_base=Fraction(1, 25), options=options, audio=("mp2",)
    )
    info = probe(source)
    assert_whole_and_in_order(info, 30)
    after = played(written(source))
    assert after.pictures == pytest.approx([0.04 * i for i in range(30)], abs=0.001)
    assert after.offset == pytest.approx(0, abs=0.04)
    assert after.duration == pytest.approx(1.2, abs=0.04)


def test_times_of_decoding_in_matroska_are_recognized(tmp_path):
    """Files that were converted from AVI without care: B-frames, and times that rise from packet to packet."""
    source = make_clip(tmp_path / "a.mkv", time_base=Fraction(1, 1000), n_frames=40, options=SLOW)
    taken = packets(source)
    assert [p.pts for p in taken] != sorted(p.pts for p in taken)
    wrong = muxed(tmp_path / "b.mkv", source, [(bytes(p), i, i) for i, p in enumerate(taken)])
    info = probe(wrong)
    assert info.clock.times == "rising"
    assert_whole_and_in_order(info, 40)
    assert played(written(wrong)).pictures == pytest.approx([0.04 * i for i in range(40)], abs=0.001)


def test_the_rate_of_an_avi_with_empty_slots_is_that_of_its_pictures(tmp_path):
    """As other tools make it of varying rates: 600 slots a second, of which every 24th holds a picture."""
    source = make_clip(tmp_path / "a.avi", codec="mpeg4", n_frames=10, time_base=Fraction(1, 600))
    with av.open(str(source)) as container:
        assert container.streams.video[0].average_rate == 600
    assert probe(source).fps == 25
    result = played(written(source))
    assert result.pictures == pytest.approx([at / 25 for at in range(10)], abs=1e-3)
    assert result.duration == pytest.approx(0.4, abs=1e-3)


def test_frames_that_an_avi_repeats_keep_their_time(tmp_path):
    """A chunk without bytes repeats the picture before, so what follows comes later."""
    source = make_clip(tmp_path / "a.avi", codec="mpeg4", n_frames=12, time_base=Fraction(1, 25))
    gaps = [0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14]
    held = muxed(tmp_path / "b.avi", source, [(bytes(p), t, t) for p, t in zip(packets(source), gaps, strict=True)])
    assert [frame.pts for frame in read_frames(probe(held))] == gaps


# -- section: packets that show nothing --------------------------------------------------------------------------------


def vop(data: bytes) -> int:
    """Where the first picture of an MPEG-4 packet begins."""
    return data.index(b"\0\0\1\xb6")


def n_vop(like: bytes, n_time_bits: int) -> bytes:
    """A picture that is not coded, of the same time as `like`."""
    at = vop(like) + 4
    value = int.from_bytes(like[at : at + 8])
    n_seconds = 0
    while value >> (61 - n_seconds) & 1:
        n_seconds += 1
    n_bits = 2 + n_seconds + 1 + 1 + n_time_bits + 1  # type, seconds, marker, time, marker
    bits = f"{value:064b}"[:n_bits] + "0" + "0"  # vop_coded, stuffing
    bits += "1" * (-len(bits) % 8)
    return b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8)


def with_b_frames(path: Path) -> list[tuple[bytes, str]]:
    """Packets of an MPEG-4 clip of one group of pictures, in order of decoding, each with its kind."""
    options = {"bf": "2", "g": "60", "qmin": "2", "qmax": "3", "sc_threshold": "1000000000"}
    make_clip(path, codec="mpeg4", n_frames=31, time_base=Fraction(1, 25), options=options)
    data = [bytes(packet) for packet in packets(path)]
    return [(part, "IPBS"[part[vop(part) + 4] >> 6]) for part in data]


def packed(parts: list[tuple[bytes, str]]) -> list[bytes]:
    """As XviD packs: a reference and the first B-frame before it share a packet, one that is not coded ends the run."""
    head = parts[0][0]
    at = vop(head)
    result = [head[:at] + b"\0\0\1\xb2DivX503b1393p" + head[at:]]
    index = 1
    while index < len(parts):
        run = [parts[index][0]]
        while index + 1 < len(parts) and parts[index + 1][1] == "B":
            index += 1
            run.append(parts[index][0])
        index += 1
        if len(run) == 1:
            result.append(run[0])
        else:
            result += [run[0] + run[1], *run[2:], n_vop(run[0], 5)]
    return result


def test_packed_b_frames(tmp_path):
    parts = with_b_frames(tmp_path / "a.avi")
    assert {kind for _, kind in parts} == {"I", "P", "B"}
    data = packed(parts)
    assert len(data) == len(parts)
    source = muxed(tmp_path / "b.avi", tmp_path / "a.avi", [(part, i, i) for i, part in enumerate(data)])
    with av.open(str(source)) as container:
        n_decoded = sum(1 for _ in container.decode(video=0))
    assert n_decoded == len(data)
    info = probe(source)
    frames = list(read_frames(info))
    assert [frame.fault for frame in frames] == [None] * n_decoded
    assert [frame.pts for frame in frames] == list(range(n_decoded))
    assert_whole_and_in_order(info, n_decoded)


def test_a_picture_that_is_not_coded_repeats_the_one_before(tmp_path):
    make_clip(tmp_path / "a.avi", codec="mpeg4", n_frames=12, time_base=Fraction(1, 25), options={"bf": "0"})
    data = [bytes(packet) for packet in packets(tmp_path / "a.avi")]
    data[4:4] = [n_vop(data[3], 5)] * 3
    for suffix in (".avi", ".mkv"):
        source = muxed(
            tmp_path / f"b{suffix}", tmp_path / "a.avi", [(part, i, i) for i, part in enumerate(data)], tag="FMP4"
        )
        frames = list(read_frames(probe(source)))
        assert [frame.fault for frame in frames] == [None] * 12
        slots = [round(frame.time_s * 25) for frame in frames]
        assert slots == [0, 1, 2, 3, *range(7, 15)]


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".ivf"])
def test_invisible_pictures_of_vp8(tmp_path, suffix):
    """Reference pictures that are never shown, each in a packet of its own."""
    source = make_clip(
        tmp_path / "a.webm", codec="libvpx", time_base=Fraction(1, 1000), n_frames=30,
        options={"crf": "10", "b": "1M", "g": "30"},
    )  # fmt: skip
    parts: list[tuple[bytes, int, int]] = []
    for i, packet in enumerate(packets(source)):
        data = bytes(packet)
        if i in (5, 6, 17, 29):
            hidden = bytes([data[0] & ~0x10]) + data[1:]
            time = 2 * i - (i % 2 or suffix == ".ivf")  # Matroska allows the time of the picture that is shown next
            parts.append((hidden, time, time))
        parts.append((data, 2 * i, 2 * i))
    clip = muxed(tmp_path / f"b{suffix}", source, parts, fps=50)
    assert len(packets(clip)) == 34
    before = played(clip)
    frames = list(read_frames(probe(clip)))
    assert [frame.fault for frame in frames] == [None] * 30
    assert [frame.time_s for frame in frames] == pytest.approx(before.pictures, abs=1e-6)


@given(profile=st.integers(0, 3), is_repeat=st.booleans(), is_key=st.booleans(), is_shown=st.booleans())
def test_the_header_of_vp9(profile, is_repeat, is_key, is_shown):
    """Uncompressed header by the VP9 specification, 6.2: marker, profile, repeat of a frame, kind, show_frame."""
    bits = f"10{profile & 1}{profile >> 1}" + ("0" if profile == 3 else "") + f"{is_repeat:d}"
    bits += "000" if is_repeat else f"{not is_key:d}{is_shown:d}0"
    frame = int(bits.ljust(16, "0")[:16], 2).to_bytes(2) + b"rest"
    shows = header_reader("vp9", None)
    assert shows(memoryview(frame)) is (is_repeat or is_shown)
    hidden = int(f"10{profile & 1}{profile >> 1}".ljust(5 if profile == 3 else 4, "0").ljust(16, "0"), 2).to_bytes(2)
    assert not shows(memoryview(hidden))
    # annex B: the sizes of all frames behind them, between two markers; here two bytes for each size
    marker = bytes([0xC0 | 1 << 3 | 1])
    sizes = len(hidden).to_bytes(2, "little") + len(frame).to_bytes(2, "little")
    assert shows(memoryview(hidden + frame + marker + sizes + marker)) is (is_repeat or is_shown)


# -- section: a picture in two packets ---------------------------------------------------------------------------------


class BitWriter:
    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, n: int) -> None:
        self.bits += f"{value:0{n}b}"

    def ue(self, value: int) -> None:
        """Exp-Golomb code of H.264, clause 9.1."""
        length = (value + 1).bit_length()
        self.put(value + 1, 2 * length - 1)

    def nal(self, head: int) -> bytes:
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        data = bytearray()
        for byte in int(bits, 2).to_bytes(len(bits) // 8):
            if data[-2:] == b"\0\0" and byte <= 3:
                data.append(3)  # emulation prevention
            data.append(byte)
        return b"\0\0\0\1" + bytes([head]) + bytes(data)


def field_stream(n_frames: int) -> list[tuple[bytes, bytes]]:
    """H.264 of 32 x 32 px whose pictures are pairs of fields, written bit by bit: each macroblock holds its samples.

    By ITU-T H.264 clauses 7.3.2.1, 7.3.2.2 and 7.3.3; the first field of the first picture is an IDR.
    """
    sps = BitWriter()
    for value, n in ((77, 8), (0, 8), (30, 8)):  # main profile
        sps.put(value, n)
    for value in (0, 4, 2, 1):  # id, 8 bits of frame_num, order of output = order of decoding, one reference
        sps.ue(value)
    sps.put(0, 1)
    sps.ue(1)  # 32 wide
    sps.ue(0)  # one pair of field macroblocks = 32 rows
    for value in (0, 0, 1, 0, 0):  # fields may be coded, no MBAFF, direct 8x8, no cropping, no VUI
        sps.put(value, 1)
    pps = BitWriter()
    pps.ue(0)
    pps.ue(0)
    pps.put(0, 2)  # CAVLC
    for value in (0, 0, 0):
        pps.ue(value)
    pps.put(0, 3)
    for _ in range(3):
        pps.ue(0)
    pps.put(0, 3)
    heads = sps.nal(0x67) + pps.nal(0x68)
    pictures = []
    for index in range(n_frames):
        fields = []
        for bottom in (0, 1):
            is_idr = index == 0 and not bottom
            slice_ = BitWriter()
            slice_.ue(0)
            slice_.ue(7)  # I
            slice_.ue(0)
            slice_.put(index % 256, 8)
            slice_.put(1, 1)
            slice_.put(bottom, 1)
            if is_idr:
                slice_.ue(0)
                slice_.put(0, 2)
            else:
                slice_.put(0, 1)
            slice_.ue(0)  # qp as in the PPS
            for macroblock in range(2):
                slice_.ue(25)  # I_PCM
                slice_.bits += "0" * (-len(slice_.bits) % 8)
                for sample in (40 + 5 * index, 128, 128):
                    for _ in range(256 if sample != 128 else 64):
                        slice_.put(sample + macroblock, 8)
            fields.append((heads if is_idr else b"") + slice_.nal(0x65 if is_idr else 0x61))
        pictures.append((fields[0], fields[1]))
    return pictures


@pytest.mark.parametrize("suffix", [".h264", ".ts"])
def test_two_fields_are_one_picture(tmp_path, suffix):
    """As AVCHD cameras and broadcasts write: a packet for each field."""
    bare = tmp_path / "a.h264"
    bare.write_bytes(b"".join(first + second for first, second in field_stream(12)))
    with av.open(str(bare)) as container:
        lumas = [bytes(f.planes[0])[0] for f in container.decode(video=0)]
    assert lumas == [40 + 5 * i for i in range(12)]
    source = bare
    if suffix == ".ts":
        source = tmp_path / "a.ts"
        fields = [field for pair in field_stream(12) for field in pair]
        muxed(source, bare, [(data, i, i) for i, data in enumerate(fields)], fps=50)
    frames = list(read_frames(probe(source)))
    assert [frame.fault for frame in frames] == [None] * 12
    assert [int(frame.picture.planes[0][0, 0]) for frame in frames] == lumas
    assert np.allclose(np.diff([frame.time_s for frame in frames]), 0.04)


# -- section: what is lost is still accounted for ----------------------------------------------------------------------


def damaged(path: Path, source: Path, victims: Iterable[int]) -> Path:
    """The same file with the bytes of some packets overwritten."""
    data = bytearray(source.read_bytes())
    taken = packets(source)
    for victim in victims:
        body = bytes(taken[victim])
        at = data.index(body)
        # a bare stream is cut into pictures where these begin
        kept = body.rindex(b"\0\0\1") + 5 if path.suffix == ".h264" else 0
        data[at + kept : at + len(body)] = bytes(len(body) - kept)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", ".avi", SLOW),
        ("libx264", ".h264", SLOW),
        ("mpeg4", ".avi", {"g": "12", "bf": "2"}),
        ("mpeg4", ".mkv", {"g": "12"}),
        ("mjpeg", ".avi", {}),
        ("libvpx", ".webm", {"g": "12"}),
        ("libvpx-vp9", ".webm", {"g": "12"}),
        ("msmpeg4", ".avi", {"g": "12"}),
        ("mpeg2video", ".avi", {"g": "12", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("victims", [(13,), (12, 20, 21, 38), (37, 39), (24,)])
def test_damaged_packets_are_frames_without_a_picture(tmp_path, codec, suffix, options, victims):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    units = Fraction(1, 1000) if suffix in (".mkv", ".webm") else Fraction(1, 25)
    source = make_clip(
        tmp_path / f"a{suffix}", codec=codec, pixel_format=pixel_format, width=128, height=96, n_frames=40,
        time_base=units, options=options,
    )  # fmt: skip
    broken = damaged(tmp_path / f"b{suffix}", source, victims)
    info = probe(broken)
    passes = [[(f.index, f.pts, f.fault) for f in read_frames(info)] for _ in range(2)]
    assert passes[0] == passes[1]
    assert len(passes[0]) == 40
    lost = [index for index, _, fault in passes[0] if fault]
    assert len(lost) >= len(victims)
    # near their places: where order alone says what is shown when, a loss is known a few frames around it
    assert all(min(abs(index - victim) for index in lost) <= 4 for victim in victims)
    assert np.allclose(np.diff([float(pts * info.time_base) for _, pts, _ in passes[0]]), 0.04, atol=0.001)


def test_a_loss_among_invisible_pictures_is_the_loss_alone(tmp_path):
    source = make_clip(tmp_path / "a.webm", codec="libvpx", time_base=Fraction(1, 1000), n_frames=30)
    parts = []
    for i, packet in enumerate(packets(source)):
        data = bytes(packet)
        if i in (5, 17):
            parts.append((bytes([data[0] & ~0x10]) + data[1:], 2 * i - 1, 2 * i - 1))
        parts.append((bytes(len(data)) if i == 10 else data, 2 * i, 2 * i))
    frames = list(read_frames(probe(muxed(tmp_path / "b.webm", source, parts, fps=50))))
    assert len(frames) == 30
    assert [frame.index for frame in frames if frame.fault] == [10]


# -- section: files of users -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_frames", "duration_s"),
    [
        ("vp8_altref.webm", 120, 4.004),
        ("xvid_packed.avi", 58, 2.0354),
        ("h264.avi", 60, 2.002),
        ("ts_big.ts", 60, 2.002),
        ("raw.h264", 60, 2.002),
    ],
)
def test_files_that_users_brought(tmp_path, shared_data, name, n_frames, duration_s):
    """Numbers of pictures and durations by ffprobe; all are of 30000/1001 frames per second."""
    source = shared_data / "field" / name
    if not source.exists():
        pytest.skip(f"needs {name} among the shared data")
    info = probe(source)
    frames = list(read_frames(info))
    assert [frame.fault for frame in frames] == [None] * n_frames
    assert info.fps == pytest.approx(30000 / 1001, rel=1e-6)
    length = (frames[-1].pts + frames[-1].duration - frames[0].pts) * info.time_base
    assert float(length) == pytest.approx(duration_s, abs=0.002)
    if info.audio:
        output = tmp_path / "out.mkv"
        after = played(written(source, output))
        expected = 1920 / 90000 if name == "ts_big.ts" else 0
        assert after.offset == pytest.approx(expected, abs=0.001)
        assert after.duration == pytest.approx(duration_s, abs=0.04)
