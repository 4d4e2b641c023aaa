"""Sound: copied where the container holds it, converted on request, said per track where it is neither."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from _clips import make_clip
from pa_lib.errors import SettingError
from pa_lib.video import VideoWriter, WriteSettings, check_output, default_output, probe, read_frames
from pa_lib.video.audio import is_sound_held

_MS = Fraction(1, 1000)


def written(source: Path, output: Path | None = None, **settings: str) -> tuple[Path, tuple[str, ...]]:
    """A copy of `source` by its usual or the given name, and the remarks about it."""
    info, chosen = probe(source), WriteSettings(**settings)
    assert info.faults == ()
    output = output or default_output(info, None, chosen)
    remarks = check_output(output, info, chosen)
    with VideoWriter(output, info, chosen) as writer:
        frames = list(read_frames(info))
        for frame in frames:
            writer.write(frame)
        writer.commit(len(frames))
    return output, remarks


def packets(path: Path) -> list[tuple[str, bytes]]:
    """Codec and bytes of every sound track."""
    with av.open(str(path)) as container:
        tracks = {stream.index: b"" for stream in container.streams.audio}
        for packet in container.demux():
            if packet.size and packet.stream_index in tracks:
                tracks[packet.stream_index] += bytes(packet)
        return [(container.streams[index].codec_context.name, data) for index, data in tracks.items()]


def sound(path: Path, track: int = 0) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", 48000)
        parts = [part for f in container.decode(audio=track) for part in resampler.resample(f)]
        return np.concatenate([part.to_ndarray()[0] for part in parts]).astype(float)


@pytest.mark.parametrize(
    ("suffix", "codec", "becomes"),
    [
        (".mp4", "aac", ".mp4"),
        (".mp4", "alac", ".mp4"),
        (".mov", "pcm_s24be", ".mov"),
        (".mov", "pcm_mulaw", ".mov"),
        (".mov", "adpcm_ima_qt", ".mov"),
        (".mkv", "libmp3lame", ".mkv"),
        (".mkv", "flac", ".mkv"),
        (".mkv", "vorbis", ".mkv"),
        (".webm", "libopus", ".webm"),
        (".avi", "pcm_s16le", ".mkv"),
        (".avi", "pcm_alaw", ".mkv"),
        (".avi", "adpcm_ima_wav", ".mkv"),
        (".avi", "adpcm_ms", ".mkv"),
        (".asf", "wmav2", ".mkv"),
    ],
)
def test_sound_of_every_kind_reaches_the_usual_output_byte_for_byte(tmp_path, suffix, codec, becomes):
    video = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".asf": "wmv2"}.get(suffix, "libx264")
    base = _MS if suffix in (".mkv", ".webm", ".asf") else Fraction(1, 25)
    source = make_clip(tmp_path / f"a{suffix}", codec=video, audio=(codec,), time_base=base)
    output, remarks = written(source)
    assert output.suffix == becomes
    assert remarks == ()
    assert packets(output) == packets(source)


@pytest.mark.parametrize(
    ("suffix", "codec", "output", "becomes"),
    [(".asf", "wmav2", ".mp4", "aac"), (".mp4", "aac", ".webm", "opus"), (".avi", "adpcm_ms", ".mov", "aac")],
)
def test_sound_is_converted_on_request(tmp_path, suffix, codec, output, becomes):
    video = {".asf": "wmv2", ".avi": "mpeg4"}.get(suffix, "libx264")
    base = _MS if suffix == ".asf" else Fraction(1, 25)
    source = make_clip(tmp_path / f"a{suffix}", codec=video, audio=(codec,), time_base=base, n_frames=25)
    found, remarks = written(source, tmp_path / f"out{output}", audio="convert")
    assert remarks == (f"sound track 1 ({codec}) is converted to {becomes}: a {output} file cannot hold it",)
    assert packets(found)[0][0] == becomes
    before, after = sound(source), sound(found)
    assert abs(len(before) - len(after)) <= 4096
    spectra = [np.abs(np.fft.rfft(part[8000:40000])) for part in (before, after)]
    assert [round(float(s.argmax() * 48000 / 32000)) for s in spectra] == [300, 300]  # the tone that the clip has
    assert np.std(after[8000:40000]) == pytest.approx(np.std(before[8000:40000]), rel=0.1)


def end_s(path: Path) -> float:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return frames[0].time + sum(f.samples for f in frames) / frames[0].sample_rate


@pytest.mark.parametrize("output", [".mp4", ".webm"])
def test_converted_sound_is_whole_to_its_end(tmp_path, output):
    """The decoder of Windows Media is a packet of 43 ms behind."""
    source = make_clip(tmp_path / "a.asf", codec="wmv2", audio=("wmav2",), time_base=_MS, n_frames=25)
    found, _ = written(source, tmp_path / f"out{output}", audio="convert")
    assert end_s(found) > end_s(source) - 0.01


_SOUNDS = {
    "aac": ".mp4",
    "libmp3lame": ".mkv",
    "libopus": ".mkv",
    "vorbis": ".mkv",
    "flac": ".mkv",
    "alac": ".mp4",
    "ac3": ".mkv",
    "pcm_s16le": ".mkv",
    "pcm_s16be": ".mov",
    "pcm_alaw": ".avi",
    "adpcm_ima_wav": ".avi",
    "adpcm_ima_qt": ".mov",
    "wmav2": ".asf",
}
_DOCUMENT = Path(__file__).parents[3] / "docs" / "anonymize.md"


def test_the_table_of_sound_in_the_documents_is_true(tmp_path):
    muxers = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
    lines = [f"| sound | {' | '.join(f'`{suffix}`' for suffix in muxers)} |", "|" + "---|" * 5]
    for codec, suffix in _SOUNDS.items():
        video = {".avi": "mpeg4", ".asf": "wmv2"}.get(suffix, "libx264")
        base = _MS if suffix in (".mkv", ".asf") else Fraction(1, 25)
        info = probe(make_clip(tmp_path / f"a{suffix}", codec=video, audio=(codec,), time_base=base, n_frames=3))
        new = {muxer: "to Opus" if muxer == "webm" else "to AAC" for muxer in muxers.values()}
        cells = ["copied" if is_sound_held(info, muxer) else new[muxer] for muxer in muxers.values()]
        lines.append(f"| `{codec.removeprefix('lib').replace('mp3lame', 'mp3')}` | {' | '.join(cells)} |")
    table = "\n".join(lines)
    assert table in _DOCUMENT.read_text(), f"the table should be:\n{table}"


def test_what_fits_is_copied_beside_what_is_converted(tmp_path):
    source = make_clip(tmp_path / "a.mkv", audio=("pcm_u8", "aac"), time_base=_MS, n_frames=25)
    found, remarks = written(source, tmp_path / "out.mp4", audio="convert")
    assert remarks == ("sound track 1 (pcm_u8) is converted to aac: a .mp4 file cannot hold it",)
    assert packets(found)[1] == packets(source)[1]


def test_advice_about_sound_works_when_pasted(tmp_path):
    source = make_clip(tmp_path / "a.mov", audio=("pcm_mulaw",))
    with pytest.raises(SettingError, match=r"write\.audio=convert, leave all sound out by write\.audio=drop$"):
        check_output(tmp_path / "out.webm", probe(source))
    assert packets(written(source, tmp_path / "1.webm", audio="convert")[0])[0][0] == "opus"
    assert packets(written(source, tmp_path / "2.webm", audio="drop")[0]) == []


def unknown_track(path: Path, codec: bytes = b"apac") -> Path:
    """A MOV whose second sound track has a codec that FFmpeg does not know, as those of new phones."""
    make_clip(path, audio=("aac", "aac"), n_frames=25)
    data = path.read_bytes()
    at = data.rindex(b"stsd")
    path.write_bytes(data[:at] + data[at:].replace(b"mp4a", codec).replace(b"esds", b"none"))
    return path


def test_a_track_of_an_unknown_codec_does_not_stop_the_others(tmp_path):
    source = unknown_track(tmp_path / "a.mov")
    output, remarks = written(source)
    assert remarks == ("sound track 2 (unknown) has a codec that is unknown; it is left out",)
    with av.open(str(source)) as container:
        first = b"".join(bytes(packet) for packet in container.demux(audio=0) if packet.size)
    assert packets(output) == [("aac", first)]


def test_a_track_that_cannot_be_decoded_is_left_out(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=("aac", "aac"), n_frames=25)
    with av.open(str(source)) as container:
        spots = [(p.pos, p.size) for p in container.demux(audio=1) if p.size]
    data = bytearray(source.read_bytes())
    for position, size in spots:
        data[position : position + size] = b"\xff" * size
    source.write_bytes(data)
    output, remarks = written(source)
    assert remarks == ("sound track 2 (aac) cannot be decoded; it is left out",)
    assert packets(output) == packets(source)[:1]


_MARKS = ("default", "dub", "original", "comment", "forced", "hearing_impaired", "visual_impaired")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_marks_of_sound_tracks_are_kept_or_their_loss_is_said(tmp_path, suffix):
    def mark(output):
        for stream, name in zip(output.streams.audio, _MARKS, strict=True):
            stream.disposition = int(Disposition[name])
        return lambda: None

    is_webm = suffix == ".webm"
    source = make_clip(
        tmp_path / "a.mkv",
        codec="libvpx-vp9" if is_webm else "libx264",
        audio=("libopus" if is_webm else "aac",) * len(_MARKS),
        time_base=_MS,
        container_options={"default_mode": "passthrough"},
        extra=mark,
    )
    output, remarks = written(source, tmp_path / f"out{suffix}")
    with av.open(str(source)) as was, av.open(str(output)) as now:
        for name, before, after in zip(_MARKS, was.streams.audio, now.streams.audio, strict=True):
            assert before.disposition == Disposition[name]
            is_kept = bool(after.disposition & Disposition[name])
            is_said = any(f"loses its mark as {name}: a {suffix} file" in remark for remark in remarks)
            assert is_kept != is_said, name
            assert bool(after.disposition & Disposition.default) == (name == "default")


def vorbis_with_comments(path: Path) -> Path:
    """A Matroska file whose Vorbis track names a person in its second header."""
    plain = make_clip(path.with_name("plain.mkv"), audio=("vorbis",), time_base=_MS)
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        targets = [output.add_stream_from_template(stream) for stream in source.streams]
        setup = source.streams.audio[0].codec_context.extradata
        assert (setup[0], setup[2] < 255) == (2, True)  # three headers, the second of `setup[2]` bytes
        start = 3 + setup[1]
        comment = b"ARTIST=Jane"
        second = b"\x03vorbis" + bytes(4) + (1).to_bytes(4, "little") + len(comment).to_bytes(4, "little") + comment
        second += b"\x01"
        rest = setup[start + setup[2] :]
        targets[1].codec_context.extradata = bytes([2, setup[1], len(second)]) + setup[3:start] + second + rest
        for packet in source.demux():
            if packet.size:
                packet.stream = targets[packet.stream_index]
                output.mux(packet)
    return path


def test_comments_in_the_setup_of_vorbis_are_left_out(tmp_path):
    source = vorbis_with_comments(tmp_path / "a.mkv")
    assert b"Jane" in source.read_bytes()
    output, _ = written(source)
    assert b"Jane" not in output.read_bytes()
    assert packets(output) == packets(source)
    assert np.array_equal(sound(output), sound(source))


@pytest.mark.parametrize("how", ["subtitles_longer", "picture_later", "sound_later"])
def test_tracks_of_other_lengths_are_no_damage(tmp_path, how):
    """A Matroska file holds one length for all: that of the longest track of any kind, from its own clock's zero."""

    def subtitle(output):
        stream = output.add_mux_stream("subrip", time_base=_MS)

        def write():
            packet = av.Packet(b"hello")
            packet.stream, packet.pts, packet.dts, packet.duration, packet.time_base = stream, 400, 400, 8600, _MS
            output.mux(packet)

        return write

    times = [40 * i + (3000 if how == "picture_later" else 0) for i in range(25)]
    source = make_clip(
        tmp_path / "a.mkv",
        time_base=_MS,
        times=times,
        audio=() if how == "subtitles_longer" else ("aac",),
        audio_s=5.0 if how == "sound_later" else 1.0,
        extra=subtitle if how == "subtitles_longer" else None,
    )
    info = probe(source)
    assert info.faults == ()
    assert info.notes == (("1 subtitle track is dropped",) if how == "subtitles_longer" else ())
    output, _ = written(source)
    with av.open(str(output)) as container:
        assert len([p for p in container.demux(video=0) if p.size]) == 25


def test_a_file_that_is_cut_short_is_still_noticed(tmp_path):
    source = make_clip(tmp_path / "a.mkv", time_base=_MS, n_frames=100, audio=("aac",), options={"g": "10"})
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    assert "cut short" in probe(source).faults[0]
