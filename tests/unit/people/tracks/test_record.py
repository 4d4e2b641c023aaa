import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _people import H, W, person, standing, track
from pa_lib.contracts import Attribute, Decision, PersonInfo, Replacement
from pa_lib.errors import InputError, PaLibError
from pa_lib.people import (
    Choice,
    Findings,
    KeepIds,
    TracksRecord,
    VideoTimeline,
    check_source,
    read_tracks,
    tracks_schema,
    write_tracks,
)

SHA = "ab" * 32


def record(n_frames: int = 12) -> TracksRecord:
    points = np.full((8, 5, 2), np.nan, dtype=np.float32)
    points[0] = np.arange(10).reshape(5, 2) + 0.123
    face = track(1, "face", 2, [(10.123 + i, 20, 40.5, 60) for i in range(8)], seen=[0, 3], landmarks=points)
    body, other = standing(2, "body", 0, 10, 90, 300, n=12), standing(3, "face", 300, 50, 20, 25, n=4)
    heads = np.full((12, 4), np.nan, dtype=np.float32)
    heads[[2, 7]] = [30.123, 12, 55, 45.678]
    body = replace(body, heads=heads)
    people = [person(1, face, body), person(2, other)]
    choice = Choice((Decision(1, False, "pointed at", 0.5), Decision(2, True, "not pointed at")), "2 people found")
    findings = Findings(
        detections={0: (), 3: (), 6: (), 9: (), 11: ()},
        faults={5: "could not be decoded"},
        cuts=(6,),
        n_frames=n_frames,
        times_s=np.arange(n_frames) / 30,
    )
    info = SimpleNamespace(path=Path("somewhere/clip.mp4"), width=W, height=H, fps=30.0)
    return TracksRecord.of(info, SHA, findings, people, choice, {"finder": "faces"})  # type: ignore[arg-type]


def edited(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = tmp_path / "clip.tracks.json"
    write_tracks(path, record())
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def assert_equal(one: TracksRecord, two: TracksRecord) -> None:
    source = ("name", "sha256", "width", "height", "n_frames", "fps")
    for name in (*source, "summary", "searched", "faults", "cuts", "settings"):
        assert getattr(one, name) == getattr(two, name), name
    np.testing.assert_array_equal(one.times_s, two.times_s)
    assert repr(one.decisions) == repr(two.decisions)  # NaN scores are equal, too
    assert [p.person_id for p in one.people] == [p.person_id for p in two.people]
    for a, b in zip([t for p in one.people for t in p.tracks], [t for p in two.people for t in p.tracks], strict=True):
        assert (a.track_id, a.kind, a.masks) == (b.track_id, b.kind, b.masks)
        for name in ("frames", "boxes", "scores", "landmarks", "heads"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.tracks.json"
    write_tracks(path, record())
    again = read_tracks(path)
    assert_equal(record(), again)
    write_tracks(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "clip.tracks.json"]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_boxes_come_back_as_they_went(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    boxes = data.draw(
        st.lists(
            st.tuples(st.floats(-2000, 7000), st.floats(-2000, 7000), st.floats(0.1, 5000), st.floats(0.1, 5000)),
            min_size=1,
            max_size=8,
        )
    )
    scores = data.draw(st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1)), min_size=8, max_size=8))
    made = track(1, "body", 1, [(x, y, x + w, y + h) for x, y, w, h in boxes])
    made.scores[:] = scores[: len(boxes)]
    base = record(n_frames=20)
    info = SimpleNamespace(path=Path("clip.mp4"), width=W, height=H, fps=29.97002997)
    findings = Findings({0: ()}, {}, (), 20, np.arange(20) / 29.97)
    whole = TracksRecord.of(info, SHA, findings, [person(1, made)], Choice(base.decisions[:1], ""))  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("tracks") / "t.json"
    write_tracks(path, whole)
    again = read_tracks(path)
    assert_equal(replace(whole, fps=round(whole.fps, 6)), again)
    np.testing.assert_allclose(again.people[0].tracks[0].boxes, made.boxes, atol=0.0051 + 0.0005)


