"""Passersby-Anonymizer, whole: what it may see, what it gives back, what learns, and how it is put together."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from pa_lib.contracts import Batch, Clip, ClipMasks, PersonMask
from pa_lib.errors import PaLibError
from pa_lib.modules import (
    AbstractText,
    CompactUNet,
    CropAligner,
    DiffusionProcess,
    IdentityGuidance,
    InpaintingRequest,
    MaskAugmentation,
    MaskAwareTraining,
    MaskedDiffusionLoss,
    MeanGuidance,
    NoAdapter,
    NoTemporal,
    NoText,
    PassersbyAnonymizer,
    Patchify,
    Sampler,
    SpatialContentAdapter,
    TemporalContentStabilizer,
    TextCondition,
    Windows,
    interference,
)

HEIGHT, WIDTH, N_FRAMES = 48, 64, 7


class Texts(AbstractText):
    """A text encoder for a backbone that reads none."""

    width = 8

    def forward(self, prompts: Sequence[str]) -> TextCondition:
        return TextCondition(torch.zeros(len(prompts), 2, self.width))


def system(**changed: Any) -> PassersbyAnonymizer:
    """A tiny one whose guests do something: their zero weights are made random."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "backbone": CompactUNet(
            channels=48, condition_channels=49, widths=(8, 16), layers=1, attention_levels=(1,), head_width=8
        ),
        "autoencoder": Patchify(4),
        "text": NoText(),
        "adapter": SpatialContentAdapter(rank=2),
        "temporal": TemporalContentStabilizer(heads=2),
        "loss": MaskedDiffusionLoss(),
        "diffusion": DiffusionProcess(prediction="v_prediction"),
        "sampler": Sampler(steps=2),
        "crops": CropAligner(side=16),
        "mask_aware": MaskAwareTraining(augmentation=MaskAugmentation()),
        "windows": Windows(frames=3, overlap=1, chunk=6, chunk_overlap=2),
        "trainable": ("adapter",),
    }
    made = PassersbyAnonymizer(**(parts | changed))
    with torch.no_grad():
        for guest in (made.adapter, made.temporal):
            for parameter in guest.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def clip(first_frame: int = 0, n_frames: int = N_FRAMES) -> Clip:
    frames = torch.randint(0, 256, (n_frames, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))
    return Clip(frames.byte(), first_frame)


def two_people(n_frames: int = N_FRAMES) -> ClipMasks:
    """One in every frame, one who is away in frame 3; they overlap; their edges are soft."""
    alpha = torch.ones(14, 12)
    alpha[0] = 0.5
    masks = [PersonMask(1, frame, 10, 12 + frame, alpha) for frame in range(n_frames)]
    masks += [PersonMask(2, frame, 18, 16 + frame, alpha) for frame in range(n_frames) if frame != 3]
    return ClipMasks(tuple(masks), n_frames, HEIGHT, WIDTH)


def batch(n_frames: int = 3) -> Batch:
    masks = torch.zeros(2, n_frames, 1, 16, 16)
    masks[..., 4:12, 5:11] = 1
    frames = torch.rand(2, n_frames, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return Batch(frames, masks, torch.tensor([3, 8]))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"adapter": NoAdapter(), "temporal": NoTemporal()},
        {"mask_aware": MaskAwareTraining(has_condition=False, has_compositing=False)},
        {"sampler": Sampler("lcm", steps=2)},
        {"sampler": Sampler("dpm++", steps=3)},
        {"diffusion": DiffusionProcess(prediction="sample"), "noise_sharing": 1.0},
        {"sampler": Sampler(steps=4), "guidance": {"mean": MeanGuidance(1.5)}},
    ],
    ids=["default", "without_guests", "without_condition", "lcm", "dpm", "x0", "mean_guidance"],
)
def test_nothing_hidden_has_a_part_in_the_result(changed: dict[str, Any]) -> None:
    made = system(**changed)
    assert made.is_non_interfering
    assert interference(made, clip(), two_people(), seed=5) == 0


def test_what_begins_with_the_person_says_so() -> None:
    made = system(sampler=Sampler(steps=4, init_strength=0.5))
    assert not made.is_non_interfering
    assert interference(made, clip(), two_people(), seed=5) > 0


def test_what_is_pushed_away_from_the_person_says_so() -> None:
    made = system(guidance={"identity": IdentityGuidance(0.5)})
    assert not made.is_non_interfering
    assert interference(made, clip(), two_people(), seed=5) > 0
    assert any("guidance.identity" in remark for remark in made.notes)
    crops = torch.rand(1, 2, 3, made.crops.side, made.crops.side)
    with pytest.raises(PaLibError, match="no source was given"):
        made.generate(InpaintingRequest(crops, torch.ones(1, 2, 1, made.crops.side, made.crops.side), [(0, 1)]))


