"""Frames side by side: masks as they were made, windows that join, and files that do not fit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from _clips import make_clip
from _evaluation import BOX, BOX_MASKER, anonymized_pair, box_masker
from pa_lib.contracts import Sighting
from pa_lib.errors import PaLibError
from pa_lib.evaluation import videos
from pa_lib.evaluation.maskers import Maskers
from pa_lib.evaluation.pairs import ClipPair, pair_clips
from pa_lib.evaluation.videos import Moment, OpenedPair, check_alike, composited_results, windows
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import AbstractMasker, read_tracks
from pa_lib.people.mask_shapes import FrameMasks, MaskRequest
from pa_lib.video import Frame, VideoInfo, WriteSettings, probe, read_frames


class UnusedMasker(AbstractMasker):
    """A default that must not be taken."""

    def mask(self, request: MaskRequest) -> FrameMasks:
        raise AssertionError("the recorded masker was not taken")


def moment(number: int) -> Moment:
    picture = np.full((4, 6, 3), number, dtype=np.uint8)
    return Moment(picture, picture + 1, torch.full((4, 6), 0.5), (Sighting(0, 0, number, (0, 0, 1, 1)),))


class TestWindows:
    @given(st.lists(st.booleans(), max_size=40), st.integers(1, 7))
    def test_every_frame_is_new_once_and_pairs_are_those_within_a_run(self, gaps: list[bool], size: int) -> None:
        moments = [None if is_gap else moment(at) for at, is_gap in enumerate(gaps)]
        new: list[int] = []
        pairs: list[tuple[int, int]] = []
        for result in windows(moments, 7, size):
            numbers = result.source[0, :, 0, 0, 0].tolist()
            assert result.clip_ids.tolist() == [7]
            assert len(numbers) - result.context <= size
            assert result.people is not None
            assert [(one.frame, one.person_id) for one in result.people] == list(enumerate(numbers))
            assert torch.equal(result.anonymized, result.source + 1)
            assert result.masks.shape == (1, len(numbers), 1, 4, 6)
            new += numbers[result.context :]
            pairs += list(itertools.pairwise(numbers))
        kept = [at for at, is_gap in enumerate(gaps) if not is_gap]
        assert new == kept
        assert pairs == [(a, b) for a, b in itertools.pairwise(kept) if b == a + 1]


class TestOpenedPair:
    def test_masks_are_those_of_the_run_to_the_last_pixel(self, tmp_path: Path) -> None:
        pair = anonymized_pair(tmp_path, n_frames=20)
        opened = OpenedPair(pair, 3, Maskers(UnusedMasker()))
        n_new = 0
        for result in opened.results():
            kept = result.masks == 0
            same = (result.source == result.anonymized).all(2, keepdim=True)
            assert bool(same[kept].all()), "a kept pixel differs: the mask is not the run's"
            inside = result.anonymized[0, :, :, 10:20, 12:24]
            assert int(inside.max()) <= 3
            around = torch.zeros(48, 64)
            around[8:22, 10:26] = 1  # the box and a chroma cell around it
            assert bool((result.masks[0, :, 0, 10:20, 12:24] == 1).all())
            assert bool((result.masks[0, :, 0] <= around).all())
            n_new += result.source.shape[1] - result.context
        assert n_new == 20
        told = opened.measured()
        assert (told.clip, told.n_frames, told.masker, told.masker_from) == (3, 20, BOX_MASKER, "report")

    def test_people_come_with_their_boxes_and_decisions(self, tmp_path: Path) -> None:
        opened = OpenedPair(anonymized_pair(tmp_path, n_frames=3))
        (result,) = opened.results()
        assert result.people is not None
        assert [(one.frame, one.person_id, one.kind, one.is_hidden) for one in result.people] == [
            (at, 1, "body", True) for at in range(3)
        ]
        assert result.people[0].box == pytest.approx(BOX, abs=0.01)

    def test_the_tracks_file_tells_the_masker_where_there_is_no_report(self, tmp_path: Path) -> None:
        pair = replace(anonymized_pair(tmp_path, n_frames=2), report=None)
        opened = OpenedPair(pair)
        list(opened.results())
        assert opened.measured().masker_from == "tracks file"

    def test_own_masker_where_that_is_asked_for(self, tmp_path: Path) -> None:
        own = {**BOX_MASKER, "dilation_px": 2}
        maskers = Maskers(box_masker(own), own, is_recorded_preferred=False)
        opened = OpenedPair(anonymized_pair(tmp_path, n_frames=1), 0, maskers)
        (result,) = opened.results()
        assert int(result.masks.sum()) > 120
        assert (opened.measured().masker_from, opened.measured().masker) == ("settings", own)

    def test_without_tracks_nobody_is_known(self, tmp_path: Path) -> None:
        pair = replace(anonymized_pair(tmp_path, n_frames=2), tracks=None, report=None)
        opened = OpenedPair(pair)
        (result,) = opened.results()
        assert not opened.has_masks
        assert result.people is None
        assert (opened.measured().masker, opened.measured().n_hidden) == (None, None)

    @pytest.mark.parametrize(("is_hidden", "n_hidden"), [(True, 1), (False, 0)])
    def test_hidden_people_are_counted(self, is_hidden: bool, n_hidden: int, tmp_path: Path) -> None:
        pair = anonymized_pair(tmp_path, n_frames=2)
        assert pair.tracks is not None
        tracks = json.loads(pair.tracks.read_text())
        assert [person["hidden"] for person in tracks["people"]] == [True]
        tracks["people"][0]["hidden"] = is_hidden
        pair.tracks.write_text(json.dumps(tracks))
        opened = OpenedPair(pair)
        assert sum(int(result.masks.sum()) for result in opened.results()) == 2 * 120 * n_hidden
        assert opened.measured().n_hidden == n_hidden

    def test_blanked_frames_are_masked_whole(self, tmp_path: Path) -> None:
        pair = anonymized_pair(tmp_path, n_frames=3)
        assert pair.report is not None
        report = json.loads(pair.report.read_text())
        status = report["frames"]["columns"].index("status")
        report["frames"]["rows"][1][status] = "redacted"
        pair.report.write_text(json.dumps(report))
        opened = OpenedPair(pair)
        (result,) = opened.results()
        assert result.masks.mean((0, 2, 3, 4)).tolist() == pytest.approx([120 / 3072, 1.0, 120 / 3072])
        assert opened.measured().n_redacted == 1

    def test_a_frame_that_cannot_be_decoded_is_counted_and_leaves_a_gap(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = anonymized_pair(tmp_path, n_frames=6)

        def holed(info: VideoInfo) -> Iterator[Frame]:
            for frame in read_frames(info):
                is_hole = frame.index == 2 and info.path == pair.anonymized
                yield replace(frame, picture=None, fault="damaged") if is_hole else frame

        monkeypatch.setattr(videos, "read_frames", holed)
        opened = OpenedPair(pair)
        assert [(len(result.source[0]), result.context) for result in opened.results()] == [(2, 0), (3, 0)]
        assert (opened.measured().n_frames, opened.measured().n_undecodable) == (5, 1)

    def test_progress_ends_at_the_number_of_frames(self, tmp_path: Path) -> None:
        told: list[tuple[str, int, int | None]] = []
        opened = OpenedPair(anonymized_pair(tmp_path, n_frames=4))
        list(opened.results(lambda *now: told.append(now)))
        assert told[-1] == ("measuring", 4, 4)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"n_frames": 9}, "not equally long: the anonymized one ends after 9 frames"),
            ({"n_frames": 12}, "not equally long: the original one ends after 10 frames"),
            ({"width": 80}, "not of one size: 64 x 48 and 80 x 48 px"),
            ({"fps": 50}, "not of one rate: 25 and 50 frames per second"),
        ],
    )
    def test_files_that_do_not_fit_are_refused(self, other: dict[str, int], message: str, tmp_path: Path) -> None:
        one = make_clip(tmp_path / "a.mp4", n_frames=10)
        two = make_clip(tmp_path / "b.mp4", **{"n_frames": 10, **other})  # type: ignore[arg-type]
        with pytest.raises(PaLibError, match=message):
            list(OpenedPair(ClipPair(one, two)).results())

    def test_an_average_rate_may_differ_by_the_length_of_the_last_frame(self, tmp_path: Path) -> None:
        info = probe(make_clip(tmp_path / "a.mp4", n_frames=12, fps=30))
        check_alike(info, replace(info, fps=30 * 12 / 12.9))
        with pytest.raises(PaLibError, match="not of one rate"):
            check_alike(info, replace(info, fps=30 * 12 / 13.5))
        with pytest.raises(PaLibError, match="not of one rate"):
            check_alike(replace(info, n_frames_estimate=300), replace(info, n_frames_estimate=300, fps=28))
        variable = replace(info, is_variable_rate=True)
        check_alike(variable, replace(variable, fps=21.2))  # what mp4 states before a long last gap, and after it
        with pytest.raises(PaLibError, match="not of one rate"):
            check_alike(info, replace(variable, fps=21.2))

    def test_tracks_and_reports_of_other_videos_are_refused(self, tmp_path: Path) -> None:
        pair = anonymized_pair(tmp_path / "a", n_frames=3)
        other = anonymized_pair(tmp_path / "b", n_frames=4)
        with pytest.raises(PaLibError, match="belongs to another video"):
            OpenedPair(replace(pair, tracks=other.tracks))
        with pytest.raises(PaLibError, match="report of another video"):
            OpenedPair(replace(pair, report=other.report))


def test_composited_frames_are_identical_outside_the_mask_and_the_file_is_written(tmp_path: Path) -> None:
    pair = anonymized_pair(tmp_path, n_frames=18, is_lossless=False)
    assert pair.tracks is not None
    output = tmp_path / "again.mp4"
    results = composited_results(
        pair.original,
        output,
        read_tracks(pair.tracks),
        box_masker(),
        ConventionalAnonymizer("fill", color=(0, 0, 0)),
        clip=5,
        write=WriteSettings(audio="drop"),
    )
    sizes = []
    for result in results:
        assert not output.exists(), "the file appears when it is whole"
        same = (result.source == result.anonymized).all(2, keepdim=True)
        assert bool(same[result.masks == 0].all())
        assert not bool(same[result.masks == 1].all())
        assert result.clip_ids.tolist() == [5]
        sizes.append(result.source.shape[1] - result.context)
    assert sizes == [16, 2]
    assert output.exists()
    encoded = OpenedPair(ClipPair(pair.original, output, pair.tracks), 5)
    assert sum(result.source.shape[1] - result.context for result in encoded.results()) == 18


class TestPairClips:
    def test_a_video_finds_its_result_and_the_files_beside_it(self, tmp_path: Path) -> None:
        pair = anonymized_pair(tmp_path, n_frames=2)
        assert pair_clips(pair.original, None) == ([pair], [])
        assert pair_clips(pair.original, pair.anonymized) == ([pair], [])
        assert pair_clips(pair.original, tmp_path) == ([pair], [])

    def test_folders_are_paired_by_name_also_below(self, tmp_path: Path) -> None:
        originals, results = tmp_path / "in", tmp_path / "out"
        for name in ("a.mp4", "sub/b.mp4", "sub/c[1].mp4", "lonely.mp4", "same.mp4", "a.anonymized.mp4"):
            (originals / name).parent.mkdir(parents=True, exist_ok=True)
            (originals / name).touch()
        for name in ("a.anonymized.webm", "sub/b.anonymized.mp4", "sub/c[1].anonymized.mp4", "same.mp4", "other.mp4"):
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            (results / name).touch()
        (results / "a.anonymized.tracks.json").touch()
        pairs, lonely = pair_clips(originals, results)
        found = {str(pair.original.relative_to(originals)): str(pair.anonymized.relative_to(results)) for pair in pairs}
        assert found == {
            "a.mp4": "a.anonymized.webm",
            "sub/b.mp4": "sub/b.anonymized.mp4",
            "sub/c[1].mp4": "sub/c[1].anonymized.mp4",
            "same.mp4": "same.mp4",
        }
        assert lonely == ["lonely.mp4: no anonymized video"]
        assert [pair.tracks is not None for pair in pairs] == [True, False, False, False]

    def test_a_folder_is_its_own_partner_where_results_lie_beside(self, tmp_path: Path) -> None:
        for name in ("a.mp4", "a.anonymized.mp4", "b.mp4"):
            (tmp_path / name).touch()
        pairs, lonely = pair_clips(tmp_path, tmp_path)
        assert [(pair.original.name, pair.anonymized.name) for pair in pairs] == [("a.mp4", "a.anonymized.mp4")]
        assert lonely == ["b.mp4: no anonymized video"]

    def test_a_folder_of_images_is_one_video(self, tmp_path: Path) -> None:
        for folder in ("photos", "photos.anonymized"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "1.png").touch()
        ((pair,), lonely) = pair_clips(tmp_path / "photos", None)
        assert (pair.anonymized.name, lonely) == ("photos.anonymized", [])

    def test_what_cannot_be_paired_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "out").mkdir()
        for name in ("in/a.mp4", "in/b.mp4", "alone.mp4"):
            (tmp_path / name).touch()
        with pytest.raises(PaLibError, match="no such file"):
            pair_clips(tmp_path / "missing.mp4", None)
        with pytest.raises(PaLibError, match="no such file"):
            pair_clips(tmp_path / "alone.mp4", tmp_path / "missing.mp4")
        with pytest.raises(PaLibError, match="pa-anonymize input="):
            pair_clips(tmp_path / "alone.mp4", None)
        with pytest.raises(PaLibError, match="must be a folder too"):
            pair_clips(tmp_path / "in", tmp_path / "alone.mp4")
        with pytest.raises(PaLibError, match="has a partner"):
            pair_clips(tmp_path / "in", tmp_path / "out")
        for name in ("out/a.anonymized.mp4", "out/b.anonymized.mp4"):
            (tmp_path / name).touch()
        with pytest.raises(PaLibError, match="belongs to one video, but 2"):
            pair_clips(tmp_path / "in", tmp_path / "out", tmp_path / "t.json")
