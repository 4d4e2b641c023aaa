"""A conditioner sees what it declares, is left out when it should be, and decides whether a system interferes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import _heads
from pa_lib.modules import (
    AbstractConditioner,
    ForwardContext,
    InpaintingRequest,
    MaskAndBackground,
    PassersbyAnonymizer,
    Patchify,
    Scene,
    interference,
)
from pa_lib.modules.conditioners.base import with_channels


class Looking(AbstractConditioner, nn.Module):
    """Adds what lies under the mask to the background: what a pose or an attribute of the hidden person would do."""

    name = "looking"
    needs = frozenset({"pixels"})
    notes = ("looks at people",)

    def __init__(self, looks_at_hidden: bool) -> None:
        super().__init__()
        self.looks_at_hidden = looks_at_hidden
        self.gain = nn.Parameter(torch.tensor(5.0))
        self.seen: list[Tensor | None] = []

    def condition(self, scene: Scene, context: ForwardContext, left_out: Sequence[bool]) -> ForwardContext:
        self.seen.append(scene.source)
        if scene.source is None or context.concat is None:
            return context
        hidden = self.gain * Patchify(4).encode(scene.source) * scene.latent_mask
        concat = context.concat.clone()
        concat[:, :, 1:] += hidden
        return ForwardContext(context.frames, context.timesteps, context.text, concat)


def system(looks_at_hidden: bool) -> tuple[PassersbyAnonymizer, Looking]:
    plain, looking = _heads.painter(), Looking(looks_at_hidden)
    slots = {name: getattr(plain, name) for name in ("backbone", "autoencoder", "text", "loss", "diffusion", "sampler")}
    from pa_lib.modules import NoAdapter, NoTemporal

    made = PassersbyAnonymizer(
        **slots,
        adapter=NoAdapter(),
        temporal=NoTemporal(),
        crops=plain.crops,
        windows=plain.windows,
        conditioners={"looking": looking},
    )
    return made.eval(), looking


def test_a_conditioner_that_looks_at_hidden_pixels_makes_a_system_interfere() -> None:
    made, looking = system(looks_at_hidden=True)
    assert not made.is_non_interfering
    assert "looks at people" in made.notes
    assert interference(made, _heads.clip(), _heads.people()) > 0
    assert all(source is not None for source in looking.seen)


def test_one_that_does_not_declare_it_cannot_look() -> None:
    made, looking = system(looks_at_hidden=False)
    assert made.is_non_interfering
    assert interference(made, _heads.clip(), _heads.people()) == 0
    frames, masks = torch.rand(1, 2, 3, 16, 16), torch.ones(1, 2, 1, 16, 16)
    made.generate(InpaintingRequest(frames, masks, [(0, 1)], source=frames))
    made.inpainter.denoised(InpaintingRequest(frames, masks, [(0, 1)]))
    assert all(source is None for source in looking.seen)


def test_one_with_weights_is_a_slot_and_learns() -> None:
    made, looking = system(looks_at_hidden=True)
    made.set_trainable(["conditioners"])
    assert looking.gain.requires_grad
    frames, masks = torch.rand(1, 2, 3, 16, 16), torch.ones(1, 2, 1, 16, 16)
    made.inpainter.denoised(InpaintingRequest(frames, masks, [(0, 1)])).prediction.sum().backward()
    assert looking.gain.grad is not None
    assert "conditioners.looking.gain" in made.state_dict()


def scene(n_clips: int = 2) -> Scene:
    return Scene(
        pixels=torch.rand(n_clips, 3, 3, 8, 8),
        hidden=torch.ones(n_clips, 3, 1, 8, 8),
        latent_mask=torch.ones(n_clips, 3, 1, 4, 4),
        background=torch.rand(n_clips, 3, 4, 4, 4),
    )


def test_mask_and_background_are_left_out_clip_by_clip() -> None:
    given, context = scene(), ForwardContext(3, torch.tensor([1, 2]))
    whole = MaskAndBackground().condition(given, context, [False, False]).concat
    assert whole is not None
    assert torch.equal(whole[:, :, :1], given.latent_mask)
    assert torch.equal(whole[:, :, 1:], given.background)
    half = MaskAndBackground().condition(given, context, [True, False]).concat
    assert half is not None
    assert not half[0].any()
    assert torch.equal(half[1], whole[1])
    hidden = MaskAndBackground(is_shown=False).condition(given, context, [False, False]).concat
    assert hidden is not None
    assert not hidden.any()


def test_channels_of_several_conditioners_follow_each_other() -> None:
    first, second = torch.rand(2, 3, 1, 4, 4), torch.rand(2, 3, 2, 4, 4)
    context = with_channels(with_channels(ForwardContext(3, torch.tensor([1, 2])), first), second)
    assert context.concat is not None
    assert torch.equal(context.concat, torch.cat([first, second], 2))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_dropout_leaves_out_as_many_clips_as_it_says(share: float) -> None:
    made, looking = system(looks_at_hidden=False)
    looking.dropout = share
    counted: list[bool] = []
    looking.condition = lambda scene, context, left_out: counted.extend(left_out) or context  # type: ignore[method-assign, assignment, func-returns-value]
    frames, masks = torch.rand(1, 1, 3, 16, 16).expand(60, -1, -1, -1, -1), torch.ones(60, 1, 1, 16, 16)
    with torch.no_grad():
        made.inpainter.denoised(InpaintingRequest(frames, masks, [(0, clip) for clip in range(60)]), has_dropout=True)
    assert abs(sum(counted) / 60 - share) <= 4 * (share * (1 - share) / 60) ** 0.5
