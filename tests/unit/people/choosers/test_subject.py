import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _people import FPS, H, W, person, scene, standing, track
from pa_lib.contracts import Attribute, Person, PersonInfo, Track
from pa_lib.errors import PaLibError
from pa_lib.people import Choice, KeepSubject, VideoTimeline, link_people
from pa_lib.people.choosers.subject_path import _part, gather_subject, salience


def kept_tracks(choice: Choice) -> set[int]:
    assert choice.people is not None
    kept = {d.person_id for d in choice.decisions if not d.is_hidden}
    return {t.track_id for p in choice.people if p.person_id in kept for t in p.tracks}


def test_salience_is_one_for_a_picture_full_of_one_person() -> None:
    assert salience([standing(1, "body", 0, 0, W, H)], scene()) == pytest.approx(1.0)


def test_salience_is_area_times_centrality_times_duration() -> None:
    middle = standing(1, "body", W / 2 - 80, H / 2 - 60, 160, 120, n=10)
    # A sixteenth of the frame in the very middle. Frames 0 to 9 are there, a track that ends keeps no margin.
    assert salience([middle], scene(20)) == pytest.approx(1 / 16 * 10 / 20)
    beside = standing(1, "body", W / 2 - 80 + 0.7 * W / 2, H / 2 - 60, 160, 120, n=20)
    inside = 160 - max(0.0, W / 2 - 80 + 0.7 * W / 2 + 160 - W)
    centre = (W / 2 - 80 + 0.7 * W / 2 + inside / 2 - W / 2) / (W / 2)
    expected = inside * 120 / (W * H) * np.exp(-0.5 * (centre / 0.7) ** 2)
    assert salience([beside], scene(20)) == pytest.approx(expected, rel=1e-5)


def test_a_face_alone_counts_with_the_body_it_implies() -> None:
    face = standing(1, "face", W / 2 - 15, 60, 30, 30)
    # 90 px wide, from 12 px above the face 225 px down.
    body = standing(2, "body", W / 2 - 45, 48, 90, 225)
    assert salience([face], scene()) == pytest.approx(salience([body], scene()))


def test_bridged_gaps_and_margins_do_not_count() -> None:
    boxes = [(200.0, 100.0, 400.0, 400.0)] * 100
    sparse = track(1, "body", 0, boxes, seen=[50])
    near = int(2 * np.floor(0.15 * FPS) + 1)
    whole = salience([track(1, "body", 0, boxes)], scene(100))
    assert salience([sparse], scene(100)) == pytest.approx(whole * near / 100)


def test_the_one_who_stands_out_is_kept() -> None:
    big = person(1, standing(1, "body", 220, 40, 200, 400), standing(2, "face", 300, 60, 50, 60))
    crowd = [person(i, standing(i + 1, "body", 40 * i, 100, 40, 120)) for i in range(2, 6)]
    choice = KeepSubject().choose([big, *crowd], scene())
    assert kept_tracks(choice) == {1, 2}
    assert "kept person 1, who stands out" in choice.summary
    assert sum(d.is_hidden for d in choice.decisions) == 4


def test_where_nobody_clearly_stands_out_everybody_is_hidden() -> None:
    people = [
        person(1, standing(1, "body", 100, 60, 180, 380)),
        person(2, standing(2, "body", 340, 60, 200, 390)),
    ]
    choice = KeepSubject().choose(people, scene())
    assert all(d.is_hidden for d in choice.decisions)
    assert choice.people is None
    assert "everybody is hidden: the first leads the next by only 1." in choice.summary


def test_the_margin_is_a_setting() -> None:
    people = [
        person(1, standing(1, "body", 100, 60, 180, 380)),
        person(2, standing(2, "body", 340, 60, 200, 390)),
    ]
    assert kept_tracks(KeepSubject(margin=1.0).choose(people, scene())) == {2}


def test_somebody_small_and_alone_is_a_passerby() -> None:
    choice = KeepSubject().choose([person(1, standing(1, "body", 300, 200, 15, 40))], scene())
    assert choice.decisions[0].is_hidden
    assert "no person is large enough" in choice.summary


def test_somebody_alone_is_the_subject() -> None:
    choice = KeepSubject().choose([person(1, standing(1, "body", 200, 50, 200, 400))], scene())
    assert kept_tracks(choice) == {1}
    assert "alone in the video" in choice.summary


def test_nobody() -> None:
    assert KeepSubject().choose([], scene()) == Choice((), "no person was found")


@pytest.mark.parametrize("options", [{"margin": 0.5}, {"margin": float("nan")}, {"min_share": 2.0}])
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(PaLibError, match=next(iter(options))):
        KeepSubject(**options)


