"""The record of a run: nothing forgotten, nothing that grows with the video, nothing that runs or leaks."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import math
import re
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pa_lib.contracts import Decision, Person, Track
from pa_lib.errors import PaLibError
from pa_lib.reports.frame_log import MAX_TEXTS, FrameLog, FrameRecord
from pa_lib.reports.run_page import write_run_page
from pa_lib.reports.run_record import RunReport, SourceRecord, people_records
from pa_lib.reports.software import software_versions
from pa_lib.reports.thumbnails import Thumbnail, ThumbnailCollector

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced, and collects what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def a_track(first: int, last: int, stride: int = 3, kind: Any = "body", track_id: int = 1) -> Track:
    frames = np.arange(first, last + 1)
    scores = np.full(len(frames), np.nan, np.float32)
    scores[::stride] = 0.5
    return Track(track_id, kind, frames, np.zeros((len(frames), 4), np.float32), scores)


def a_log(n_frames: int = 10, redacted: Iterable[int] = (), fallback: Iterable[int] = ()) -> FrameLog:
    log, redacted, fallback = FrameLog(), frozenset(redacted), frozenset(fallback)
    for index in range(n_frames):
        is_redacted = index in redacted
        log.append(
            FrameRecord(
                index,
                index / 25,
                "redacted" if is_redacted else "anonymized",
                1.0 if is_redacted else 0.25,
                1,
                index % 3 == 0,
                ("box instead of silhouette",) if index in fallback else (),
                "could not be decoded" if is_redacted else None,
            )
        )
    return log


def a_report(log: FrameLog | None = None, **changes: Any) -> RunReport:
    log = a_log() if log is None else log
    n_frames = len(log)
    people = people_records(
        [Person(1, (a_track(0, n_frames - 1), a_track(0, n_frames // 2, kind="face", track_id=2)))],
        [Decision(1, True, "in the background", 0.5)],
        searched=range(0, n_frames, 3),
    )
    values: dict[str, Any] = {
        "source": SourceRecord("in.mp4", "ab" * 32, 640, 360, 25.0, n_frames, n_frames / 25, "h264", ("aac",)),
        "output_name": "out.mp4",
        "started": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "finished": datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC),
        "elapsed_s": 2.0,
        "frames": log,
        "people": people,
        "chooser_summary": "no clear subject",
        "config": {"module": {"strength": 0.5}, "paths": [Path("a"), math.nan]},
        "tracks_name": "out.tracks.json",
    }
    return RunReport(**{**values, **changes})


def page_of(report: RunReport, folder: Path, thumbnails: tuple[Thumbnail, ...] = ()) -> tuple[str, Page]:
    write_run_page(report, folder / "out.report.html", thumbnails)
    text = (folder / "out.report.html").read_text(encoding="utf-8")
    return text, Page(text)


def pictures(n_frames: int, important: tuple[int, ...] = (), *, has_before: bool = False) -> tuple[Thumbnail, ...]:
    collector = ThumbnailCollector(n_frames)
    frame = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    for index in range(n_frames):
        collector.offer(index, frame, frame if has_before else None, important=index in important)
    return collector.thumbnails()


# Every frame


def test_a_frame_that_is_not_accounted_for_is_an_error() -> None:
    source = dataclasses.replace(a_report().source, n_frames=11)
    with pytest.raises(PaLibError, match="11 frames, but 10 are accounted for"):
        a_report(source=source)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda: FrameRecord(1, 0.0, "untouched"), "when frame 0 was due"),
        pytest.param(lambda: FrameRecord(0, 0.0, "fine"), "status 'fine'", marks=pytest.mark.wrong_types),  # type: ignore[arg-type]
        (lambda: FrameRecord(0, 0.0, "anonymized", mask_area=math.nan), "mask area nan"),
        (lambda: FrameRecord(0, 0.0, "anonymized", mask_area=1.5), "mask area 1.5"),
        (lambda: FrameRecord(0, 0.0, "untouched", mask_area=0.1), "untouched although"),
        (lambda: FrameRecord(0, 0.0, "untouched", n_hidden=1), "untouched although 1"),
    ],
)
def test_the_log_refuses_what_cannot_be(record: Callable[[], FrameRecord], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        FrameLog().append(record())


def test_the_log_gives_back_what_it_was_given() -> None:
    records = [
        FrameRecord(0, 0.0, "untouched", searched=True),
        FrameRecord(1, 0.5, "anonymized", 0.25, 3, fallbacks=("a", "b")),
        FrameRecord(2, 1.0, "redacted", 1.0, 3, fault="two\nlines"),
    ]
    log = FrameLog()
    for record in records:
        log.append(record)
    assert list(log) == [*records[:2], dataclasses.replace(records[2], fault="two lines")]
    assert log[-1] == log[2]
    with pytest.raises(IndexError):
        log[3]
    assert log.counts == {"untouched": 1, "anonymized": 1, "redacted": 1}
    assert log.n_searched == 1
    assert log.is_noteworthy.tolist() == [False, True, True]


def test_100_000_frames_take_less_than_5_mb_however_they_fail() -> None:
    log = FrameLog()
    tracemalloc.start()
    try:
        for index in range(100_000):
            log.append(FrameRecord(index, index / 25, "redacted", 1.0, 2, fault=f"packet {index}: " + "x" * 1000))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5e6
    assert log[MAX_TEXTS - 1].fault is not None
    assert log[MAX_TEXTS - 1].fault.startswith(f"packet {MAX_TEXTS - 1}")
    assert log[99_999].fault is not None
    assert "another fault" in log[99_999].fault


# People


def test_tracks_are_summed_up() -> None:
    scores = np.float32([0.25, np.nan, 0.75, np.nan, np.nan, np.nan, 0.5])
    track = Track(7, "face", np.arange(10, 17), np.zeros((7, 4), np.float32), scores)
    searched = {8, 10, 12, 14, 15, 16}  # not equally far apart: 14 and 15 are all that show that it was out of sight
    (record,) = people_records([Person(1, (track,))], [Decision(1, False, "subject")], searched)
    (summary,) = record.tracks
    assert (summary.first_frame, summary.last_frame, summary.n_detected, summary.n_filled) == (10, 16, 3, 4)
    assert summary.mean_score == 0.5
    assert summary.detected_runs == ((10, 12), (16, 16))
    assert record.score is None


def test_a_track_nobody_saw_has_no_score() -> None:
    track = Track(1, "face", np.arange(3), np.zeros((3, 4), np.float32), np.full(3, np.nan, np.float32))
    (record,) = people_records([Person(1, (track,))], [Decision(1, True, "")])
    assert (record.tracks[0].mean_score, record.tracks[0].detected_runs) == (None, ())


def test_time_on_screen_counts_no_frame_twice() -> None:
    tracks = (a_track(0, 9), a_track(5, 14, kind="face"), a_track(20, 21))
    (record,) = people_records([Person(1, tracks)], [Decision(1, True, "")])
    assert record.spans == ((0, 14), (20, 21))
    assert record.n_frames == 17


@pytest.mark.parametrize("ids", [(), (2,), (1, 1)])
def test_everybody_needs_one_decision(ids: tuple[int, ...]) -> None:
    with pytest.raises(PaLibError, match="decision"):
        people_records([Person(1, (a_track(0, 3),))], [Decision(each, True, "") for each in ids])


def test_the_name_of_a_replacement_is_recorded_and_on_the_page(tmp_path: Path) -> None:
    person, decision = Person(1, (a_track(0, 9),)), Decision(1, True, "")
    people = people_records([person], [decision], replacements={1: "P004 <i>"})
    assert people[0].replacement == "P004 <i>"
    report = a_report(people=people)
    report.write_json(tmp_path / "r.json")
    assert RunReport.read_json(tmp_path / "r.json").people == people
    text, _ = page_of(report, tmp_path)
    assert "Replaced by" in text
    assert "P004 &lt;i&gt;" in text
    assert "Replaced by" not in page_of(a_report(), tmp_path)[0]


# JSON


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    report = a_report(a_log(redacted=(4, 5), fallback=(2,)), cuts=(3,), warnings=("look",))
    report.write_json(tmp_path / "r.json")
    again = RunReport.read_json(tmp_path / "r.json")
    assert list(again.frames) == list(report.frames)
    for field in dataclasses.fields(RunReport):
        if field.name not in ("frames", "config"):
            assert getattr(again, field.name) == getattr(report, field.name), field.name
    assert again.config == {"module": {"strength": 0.5}, "paths": ["a", None]}


def test_json_names_its_schema_and_columns(tmp_path: Path) -> None:
    a_report(a_log(3, redacted=(1,))).write_json(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert (content["schema"], content["schema_version"]) == ("pa_lib.report", 1)
    assert content["verdict"] == "3 of 3 frames accounted for; 1 person hidden, 0 kept; 1 redacted"
    assert content["counts"] == {"untouched": 0, "anonymized": 2, "redacted": 1}
    assert content["frames_per_second"] == 1.5
    assert set(content["frames"]["meaning"]) == set(content["frames"]["columns"])
    assert dict(zip(content["frames"]["columns"], content["frames"]["rows"][1], strict=True)) == {
        "index": 1,
        "time_s": 0.04,
        "status": "redacted",
        "mask_area": 1.0,
        "n_hidden": 1,
        "searched": 0,
        "fallbacks": [],
        "fault": "could not be decoded",
    }


def test_unknown_times_are_null(tmp_path: Path) -> None:
    log = FrameLog()
    log.append(FrameRecord(0, math.nan, "untouched"))
    a_report(log).write_json(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["frames"]["rows"][0][1] is None
    assert math.isnan(RunReport.read_json(tmp_path / "r.json").frames[0].time_s)
    page_of(a_report(log), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "schema None"),
        ('{"schema": "pa_lib.report", "schema_version": 99}', "99"),
        ('{"schema": "pa_lib.report", "schema_version": 1}', "damaged"),
        (
            '{"schema": "pa_lib.report", "schema_version": 1, "frames": {"columns": ["index"], "rows": [[0, 1]]}}',
            "damaged",
        ),
    ],
)
def test_a_damaged_report_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(PaLibError, match=message):
        RunReport.read_json(tmp_path / "r.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PaLibError, match="No space left"):
        a_report().write_json(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match="absent"):
        a_report().write_json(tmp_path / "absent" / "r.json")


def test_versions_are_those_in_use() -> None:
    assert {"pa_lib", "python", "torch", "av", "onnxruntime"} <= set(software_versions())


# The page


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    text, page = page_of(a_report(), tmp_path, pictures(10))
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+|@import|url\(", text) == []
    assert {tag for tag, _ in page.tags} & {"link", "iframe", "object", "base", "form", "video"} == set()
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            assert (attributes.get(name) or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,"), tag
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_page_has_headings_in_order_and_words_for_its_pictures(tmp_path: Path) -> None:
    _, page = page_of(a_report(a_log(redacted=(2,))), tmp_path, pictures(10, (2,)))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(image.get("aria-label") for image in page.all("svg"))
    assert page.tags[0] == ("html", {"lang": "en"})


def test_no_source_frame_unless_it_was_given(tmp_path: Path) -> None:
    text, page = page_of(a_report(), tmp_path, pictures(10))
    assert len(page.all("img")) == 10
    assert 'class="before"' not in text
    assert "frames of the original video" not in text
    _, page = page_of(a_report(), tmp_path, pictures(10, has_before=True))
    assert len(page.all("img")) == 20
    assert "contains frames of the original video" in page.text


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'
    log = FrameLog()
    log.append(FrameRecord(0, 0.0, "redacted", 1.0, 0, fallbacks=(evil,), fault=evil))
    log.append(FrameRecord(1, 0.1, "anonymized", 0.1, 1, fallbacks=(evil,)))
    report = a_report(
        log,
        output_name=evil,
        tracks_name=evil,
        chooser_summary=evil,
        warnings=(evil,),
        config={evil: evil},
        versions={"pa_lib": evil},
    )
    report = dataclasses.replace(
        report,
        source=dataclasses.replace(report.source, name=evil, codec=evil, audio=(evil,)),
        people=tuple(dataclasses.replace(person, reason=evil) for person in report.people),
    )
    text, page = page_of(report, tmp_path, pictures(2, (0,)))
    plain, expected = page_of(a_report(a_log(2, redacted=(0,), fallback=(1,))), tmp_path, pictures(2, (0,)))
    assert len(page.all("script")) == len(expected.all("script")) == 2
    assert len(page.all("img")) == len(expected.all("img"))
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "{{ 7 * 7 }}" in page.text
    assert "<script>alert" not in text
    assert "SCRIPT-HASH" not in plain


@pytest.mark.parametrize(
    ("log", "changes", "tone", "title"),
    [
        (a_log(), {}, "good", "All frames accounted for"),
        (a_log(fallback=(3,)), {}, "good", "All frames accounted for"),
        (a_log(), {"people": ()}, "care", "No person was found in this video"),
        (a_log(redacted=(3, 4)), {}, "bad", "2 frames had to be redacted"),
    ],
)
def test_the_verdict_is_plain(log: FrameLog, changes: dict[str, Any], tone: str, title: str, tmp_path: Path) -> None:
    text, page = page_of(a_report(log, **changes), tmp_path)
    assert f'class="verdict {tone}"' in text
    assert f"<h1>{title}</h1>" in text
    assert "10 of 10 frames accounted for" in page.text


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 59), min_size=1))
def test_every_redacted_frame_is_listed(tmp_path_factory: pytest.TempPathFactory, redacted: set[int]) -> None:
    text, _ = page_of(a_report(a_log(60, redacted=redacted)), tmp_path_factory.mktemp("page"))
    (listed,) = re.findall(r"could not be decoded</b>.*?<span class=\"where\">(.*?)</span>", text)
    found: list[int] = []
    for part in listed.split(", "):
        first, _, last = part.partition("\N{EN DASH}")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(redacted)


def test_every_redacted_frame_is_listed_when_each_has_its_own_reason(tmp_path: Path) -> None:
    log = FrameLog()
    for index in range(300):
        log.append(FrameRecord(index, index / 25, "redacted", 1.0, fault=f"packet {index}"))
    text, _ = page_of(a_report(log), tmp_path)
    listed = re.findall(r"<span class=\"where\">(.*?)</span>", text)
    count = sum(
        int(last or first) - int(first) + 1
        for where in listed
        for first, _, last in (part.partition("\N{EN DASH}") for part in where.split(", "))
    )
    assert count == 300
    assert "200 other reasons" in text


@pytest.mark.parametrize("n_frames", [1, 2, 3, 601, 1999])
def test_short_and_long_videos_are_drawn(n_frames: int, tmp_path: Path) -> None:
    text, _ = page_of(a_report(a_log(n_frames)), tmp_path)
    assert ('id="timeline"' in text) == (n_frames > 1)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_page_of_100_000_frames_and_400_people_stays_under_2_mb(tmp_path: Path) -> None:
    n_frames = 100_000
    log = a_log(n_frames, redacted=range(0, n_frames, 500), fallback=range(1, n_frames, 3))
    everybody = [
        Person(
            number, tuple(a_track(first, first + 499, 10, track_id=number) for first in range(number, 90_000, 9_000))
        )
        for number in range(1, 401)
    ]
    people = people_records(everybody, [Decision(person.person_id, True, "x" * 60) for person in everybody])
    report = a_report(log, people=people, cuts=tuple(range(0, n_frames, 50)))
    text, _ = page_of(report, tmp_path, pictures(24, (3,)))
    assert len(text) < 2_000_000
    assert "more people" in text


def test_a_minute_and_an_hour_are_told_as_such(tmp_path: Path) -> None:
    log = FrameLog()
    for index in range(4000):
        log.append(FrameRecord(index, float(index), "untouched"))
    _, page = page_of(a_report(log, people=()), tmp_path)
    assert "15:00" in page.text
    assert "1:00:00" in page.text


def test_the_command_to_run_again_is_quoted_for_a_shell(tmp_path: Path) -> None:
    report = a_report(tracks_name="my tracks.json")
    _, page = page_of(report, tmp_path)
    assert "pa-anonymize input=in.mp4 output=out.mp4 'tracks=my tracks.json'" in page.text


# Thumbnails


def offered(n_frames: int, important: set[int], **arguments: int) -> list[Thumbnail]:
    collector = ThumbnailCollector(n_frames, **arguments)
    frame = np.zeros((36, 64, 3), np.uint8)
    for index in range(n_frames):
        collector.offer(index, frame, important=index in important)
    return list(collector.thumbnails())


def test_faulty_frames_come_first() -> None:
    thumbnails = offered(1000, {3, 500, 777})
    assert len(thumbnails) == 24
    assert [thumbnail.index for thumbnail in thumbnails[:3]] == [3, 500, 777]
    others = [thumbnail.index for thumbnail in thumbnails[3:]]
    assert others == sorted(others)
    assert others[0] < 60
    assert others[-1] > 940


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 30), st.data())
def test_there_are_never_too_many_and_important_ones_win(n_frames: int, max_count: int, data: st.DataObject) -> None:
    important = data.draw(st.sets(st.integers(0, n_frames - 1)))
    thumbnails = offered(n_frames, important, max_count=max_count)
    indices = [thumbnail.index for thumbnail in thumbnails]
    assert len(indices) == len(set(indices)) <= max_count
    n_kept = sum(thumbnail.is_important for thumbnail in thumbnails)
    assert n_kept == min(len(important), max_count)
    assert set(indices[:n_kept]) <= important
    if len(important) <= max_count:
        assert set(indices[:n_kept]) == important


def test_a_flood_of_faults_is_held_in_bounded_memory_and_spread() -> None:
    collector = ThumbnailCollector(20_000, max_count=8)
    frame = np.zeros((36, 64, 3), np.uint8)
    encoded = 0
    for index in range(20_000):
        encoded += collector.wants(index, important=True)
        collector.offer(index, frame, important=True)
        assert len(collector._important) <= 16
    assert encoded < 300
    steps = np.diff([thumbnail.index for thumbnail in collector.thumbnails()])
    assert steps.min() > 500
    assert steps.max() < 5000


def test_frames_that_are_not_wanted_need_not_be_offered() -> None:
    asked, told = ThumbnailCollector(5000, max_count=4), ThumbnailCollector(5000, max_count=4)
    frame = np.zeros((36, 64, 3), np.uint8)
    for index in range(5000):
        if asked.wants(index, important=index % 2 == 0):
            asked.offer(index, frame, important=index % 2 == 0)
        told.offer(index, frame, important=index % 2 == 0)
    indices = [thumbnail.index for thumbnail in asked.thumbnails()]
    assert indices == [thumbnail.index for thumbnail in told.thumbnails()]
    assert indices[-1] > 3000


def test_a_picture_is_small_in_pixels_and_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
    collector = ThumbnailCollector(1, max_side_px=384)
    collector.offer(0, noise, noise, important=False)
    (thumbnail,) = collector.thumbnails()
    assert (thumbnail.width, thumbnail.height) == (384, 216)
    assert len(thumbnail.jpeg) <= 32_768
    assert thumbnail.before is not None
    assert len(thumbnail.before) <= 32_768


def test_a_picture_shows_the_frame_it_was_given() -> None:
    collector = ThumbnailCollector(1)
    collector.offer(0, np.full((40, 60, 3), (200, 30, 90), np.uint8))
    (thumbnail,) = collector.thumbnails()
    pixels = np.asarray(Image.open(io.BytesIO(thumbnail.jpeg)), dtype=int)
    assert pixels.shape == (40, 60, 3)
    assert np.abs(pixels - (200, 30, 90)).max() <= 4
