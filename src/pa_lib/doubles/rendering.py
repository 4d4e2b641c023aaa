"""Pictures of heads, placed by a pose: any box of a frame at any resolution, between pixels, without aliasing."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pa_lib.contracts import Box, HeadPose
from pa_lib.doubles.index import CHIN
from pa_lib.errors import SettingError
from pa_lib.functional.crops import Interpolation, resample
from pa_lib.functional.head_pose import pose_of_landmarks, views_at

_FINE = 512  # sides up to which four samples make a pixel; beyond, one: there a picture is enlarged anyway
_LARGEST = 4.0  # ratio to which a picture is enlarged before it is sampled


class HeadEntry(Protocol):
    """What an index says of a picture of a head; see `ViewEntry`."""

    @property
    def view(self) -> str:
        """Name of the direction, as in `views_at`."""

    @property
    def yaw_degrees(self) -> float:
        """Yaw in degrees, as in `HeadPose`."""

    @property
    def eye_line(self) -> tuple[float, float]:
        """Point in the middle of the head at the height of the eyes (x, y), px."""

    @property
    def chin(self) -> tuple[float, float]:
        """Lowest point of the chin (x, y), px."""


class HeadView(Protocol):
    """A picture of a head with its alpha; see `View`."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """RGB in 0..255, shape h w 3."""

    @property
    def alpha(self) -> NDArray[np.float32]:
        """Share of each pixel that is the head's, in [0, 1], shape h w."""

    @property
    def landmarks(self) -> NDArray[np.float32] | None:
        """Five landmarks, shape 5 2 (x, y) px; None from behind."""

    @property
    def entry(self) -> HeadEntry:
        """What the index says of it."""


class HeadInViews(Protocol):
    """One person's head from several directions; see `Double`."""

    @property
    def entry(self) -> Any:
        """What the index says; its ``views`` are the entries of all pictures."""

    def view(self, yaw: float = 0.0, expression: str = "neutral") -> HeadView:
        """The picture for a direction and an expression."""


def pose_of_view(view: HeadView) -> HeadPose:
    """Place, size and roll of the head in its own picture: by its landmarks, from behind by the lines of eyes and chin.

    The yaw is the one of the index. The size is the mean of what eyes and mouth say, as in `people.head_poses`.
    """
    if view.landmarks is not None:
        found, points = pose_of_landmarks(view.landmarks), np.asarray(view.landmarks, dtype=np.float64)
        down = math.dist(points[:2].mean(0), points[3:].mean(0))
        return HeadPose(found.x, found.y, math.sqrt(found.scale * down), found.roll, view.entry.yaw_degrees)
    x, y = view.entry.eye_line
    return HeadPose(x, y, (view.entry.chin[1] - y) / CHIN, 0.0, view.entry.yaw_degrees, is_seen=False)


class ResizedViews:
    """Pictures of heads at the sizes that they were rendered at lately: a head that hardly grows needs the same again.

    Args:
        most_bytes: Most memory that they take together, >= 0.
    """

    def __init__(self, most_bytes: int = 64 * 2**20) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[HeadView, int, int], Tensor] = OrderedDict()  # views are compared by identity

    def resized(self, view: HeadView, rows: int, columns: int) -> Float[Tensor, "4 y x"]:
        """Color times alpha, and alpha, of the whole picture at another size. Not to be written into."""
        key = (view, rows, columns)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self._kept[key] = _resized(view, rows, columns)
        self._bytes += found.nbytes
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
        return found


def render(
    view: HeadView, pose: HeadPose, box: Box, side: int, kept: ResizedViews | None = None
) -> Float[Tensor, "4 s s"]:
    """A picture of a head as it lies in a box of a frame, under a pose.

    The middle of its eyes comes to the pose's, at the pose's scale and roll; how far the head is turned is the
    picture's matter. The picture is resized to the density of the samples, by a kernel as wide as these where it
    shrinks; four samples make a pixel. A head that moves by a fraction of a pixel is rendered moved by it.

    Args:
        view: The picture.
        pose: Pose of the head in the frame.
        box: Square box ``x0 y0 x1 y1`` in pixels of the frame; may lie between pixels and beyond the frame.
        side: Side length of the result in pixels, at least 1.
        kept: Keeps resized pictures from one call to the next, for heads that are rendered again and again. The result
            is the same.

    Returns:
        RGB in [0, 1], multiplied by alpha, and alpha; float32. 0 where the head is not.

    Raises:
        SettingError: The pose has no size, or the box or the side is empty.
    """
    x0, y0, x1, y1 = box
    if not (side >= 1 and x1 > x0 and y1 > y0 and pose.scale > 0):
        raise SettingError(
            f"a head is rendered at scale {pose.scale:g} in the box {tuple(box)} at {side} px; expected all above 0"
        )
    own = pose_of_view(view)
    over = 2 if side <= _FINE else 1
    per_px = own.scale / pose.scale * (x1 - x0) / (side * over)  # pixels of the picture in one of the samples
    height, width = view.alpha.shape
    rows, columns = (math.ceil(size / max(per_px, 1 / _LARGEST)) for size in (height, width))
    planes = _resized(view, rows, columns) if kept is None else kept.resized(view, rows, columns)
    turn, grow = math.radians(own.roll - pose.roll), own.scale / pose.scale
    cosine, sine = grow * math.cos(turn), grow * math.sin(turn)
    # Of the box only the part that the picture with a sample more at each side can reach: nothing is elsewhere.
    reach = [-width / columns - own.x, width + width / columns - own.x]
    depth = [-height / rows - own.y, height + height / rows - own.y]
    x, y = (places.ravel() / grow**2 for places in np.meshgrid(reach, depth))
    of_x, of_y = pose.x - x0 + cosine * x + sine * y, pose.y - y0 + cosine * y - sine * x
    inside, level = (_whole(places * (side / (x1 - x0)), side) for places in (of_x, of_y))
    steps = (torch.arange(side * over, dtype=torch.float64) + 0.5) / (side * over)
    right = (x0 + steps[inside.start * over : inside.stop * over] * (x1 - x0) - pose.x)[None, :]
    down = (y0 + steps[level.start * over : level.stop * over] * (y1 - y0) - pose.y)[:, None]
    result = torch.zeros(4, side, side)
    if not right.numel() or not down.numel():
        return result
    across = own.x + cosine * right - sine * down
    along = own.y + sine * right + cosine * down
    grid = torch.stack([across / width * 2 - 1, along / height * 2 - 1], dim=-1).float()
    # Bilinear weights keep the centre of what they sample. PyTorch's bicubic ones do not, by up to a twelfth of a pixel
    # that depends on the place: a head that glides would jitter.
    found = nn.functional.grid_sample(planes[None], grid[None], "bilinear", "zeros", align_corners=False)
    found = nn.functional.avg_pool2d(found, over)[0]
    alpha = found[3:].clamp(0, 1)
    result[:, level, inside] = torch.cat([torch.minimum(found[:3].clamp_min(0), alpha), alpha])
    return result


