"""Every system that can be chosen by name keeps what `AbstractAnonymizer` promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import _heads
from pa_lib.checkpoint import load_module, save_module
from pa_lib.cli.compose import build, compose, config_folder
from pa_lib.contracts import Clip, ClipMasks, HeadPose, PersonMask
from pa_lib.modules import AbstractAnonymizer, AbstractLearnedAnonymizer, interference

PARTS = {"person_outline"}  # modules that train a part of the search, and anonymize nothing
NAMES = sorted({path.stem for path in (config_folder() / "module").glob("*.yaml")} - PARTS)

_SMALL = [
    "module/backbone=compact",
    "module.backbone.widths=[8,16]",
    "module.backbone.layers=1",
    "module.backbone.attention_levels=[1]",
    "module.backbone.head_width=8",
    "module.crops.side=16",
    "module.sampler.steps=2",
    "module.windows.frames=3",
    "module.windows.overlap=1",
    "module.windows.chunk=4",
    "module.windows.chunk_overlap=2",
]

# By name: the ways in which a system is tested, each as settings that make it small. A new system must be here.
VARIANTS: dict[str, list[list[str]]] = {
    "compact": [["module.steps=1", f"module.body={body}"] for body in ("fill", "mosaic", "keep")],
    "conventional": [[f"module.method={method}"] for method in ("blur", "mosaic", "fill", "noise")]
    + [["module.method=noise", "module.is_flickering=true"]],
    "passersby": [
        _SMALL,
        [*_SMALL, "module.body=fill"],
        [*_SMALL, "module.body=keep"],
        [*_SMALL, "module/adapter=none", "module/temporal=none"],
    ],
    "doubles": [["module.crops.side=16", f"module.body={body}"] for body in ("keep", "fill")],
}
CASES = [(name, variant) for name in NAMES for variant in VARIANTS.get(name, [])]
IDS = [f"{name} {' '.join(variant[len(_SMALL) :] if variant[0] in _SMALL else variant)}" for name, variant in CASES]


def test_no_system_is_left_out() -> None:
    assert set(VARIANTS) == set(NAMES), "give every conf/module/*.yaml its small settings in VARIANTS"


def config_for(name: str, variant: list[str]) -> dict[str, Any]:
    node: dict[str, Any] = compose("anonymize", ["input=clip.mp4", f"module={name}", *variant])["module"]
    return node


def make(node: dict[str, Any]) -> AbstractAnonymizer:
    """The system, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system: AbstractAnonymizer = build(node)
    return system.eval() if isinstance(system, AbstractLearnedAnonymizer) else system


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def node(request: pytest.FixtureRequest) -> dict[str, Any]:
    return config_for(*request.param)


@pytest.fixture(scope="module")
def system(node: dict[str, Any]) -> AbstractAnonymizer:
    return make(node)


def _pose(mask: PersonMask) -> HeadPose | None:
    rows, columns = mask.alpha.shape
    return HeadPose(mask.left + columns / 2, mask.top + rows / 2, columns / 6) if mask.kind == "face" else None


def window(start: int, stop: int) -> tuple[Clip, ClipMasks]:
    """Frames `start` to `stop` of one clip, and who is hidden in them."""
    clip, masks = _heads.clip(), _heads.people()
    people = tuple(
        replace(mask, frame=mask.frame - start, pose=_pose(mask)) for mask in masks.people if start <= mask.frame < stop
    )
    frames = clip.frames[start:stop].clone()
    return Clip(frames, start, clip.fps), replace(masks, people=people, n_frames=stop - start)


def test_settings_are_what_the_pipeline_can_use(system: AbstractAnonymizer) -> None:
    assert system.window_frames >= 1
    assert 0 <= system.overlap_frames < system.window_frames
    assert isinstance(system.is_non_interfering, bool)
    assert isinstance(system.notes, tuple)
    assert all(note and "\n" not in note for note in system.notes)
    assert system.remarks == system.notes


@pytest.mark.parametrize("stop", [1, 4])
def test_what_comes_back_is_like_what_went_in(system: AbstractAnonymizer, stop: int) -> None:
    clip, masks = window(0, stop)
    before = clip.frames.clone()
    result = system.anonymize(clip, masks, seed=3)
    assert result.frames.shape == before.shape
    assert result.frames.dtype == torch.uint8
    assert (result.first_frame, result.fps) == (clip.first_frame, clip.fps)
    assert torch.equal(clip.frames, before)
    hidden = torch.stack([masks.union(at) > 0 for at in range(stop)])[:, None].expand_as(before)
    assert not torch.equal(result.frames[hidden], before[hidden])


def test_a_clip_without_people_is_not_changed(system: AbstractAnonymizer) -> None:
    clip, masks = window(0, 2)
    nobody = ClipMasks((), masks.n_frames, masks.height, masks.width)
    assert torch.equal(system.anonymize(clip, nobody).frames, clip.frames)


def test_the_seed_fixes_everything(system: AbstractAnonymizer, node: dict[str, Any]) -> None:
    first = system.anonymize(*window(0, 4), seed=3).frames
    torch.manual_seed(99)  # global random numbers have no part in it
    assert torch.equal(system.anonymize(*window(0, 4), seed=3).frames, first)
    assert torch.equal(make(node).anonymize(*window(0, 4), seed=3).frames, first)


def test_hidden_pixels_matter_only_where_it_says_so(system: AbstractAnonymizer) -> None:
    found = interference(system, *window(0, 3), seed=3)
    assert (found == 0) == system.is_non_interfering


def test_windows_fit_together(system: AbstractAnonymizer) -> None:
    step, size = system.window_frames - system.overlap_frames, system.window_frames
    if size == 1:
        whole = system.anonymize(*window(0, 4), seed=3).frames
        each = [system.anonymize(*window(at, at + 1), seed=3).frames for at in range(4)]
        assert torch.equal(torch.cat(each), whole)
        return
    if size > _heads.N_FRAMES:  # longer than the clip: cut it as if windows of 4 frames overlapped by 2
        step, size = 2, 4
    first = system.anonymize(*window(0, size), seed=3).frames[step:]
    clip, masks = window(step, _heads.N_FRAMES)
    second = system.anonymize(clip, masks, seed=3).frames[: len(first)]
    other = system.anonymize(clip, masks, seed=4).frames[: len(first)]
    hidden = torch.stack([masks.union(at) > 0 for at in range(len(first))])[:, None].expand_as(first)

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a[hidden].float() - b[hidden].float()).abs().mean())

    assert apart(first, second) < 0.75 * apart(second, other)  # a person stays the same, in other company too


def test_what_is_saved_anonymizes_as_before(system: AbstractAnonymizer, node: dict[str, Any], tmp_path: Path) -> None:
    if not isinstance(system, AbstractLearnedAnonymizer):
        assert not system.untrained_slots()  # nothing that a config does not say
        one, two = (getattr(made, "state_dict", dict)() for made in (system, make(node)))
        assert one.keys() == two.keys()
        assert all(torch.equal(value, two[name]) for name, value in one.items())
        return
    save_module(system, node, tmp_path / "config.safetensors")
    save_module(system, None, tmp_path / "arguments.safetensors")
    expected = system.anonymize(*window(0, 3), seed=3).frames
    for path in tmp_path.iterdir():
        loaded: Any = load_module(path)
        assert torch.equal(loaded.anonymize(*window(0, 3), seed=3).frames, expected), path.name
