"""Heads by a network, bodies by other means: who covers whom, what is given back, and what that claims."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from _clips import make_clip
from _heads import HEIGHT, N_FRAMES, WIDTH, clip, painter, people
from pa_lib.contracts import Clip, ClipMasks, Detection, PersonMask
from pa_lib.errors import PaLibError
from pa_lib.modules import ConventionalAnonymizer, InpaintingRequest, interference
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline

BODIES = ["generate", "mosaic", "fill", "keep"]


class NobodyFinder(AbstractFinder):
    """Sees nobody."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [[] for _ in images]

    def release(self) -> None:
        pass


def of_kind(masks: ClipMasks, kind: str) -> ClipMasks:
    return replace(masks, people=tuple(mask for mask in masks.people if mask.kind == kind))


def touched(masks: ClipMasks) -> Tensor:
    """t 3 h w, painted pixel by pixel."""
    where = torch.zeros(masks.n_frames, 3, masks.height, masks.width, dtype=torch.bool)
    for mask in masks.people:
        for row, column in (mask.alpha > 0).nonzero().tolist():
            where[mask.frame, :, mask.top + row, mask.left + column] = True
    return where


def watched(made: Any) -> list[Tensor]:
    """The crops that the network was given from now on, in a list that grows."""
    seen: list[Tensor] = []
    generate: Callable[..., Tensor] = made.generate

    def watching(request: InpaintingRequest) -> Tensor:
        seen.append(torch.cat([request.frames, request.hidden], dim=2))
        return generate(request)

    made.generate = watching
    return seen


@pytest.mark.parametrize(("body", "claims"), [("generate", True), ("fill", True), ("mosaic", False), ("keep", False)])
def test_what_depends_on_the_hidden_says_so(body: str, claims: bool) -> None:
    made = painter(body=body)
    assert made.is_non_interfering == claims
    assert (interference(made, clip(), people(), seed=5) == 0) == claims


