"""What an attacker looks at: the hidden part of a face, set upright by the original's landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.modules.attackers.base import Anonymized
from pa_lib.pretrained import align_faces
from pa_lib.pretrained.identity.face_identity import CHIP_PX, TEMPLATE

WIDTH = 0.97  # of the ellipse that is looked at, over the chip's side: the largest that head masks cover
NEAR_DUPLICATE = 0.95
_GREY = 128
_CHUNK = 64


def round_window(side: int) -> Bool[Tensor, "s s"]:
    """The disc of a chip that is looked at; the same for all people, so that the outline of a mask reveals nothing."""
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    return at[:, None] ** 2 + at**2 <= WIDTH**2


def hidden_chips(
    seen: Anonymized, rows: Int64[Tensor, " k"], side: int, *, is_masked: bool = True
) -> UInt8[Tensor, "k 3 s s"]:
    """Anonymized faces upright in a disc, all that was outside of their mask in grey.

    Landmarks are brought to dlib's places, scaled to the chip: the eyes are 35 % of its side apart. Hair, clothes and
    background around the mask would identify people whatever is done to faces, so they are not looked at.

    Args:
        seen: The anonymized pictures.
        rows: Rows of `seen.frames`.
        side: Side length of a chip in pixels.
        is_masked: Whether pixels outside the mask are grey; False gives the whole chip.
    """
    photos = seen.photos
    of = seen.photo[rows].tolist()
    made = [
        _chip(_rows_columns(seen.frames[row]), photos.landmarks[photo], side)
        for row, photo in zip(rows, of, strict=True)
    ]
    chips = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)
    if not is_masked:
        return chips.contiguous()
    return torch.where(hidden_part(seen, rows, side), chips, torch.tensor(_GREY, dtype=torch.uint8))


def hidden_part(seen: Anonymized, rows: Int64[Tensor, " k"], side: int) -> Bool[Tensor, "k 1 s s"]:
    """Where chips show nothing but what the system has generated."""
    photos = seen.photos
    masks = [
        _chip(
            _rows_columns((photos.masks[photo] * 255).round().byte().expand(3, -1, -1)), photos.landmarks[photo], side
        )
        for photo in seen.photo[rows].tolist()
    ]
    inside = torch.from_numpy(np.stack(masks)[..., 0]) == 255
    return (inside & round_window(side))[:, None]


def original_chips(seen: Anonymized, photos: Int64[Tensor, " k"], side: int) -> UInt8[Tensor, "k 3 s s"]:
    """The same faces before: whole chips, uint8."""
    of = seen.photos
    made = [_chip(_rows_columns(of.frames[photo]), of.landmarks[photo], side) for photo in photos.tolist()]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def identities(network: nn.Module, chips: UInt8[Tensor, "k 3 s s"]) -> Float[Tensor, "k d"]:
    """Identities of chips of any size by a face network, in bfloat16, which moves them by less than a hundredth."""
    device = next(network.parameters()).device
    parts = []
    for part in torch.split(chips, _CHUNK):
        large = functional.interpolate(part.to(device).float() / 255, size=(CHIP_PX, CHIP_PX), mode="bilinear")
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(network(large.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)


def near_duplicates(
    originals: UInt8[Tensor, "n 3 s s"], photos: Int64[Tensor, " q"], others: Sequence[Int64[Tensor, " _"]]
) -> Bool[Tensor, " q"]:
    """Whether one of the others of each photo looks the same: correlation of grey chips above 0.95.

    Archives hold the same portrait in several sizes and crops; to identify a person by such a pair is easy.
    """
    flat = originals.float().mean(1).flatten(1)
    flat = functional.normalize(flat - flat.mean(1, keepdim=True))
    pairs = zip(photos, others, strict=True)
    return torch.tensor([bool((flat[theirs] @ flat[photo] > NEAR_DUPLICATE).any()) for photo, theirs in pairs])


def _chip(picture: NDArray[np.uint8], landmarks: Tensor, side: int) -> NDArray[np.uint8]:
    template = (np.asarray(TEMPLATE) + 0.5) * (side / CHIP_PX) - 0.5
    chip: NDArray[np.uint8] = align_faces(picture, landmarks[None].numpy(), template, side)[0]
    return chip


def _rows_columns(picture: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
