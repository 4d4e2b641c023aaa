"""The whole walk over every kind of file: same frames, times, size and sound; pixels change only under a mask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from _clips import ALL_KINDS, make, make_clip
from pa_lib.cli.anonymize import main
from pa_lib.contracts import Detection
from pa_lib.errors import PaLibError
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, HideIds, KalmanTracker, read_tracks
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.video import Frame, Picture, VideoWriter, probe, read_frames

BOX = (12.0, 10.0, 24.0, 20.0)
ALWAYS_HIDDEN = (slice(11, 19), slice(13, 23))


class StillFinder(AbstractFinder):
    """Always sees one person in the same place."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [[Detection("body", BOX, 0.9)] for _ in images]

    def release(self) -> None:
        pass


def pipeline() -> AnonymizationPipeline:
    masker = BoxMasker(dilation_px=0, feather_px=0)
    return AnonymizationPipeline(
        StillFinder(),
        KalmanTracker(growth_per_s=0),
        HideAll(),
        masker,
        ConventionalAnonymizer("fill", color=(0, 0, 0)),
    )


def sound(path: Path) -> list[list[bytes]]:
    if path.is_dir():
        return []
    with av.open(str(path)) as container:
        streams = container.streams.audio
        packets: list[list[bytes]] = [[] for _ in streams]
        for packet in container.demux(*streams) if streams else ():
            if packet.size:
                packets[streams.index(packet.stream)].append(bytes(packet))
        return packets


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_of_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(kind, tmp_path)
    written: list[Picture] = []
    write = VideoWriter.write

    def remember(writer: VideoWriter, frame: Frame) -> None:
        assert frame.picture is not None
        written.append(frame.picture)
        write(writer, frame)

    monkeypatch.setattr(VideoWriter, "write", remember)
    outcome = pipeline().run(source)
    assert outcome.n_redacted == 0

    before, after = probe(source), probe(outcome.files["video"])
    assert (after.width, after.height) == (before.width, before.height)
    frames, results = list(read_frames(before)), list(read_frames(after))
    assert len(results) == len(frames) == len(written)
    tolerance_s = 0.0011 if after.time_base.denominator <= 1000 else 1e-4  # Matroska and GIF round times
    shift_s = results[0].time_s - frames[0].time_s
    for frame, result in zip(frames, results, strict=True):
        assert result.time_s - shift_s == pytest.approx(frame.time_s, abs=tolerance_s)
    assert len(sound(outcome.files["video"])) == len(sound(source))

    rows, columns = before.chroma_grid
    (person,) = read_tracks(outcome.files["tracks"]).people
    (track,) = person.tracks
    for frame, picture, box in zip(frames, written, track.boxes, strict=True):
        assert frame.picture is not None
        x0, y0, x1, y1 = (float(side) for side in box)  # the masker grows it by 1.1 and puts it on the chroma grid
        allowed = np.zeros((before.height, before.width), dtype=bool)
        allowed[max(0, int(y0) - 3) : int(y1) + 4, max(0, int(x0) - 3) : int(x1) + 4] = True
        for number, (old, new) in enumerate(zip(frame.picture.planes, picture.planes, strict=True)):
            step = (rows, columns) if number else (1, 1)
            changed = old != new
            if changed.ndim == 3:
                changed = changed.any(axis=2)
            assert not changed[~allowed[:: step[0], :: step[1]]].any(), "a sample outside the mask changed"
        assert picture.rgb()[ALWAYS_HIDDEN].max() <= 3, "a pixel inside the mask is not the fill"


