"""Doubles in a whole system: what depends on what, whose pixels come back, and the recipes that learn with them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import _heads
import _passersby
from _portraits import DiscCasting, DrawnSilhouettes, write_portraits
from pa_lib import load_module
from pa_lib.checkpoint import save_module
from pa_lib.cli.build import build_module
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.cli.compose import build, compose
from pa_lib.cli.train import main
from pa_lib.contracts import ClipMasks, HeadPose, PersonInfo, PersonMask, Replacement
from pa_lib.errors import SettingError, WeightsError
from pa_lib.functional.draws import normal
from pa_lib.functional.filling import filled
from pa_lib.modules import DoublesAnonymizer, DoublesReference, LightTransform, PassersbyAnonymizer, interference
from pa_lib.modules.inpainting.request import InpaintingRequest
from pa_lib.people import HeadMasker

LAST = Path("checkpoints/last.ckpt")
LEARNING_LIGHT = [f"module.reference.light.{part}" for part in ("width=4", "side=16", "path=")]
TINY = [
    "module.backbone.widths=[16,32]",
    "module.backbone.layers=1",
    "module.backbone.attention_levels=[1]",
    "module.backbone.head_width=8",
    "module.crops.side=16",
    "module.sampler.steps=1",
    "data.path=faces",
    "data.batch_size=2",
    "data.n_workers=0",
    "trainer.val_check_interval=2",
    "trainer.limit_val_batches=1",
    "trainer.enable_model_summary=false",
    "logger=none",
    "~callbacks.progress",
]


def posed(masks: ClipMasks) -> ClipMasks:
    """The same masks, with poses of the heads."""
    people = []
    for mask in masks.people:
        rows, columns = mask.alpha.shape
        pose = HeadPose(mask.left + columns / 2, mask.top + rows / 2, columns / 6)
        people.append(replace(mask, pose=pose if mask.kind == "face" else None))
    return replace(masks, people=tuple(people))


def with_doubles(light: str = "LightTransform", **changed: Any) -> tuple[PassersbyAnonymizer, DiscCasting]:
    """The system of `_heads` with doubles; every weight does something."""
    config = _heads.config(**changed)
    config["backbone"]["condition_channels"] = 98
    config["reference"] = {
        "_target_": "pa_lib.modules.DoublesReference",
        "light": {"_target_": f"pa_lib.modules.{light}"},
    }
    made: PassersbyAnonymizer = build(config)
    with torch.no_grad():
        for at, weight in enumerate(made.parameters()):
            if weight.ndim > 1:
                weight.copy_(normal(weight.shape, at) / weight[0].numel() ** 0.5)
    casting = DiscCasting()
    reference: Any = made.reference
    reference._casting = casting
    return made.eval(), casting


@pytest.mark.parametrize("light", ["LightTransform", "ClosedFormLight", "NoLight"])
def test_nothing_of_a_hidden_face_passes_but_its_pose(light: str) -> None:
    made, casting = with_doubles(light)
    masks = posed(_heads.people())
    assert made.is_non_interfering
    assert interference(made, _heads.clip(), masks, seed=5) == 0
    assert {person for person, _, _ in casting.asked} == {1, 2, 3}
    moved = replace(
        masks,
        people=tuple(
            mask if mask.pose is None else replace(mask, pose=replace(mask.pose, x=mask.pose.x + 3))
            for mask in masks.people
        ),
    )
    one, two = (made.anonymize(_heads.clip(), given, seed=5).frames for given in (masks, moved))
    assert not torch.equal(one, two)


def test_a_reference_that_looks_at_faces_says_so() -> None:
    made, _ = with_doubles()
    made.reference.looks_at_hidden = True
    assert made.looks_at_hidden
    assert not made.is_non_interfering


@pytest.mark.parametrize("body", ["keep", "fill"])
def test_only_masked_pixels_change_and_windows_agree(body: str) -> None:
    made, _ = with_doubles(body=body)
    masks = posed(_heads.people())
    heads = replace(masks, people=tuple(mask for mask in masks.people if mask.kind == "face"))
    hidden = torch.stack([heads.union(at) > 0 for at in range(_heads.N_FRAMES)])[:, None].expand(-1, 3, -1, -1)
    source = _heads.clip()
    result = made.anonymize(source, heads if body == "keep" else masks, seed=5)
    assert torch.equal(made.anonymize(source, heads if body == "keep" else masks, seed=5).frames, result.frames)
    if body == "keep":
        assert torch.equal(result.frames[~hidden], source.frames[~hidden])
    assert float((result.frames[hidden] != source.frames[hidden]).float().mean()) > 0.9


def test_the_double_is_seen_where_the_network_gives_it_back() -> None:
    """With a network that copies its reference: the picture under the mask is that of the double itself, sharp."""
    made, casting = with_doubles("NoLight", body="keep")
    masks = posed(_heads.people(1))
    masks = replace(masks, people=tuple(mask for mask in masks.people if mask.kind == "face" and mask.person_id == 1))

    def copied(request: Any) -> Tensor:
        color, alpha = request.reference.split([3, 1], 2)
        return color + 0.25 * (1 - alpha)

    made.generate = copied  # type: ignore[method-assign]
    result = made.anonymize(_heads.clip(n_frames=1), masks, seed=1).frames[0] / 255
    (mask,) = masks.people
    rows, columns = mask.alpha.shape
    n = max(rows, columns)
    assert mask.pose is not None
    name = casting.names_of([1], 1, {})[1]
    box = (float(mask.left), float(mask.top), float(mask.left + n), float(mask.top + n))
    picture = casting.render(name, 0.0, mask.pose, box, n)[:, :rows, :columns]
    expected = picture[:3] + 0.25 * (1 - picture[3:])
    got = result[:, mask.top : mask.top + rows, mask.left : mask.left + columns]
    assert float((got - expected).abs().mean()) < 0.01


def with_base(**changed: Any) -> PassersbyAnonymizer:
    """The system whose network generates the difference from the doubles before their background."""
    made, _ = with_doubles("NoLight", **changed)
    made.reference.is_base = True
    return made


def test_a_network_that_changes_nothing_gives_the_picture_it_began_with() -> None:
    made = with_base()
    made.backbone.forward = lambda noisy, context: torch.zeros_like(noisy)  # type: ignore[assignment, method-assign]
    frames, hidden = torch.rand(2, 3, 3, 16, 16), torch.zeros(2, 3, 1, 16, 16)
    hidden[..., 4:12, 4:12] = 1
    reference = torch.rand(2, 3, 4, 16, 16) * hidden
    reference[:, :, :3] *= reference[:, :, 3:]
    request = InpaintingRequest(frames, hidden, [(0, 1), (0, 2)], reference=reference)
    expected = reference[:, :, :3] + (1 - reference[:, :, 3:]) * filled(
        frames.flatten(0, 1), hidden.flatten(0, 1)
    ).view_as(frames)
    torch.testing.assert_close(made.generate(request), expected)
    found = made.inpainter.denoised(request)  # of the clean picture, as `_heads` predicts it
    decode = made.inpainter.decode
    torch.testing.assert_close(decode(found.target) - decode(torch.zeros_like(found.target)), frames - expected)


def test_without_a_reference_the_base_is_the_background() -> None:
    made = with_base()
    made.backbone.forward = lambda noisy, context: torch.zeros_like(noisy)  # type: ignore[assignment, method-assign]
    frames, hidden = torch.full((1, 1, 3, 16, 16), 0.3), torch.zeros(1, 1, 1, 16, 16)
    hidden[..., 4:12, 4:12] = 1
    noise = torch.where(hidden > 0, torch.rand_like(frames), frames)
    generated = made.generate(InpaintingRequest(noise, hidden, [(0, 1)]))
    torch.testing.assert_close(generated, frames)


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
def test_nothing_of_a_hidden_face_passes_through_the_base(prediction: str) -> None:
    made = with_base(diffusion={"_target_": "pa_lib.modules.DiffusionProcess", "prediction": prediction})
    masks = posed(_heads.people())
    assert interference(made, _heads.clip(), masks, seed=5) == 0
    first = made.anonymize(_heads.clip(), masks, seed=5).frames
    made.reference.is_base = False
    assert not torch.equal(made.anonymize(_heads.clip(), masks, seed=5).frames, first)


def test_doubles_without_a_network_stand_before_a_fill() -> None:
    made, _ = with_doubles("ClosedFormLight")
    made.reference.is_result = True
    made.backbone.forward = None  # type: ignore[assignment, method-assign]  # is not asked
    masks = posed(_heads.people())
    assert interference(made, _heads.clip(), masks, seed=5) == 0


def test_a_fill_covers_no_double() -> None:
    """Somebody without a head that is known, whose larger mask lies over a head: the double stands before the fill."""
    made, casting = with_doubles("NoLight", body="keep")
    made.reference.is_result = True
    pose = HeadPose(30.0, 20.0, 5.0)
    small = PersonMask(1, 0, 8, 18, torch.ones(24, 24), "face", pose)
    large = PersonMask(2, 0, 4, 10, torch.ones(34, 44), "face")
    for people in ((small, large), (large, small)):
        frames = made.anonymize(_heads.clip(n_frames=1), ClipMasks(people, 1, *_heads.clip().frames.shape[2:])).frames
        color = casting.color(casting.names_of([1], 0, {})[1])
        torch.testing.assert_close(frames[0, :, 18:23, 28:33].float().mean((1, 2)) / 255, color, atol=0.02, rtol=0)


def test_a_wish_reaches_the_casting() -> None:
    made, casting = with_doubles()
    masks = replace(posed(_heads.people()), info={3: PersonInfo(replacement=Replacement("double 2"))})
    made.anonymize(_heads.clip(), masks, seed=5)
    assert (3, 5, "double 2") in casting.asked
    assert (1, 5, None) in casting.asked


def test_systems_without_a_reference_are_what_they_were() -> None:
    plain, named = _heads.painter(), _heads.painter(reference={"_target_": "pa_lib.modules.NoReference"})
    assert plain.state_dict().keys() == named.state_dict().keys()
    assert not any(name.startswith("reference") for name in plain.state_dict())
    one, two = (made.anonymize(_heads.clip(), posed(_heads.people()), seed=2).frames for made in (plain, named))
    assert torch.equal(one, two)


def test_the_backbone_must_take_the_reference() -> None:
    with pytest.raises(SettingError, match="takes 49 channels of condition, expected 98"):
        build(_heads.config(reference={"_target_": "pa_lib.modules.DoublesReference"}))


def test_the_main_job_takes_doubles_if_nothing_else_is_named() -> None:
    composed = compose("anonymize", ["input=clip.mp4"])
    made, masker = build_module(composed, {}), build(composed["people"]["masker"])
    assert isinstance(made, DoublesAnonymizer)
    assert isinstance(made.reference, DoublesReference)
    assert made.body == "keep"
    assert made.is_non_interfering is False  # bodies are shown
    assert not made.untrained_slots()
    assert isinstance(masker, HeadMasker)
    assert masker.covers_bodies


@pytest.fixture
def _portraits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pa_lib.data.views.SelfieSegmentation", DrawnSilhouettes)
    write_portraits(Path("faces"), n=12)


def stored(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(Path(folder) / LAST, weights_only=True)
    return content


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.usefixtures("_portraits")
def test_the_recipes_one_after_the_other() -> None:
    steps = ["trainer.max_steps=2"]
    assert main([*TINY, *steps, "experiment=compact_1_backbone", "output=one"]) == OK
    spatial = [*TINY, *steps, "experiment=compact_2_spatial", f"init_from=one/{LAST}", "output=two"]
    assert main(spatial) == OK
    third = [*TINY, *steps, "experiment=compact_3_temporal", "module.temporal.levels=[0]", "data.n_frames=2"]
    assert main([*third, f"init_from=two/{LAST}", "output=three"]) == OK
    first, second, last = (stored(name)["state_dict"] for name in ("one", "two", "three"))
    assert not any(name.startswith("reference.") for name in last)  # the light that ships
    for earlier, later, slot in ((first, second, "backbone."), (second, last, "adapter.")):
        taken = {name: value for name, value in earlier.items() if name.startswith(slot)}
        assert taken
        assert same(taken, {name: value for name, value in later.items() if name.startswith(slot)})
    made = load_module(Path("three") / LAST)
    assert isinstance(made, PassersbyAnonymizer)
    assert isinstance(made.reference, DoublesReference)
    reference: Any = made.reference
    reference._casting = DiscCasting()
    masks = posed(
        replace(_passersby.masks(), people=tuple(replace(mask, kind="face") for mask in _passersby.masks().people))
    )
    assert interference(made, _passersby.clip(), masks, seed=1) == 0


@pytest.mark.usefixtures("_portraits")
def test_stopped_and_resumed_is_as_never_stopped() -> None:
    recipe = [*TINY, *LEARNING_LIGHT, "experiment=compact_1_backbone", "module.trainable=[backbone,adapter,reference]"]
    recipe.append("module.lr_schedule=null")  # a cosine goes by the last step
    assert main([*recipe, "trainer.max_steps=4", "output=whole"]) == OK
    assert main([*recipe, "trainer.max_steps=2", "output=part"]) == OK
    half = stored("part")["training_weights"]
    assert main([*recipe, "trainer.max_steps=4", "output=part", "ckpt=last"]) == OK
    whole, part = stored("whole")["training_weights"], stored("part")["training_weights"]
    assert same(whole, part)
    light = [name for name in half if name.startswith("reference.light.coefficients")]
    assert light
    assert any(not torch.equal(half[name], part[name]) for name in light)  # it learns


@pytest.mark.usefixtures("_portraits")
def test_the_light_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network that generates is not even evaluated, until it is validated."""
    recipe = [
        *TINY,
        *LEARNING_LIGHT,
        "experiment=compact_0_light",
        "trainer.max_steps=2",
        "trainer.limit_val_batches=0",
    ]

    def evaluated(*_: Any, **__: Any) -> None:
        raise AssertionError("the backbone was evaluated")

    monkeypatch.setattr("pa_lib.modules.inpainting.inpainter.LatentInpainter.denoised", evaluated)
    assert main([*recipe, "output=out"]) == OK
    assert math.isfinite(stored("out")["global_step"])
    light = LightTransform(4, 16, f"out/{LAST}")
    trained = stored("out")["state_dict"]
    assert same(light.state_dict(), {name: trained[f"reference.light.{name}"] for name in light.state_dict()})
    assert not light.is_random
    with pytest.raises(WeightsError, match="do not fit"):
        LightTransform(8, 16, f"out/{LAST}")
    save_module(load_module(Path("out") / LAST), None, "other.safetensors", slots=["backbone"])
    with pytest.raises(WeightsError, match=r"no weights of reference\.light"):
        LightTransform(4, 16, "other.safetensors")


@pytest.mark.usefixtures("_portraits")
def test_data_without_references_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = [*TINY, "experiment=compact_1_backbone", "trainer.max_steps=2", "output=out"]
    assert main([*recipe, "data.reference=null"]) in (FAILED, USAGE)
    assert "the data has no references; choose data=heads" in capsys.readouterr().err.splitlines()[-1]