def test_the_file_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "clip.tracks.json"
    write_tracks(path, record())
    lines = path.read_text().splitlines()
    assert '"schema": "pa_lib.tracks",' in lines
    assert '"version": 2,' in lines
    hidden = next(line for line in lines if line.startswith('{"person_id": 2'))
    assert hidden == '{"person_id": 2, "hidden": true, "reason": "not pointed at", "score": null, "tracks": [3]}'
    assert "[3, 11.12, 20.0, 40.5, 60.0, null]," in lines
    assert max(map(len, lines)) < 300


def test_a_flipped_decision_is_honoured(tmp_path: Path) -> None:
    path = tmp_path / "clip.tracks.json"
    write_tracks(path, record())
    text = path.read_text()
    path.write_text(text.replace('"person_id": 2, "hidden": true', '"person_id": 2, "hidden": false'))
    hidden, kept = read_tracks(path).present_at(2)
    assert hidden == []
    assert sorted(t.track_id for _, t, _ in kept) == [1, 2, 3]


def test_who_is_present() -> None:
    hidden, kept = record().present_at(3)
    assert [(i, t.track_id, row) for i, t, row in hidden] == [(2, 3, 3)]
    assert [(i, t.track_id, row) for i, t, row in kept] == [(1, 1, 1), (1, 2, 3)]
    assert record().present_at(11)[0] == []
    assert record().present_at(5000) == ([], [])


def test_presence_over_a_long_video() -> None:
    base = record()
    long = person(1, standing(1, "body", 0, 0, 50, 90, n=900, first=100))
    made = replace(base, people=(long,), decisions=(Decision(1, True, ""),), n_frames=2000)
    for frame in (99, 100, 255, 256, 511, 512, 999, 1000):
        assert len(made.present_at(frame)[0]) == (100 <= frame < 1000)


def test_new_decisions_for_the_same_people() -> None:
    base = record()
    choice = KeepIds([2]).choose(base.people, VideoTimeline(W, H, base.n_frames, base.times_s))
    assert [d.is_hidden for d in base.decided(choice).decisions] == [True, False]
    assert base.decided(choice).summary == choice.summary


def test_people_gathered_anew_by_the_chooser_are_recorded() -> None:
    base = record()
    gathered = (person(1, *base.people[0].tracks, *base.people[1].tracks),)
    choice = Choice((Decision(1, True, "one"),), "one", gathered)
    assert len(base.decided(choice).people) == 1
    assert len(base.decided(choice).present_at(2)[0]) == 3


def test_masks_come_back(tmp_path: Path) -> None:
    base = record()
    masked = replace(base.people[1].tracks[0], masks={1: [5, 10, W * H - 15]})
    made = replace(base, people=(base.people[0], person(2, masked)))
    path = tmp_path / "m.json"
    write_tracks(path, made)
    assert read_tracks(path).people[1].tracks[0].masks == {1: [5, 10, W * H - 15]}


def test_a_video_with_nobody(tmp_path: Path) -> None:
    nobody = replace(record(), people=(), decisions=(), searched=frozenset(), faults={}, cuts=())
    empty = replace(nobody, n_frames=0, times_s=np.zeros(0))
    write_tracks(tmp_path / "e.json", empty)
    assert_equal(read_tracks(tmp_path / "e.json"), empty)