def test_tracks_file_replaces_the_search_and_its_edits_hold(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4")
    first = pipeline().run(source)
    text = first.files["tracks"].read_text(encoding="utf-8")
    edited = tmp_path / "edited.tracks.json"
    edited.write_text(text.replace('"hidden": true', '"hidden": false'), encoding="utf-8")

    class Blind(StillFinder):
        def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
            raise AssertionError("nobody should search again")

    again = pipeline()
    again.finder = Blind()
    kept = again.run(source, tmp_path / "kept.mp4", RunSettings(tracks=edited))
    assert json.loads(kept.files["report"].read_text())["counts"]["anonymized"] == 0
    again.chooser = HideIds([1])
    hidden = again.run(source, tmp_path / "hidden.mp4", RunSettings(tracks=edited, is_chosen_again=True))
    assert json.loads(hidden.files["report"].read_text())["counts"]["untouched"] == 0


def test_stage_find_stops_with_a_sheet(tmp_path: Path) -> None:
    outcome = pipeline().run(make_clip(tmp_path / "clip.mp4"), settings=RunSettings(stage="find"))
    assert sorted(outcome.files) == ["people", "tracks"]
    assert not (tmp_path / "clip.anonymized.mp4").exists()
    assert len(read_tracks(outcome.files["tracks"]).people) == 1


def test_an_output_that_exists_can_be_protected(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(PaLibError, match="exists"):
        pipeline().run(source, tmp_path / "out.mp4", RunSettings(is_overwrite=False))
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def run(capsys: pytest.CaptureFixture[str], *settings: str) -> tuple[int, str, str]:
    code = main([*settings, "people/finder=centerface", "people/masker=ellipse", "people/chooser=all"])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_folder_goes_on_after_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    make_clip(folder / "deep" / "good.mp4")
    (folder / "bad.mp4").write_bytes(b"no video")
    code, out, err = run(capsys, f"input={folder}", f"output={tmp_path / 'out'}")
    assert code == 1
    assert "1 of 2 files done, 1 failed" in out
    assert "bad.mp4" in err
    assert (tmp_path / "out" / "deep" / "good.anonymized.mp4").is_file()
    assert not list((tmp_path / "out").glob("bad*"))


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (["input=missing.mp4"], 1, "does not exist"),
        (["input=clip.mp4", "output=clip.mp4"], 2, "clip.mp4"),
        (["input=clip.mp4", "output=no/such/folder/out.mp4"], 1, "no/such/folder"),
        (["input=clip.mp4", "output=out.xyz"], 2, ".xyz"),
        (["input=clip.mp4", "tracks=missing.json"], 1, "missing.json"),
        (["input=clip.mp4", "limits.max_pixels=100"], 1, "max_pixels"),
        (["input=clip.mp4", "limits.max_pixels=many"], 2, "limits.max_pixels"),
        (["input=clip.mp4", "stage=never"], 2, "stage"),
        (["clip.mp4"], 2, "input=clip.mp4"),
        (["--nonsense"], 2, "nonsense"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(
    settings: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4")
    returned = main(settings)
    _, err = capsys.readouterr()
    assert returned == code, err
    assert err.startswith("pa-anonymize: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_truncated_file_is_refused_or_done_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "clip.mkv", n_frames=40)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    code, _, err = run(capsys, "input=clip.mkv")
    assert code == 1
    assert "damaged" in err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]
    code, _, err = run(capsys, "input=clip.mkv", "is_damaged_accepted=true")
    assert code in (0, 3), err
    assert (tmp_path / "clip.anonymized.mkv").is_file()


def test_frames_that_change_size_are_named_and_scaled_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [make_clip(tmp_path / f"{width}.h264", n_frames=4, width=width) for width in (64, 80)]
    (tmp_path / "clip.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    code, out, err = run(capsys, "input=clip.h264")
    assert code == 3, err
    assert "4 redacted: the frame is 80x48 yuv420p, the video began with 64x48 yuv420p; other_sizes=scale" in out
    code, out, err = run(capsys, "input=clip.h264", "other_sizes=scale")
    assert code == 0, err
    assert "8 of 8 frames accounted for" in out
    assert "0 redacted" in out
    assert [frame.fault for frame in read_frames(probe(tmp_path / "clip.anonymized.mp4"))] == [None] * 8
