"""What becomes of a body whose head a network generates: generated too, hidden by a mosaic or a fill, or unchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks
from pa_lib.errors import SettingError
from pa_lib.modules.systems.conventional.system import ConventionalAnonymizer

Body = Literal["generate", "mosaic", "fill", "keep"]
KEPT = (
    "heads are replaced, bodies are unchanged and visible (body=keep); with a masker other than people/masker=heads "
    "a person whose face was not detected in a frame is visible in it"
)


@dataclass(frozen=True, eq=False)
class Layers:
    """A clip before the network generates anything.

    Args:
        below: Frames with bodies as they are to stay, the clip's own where these stay unchanged; what the network
            generates goes on top.
        generated: Masks of everything that the network generates.
        hidden: Pixels that the network may not see.
    """

    below: UInt8[Tensor, "t 3 h w"]
    generated: ClipMasks
    hidden: Bool[Tensor, "t h w"]


def checked_body(body: Body) -> Body:
    """The setting as it came.

    Raises:
        SettingError: There is no such way to treat bodies.
    """
    if body not in get_args(Body):
        raise SettingError(f"unknown body {body!r} of PassersbyAnonymizer; choose {', '.join(get_args(Body))}")
    return body


def layers(clip: Clip, masks: ClipMasks, body: Body, seed: int) -> Layers:
    """Divide what is hidden between the network and what lies below it.

    Args:
        clip: The source clip; not changed.
        masks: Masks of heads (kind ``face``) and of bodies (kind ``body``).
        body: ``generate``: the network generates all of it. Otherwise it generates heads alone; below them bodies get a
            ``mosaic`` or a ``fill``, or stay unchanged (``keep``), and then the network sees them.
        seed: Seed of the conventional system.
    """
    if body == "generate":
        return Layers(clip.frames, masks, _hidden(masks))
    heads = replace(masks, people=tuple(mask for mask in masks.people if mask.kind == "face"))
    if body == "keep":
        return Layers(clip.frames, heads, _hidden(heads))
    # Heads are passed on too, though the network generates them: a fill takes its colour from around a body, and a
    # head without a mask would be part of that colour.
    below = ConventionalAnonymizer(body).anonymize(clip, masks, seed=seed).frames
    return Layers(below, heads, _hidden(masks))


def _hidden(masks: ClipMasks) -> Bool[Tensor, "t h w"]:
    """Every pixel that any of the masks touches."""
    hidden = torch.zeros(masks.n_frames, masks.height, masks.width, dtype=torch.bool)
    for mask in masks.people:
        rows, columns = mask.alpha.shape
        hidden[mask.frame, mask.top : mask.top + rows, mask.left : mask.left + columns] |= mask.alpha > 0
    return hidden
