"""What stands behind a person, where the frames of a window show it when the person is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from pa_lib.contracts import Box, HeadPose
from pa_lib.functional.crops import resample
from pa_lib.functional.filling import filled
from pa_lib.functional.smoothing import local_lines
from pa_lib.modules.crops.aligner import Crops
from pa_lib.modules.reference.base import AbstractPlaced, Surroundings

_SAME = 0.06  # largest difference of a visible pixel from the clean plate at which it is the background
_LIKE = 0.12  # the same for means around a visible pixel where the plate is completed: textures are never the same
_SLACK = 0.25  # share of the local contrast that is added to it where the camera moves
_SOFT = (0.4, 0.8)  # share of the background around a hidden pixel: below it is not the background, above it is
_STEADY = 2.0  # frames (standard deviation) over which that is smoothed
_WHOLE, _MOSTLY = 0.999, 0.5
_AROUND = 0.25  # share of a crop's side that more of the scene is looked at on each side: pieces to complete it with
_NECK, _SHOULDERS, _LEGS = 1.8, 5.0, 14.0  # in scales of the head: from the eyes down, to either side, and down again


class BackgroundPlate(AbstractPlaced):
    r"""The clean plate in the crops of one person: opaque where what is hidden is the background, known or completed.

    Whether it is the background is read off the visible pixels around it: where they look like the clean plate, it goes
    on behind the mask; where a shoulder or another person stands there, or what never stays the same, it does not.
    Their difference from the plate is carried inward as well, so that a change of the light leaves no edge.

    .. math:: c = B + \mathrm{fill}(x - B), \quad
        \alpha = A \cdot \mathrm{smoothstep}\left(\mathrm{fill}([\,|x - B| < 0.06 + k C\,])\right)

    with the clean plate B, there, known or completed, where A is 1, and the visible pixels x. C is what the neighbours
    of a pixel differ by; k is 0.25 where the camera moves, for plate and frame then lie a fraction of a pixel apart,
    else 0. Where the plate is completed, means over 7 x 7 pixels are compared, and may differ by 0.12: what contradicts
    a pixel that is visible in one frame is not shown beside it. Fill is `functional.filling.filled`.

    Args:
        crops: Crops of the person.
        around: The frames that they were cut from.
        poses: Pose of the head in each frame, below which the person's body is; None where it is unknown.

    Ours.
    """

    def __init__(self, crops: Crops, around: Surroundings, poses: Sequence[HeadPose | None]) -> None:
        self._boxes = [crops.geometry.box(row) for row in range(len(crops.pixels))]
        self._plate = around.clean_plate([_grown(box) for box in self._boxes], [_body(pose) for pose in poses])
        pixels, hidden = crops.pixels.cpu().float(), crops.hidden.cpu()
        side = pixels.shape[-1]
        plates = torch.stack([self._plate.seen(row, box, side, side) for row, box in enumerate(self._boxes)])
        is_known = (plates[:, 3:4] > _WHOLE).float()
        colors = plates[:, :3]
        is_there, moves = (plates[:, 4:5] > 0).float(), (plates[:, 5:] > _MOSTLY).float()
        visible = (1 - hidden) * torch.maximum(is_there, moves)
        change = pixels - colors
        slack = _SLACK * _contrast(colors) if self._plate.is_moving else 0.0
        like_plate = visible * is_known * (change.abs().amax(1, keepdim=True) < _SAME + slack).float()
        completed = visible * is_there * (1 - is_known)
        like_texture = completed * (_mean(change, completed).abs().amax(1, keepdim=True) < _LIKE).float()
        same = like_plate + like_texture
        share = filled(same, 1 - visible)
        at = torch.arange(len(share), dtype=torch.float64)
        share = torch.einsum("tu,ucyx->tcyx", local_lines(at, _STEADY).float(), share).clamp(0, 1)
        low, high = _SOFT
        ramp = ((share - low) / (high - low)).clamp(0, 1)
        is_anywhere = (like_plate.sum((1, 2, 3), keepdim=True) > 0).float()
        self._alpha = ramp**2 * (3 - 2 * ramp) * is_anywhere
        self._change = filled(change, 1 - like_plate) * is_anywhere
        alpha = self._alpha * plates[:, 4:5]
        self.grid = torch.cat([(colors + self._change).clamp(0, 1) * alpha, alpha], 1)

    def picture(self, frame: int, box: Box, height: int, width: int) -> Float[Tensor, "4 h w"]:
        """Color times alpha, and alpha; see `AbstractPlaced.picture`."""
        left, top, right, bottom = self._boxes[frame]
        side = self._alpha.shape[-1]
        x0, x1 = ((at - left) * side / (right - left) for at in (box[0], box[2]))
        y0, y1 = ((at - top) * side / (bottom - top) for at in (box[1], box[3]))
        smooth = torch.cat([self._alpha[frame], self._change[frame]])
        inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(side)), min(y1, float(side)))  # but for rounding it is
        smooth = resample(smooth, inside, height, width)
        seen = self._plate.seen(frame, box, height, width)
        alpha = smooth[:1] * seen[4:5]
        return torch.cat([(seen[:3] + smooth[1:]).clamp(0, 1) * alpha, alpha])


def _body(pose: HeadPose | None) -> Box:
    if pose is None:
        return 0.0, 0.0, 0.0, 0.0
    x, y, scale = pose.x, pose.y, pose.scale
    return x - _SHOULDERS * scale, y + _NECK * scale, x + _SHOULDERS * scale, y + _LEGS * scale


def _grown(box: Box) -> Box:
    x0, y0, x1, y1 = box
    more = _AROUND * (x1 - x0)
    return x0 - more, y0 - more, x1 + more, y1 + more


def _mean(change: Float[Tensor, "t 3 s s"], where: Float[Tensor, "t 1 s s"]) -> Float[Tensor, "t 3 s s"]:
    """Means over the masked pixels around every pixel, 7 x 7 of them at most; 0 where there are none."""
    sums, shares = (avg_pool2d(planes, 7, 1, 3) for planes in (change * where, where))
    return sums / shares.clamp(min=1e-3)


def _contrast(colors: Float[Tensor, "t 3 s s"]) -> Float[Tensor, "t 1 s s"]:
    """The largest difference between a pixel's neighbours, in any color."""
    most, least = max_pool2d(colors, 3, 1, 1), -max_pool2d(-colors, 3, 1, 1)
    return (most - least).amax(1, keepdim=True)
