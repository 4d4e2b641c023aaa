"""Every stage x every kind of fault x what is to happen: nothing of the secret is shown, whatever a part gives.

One of three things happens. The frames are redacted, with the reason in the report; all is hidden as if nothing were;
or the run ends and leaves nothing. With ``on_failure=abort`` the first is the third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from _secret import ColorFinder, leaks, pipeline, report_of, secret_clip
from pa_lib.contracts import Clip, ClipMasks, Decision, Detection, Person, PersonMask, Track
from pa_lib.errors import ProtectionError
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import BoxMasker, Choice, Embeddings, FrameMasks, HideAll, KalmanTracker, MaskRequest, VideoTimeline
from pa_lib.people.find import Findings
from pa_lib.pipeline import RunSettings

pytestmark = pytest.mark.wrong_types  # parts that give back what they may not

N = 10
Outcome = Literal["redacted", "hidden", "ended"]


class FaultyFinder(ColorFinder):
    """Finds the square, and changes what it found from the second call on."""

    def __init__(self, how: Callable[[list[list[Detection]]], Any]) -> None:
        super().__init__()
        self.how = how

    def find(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        found = super().find(images)
        return found if self.calls == 1 else self.how(found)


class FaultyTracker(KalmanTracker):
    """Tracks the square, and changes the tracks."""

    def __init__(self, how: Callable[[list[Track]], Any]) -> None:
        super().__init__()
        object.__setattr__(self, "how", how)

    def track(self, findings: Findings, width: int, height: int) -> Any:
        how: Any = self.how  # type: ignore[attr-defined]
        return how(super().track(findings, width, height))


class FaultyChooser(HideAll):
    """Hides everybody, and changes the choice."""

    def __init__(self, how: Callable[[Choice, Sequence[Person]], Any]) -> None:
        super().__init__()
        self.how = how

    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Any:
        return self.how(super().choose(people, timeline, embeddings), people)


class FaultyMasker(BoxMasker):
    """Masks the square, and changes the masks."""

    def __init__(self, how: Callable[[FrameMasks], Any]) -> None:
        super().__init__()
        self.how = how

    def mask(self, request: MaskRequest) -> Any:
        return self.how(super().mask(request))


class FaultySystem(ConventionalAnonymizer):
    """Fills, and changes the result, which it may make of the source."""

    is_non_interfering = False  # else a sample would find what is to be found without

    def __init__(self, how: Callable[[Clip, Clip], Any]) -> None:
        super().__init__("fill", color=(0, 90, 0))
        self.how = how

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Any:
        return self.how(super().anonymize(clip, masks, seed=seed), clip)


class Extends(ConventionalAnonymizer):
    """Fills, and changes the masks before."""

    def __init__(self, how: Callable[[ClipMasks], Any]) -> None:
        super().__init__("fill", color=(0, 90, 0))
        self.how = how

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> Any:
        return self.how(masks)


class Blurs(ConventionalAnonymizer):
    """Computes what it gives from what it hides, and says that it does not."""

    is_non_interfering = True

    def __init__(self) -> None:
        super().__init__("blur")


def raises(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any) -> Any:
        raise error

    return raising


def boxes(change: Callable[[Detection], Detection]) -> Callable[[list[list[Detection]]], Any]:
    return lambda found: [[change(one) for one in seen] for seen in found]


def tracks(change: Callable[[Track], Track]) -> Callable[[list[Track]], Any]:
    return lambda found: [change(one) for one in found]


def shortened(track: Track, keep: slice | NDArray[np.int64]) -> Track:
    parts = {name: getattr(track, name)[keep] for name in ("frames", "boxes", "scores")}
    marks = None if track.landmarks is None else track.landmarks[keep]
    return replace(track, **parts, landmarks=marks)


def masks(change: Callable[[PersonMask], PersonMask]) -> Callable[[FrameMasks], Any]:
    return lambda made: made._replace(masks=tuple(change(one) for one in made.masks))


def alpha(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[FrameMasks], Any]:
    return masks(lambda one: replace(one, alpha=change(one.alpha)))


def frames(change: Callable[[torch.Tensor, torch.Tensor], Any]) -> Callable[[Clip, Clip], Any]:
    return lambda made, source: replace(made, frames=change(made.frames, source.frames))


FIND: Mapping[str, tuple[Outcome, Callable[..., Any]]] = {
    "raises": ("redacted", raises(RuntimeError("on fire"))),
    "runs out of memory": ("redacted", raises(MemoryError())),
    "gives None": ("redacted", lambda found: None),
    "gives no list": ("redacted", lambda found: []),
    "gives a list too many": ("redacted", lambda found: [*found, []]),
    "gives None for a frame": ("redacted", lambda found: [None for _ in found]),
    "gives boxes of NaN": ("redacted", boxes(lambda one: replace(one, box=(float("nan"),) * 4))),
    "gives endless boxes": ("redacted", boxes(lambda one: replace(one, box=(0.0, 0.0, float("inf"), 9.0)))),
    "turns boxes inside out": ("redacted", boxes(lambda one: replace(one, box=one.box[2:] + one.box[:2]))),
    "gives boxes without area": ("redacted", boxes(lambda one: replace(one, box=(*one.box[:2], *one.box[:2])))),
    "gives a score of 2": ("redacted", boxes(lambda one: replace(one, score=2.0))),
    "gives a score of NaN": ("redacted", boxes(lambda one: replace(one, score=float("nan")))),
    "gives text": ("redacted", lambda found: ["face" for _ in found]),
}
TRACK: Mapping[str, tuple[Outcome, Callable[..., Any]]] = {
    "raises": ("ended", raises(RuntimeError("lost everybody"))),
    "gives None": ("ended", lambda found: None),
    "drops everybody": ("redacted", lambda found: []),
    "ends too early": ("redacted", tracks(lambda one: shortened(one, slice(0, 4)))),
    "begins too late": ("redacted", tracks(lambda one: shortened(one, slice(5, None)))),
    "has boxes of searched frames only": ("redacted", tracks(lambda one: shortened(one, slice(0, None, 3)))),
    "has one gap": ("redacted", tracks(lambda one: shortened(one, np.array([0, 1, 2, 3, 5, 6, 7, 8, 9])))),
    "is elsewhere": ("redacted", tracks(lambda one: replace(one, boxes=one.boxes + 50))),
    "has boxes of NaN": ("ended", tracks(lambda one: replace(one, boxes=one.boxes * float("nan")))),
    "has boxes without area": ("redacted", tracks(lambda one: replace(one, boxes=one.boxes[:, [0, 1, 0, 1]]))),
    "takes faces for bodies": ("redacted", tracks(lambda one: replace(one, kind="body"))),
}
CHOOSE: Mapping[str, tuple[Outcome, Callable[..., Any]]] = {
    "raises": ("ended", raises(RuntimeError("undecided"))),
    "gives None": ("ended", lambda choice, people: None),
    "decides about nobody": ("ended", lambda choice, people: replace(choice, decisions=())),
    "decides about another": ("ended", lambda choice, people: replace(choice, decisions=(Decision(9, True, "?"),))),
    "drops people": ("ended", lambda choice, people: replace(choice, people=(), decisions=())),
    "drops tracks": (
        "redacted",
        lambda choice, people: replace(
            choice, people=tuple(replace(one, tracks=(shortened(one.tracks[0], slice(0, 3)),)) for one in people)
        ),
    ),
}
MASK: Mapping[str, tuple[Outcome, Callable[..., Any]]] = {
    "raises": ("redacted", raises(RuntimeError("no silhouette"))),
    "gives None": ("redacted", lambda made: None),
    "gives no masks": ("redacted", lambda made: FrameMasks((), ())),
    "gives alpha 0": ("redacted", alpha(torch.zeros_like)),
    "gives alpha -1": ("redacted", alpha(lambda one: -torch.ones_like(one))),
    "gives alpha 1e-6": ("redacted", alpha(lambda one: torch.full_like(one, 1e-6))),
    "gives alpha 0.5": ("redacted", alpha(lambda one: one / 2)),
    "gives alpha 2": ("redacted", alpha(lambda one: 2 * one)),
    "gives alpha NaN": ("redacted", alpha(lambda one: one * float("nan"))),
    "gives one NaN": ("redacted", alpha(lambda one: torch.where(one.cumsum(0).cumsum(1) == 1, float("nan"), one))),
    "gives 0 x 0": ("redacted", alpha(lambda one: one[:0, :0])),
    "gives 1 x 1": ("redacted", alpha(lambda one: one[:1, :1])),
    "gives whole numbers": ("redacted", alpha(lambda one: one.int())),
    "gives a third axis": ("redacted", alpha(lambda one: one[None])),
    "gives the left half": ("redacted", alpha(lambda one: one[:, : one.shape[1] // 2])),
    "gives a frame around the face": ("redacted", alpha(lambda one: one * (one.cumsum(0) < 8))),
    "is elsewhere": ("redacted", masks(lambda one: replace(one, top=0, left=0))),
    "leaves the frame": ("redacted", masks(lambda one: replace(one, top=110))),
    "begins before the frame": ("redacted", masks(lambda one: replace(one, left=-9))),
    "masks the first of two twice": ("hidden", lambda made: made._replace(masks=(*made.masks, *made.masks))),
}
EXTEND: Mapping[str, tuple[Outcome, Callable[..., Any]]] = {
    "raises": ("redacted", raises(RuntimeError("no room"))),
    "gives None": ("redacted", lambda given: None),
    "gives no masks": ("redacted", lambda given: replace(given, people=())),
    "gives alpha 0": (
        "redacted",
        lambda given: replace(given, people=tuple(replace(m, alpha=0 * m.alpha) for m in given.people)),
    ),
}
ANONYMIZE: Mapping[str, tuple[Outcome, Callable[..., Any]]] = {
    "raises": ("redacted", raises(RuntimeError("out of ideas"))),
    "runs out of memory": ("redacted", raises(MemoryError())),
    "gives None": ("redacted", lambda made, source: None),
    "gives no frames": ("redacted", frames(lambda made, source: made[:0])),
    "gives a frame too few": ("redacted", frames(lambda made, source: made[:-1])),
    "gives another size": ("redacted", frames(lambda made, source: made[:, :, :-2])),
    "gives rows for columns": ("redacted", frames(lambda made, source: made.transpose(2, 3))),
    "gives one channel": ("redacted", frames(lambda made, source: made[:, :1])),
    "gives NaN": ("redacted", frames(lambda made, source: made.float() * float("nan"))),
    "gives numbers in [0, 1]": ("redacted", frames(lambda made, source: made.float() / 255)),
    "gives whole numbers above 255": ("redacted", frames(lambda made, source: made.int() + 300)),
    "gives an array": ("redacted", frames(lambda made, source: made.numpy())),
    "gives the source": ("redacted", lambda made, source: source),
    "gives the source but for rounding": (
        "redacted",
        frames(lambda made, source: source + (source < 255).to(torch.uint8)),
    ),
    "gives the source in one frame": ("redacted", lambda made, source: source if source.first_frame == 3 else made),
}
STAGES: Mapping[str, tuple[str, Callable[..., Any], Mapping[str, tuple[Outcome, Callable[..., Any]]]]] = {
    "find": ("finder", FaultyFinder, FIND),
    "track": ("tracker", FaultyTracker, TRACK),
    "choose": ("chooser", FaultyChooser, CHOOSE),
    "mask": ("masker", FaultyMasker, MASK),
    "extend": ("module", Extends, EXTEND),
    "anonymize": ("module", FaultySystem, ANONYMIZE),
}
CASES = [(stage, fault) for stage, (_, _, faults) in STAGES.items() for fault in faults]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return secret_clip(tmp_path_factory.mktemp("secret") / "clip.mkv", N)


def faulty(stage: str, fault: str) -> tuple[dict[str, Any], Outcome]:
    part, make, faults = STAGES[stage]
    outcome, how = faults[fault]
    return {part: make(how)}, outcome


@pytest.mark.parametrize(("stage", "fault"), CASES)
def test_no_fault_shows_anybody(clip: Path, tmp_path: Path, stage: str, fault: str) -> None:
    parts, expected = faulty(stage, fault)
    output = tmp_path / "out.mkv"
    if expected == "ended":
        with pytest.raises(Exception):  # noqa: B017, PT011  # a fault of the part, as it is
            pipeline(**parts).run(clip, output)
        assert not list(tmp_path.iterdir())
        return
    outcome = pipeline(**parts).run(clip, output)
    assert leaks(output) == [], "frames show the secret"
    assert (outcome.n_redacted > 0) == (expected == "redacted")
    rows = list(report_of(outcome).frames)
    assert len(rows) == N
    assert all(row.fault for row in rows if row.status == "redacted")


@pytest.mark.parametrize(("stage", "fault"), [case for case in CASES if faulty(*case)[1] != "ended"])
def test_on_failure_abort_ends_the_run_and_leaves_nothing(clip: Path, tmp_path: Path, stage: str, fault: str) -> None:
    parts, expected = faulty(stage, fault)
    output = tmp_path / "out.mkv"
    settings = RunSettings(on_failure="abort")
    if expected == "hidden":
        pipeline(**parts).run(clip, output, settings)
        assert leaks(output) == []
        return
    with pytest.raises(ProtectionError, match="could not be protected"):
        pipeline(**parts).run(clip, output, settings)
    assert not list(tmp_path.iterdir())


def test_without_a_fault_nothing_is_redacted(clip: Path, tmp_path: Path) -> None:
    outcome = pipeline().run(clip, tmp_path / "out.mkv")
    assert outcome.n_redacted == 0
    assert leaks(tmp_path / "out.mkv") == []


def test_a_claim_that_does_not_hold_redacts(clip: Path, tmp_path: Path) -> None:
    outcome = pipeline(module=Blurs()).run(clip, tmp_path / "out.mkv")
    assert outcome.n_redacted == N
    reasons = {row.fault for row in report_of(outcome).frames}
    assert all("hidden pixels do not move its result, but others moved it by" in str(reason) for reason in reasons)
    honest = pipeline(module=ConventionalAnonymizer("blur")).run(clip, tmp_path / "honest.mkv")
    assert honest.n_redacted == 0


def test_the_reasons_say_what_is_wrong(clip: Path, tmp_path: Path) -> None:
    for stage, fault, words in (
        ("track", "drops everybody", "is in no track"),
        ("mask", "gives no masks", "mask: the face of person 1 is not covered"),
        ("mask", "gives alpha -1", "mask: the mask of person 1 has alpha from -1 to -1, expected 0 to 1"),
        ("anonymize", "gives the source", "anonymizer: ProtectionError: person 1 is as in the source"),
    ):
        outcome = pipeline(**faulty(stage, fault)[0]).run(clip, tmp_path / "out.mkv")
        assert words in str(next(iter(report_of(outcome).frames)).fault), (stage, fault)
        assert words in outcome.summary