def test_fragments_of_the_subject_are_kept_with_it() -> None:
    """The body is lost once and found again at the same place, in another track."""
    first = person(1, standing(1, "body", 220, 40, 200, 400, n=12))
    second = person(2, standing(2, "body", 230, 45, 190, 395, n=28, first=12))
    far = person(3, standing(3, "body", 20, 100, 40, 120, n=40))
    choice = KeepSubject().choose([first, second, far], scene(40))
    assert kept_tracks(choice) == {1, 2}
    assert choice.people is not None
    assert len(choice.people) == 2


def test_pieces_that_move_with_the_subject_are_kept_and_bystanders_behind_are_not() -> None:
    sway = [80 * np.sin(i / 4) for i in range(60)]
    dancer = person(1, track(1, "body", 0, [(200 + s, 40, 420 + s, 440) for s in sway]))
    legs = person(2, track(2, "body", 0, [(240 + s, 240, 380 + s, 440) for s in sway]))
    behind = person(3, standing(3, "body", 290, 120, 50, 160, n=60))
    face_behind = person(4, standing(4, "face", 300, 100, 20, 24, n=60))
    choice = KeepSubject().choose([dancer, legs, behind, face_behind], scene(60))
    assert kept_tracks(choice) == {1, 2}


def test_what_is_known_of_people_stays_with_them() -> None:
    sway = [80 * np.sin(i / 4) for i in range(60)]
    dancer = person(1, track(1, "body", 0, [(200 + s, 40, 420 + s, 440) for s in sway]))
    legs = person(2, track(2, "body", 0, [(240 + s, 240, 380 + s, 440) for s in sway]))
    behind = person(3, standing(3, "body", 20, 120, 50, 160, n=60))
    named = [
        replace(each, info=PersonInfo({"name": Attribute(name)}))
        for each, name in ((dancer, "dancer"), (legs, "legs"), (behind, "behind"))
    ]
    gathered, subject = gather_subject(named, scene(60))
    names = {tuple(sorted(t.track_id for t in p.tracks)): p.info.attributes["name"].value for p in gathered}
    assert names == {(1, 2): "dancer", (3,): "behind"}
    assert subject.info.attributes["name"].value == "dancer"


def test_a_track_that_goes_over_to_a_bystander_is_cut() -> None:
    """From frame 30 on the dancer's track sits on a spectator at the side; another track has the dancer then."""
    there, aside = (220.0, 40.0, 420.0, 440.0), (20.0, 150.0, 70.0, 300.0)
    mixed = person(1, track(1, "body", 0, [there] * 30 + [aside] * 30))
    rest = person(2, track(2, "body", 25, [there] * 35))
    choice = KeepSubject().choose([mixed, rest], scene(60))
    assert choice.people is not None
    kept = {d.person_id for d in choice.decisions if not d.is_hidden}
    by_kept = {
        is_kept: [t for p in choice.people if (p.person_id in kept) is is_kept for t in p.tracks]
        for is_kept in (True, False)
    }
    for frame in range(60):
        assert any(t.row(frame) is not None and t.boxes[t.row(frame), 0] == 220 for t in by_kept[True])
        if frame >= 30:
            assert any(t.row(frame) is not None and t.boxes[t.row(frame), 0] == 20 for t in by_kept[False])
            assert not any(t.row(frame) is not None and t.boxes[t.row(frame), 0] == 20 for t in by_kept[True])
    ids = [t.track_id for p in choice.people for t in p.tracks]
    assert len(set(ids)) == len(ids)


def test_the_subject_is_not_followed_across_a_cut() -> None:
    """After the cut somebody else stands at the same place."""
    people = [
        person(1, standing(1, "body", 220, 40, 200, 400, n=30)),
        person(2, standing(2, "body", 225, 40, 200, 400, n=20, first=30)),
    ]
    frames = scene(50)
    whole = KeepSubject(margin=1.0).choose(people, frames)
    assert kept_tracks(whole) == {1, 2}
    cut = VideoTimeline(W, H, 50, frames.times_s, cuts=(30,))
    assert kept_tracks(KeepSubject(margin=1.0).choose(people, cut)) == {1}


def holds(box: Any, other: Any) -> bool:
    return bool((box[:2] <= other[:2]).all() and (box[2:] >= other[2:]).all())


def test_a_subject_found_by_half_for_one_frame_keeps_its_size() -> None:
    boxes = [(200 + 2 * i, 40, 300 + 2 * i, 440) for i in range(9)]
    whole = boxes[4]
    boxes[4] = (whole[0], 40, whole[0] + 40, 200)
    _, subject = gather_subject([person(1, track(1, "body", 0, boxes, seen=list(range(9))))], scene(9))
    kept = subject.tracks[0].boxes
    np.testing.assert_allclose(kept[4], whole, atol=1e-3)
    np.testing.assert_allclose(kept[[0, 1, 2, 7, 8]], np.array(boxes)[[0, 1, 2, 7, 8]])


