"""The background of a clip where it was visible in some frames and stayed the same: what film calls a clean plate."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, UInt8
from torch import Tensor

from pa_lib.functional.camera import placed, shifted

Whole = tuple[int, int, int, int]
"""``x0 y0 x1 y1``, whole px."""

_MOST_FRAMES = 16  # that are compared, spread evenly: more cost time and change little
_LEAST_FRAMES = 3  # in which a pixel must be visible
_OUTLIERS = 0.2  # share of its frames, at either end, in which a pixel may be anything else
_MOST_SPREAD = 12  # between them, in grey values: noise and compression, no motion
_SLACK = 0.5  # share of the local contrast that is added to that where the camera moves
_REACH_PX = 4  # of a frame around what is looked up in it
_SORTED_AT_ONCE = 2_000_000  # pixels of all frames
_NOTHING = 1_000  # spread where nothing is known


def clean_plate(
    frames: UInt8[Tensor, "t 3 h w"], hidden: Bool[Tensor, "t h w"]
) -> tuple[UInt8[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
    """The median of each pixel over the frames in which it is visible, and where it can be relied on.

    It can where the pixel is visible in three of at most 16 frames, and hardly changes among the middle three fifths of
    them. So a camera that moves leaves even surfaces alone, and no motion is estimated.

    Args:
        frames: Frames in 0..255. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels.

    Returns:
        The background, 0 where it is unknown; and where it is known.

    Source: the temporal median is the usual background estimate for a fixed camera. Ours: what is relied on.

    >>> seen = torch.tensor([10, 12, 200, 11, 255]).byte().view(5, 1, 1, 1).expand(5, 3, 1, 1)
    >>> plate, known = clean_plate(seen, torch.tensor([False, False, True, False, True]).view(5, 1, 1))
    >>> plate.flatten().tolist(), known.item()
    ([11, 11, 11], True)
    """
    at = torch.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().long()
    gone = hidden.to(frames.device)

    def rows_of(rows: slice) -> tuple[Tensor, Tensor]:
        return frames[:, :, rows][at], gone[:, rows][at]

    middle, spread = _medians(rows_of, len(at), *hidden.shape[-2:])
    known = spread <= _MOST_SPREAD
    return torch.where(known, middle, 0).byte(), known


def moving_clean_plate(
    frames: UInt8[Tensor, "t 3 h w"],
    hidden: Bool[Tensor, "t h w"],
    motion: Float64[np.ndarray, "t 3 3"],
    box: Whole,
) -> tuple[UInt8[Tensor, "3 y x"], Bool[Tensor, "y x"]]:
    """`clean_plate` of a moving camera: frames are brought to one view before pixels are compared.

    A picture that is off by a fraction of a pixel differs where there is texture: so there the middle frames may spread
    farther, by as much as half of what the eight neighbours of a pixel differ by.

    Args:
        frames: Frames in 0..255. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels.
        motion: Homographies from pixels of that view to pixels of each frame; NaN leaves a frame out.
        box: Part ``x0 y0 x1 y1`` of that view in whole pixels; may reach beyond the frames.

    Returns:
        As `clean_plate`, of that part.
    """
    x0, y0, x1, y1 = box
    height, width = y1 - y0, x1 - x0
    (found,) = np.nonzero(~np.isnan(motion[:, 0, 0]))
    if not len(found) or not height * width:
        return torch.zeros(3, height, width, dtype=torch.uint8), torch.zeros(height, width, dtype=torch.bool)
    at = found[np.linspace(0, len(found) - 1, min(len(found), _MOST_FRAMES)).round().astype(int)]

    def rows_of(rows: slice) -> tuple[Tensor, Tensor]:
        strip = (x0, y0 + rows.start, x1, y0 + rows.stop)
        moved = [seen_from(frames[row], hidden[row], motion[row], strip) for row in at]
        return torch.stack([pixels for pixels, _ in moved]), torch.stack([gone for _, gone in moved])

    middle, spread = _medians(rows_of, len(at), height, width)
    picture, around = middle.movedim(0, -1).numpy(), np.ones((3, 3), np.uint8)
    contrast = cv2.subtract(cv2.dilate(picture, around), cv2.erode(picture, around)).max(-1)
    known = spread <= _MOST_SPREAD + _SLACK * torch.from_numpy(contrast)
    return torch.where(known, middle, 0), known


def seen_from(
    frame: UInt8[Tensor, "3 h w"], hidden: Bool[Tensor, "h w"], matrix: Float64[np.ndarray, "3 3"], box: Whole
) -> tuple[UInt8[Tensor, "3 y x"], Bool[Tensor, "y x"]]:
    """A frame as another view shows it, and where hidden pixels or what is beyond the frame have a part in it.

    Args:
        frame: Frame in 0..255.
        hidden: Mask of the hidden pixels.
        matrix: Homography from pixels of the view to pixels of the frame.
        box: Part ``x0 y0 x1 y1`` of the view in whole pixels.
    """
    x0, y0, x1, y1 = box
    height, width = hidden.shape
    places = placed(matrix, np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], np.float64))
    (left, top), (right, bottom) = places.min(0) - _REACH_PX, places.max(0) + _REACH_PX
    left, right = (int(np.clip(one, 0, width)) for one in (left, right))
    top, bottom = (int(np.clip(one, 0, height)) for one in (top, bottom))
    if right <= left or bottom <= top:
        return torch.zeros(3, y1 - y0, x1 - x0, dtype=torch.uint8), torch.ones(y1 - y0, x1 - x0, dtype=torch.bool)
    gone = hidden[top:bottom, left:right].cpu().numpy()
    part = frame[:, top:bottom, left:right].cpu().movedim(0, -1).numpy()
    own = shifted(-left, -top) @ matrix @ shifted(x0, y0)
    way = {"M": own, "dsize": (x1 - x0, y1 - y0)}
    part = np.where(gone[..., None], np.uint8(0), part)
    moved = cv2.warpPerspective(part, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, **way)
    clear = cv2.erode(
        (~gone).astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    clear = cv2.warpPerspective(clear, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, **way)
    return torch.from_numpy(moved).movedim(-1, 0), torch.from_numpy(clear == 0)


def _medians(
    rows_of: Callable[[slice], tuple[Tensor, Tensor]], n_frames: int, height: int, width: int
) -> tuple[UInt8[Tensor, "3 h w"], Int[Tensor, "h w"]]:
    """The median of what is visible, and the spread of its middle part; very large where too little is visible.

    In strips of rows, since sorting takes nine times their memory.
    """
    middle, spread = torch.empty(3, height, width, dtype=torch.uint8), torch.empty(height, width, dtype=torch.int32)
    n_rows = max(_SORTED_AT_ONCE // max(n_frames * width, 1), 1)
    for top in range(0, height, n_rows):
        rows = slice(top, min(top + n_rows, height))
        pixels, gone = rows_of(rows)
        n_visible = (~gone).sum(0)
        # Hidden pixels come last, so that the first ones of each pixel are the visible ones in order.
        ordered = torch.where(gone[:, None], 255, pixels).sort(0).values
        low, half, high = (
            ordered.gather(0, ((n_visible - 1).clamp(min=0) * share).round().long().expand(1, 3, -1, -1))[0]
            for share in (_OUTLIERS, 0.5, 1 - _OUTLIERS)
        )
        middle[:, rows] = half
        spread[rows] = torch.where(n_visible >= _LEAST_FRAMES, (high.int() - low.int()).amax(0), _NOTHING)
    return middle, spread