def test_only_masked_pixels_change_and_all_of_them() -> None:
    source, masks = clip(), two_people()
    result = system().anonymize(source, masks, seed=5)
    hidden = torch.stack([masks.union(at) > 0 for at in range(N_FRAMES)])[:, None].expand_as(source.frames)
    assert torch.equal(result.frames[~hidden], source.frames[~hidden])
    assert float((result.frames[hidden] != source.frames[hidden]).float().mean()) > 0.9
    assert (result.first_frame, result.fps) == (source.first_frame, source.fps)
    assert torch.equal(source.frames, clip().frames)


def test_seeds_repeat_and_differ() -> None:
    made = system()
    first, again, other = (made.anonymize(clip(), two_people(), seed=seed).frames for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_person_is_the_same_alone_and_in_company() -> None:
    """Whoever else is hidden elsewhere has no part in what somebody turns into."""
    far = torch.ones(8, 8)
    alone = ClipMasks(tuple(PersonMask(1, at, 4, 4, far) for at in range(N_FRAMES)), N_FRAMES, HEIGHT, WIDTH)
    others = tuple(PersonMask(2, at, 30, 50, far) for at in range(N_FRAMES))
    both = dataclasses.replace(alone, people=alone.people + others)
    made = system()
    region = (slice(None), slice(None), slice(4, 12), slice(4, 12))
    one = made.anonymize(clip(), alone, seed=5).frames[region].int()
    two = made.anonymize(clip(), both, seed=5).frames[region].int()
    assert int((one - two).abs().max()) <= 1  # a larger batch may sum in another order


def test_without_temporal_layers_a_frame_depends_on_itself_alone() -> None:
    """So windows that begin elsewhere give the same frames: the noise goes by the frame's number in the video."""
    made = system(temporal=NoTemporal())
    whole = made.anonymize(clip(), two_people(), seed=5).frames
    tail = Clip(clip().frames[4:], 4)
    masks = ClipMasks(
        tuple(dataclasses.replace(mask, frame=mask.frame - 4) for mask in two_people().people if mask.frame >= 4),
        N_FRAMES - 4,
        HEIGHT,
        WIDTH,
    )
    assert int((made.anonymize(tail, masks, seed=5).frames.int() - whole[4:].int()).abs().max()) <= 1


def test_nobody_hidden_changes_nothing() -> None:
    nobody = ClipMasks((), N_FRAMES, HEIGHT, WIDTH)
    assert torch.equal(system().anonymize(clip(), nobody).frames, clip().frames)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="60 x 48, the clip has 7 of 64 x 48"):
        system().anonymize(clip(), dataclasses.replace(two_people(), width=60))


def test_only_the_named_slot_learns_and_is_in_training_mode() -> None:
    made = system(trainable=("temporal",)).train()
    found = made.denoised(batch(), batch().masks, [(0, 3, 0), (0, 8, 0)])
    loss = made.loss(found.prediction, found.target, found.mask)
    loss.backward()
    for name, slot in made.named_children():
        has_gradient = [parameter.grad is not None for parameter in slot.parameters()]
        assert all(has_gradient) if name == "temporal" else not any(has_gradient), name
        assert slot.training == (name == "temporal")


def test_draws_go_by_clip_not_by_place_in_the_batch() -> None:
    made = system()
    both = batch()
    keys = [(0, 3, 7), (0, 8, 7)]
    turned = Batch(both.frames.flip(0), both.masks.flip(0), both.clip_ids.flip(0))
    found, other = made.denoised(both, both.masks, keys), made.denoised(turned, turned.masks, keys[::-1])
    losses = [made.loss(one.prediction, one.target, one.mask) for one in (found, other)]
    torch.testing.assert_close(*losses)


def test_a_deep_copy_is_a_system_of_its_own() -> None:
    made = system()
    before = made.anonymize(clip(), two_people(), seed=5).frames
    twin = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in [*twin.adapter.parameters(), *twin.temporal.parameters()]:
            parameter.add_(1)
    assert torch.equal(made.anonymize(clip(), two_people(), seed=5).frames, before)
    assert not torch.equal(twin.anonymize(clip(), two_people(), seed=5).frames, before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"autoencoder": Patchify(2)}, "denoises 48 channels.*latents have 12"),
        ({"crops": CropAligner(side=18)}, "crops of 18 px.*multiple of 4"),
        ({"text": Texts()}, "text encoder.*module/text=none"),
        ({"trainable": ("head",)}, "trainable names head.*backbone, autoencoder"),
        ({"text_dropout": 2.0}, "text_dropout.*2.0"),
    ],
)
def test_slots_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        system(**changed)


def test_training_without_an_optimizer_or_without_weights_is_refused() -> None:
    with pytest.raises(PaLibError, match="no optimizer"):
        system().configure_optimizers()

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters)

    with pytest.raises(PaLibError, match="nothing to train: the slots adapter"):
        system(adapter=NoAdapter(), optimizer=adam).configure_optimizers()
    optimizer = system(optimizer=adam).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert {type(p) for p in optimizer.param_groups[0]["params"]} == {nn.Parameter}
