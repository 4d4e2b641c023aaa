"""Windows that overlap: every frame once, passing from one window's result to the next one's, within its shot."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from _clips import make_clip
from pa_lib.contracts import (
    Attribute,
    Clip,
    ClipMasks,
    Decision,
    HeadPose,
    Person,
    PersonInfo,
    PersonMask,
    Presence,
    Replacement,
    Track,
)
from pa_lib.functional import Patch
from pa_lib.modules import AbstractAnonymizer
from pa_lib.people import BoxMasker, FrameMasks, HeadMasker, MaskRequest, TracksRecord
from pa_lib.people.outlines import Moments
from pa_lib.pipeline.protect import NO_HEAD, ProtectedFrame, masked_frame, protect_frames, replacements_of
from pa_lib.pipeline.replaced import MaskedFrame, extended_frame, replaced_frames
from pa_lib.video import Frame, probe, read_frames

N_FRAMES = 12
NOTHING = PersonInfo()


class CountsWindows(AbstractAnonymizer):
    """Paints 60 times the number of the window, and fails in one of them."""

    is_non_interfering = False  # not sampled: it counts its calls
    window_frames, overlap_frames = 1, 0

    def __init__(self, window_frames: int, overlap_frames: int, fails_in: int = -1) -> None:
        self.window_frames, self.overlap_frames, self.fails_in = window_frames, overlap_frames, fails_in
        self.seen: list[list[int]] = []
        self.infos: list[Mapping[int, PersonInfo]] = []

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        self.infos.append(masks.info)
        self.seen.append([clip.first_frame + at for at in range(len(clip.frames))])
        if len(self.seen) - 1 == self.fails_in:
            raise RuntimeError("no")
        return dataclasses.replace(clip, frames=torch.full_like(clip.frames, 60 * (len(self.seen) - 1)))


def protected(
    system: AbstractAnonymizer, folder: Path, cuts: tuple[int, ...] = (), info_of_1: PersonInfo = NOTHING
) -> list[ProtectedFrame]:
    """A clip with one person who is hidden in every frame."""
    info = probe(make_clip(folder / "clip.mp4", n_frames=N_FRAMES))
    boxes = np.tile(np.array([[8, 8, 40, 40]], dtype=np.float32), (N_FRAMES, 1))
    track = Track(1, "face", np.arange(N_FRAMES), boxes, np.ones(N_FRAMES, dtype=np.float32))
    record = TracksRecord(
        "clip.mp4",
        "",
        info.width,
        info.height,
        N_FRAMES,
        25.0,
        np.arange(N_FRAMES) / 25,
        (Person(1, (track,), info_of_1),),
        (Decision(1, True, "test"),),
        cuts=cuts,
    )
    return list(protect_frames(read_frames(info), info, record, BoxMasker(), system, 0))


def painted(frames: list[ProtectedFrame]) -> list[float]:
    """What stands in the middle of the hidden box, frame by frame."""
    pictures = [done.frame.picture for done in frames]
    return [float(picture.rgb()[20:28, 20:28].mean()) for picture in pictures if picture is not None]


def test_windows_overlap_and_fade_into_each_other(tmp_path: Path) -> None:
    system = CountsWindows(6, 2)
    frames = protected(system, tmp_path)
    assert system.seen == [list(range(6)), list(range(4, 10)), list(range(8, 12))]
    assert [done.frame.index for done in frames] == list(range(N_FRAMES))
    # 4 and 5 were seen twice: a third and two thirds of the way from 0 to 60; limited-range planes round a little
    expected = [0, 0, 0, 0, 20, 40, 60, 60, 80, 100, 120, 120]
    np.testing.assert_allclose(painted(frames), expected, atol=3)


def test_no_window_reaches_over_a_cut(tmp_path: Path) -> None:
    system = CountsWindows(6, 2)
    frames = protected(system, tmp_path, cuts=(7,))
    assert system.seen == [list(range(6)), [4, 5, 6], list(range(7, 12))]
    np.testing.assert_allclose(painted(frames)[6:8], [60, 120], atol=3)


@pytest.mark.parametrize(("fails_in", "redacted"), [(0, [0, 1, 2, 3]), (1, [6, 7]), (2, [10, 11])])
def test_a_window_that_fails_takes_only_the_frames_that_no_other_painted(
    tmp_path: Path, fails_in: int, redacted: list[int]
) -> None:
    frames = protected(CountsWindows(6, 2, fails_in), tmp_path)
    assert [done.frame.index for done in frames if done.record.status == "redacted"] == redacted
    assert all("RuntimeError: no" in (frames[index].record.fault or "") for index in redacted)


def test_attributes_and_wishes_reach_the_system(tmp_path: Path) -> None:
    system = CountsWindows(6, 2)
    info = PersonInfo({"age": Attribute("adult", 0.8, "hand")}, Replacement("P004"))
    protected(system, tmp_path, info_of_1=info)
    assert system.infos == [{1: info}] * 3
    ignorant = CountsWindows(6, 2)
    protected(ignorant, tmp_path)
    assert ignorant.infos == [{}] * 3


class Places(AbstractAnonymizer):
    """Generates a frame of one colour, needs ten more columns right of every mask, and has names for people."""

    is_non_interfering = False  # not sampled: it counts its calls
    window_frames = 6

    def __init__(self, extension: str = "more") -> None:
        self.extension = extension
        self.infos: list[Mapping[int, PersonInfo]] = []
        self.poses: list[HeadPose | None] = []

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        wishes = {person_id: info.replacement for person_id, info in people.items()}
        return {one: wish.double if wish and wish.double else f"P{seed:03d}" for one, wish in wishes.items()}

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        if self.extension == "fails":
            raise RuntimeError("no room")
        if self.extension == "less":
            return dataclasses.replace(masks, people=masks.people[1:])
        self.infos.append(masks.info)
        more = [
            dataclasses.replace(mask, left=mask.left + mask.alpha.shape[1], alpha=torch.ones(mask.alpha.shape[0], 10))
            for mask in masks.people
        ]
        return dataclasses.replace(masks, people=(*masks.people, *more))

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        self.poses += [mask.pose for mask in masks.people]
        return dataclasses.replace(clip, frames=torch.full_like(clip.frames, 255))


def test_everything_goes_by_the_extended_masks(tmp_path: Path) -> None:
    plain, wide = protected(CountsWindows(6, 0), tmp_path), protected(Places(), tmp_path)
    for before, after in zip(plain, wide, strict=True):
        assert after.frame.picture is not None
        assert after.source is not None
        assert after.record.mask_area > 1.1 * before.record.mask_area
        changed, source = after.frame.picture.rgb().astype(int), after.source.rgb().astype(int)
        touched = np.flatnonzero((changed != source).any(axis=(0, 2)))
        alpha = BoxMasker().mask(request_of(after)).masks[0]
        edge = alpha.left + alpha.alpha.shape[1]
        assert touched.max() in (edge + 8, edge + 9)  # where the source is not white by itself
        rows = slice(alpha.top, alpha.top + alpha.alpha.shape[0])
        outside = np.ones(changed.shape[:2], dtype=bool)
        outside[rows, alpha.left : edge + 10] = False
        for plane, own in zip(after.frame.picture.planes, after.source.planes, strict=True):
            step = outside.shape[0] // plane.shape[0]  # the planes of the file, not a conversion of them
            np.testing.assert_array_equal(plane[outside[::step, ::step]], own[outside[::step, ::step]])


def request_of(done: ProtectedFrame) -> MaskRequest:
    assert done.source is not None
    box = np.array([[8, 8, 40, 40]], dtype=np.float32)
    track = Track(1, "face", np.arange(1), box, np.ones(1, dtype=np.float32))
    return MaskRequest(done.source.rgb(), [Presence(1, track, 0)], grid=(2, 2))


class Spares(BoxMasker):
    """Boxes, with somebody kept who stands beside them, from column 46 on, in every row."""

    def mask(self, request: MaskRequest) -> FrameMasks:
        found = super().mask(request)
        return found._replace(spared={1: Patch(0, 46, torch.ones(request.image.shape[0], 9, dtype=torch.bool))})


def test_extended_masks_spare_kept_people_and_masks_themselves_stay(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "clip.mp4", n_frames=1))
    (frame,) = read_frames(info)
    box = np.array([[8, 8, 40, 40]], dtype=np.float32)
    record = TracksRecord(
        "clip.mp4",
        "",
        info.width,
        info.height,
        1,
        25.0,
        np.zeros(1),
        (Person(1, (Track(1, "face", np.arange(1), box, np.ones(1, dtype=np.float32)),)),),
        (Decision(1, True, "test"),),
    )
    system = Places()
    plain, own = (masked_frame(frame, record, masker, info) for masker in (BoxMasker(), Spares()))
    before = plain.union()
    right = int(before.any(0).nonzero()[-1, 0]) + 1
    assert right > 47  # the masker itself covers some of what is spared, by its own rules
    free, spared = (extended_frame(item, system, {}, 0).union() for item in (plain, own))
    assert bool((free[:, right : right + 8][before.any(1)] == 1).all())
    # A chroma cell that a spared column shares with one that is not is covered.
    torch.testing.assert_close(spared[:, :54], before[:, :54])
    assert bool((spared[:, 54:] == free[:, 54:]).all())


@pytest.mark.parametrize(("extension", "fault"), [("fails", "RuntimeError: no room"), ("less", "do not cover")])
def test_masks_that_cannot_be_extended_redact_the_frame(tmp_path: Path, extension: str, fault: str) -> None:
    frames = protected(Places(extension), tmp_path)
    assert {done.record.status for done in frames} == {"redacted"}
    assert all(fault in (done.record.fault or "") for done in frames)


def test_names_and_poses_reach_the_system(tmp_path: Path) -> None:
    system = Places()
    protected(system, tmp_path)
    assert system.infos == [{1: PersonInfo({}, Replacement("P000"))}] * N_FRAMES
    assert len(system.poses) == 2 * N_FRAMES
    assert all(pose is not None and pose.is_seen and 8 < pose.x < 40 for pose in system.poses)
    wish = PersonInfo({"age": Attribute("adult")}, Replacement("P007", {"age": "old"}))
    wished = Places()
    protected(wished, tmp_path, info_of_1=wish)
    assert wished.infos == [{1: wish}] * N_FRAMES


class FollowsPoses(AbstractAnonymizer):
    """Fills every mask with a colour that its pose and the seed give."""

    is_non_interfering = False  # not sampled: it counts its calls
    window_frames = 5
    overlap_frames = 2

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        people = []
        for mask in masks.people:
            assert mask.pose is not None
            width = round(mask.pose.scale)
            people += [mask, dataclasses.replace(mask, alpha=torch.ones(4, width), top=0, left=0)]
        return dataclasses.replace(masks, people=tuple(people))

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        frames = clip.frames.clone()
        for mask in masks.people:
            assert mask.pose is not None
            numbers = (mask.pose.x, mask.pose.y, mask.pose.scale, mask.pose.roll, mask.pose.yaw)
            rows, columns = mask.alpha.shape
            part = frames[mask.frame, :, mask.top : mask.top + rows, mask.left : mask.left + columns]
            part[:] = int(sum(numbers) * 7 + seed) % 256
        return dataclasses.replace(clip, frames=frames)


def test_poses_are_the_only_numbers_that_pass(tmp_path: Path) -> None:
    """The same tracks over other hidden pixels give the same video, bit for bit."""
    info = probe(make_clip(tmp_path / "clip.mp4", n_frames=N_FRAMES))
    places = np.array([20.0, 20.0]) + np.arange(N_FRAMES)[:, None] * [0.9, 0.5]
    marks = (places[:, None] + np.array([[-5, 0], [5, 0], [1, 6], [-4, 11], [4, 11]])).astype(np.float32)
    boxes = np.concatenate([places - 10, places + np.array([10, 16])], axis=1).astype(np.float32)
    scores = np.ones(N_FRAMES, dtype=np.float32)
    face = Track(1, "face", np.arange(N_FRAMES), boxes, scores, marks)
    behind = np.array([[0.6, 0.3, 0.9, 0.95]]) * [info.width, info.height, info.width, info.height]
    body = Track(2, "body", np.arange(N_FRAMES), np.tile(behind, (N_FRAMES, 1)).astype(np.float32), scores)
    record = TracksRecord(
        "clip.mp4",
        "",
        info.width,
        info.height,
        N_FRAMES,
        25.0,
        np.arange(N_FRAMES) / 25,
        (Person(1, (face,)), Person(2, (body,))),
        (Decision(1, True, "test"), Decision(2, True, "test")),
    )
    masker = HeadMasker(dilation_px=0, feather_px=0)  # a soft edge lets the source through, by design
    frames, changed = list(read_frames(info)), []
    for index, frame in enumerate(frames):
        assert frame.picture is not None
        masked = masked_frame(frame, record, masker, info)
        assert {mask.person_id for mask in masked.people} == {1, 2}
        hidden = ClipMasks(
            tuple(dataclasses.replace(one, frame=0) for one in masked.people), 1, info.height, info.width
        )
        noise = np.random.default_rng(index).integers(0, 256, (info.height, info.width, 3), dtype=np.uint8)
        changed.append(frame.with_picture(frame.picture.replaced(noise, (hidden.union(0) > 0).numpy())))
        again = masked_frame(changed[-1], record, masker, info)
        assert [one.pose for one in again.people] == [one.pose for one in masked.people]
    one, two = (
        [done.frame.picture for done in protect_frames(iter(some), info, record, masker, FollowsPoses(), 3)]
        for some in (frames, changed)
    )
    for before, after in zip(one, two, strict=True):
        assert before is not None
        assert after is not None
        for plane, other in zip(before.planes, after.planes, strict=True):
            np.testing.assert_array_equal(plane, other)


def test_reports_say_of_whom_no_head_is_replaced() -> None:
    """An arm has no head in any frame; who has one in a single frame got a name."""
    frames = np.arange(N_FRAMES)
    arm, standing = ((1.0, 26.0, 201.0, 199.0), (220.0, 50.0, 280.0, 199.0))
    people = tuple(
        Person(
            at, (Track(at, "body", frames, np.tile(np.float32([box]), (N_FRAMES, 1)), np.ones(N_FRAMES, np.float32)),)
        )
        for at, box in enumerate((arm, standing), start=1)
    )
    hidden = tuple(Decision(person.person_id, True, "") for person in people)
    record = TracksRecord("clip.mp4", "", 320, 400, N_FRAMES, 25.0, frames / 25, people, hidden)
    assert replacements_of(record, Places(), seed=0) == {1: NO_HEAD, 2: "P000"}


def test_a_window_that_is_done_is_not_kept(tmp_path: Path) -> None:
    """While the frames of the next window are read, nothing of the last one is left but what comes again."""
    frames = list(read_frames(probe(make_clip(tmp_path / "clip.mp4", n_frames=N_FRAMES))))
    mask = PersonMask(1, 0, 8, 8, torch.ones(16, 16))
    known: list[weakref.ref[Frame]] = []

    def read() -> Iterator[MaskedFrame]:
        while frames:
            frame = frames.pop(0)
            known.append(weakref.ref(frame))
            yield MaskedFrame(frame, True, (mask,))
            at = frame.index
            del frame
            if at == 7:  # the window 0 to 4 is done, and its last frames are in the one from 3 to 7
                is_kept = [one() is not None for one in known]
                assert (is_kept[:2], is_kept[3:]) == ([False] * 2, [True] * 5)  # 2 is in the hands of who asked for it

    n_done = sum(1 for _ in replaced_frames(read(), CountsWindows(5, 2), {}, 0))
    assert n_done == len(known) == N_FRAMES


class LooksAround(BoxMasker):
    """Remembers what it was shown."""

    looks_around = True

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Moments | None] = []

    def mask(self, request: MaskRequest) -> FrameMasks:
        self.shown.append(request.moments)
        return super().mask(request)


def test_a_masker_sees_frames_between_those_of_their_shot(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "clip.mp4", n_frames=5))
    frames = list(read_frames(info))
    boxes = np.tile(np.array([[8, 8, 40, 40]], dtype=np.float32), (5, 1))
    people = [Person(n, (Track(n, "body", np.arange(5), boxes, np.ones(5, dtype=np.float32)),)) for n in (1, 2)]
    decisions = (Decision(1, True, "test"), Decision(2, False, "test"))
    size = info.width, info.height
    record = TracksRecord("clip.mp4", "", *size, 5, 25.0, np.arange(5) / 25, tuple(people), decisions, cuts=(3,))
    masker = LooksAround()
    list(protect_frames(iter(frames), info, record, masker, CountsWindows(6, 2), 0))
    pictures = [frame.picture.rgb() for frame in frames if frame.picture is not None]
    for at, moments in enumerate(masker.shown):
        assert moments is not None
        for near, one in ((at - 1, moments.before), (at, moments.here), (at + 1, moments.after)):
            if 0 <= near < 5 and (near < 3) == (at < 3):
                assert one is not None
                np.testing.assert_array_equal(one.image, pictures[near])
                assert [presence.person_id for presence in one.kept] == [2]
                assert set(one.heads) == {1, 2}
            else:
                assert one is None
    assert len({id(moments.here) for moments in masker.shown if moments}) == 5
    assert masker.shown[0].after is masker.shown[1].here  # what was found in it need not be found again