@pytest.mark.parametrize("body", BODIES)
def test_the_report_says_that_bodies_are_seen(body: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mkv", codec="ffv1", pixel_format="yuv444p", n_frames=2)
    made = AnonymizationPipeline(
        NobodyFinder(), KalmanTracker(growth_per_s=0), HideAll(), BoxMasker(), painter(body=body)
    )
    outcome = made.run(source, tmp_path / "out.mkv")
    told = "bodies are unchanged and visible (body=keep)"
    for name in ("report", "page"):
        assert (told in html.unescape(outcome.files[name].read_text())) == (body == "keep")


def test_beginning_with_the_person_interferes_whatever_the_body() -> None:
    sampler = {"_target_": "pa_lib.modules.Sampler", "steps": 4, "init_strength": 0.5}
    made = painter(body="fill", sampler=sampler)
    assert not made.is_non_interfering
    assert interference(made, clip(), people(), seed=5) > 0


def test_a_fill_takes_no_colour_from_a_hidden_head_beside_it() -> None:
    """The head of one who has no body mask lies in the ring from which the body's colour comes."""
    masks = ClipMasks(
        (PersonMask(1, 0, 12, 10, torch.ones(20, 12)), PersonMask(2, 0, 14, 23, torch.ones(10, 10), "face")),
        1,
        HEIGHT,
        WIDTH,
    )
    assert interference(painter(body="fill"), clip(n_frames=1), masks) == 0


@pytest.mark.parametrize("body", ["mosaic", "fill"])
def test_bodies_are_conventional_and_heads_lie_on_top(body: Any) -> None:
    source, masks = clip(), people()
    made = painter(body=body).anonymize(source, masks, seed=5).frames
    heads, bodies = touched(of_kind(masks, "face")), touched(of_kind(masks, "body"))
    expected = ConventionalAnonymizer(body).anonymize(source, masks, seed=5).frames
    assert torch.equal(made[bodies & ~heads], expected[bodies & ~heads])
    # Heads are those of a network that sees neither heads nor bodies.
    blanked = Clip(torch.where(heads | bodies, 77, source.frames).byte())
    again = painter(body=body).anonymize(blanked, masks, seed=5).frames
    assert torch.equal(made[heads], again[heads])
    assert float((made[heads] != expected[heads]).float().mean()) > 0.9
    assert torch.equal(made[~(heads | bodies)], source.frames[~(heads | bodies)])


def test_someone_without_a_face_is_hidden_whole() -> None:
    source, masks = clip(), people()
    made = painter(body="fill").anonymize(source, masks, seed=5).frames
    body = made[0, :, 14:40, 40:52]
    assert torch.equal(body, body[:, :1, :1].expand_as(body))  # one colour
    head = made[1, :, 10:20, 41:50]
    assert not torch.equal(head, head[:, :1, :1].expand_as(head))


def test_kept_bodies_are_as_filmed_and_seen_by_the_network() -> None:
    source, masks = clip(), people()
    made = painter(body="keep")
    seen = watched(made)
    frames = made.anonymize(source, masks, seed=5).frames
    heads = touched(of_kind(masks, "face"))
    assert torch.equal(frames[~heads], source.frames[~heads])
    assert float((frames[heads] != source.frames[heads]).float().mean()) > 0.9
    # Exactly what it is for heads alone: bodies have no part in where, or from what, a head is painted.
    alone = painter().anonymize(source, of_kind(masks, "face"), seed=5).frames
    assert torch.equal(frames, alone)
    hidden = sum(float(crop[:, :, 3].sum()) for crop in seen)
    blanked = painter(body="fill")
    seen = watched(blanked)
    blanked.anonymize(source, masks, seed=5)
    assert sum(float(crop[:, :, 3].sum()) for crop in seen) > hidden


@pytest.mark.parametrize("body", ["mosaic", "fill"])
def test_nothing_hidden_is_shown_to_the_network(body: str) -> None:
    source, masks = clip(), people()
    other = Clip(torch.where(touched(masks), 255 - source.frames, source.frames))
    shown = []
    for each in (source, other):
        made = painter(body=body)
        seen = watched(made)
        made.anonymize(each, masks, seed=5)
        shown.append(seen)
    assert shown[0]
    assert all(torch.equal(a, b) for a, b in zip(*shown, strict=True))


@pytest.mark.parametrize("body", BODIES)
def test_seeds_repeat_and_differ_and_the_source_stays(body: str) -> None:
    source, masks = clip(), people()
    made = painter(body=body)
    first, again, other = (made.anonymize(source, masks, seed=seed).frames for seed in (5, 5, 6))
    assert torch.equal(first, again)
    heads = touched(of_kind(masks, "face"))
    assert not torch.equal(first[heads], other[heads])
    bodies = touched(of_kind(masks, "body")) & ~heads
    assert torch.equal(first[bodies], other[bodies]) == (body != "generate")
    assert torch.equal(source.frames, clip().frames)


@pytest.mark.parametrize("body", BODIES)
def test_windows_that_begin_elsewhere_paint_alike(body: str) -> None:
    """Without temporal layers a frame depends on itself alone: a window's place must not matter, bodies included."""
    made = painter(body=body, temporal={"_target_": "pa_lib.modules.NoTemporal"})
    whole = made.anonymize(clip(first_frame=3), people(), seed=5).frames
    tail = Clip(clip().frames[2:], 5)
    masks = replace(
        people(),
        people=tuple(replace(mask, frame=mask.frame - 2) for mask in people().people if mask.frame >= 2),
        n_frames=N_FRAMES - 2,
    )
    assert int((made.anonymize(tail, masks, seed=5).frames.int() - whole[2:].int()).abs().max()) <= 1


@pytest.mark.parametrize("body", BODIES)
def test_nobody_and_bodies_alone(body: str) -> None:
    source = clip()
    made = painter(body=body)
    assert torch.equal(made.anonymize(source, ClipMasks((), N_FRAMES, HEIGHT, WIDTH)).frames, source.frames)
    bodies = of_kind(people(), "body")
    result = made.anonymize(source, bodies).frames
    where = touched(bodies)
    changed = float((result[where] != source.frames[where]).float().mean())
    assert changed == 0 if body == "keep" else changed > 0.9


@settings(max_examples=15, deadline=None)
@given(
    body=st.sampled_from(["mosaic", "fill", "keep"]),
    places=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.integers(0, 1),
            st.integers(0, HEIGHT - 1),
            st.integers(0, WIDTH - 1),
            st.integers(1, 20),
            st.sampled_from([0.01, 0.5, 1.0]),
            st.sampled_from(["face", "body"]),
        ),
        max_size=5,
    ),
)
def test_only_what_lies_under_the_masks_changes(body: str, places: list[Any]) -> None:
    masks = ClipMasks(
        tuple(
            PersonMask(who, at, top, left, torch.full((min(size, HEIGHT - top), min(size, WIDTH - left)), alpha), kind)
            for who, at, top, left, size, alpha, kind in places
        ),
        2,
        HEIGHT,
        WIDTH,
    )
    source = clip(n_frames=2)
    result = painter(body=body).anonymize(source, masks).frames
    free = ~touched(of_kind(masks, "face") if body == "keep" else masks)
    assert torch.equal(result[free], source.frames[free])


@pytest.mark.wrong_types
def test_an_unknown_way_is_refused_with_those_there_are() -> None:
    with pytest.raises(PaLibError, match="body: got 'blur', expected 'generate', 'mosaic', 'fill' or 'keep'"):
        painter(body="blur")