def render_head(
    head: HeadInViews, pose: HeadPose, box: Box, side: int, expression: str = "neutral"
) -> Float[Tensor, "4 s s"]:
    """A head under a pose, in the view that its yaw shows; two views are mixed near the edge between them.

    Args:
        head: The head in its views; a view that it lacks is replaced by the one with the nearest yaw.
        pose: Pose of the head in the frame.
        box: Square box in pixels of the frame, see `render`.
        side: Side length of the result in pixels.
        expression: Expression of the face, where the head has it.

    Returns:
        Premultiplied RGB and alpha, see `render`.
    """
    total = torch.zeros(4, side, side)
    for name, share in views_at(pose.yaw):
        yaw = _yaw_of(head.entry.views, name, pose.yaw)
        total += share * render(head.view(yaw, expression), pose, box, side)
    return total


def footprint(head: HeadInViews, pose: HeadPose, margin: float = 0.0) -> Box:
    """The box ``x0 y0 x1 y1`` px of the frame that holds a rendered head wholly, whichever view it shows.

    Args:
        head: The head in its views.
        pose: Pose of the head in the frame.
        margin: Room on each side, in scales of the head, >= 0.
    """
    corners = []
    for name, _ in views_at(pose.yaw):
        view = head.view(_yaw_of(head.entry.views, name, pose.yaw))
        own = pose_of_view(view)
        rows, columns = (np.flatnonzero((view.alpha > 0).any(axis)) for axis in (1, 0))
        x, y = np.meshgrid([columns[0], columns[-1] + 1], [rows[0], rows[-1] + 1])
        turn = math.radians(pose.roll - own.roll)
        right, down = (x - own.x) * pose.scale / own.scale, (y - own.y) * pose.scale / own.scale
        across, along = math.cos(turn) * right - math.sin(turn) * down, math.sin(turn) * right + math.cos(turn) * down
        corners.append(np.stack([pose.x + across, pose.y + along], axis=-1).reshape(-1, 2))
    found = np.concatenate(corners)
    room = margin * pose.scale + 1
    (x0, y0), (x1, y1) = found.min(0) - room, found.max(0) + room
    return float(x0), float(y0), float(x1), float(y1)


def _yaw_of(entries: Sequence[Any], name: str, yaw: float) -> float:
    """Yaw of the picture with this view, or of the one that is nearest."""

    def away(entry: Any) -> tuple[bool, float]:
        return entry.view != name, abs((entry.yaw_degrees - yaw + 180) % 360 - 180)

    nearest: float = min(entries, key=away).yaw_degrees
    return nearest


def _whole(places: NDArray[np.float64], side: int) -> slice:
    """The whole pixels of a picture that hold all places along an axis, and one more at each end."""
    first, last = math.floor(places.min()) - 1, math.ceil(places.max()) + 1
    return slice(min(max(first, 0), side), min(max(last, 0), side))


def _resized(view: HeadView, rows: int, columns: int) -> Float[Tensor, "4 y x"]:
    planes = _premultiplied(view)
    height, width = planes.shape[1:]
    kernel: Interpolation = "bicubic" if rows > height else "bilinear"
    return resample(planes, (0.0, 0.0, float(width), float(height)), rows, columns, kernel)


def _premultiplied(view: HeadView) -> Float[Tensor, "4 h w"]:
    alpha = torch.from_numpy(np.array(view.alpha, dtype=np.float32))[None]
    image = torch.from_numpy(np.array(view.image)).permute(2, 0, 1).float() / 255
    return torch.cat([image * alpha, alpha])