def test_gathering_loses_no_row() -> None:
    rng = np.random.default_rng(3)
    people: list[Person] = []
    for i in range(1, 9):
        x, y = rng.uniform(0, 500, 2)
        steps = np.cumsum(rng.normal(0, 12, (30, 2)), axis=0)
        boxes = [(x + dx, y + dy, x + dx + 90, y + dy + 200) for dx, dy in steps]
        people.append(person(i, track(i, "body" if i % 3 else "face", i, boxes, seen=list(range(0, 30, 3)))))
    gathered, subject = gather_subject(people, scene(60))
    assert subject in gathered
    for before in people:
        for row, frame in enumerate(before.tracks[0].frames):
            box = before.tracks[0].boxes[row]
            rows = [(t, t.row(int(frame))) for p in gathered for t in p.tracks]
            assert any(
                r is not None and (np.array_equal(t.boxes[r], box) or (t in subject.tracks and holds(t.boxes[r], box)))
                for t, r in rows
            )
    assert [p.person_id for p in gathered] == list(range(1, len(gathered) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["davis_breakdance", "davis_dance-twirl"])
def test_the_dancer_is_kept_in_every_frame_and_the_crowd_hidden(shared_data: Path, clip: str) -> None:
    from PIL import Image

    from pa_lib.people import FacesAndPeopleFinder, KalmanTracker, find_people
    from pa_lib.video import probe, read_frames

    info = probe(shared_data / "clips_with_masks" / clip / "frames")
    findings = find_people(read_frames(info), FacesAndPeopleFinder(), stride=3)
    people = link_people(KalmanTracker().track(findings, info.width, info.height), findings.times_s, findings.cuts)
    choice = KeepSubject().choose(people, VideoTimeline(info.width, info.height, findings.n_frames, findings.times_s))
    assert choice.people is not None
    hidden_ids = {d.person_id for d in choice.decisions if d.is_hidden}
    kept = [t for p in choice.people if p.person_id not in hidden_ids for t in p.tracks]
    hidden = [t for p in choice.people if p.person_id in hidden_ids for t in p.tracks]
    masks = sorted((shared_data / "clips_with_masks" / clip / "masks").iterdir())
    for frame, path in enumerate(masks):
        mask = np.array(Image.open(path).convert("L")) > 127
        covered = np.zeros_like(mask)
        for t in kept:
            if (row := t.row(frame)) is not None:
                x0, y0, x1, y1 = np.clip(t.boxes[row], 0, None).astype(int)
                covered[y0:y1, x0:x1] = True
        assert (covered & mask).sum() >= 0.2 * mask.sum(), frame
        for d in findings.detections.get(frame, ()):
            x, y = (d.box[0] + d.box[2]) / 2, (d.box[1] + d.box[3]) / 2
            is_on_dancer = mask[int(np.clip(y, 0, info.height - 1)), int(np.clip(x, 0, info.width - 1))]
            if d.kind == "face" and d.score >= 0.4 and not is_on_dancer:
                boxes = [t.boxes[row] for t in hidden if (row := t.row(frame)) is not None]
                is_hidden = any((box[:2] <= (x, y)).all() and (box[2:] >= (x, y)).all() for box in boxes)
                assert is_hidden, (frame, d.box)


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["face-demographics-walking", "face-demographics-walking-and-pause"])
def test_equals_side_by_side_are_all_hidden(shared_data: Path, clip: str) -> None:
    from pa_lib.people import FacesAndPeopleFinder, KalmanTracker, find_people
    from pa_lib.video import probe, read_frames

    info = probe(shared_data / "clips" / f"intel_{clip}.gif")
    findings = find_people(read_frames(info), FacesAndPeopleFinder(), stride=3)
    people = link_people(KalmanTracker().track(findings, info.width, info.height), findings.times_s, findings.cuts)
    choice = KeepSubject().choose(people, VideoTimeline(info.width, info.height, findings.n_frames, findings.times_s))
    assert len(people) >= 2
    assert all(d.is_hidden for d in choice.decisions)


def test_a_part_of_a_track_has_its_own_rows_of_everything() -> None:
    """Whatever a track knows of each frame: a tracks file cannot be written of a part that keeps all of it."""
    frames = np.arange(10, 20)

    def per_frame(*shape: int) -> np.ndarray:
        return np.arange(10 * int(np.prod(shape))).reshape(10, *shape).astype(np.float32)

    masks = {int(frame): [int(frame)] for frame in frames}
    whole = Track(1, "body", frames, per_frame(4), per_frame(), per_frame(5, 2), masks, per_frame(4))
    part = _part(whole, 13, 16, 7)
    assert part.track_id == 7
    assert sorted(part.masks) == [13, 14, 15, 16]
    arrays = [one.name for one in dataclasses.fields(Track) if isinstance(getattr(whole, one.name), np.ndarray)]
    assert set(arrays) == {"frames", "boxes", "scores", "landmarks", "heads"}
    for name in arrays:
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[3:7])