def test_another_video_is_refused() -> None:
    check_source(record(), SHA)
    with pytest.raises(PaLibError, match=r"made for clip.mp4 with sha256 abababababab…, this one has cdcdcdcdcdcd…"):
        check_source(record(), "cd" * 32)


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def _delete(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


BAD = {
    "schema": (_set("schema", to="something"), "has the schema 'something', expected \"pa_lib.tracks\""),
    "no schema": (_delete("schema"), "has the schema None"),
    "newer": (_set("version", to=3), "has version 3, this pa_lib reads 1 and 2; upgrade pa_lib"),
    "odd version": (_set("version", to="x"), "has version 'x'"),
    "missing part": (_delete("people"), "people: Field required"),
    "unknown key": (_set("peple", to=[]), "peple: Extra inputs are not permitted"),
    "not hidden": (_set("people", 0, "hidden", to="yes"), "people.0.hidden: Input should be a valid boolean"),
    "odd attribute": (_set("people", 0, "attributes", to={"age": "old"}), "people.0.attributes.age: "),
    "attribute without a value": (
        _set("people", 0, "attributes", to={"age": {}}),
        "attributes.age.value: Field required",
    ),
    "sure beyond doubt": (
        _set("people", 0, "attributes", to={"age": {"value": 3, "confidence": 2}}),
        "people.0.attributes.age.confidence: Input should be less than or equal to 1",
    ),
    "odd wish": (_set("people", 0, "replacement", to={"duble": "P004"}), "people.0.replacement.duble: Extra inputs"),
    "infinite box": (_set("tracks", 0, "boxes", 1, 1, to=float("inf")), "tracks.0.boxes.1.1: "),
    "nan box": (_set("tracks", 0, "boxes", 1, 2, to=float("nan")), "tracks.0.boxes.1.2: "),
    "box inside out": (_set("tracks", 0, "boxes", 1, 3, to=0.0), "tracks.0.boxes: frame 3: the box .* needs x0 < x1"),
    "short row": (_set("tracks", 0, "boxes", 1, to=[3, 1.0]), "tracks.0.boxes.1"),
    "score": (_set("tracks", 0, "boxes", 1, 5, to=1.5), "tracks.0.boxes.1.5: Input should be less than or equal to 1"),
    "negative frame": (_set("tracks", 0, "boxes", 0, 0, to=-1), "tracks.0.boxes.0.0: "),
    "unsorted": (_set("tracks", 0, "boxes", 1, 0, to=1), "frame 1 stands after frame 2; sort the rows"),
    "gap": (_delete("tracks", 0, "boxes", 3), "no box between frames 4 and 6"),
    "no rows": (_set("tracks", 0, "boxes", to=[]), "tracks.0.boxes: List should have at least 1 item"),
    "too few frames": (_set("source", "n_frames", to=11), "track 2 reaches frame 11, the video has 11 frames"),
    "times": (_set("times_s", to=[0.0]), "times_s has 1 entries, the video has 12 frames"),
    "unknown track": (_set("people", 0, "tracks", to=[1, 2, 9]), "person 1 has track 9, which is not in the file"),
    "shared track": (_set("people", 0, "tracks", to=[1, 2, 3]), "track 3 belongs to persons 1 and 2"),
    "orphan": (_delete("people", 1), "track 3 belongs to no person"),
    "same person": (_set("people", 1, "person_id", to=1), "two people have the number 1"),
    "same track": (_set("tracks", 1, "track_id", to=1), "two tracks have the number 1"),
    "kind": (_set("tracks", 0, "kind", to="dog"), "tracks.0.kind: Input should be 'face' or 'body'"),
    "mask": (_set("tracks", 0, "masks", to={"3": [1, 2]}), "the mask of frame 3 covers 3 pixels, expected 307200"),
    "mask elsewhere": (_set("tracks", 0, "masks", to={"99": [W * H]}), "masks of frame '99', expected 2 to 9"),
    "landmarks": (_set("tracks", 0, "landmarks", to={"2": [1.0]}), "tracks.0.landmarks.2: "),
    "heads": (_set("tracks", 1, "heads", to={"2": [1.0]}), "tracks.1.heads.2: "),
    "fault": (_set("search", "faults", to={"x": "?"}), "search.faults: frame 'x'"),
    "cuts": (_set("search", "cuts", to=[6, 6]), "search.cuts: expected increasing frames below 12"),
    "searched": (_set("search", "searched", to=[12]), "search.searched: expected increasing frames below 12"),
    "size": (_set("source", "width", to=0), "source.width: "),
}


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
values = st.text(st.characters(codec="utf-8"), max_size=8) | st.floats(allow_nan=False, allow_infinity=False)
attributes = st.builds(
    Attribute, values, st.none() | st.floats(0, 1), st.text(st.characters(codec="utf-8"), max_size=8)
)
wishes = st.builds(Replacement, st.none() | names, st.dictionaries(names, values, max_size=3))
infos = st.builds(PersonInfo, st.dictionaries(names, attributes, max_size=3), st.none() | wishes)


@settings(max_examples=50, deadline=None)
@given(infos, infos)
def test_attributes_and_wishes_come_back_as_they_went(
    tmp_path_factory: pytest.TempPathFactory, first: PersonInfo, second: PersonInfo
) -> None:
    base = record()
    people = tuple(replace(p, info=info) for p, info in zip(base.people, (first, second), strict=True))
    path = tmp_path_factory.mktemp("tracks") / "t.json"
    write_tracks(path, replace(base, people=people))
    again = read_tracks(path)
    assert_equal(again, base)
    assert [p.info for p in again.people] == [first, second]
    assert again.info == {n: info for n, info in ((1, first), (2, second)) if info != PersonInfo()}
    before = path.read_bytes()
    write_tracks(path, again)
    assert path.read_bytes() == before


def test_attributes_are_one_line_of_plain_words(tmp_path: Path) -> None:
    base, path = record(), tmp_path / "t.json"
    info = PersonInfo({"age": Attribute("adult", 0.9, "hand")}, Replacement("P004", {"age": "adult", "height_m": 1.8}))
    write_tracks(path, replace(base, people=(replace(base.people[0], info=info), base.people[1])))
    line = next(line for line in path.read_text().splitlines() if line.startswith('{"person_id": 1'))
    assert line.endswith(
        '"attributes": {"age": {"value": "adult", "confidence": 0.9, "method": "hand"}}, '
        '"replacement": {"double": "P004", "attributes": {"age": "adult", "height_m": 1.8}}},'
    )


def test_a_wish_can_be_written_by_hand(tmp_path: Path) -> None:
    wish = {"double": "P004"}
    assert read_tracks(edited(tmp_path, _set("people", 1, "replacement", to=wish))).info == {
        2: PersonInfo({}, Replacement("P004"))
    }


def _matches(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """The part of JSON Schema that says which fields there are and which of them are needed."""
    if "$ref" in schema:
        return _matches(value, whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], whole)
    if "anyOf" in schema:
        return any(_matches(value, each, whole) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if isinstance(value, dict) and schema.get("type") == "object":
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return set(schema.get("required", ())) <= set(value) and all(
            _matches(each, known[name], whole)
            if name in known
            else others and (others is True or _matches(each, others, whole))
            for name, each in value.items()
        )
    if isinstance(value, list) and schema.get("type") == "array":
        return all(_matches(each, schema.get("items", {}), whole) for each in value)
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    return "type" not in schema or (schema["type"] in types and isinstance(value, types[schema["type"]]))


def test_the_published_schema_describes_the_file(tmp_path: Path) -> None:
    schema = json.loads(json.dumps(tracks_schema()))
    assert schema["$schema"].startswith("https://json-schema.org/")
    info = PersonInfo({"age": Attribute(34.0)}, Replacement("P004"))
    base, path = record(), tmp_path / "t.json"
    write_tracks(path, replace(base, people=(replace(base.people[0], info=info), base.people[1])))
    assert _matches(json.loads(path.read_text()), schema, schema)
    for change in (
        _set("people", 0, "wish", to={}),
        _set("people", 0, "attributes", "age", "value", to=None),
        _set("tracks", 0, "kind", to="dog"),
        _delete("source", "sha256"),
    ):
        wrong = json.loads(path.read_text())
        change(wrong)
        assert not _matches(wrong, schema, schema)


def _of_version_1(data: dict[str, Any]) -> None:
    """What pa_lib wrote before the kind ``person`` became ``body``."""
    data["version"] = 1
    for each in data["tracks"]:
        each["kind"] = {"face": "face", "body": "person"}[each["kind"]]


def test_a_file_of_version_1_is_read_and_written_as_version_2(tmp_path: Path) -> None:
    path = edited(tmp_path, _of_version_1)
    again = read_tracks(path)
    assert_equal(again, record())
    write_tracks(path, again)
    write_tracks(tmp_path / "new.json", record())
    assert path.read_bytes() == (tmp_path / "new.json").read_bytes()


def test_each_version_has_its_own_word_for_bodies(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match=r"tracks.1.kind: Input should be 'face' or 'body'"):
        read_tracks(edited(tmp_path, _set("tracks", 1, "kind", to="person")))
    with pytest.raises(PaLibError, match=r"tracks.1.kind: Input should be 'face' or 'person'"):
        read_tracks(edited(tmp_path, _set("version", to=1)))


def test_version_1_knows_no_attributes(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        _of_version_1(data)
        data["people"][0]["attributes"] = {}

    with pytest.raises(PaLibError, match=r"people.0.attributes: Extra inputs are not permitted"):
        read_tracks(edited(tmp_path, change))


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    change, message = BAD[name]
    path = edited(tmp_path, change)
    with pytest.raises(PaLibError, match=message) as caught:
        read_tracks(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("tracks", 0, "boxes", 0, 3, to=10.1200001), "frame 2: the box 10.12 20 10.12 60 needs x0 < x1"),
        (_set("source", "width", to=10**9), "source.width: Input should be less than or equal to 65535"),
        (_set("times_s", 3, to=0.01), r"times_s: frame 3 is at 0.01 s, before frame 2 at 0.066667 s"),
        (_set("times_s", 3, to=1e300), r"times_s.3: Input should be less than or equal to"),
        (_set("tracks", 0, "landmarks", "02", to=[1.0] * 10), "track 1: landmarks of frame '02', expected 2 to 9"),
        (_set("tracks", 1, "heads", "12", to=[1.0] * 4), "track 2: heads of frame '12', expected 0 to 11"),
        (_set("tracks", 1, "heads", "3", to=[1.0, 1.0, 9.0, 1.0]), "track 2: the head of frame 3 needs x0 < x1"),
        (_set("tracks", 0, "masks", to={"02": [W * H]}), "track 1: masks of frame '02', expected 2 to 9"),
        (_set("search", "faults", to={"5": "a", "05": "b"}), "search.faults: frame '05'"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_tracks(edited(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_frames_of_one_moment_are_read(tmp_path: Path) -> None:
    again = read_tracks(edited(tmp_path, _set("times_s", 3, to=round(2 / 30, 6))))
    assert again.times_s[3] == again.times_s[2]


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.tracks.json"
    write_tracks(path, record())
    once, twice = '"person_id": 2, "hidden": true', '"person_id": 2, "hidden": true, "hidden": false'
    path.write_text(path.read_text().replace(once, twice))
    with pytest.raises(InputError, match="the key 'hidden' stands twice in the object that begins with 'person_id': 2"):
        read_tracks(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b"null"])
def test_what_is_no_tracks_file_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(text)
    with pytest.raises(PaLibError, match="is not JSON or was cut short") as caught:
        read_tracks(path)
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write_tracks(path, record())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PaLibError, match="cut short"):
        read_tracks(path)


def test_missing_files_and_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match=r"tracks file .*nowhere.json: No such file"):
        read_tracks(tmp_path / "nowhere.json")
    with pytest.raises(PaLibError):
        read_tracks(tmp_path)
    with pytest.raises(PaLibError):
        write_tracks(tmp_path / "no folder" / "t.json", record())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write_tracks(path, record())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_tracks(path, replace(record(), settings={"a": object()}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
