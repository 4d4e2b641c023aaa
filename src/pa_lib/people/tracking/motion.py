"""Prediction of boxes: a constant-velocity Kalman filter over centre and size, many boxes at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pa_lib.functional.boxes import aligned_overlaps

Array = NDArray[np.float64]

# How much boxes jump, in sides (square root of the area) of the box. Found on the DAVIS dancers and PETS pedestrians:
# a dancer's box jitters by a tenth of its side as arms swing, a head by a twentieth.
POSITION_NOISE = 0.06
SIZE_NOISE = 0.10
# Density of the white acceleration, in sides per second^1.5: a head that starts to run gains 2 sides/s within a second.
POSITION_AGILITY = 2.0
SIZE_AGILITY = 0.7
# What a box may do when it is first seen, sides per second: a sprinter's face crosses about five of itself.
FIRST_SPEED = 4.0
FIRST_GROWTH = 0.5


def to_centre_size(boxes: Array) -> Array:
    """``x0 y0 x1 y1`` to ``centre x, centre y, width, height``, shape n 4 both."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def to_corners(states: Array) -> Array:
    """``centre x, centre y, width, height`` to ``x0 y0 x1 y1``, shape n 4 both; sizes below 1 px become 1 px."""
    half = np.maximum(states[:, 2:], 1.0) / 2
    return np.concatenate([states[:, :2] - half, states[:, :2] + half], axis=1)


@dataclass(frozen=True, eq=False)
class Motion:
    r"""Gaussian beliefs about n boxes: centre x, centre y, width, height, each with its speed.

    The four coordinates are independent, so a 2 x 2 covariance each says everything an 8 x 8 one would, and n boxes are
    a few array operations. Between observations `dt` seconds apart the speed does a random walk of density :math:`q`:

    .. math:: F = \begin{pmatrix}1 & dt\\ 0 & 1\end{pmatrix},\quad
              Q = q \begin{pmatrix}dt^3/3 & dt^2/2\\ dt^2/2 & dt\end{pmatrix}

    which gives the same belief whether a second is predicted at once or frame by frame, as strided detection needs.

    Args:
        place: Centre x, centre y, width and height of the boxes in pixels, shape n 4.
        speed: Speed of these in pixels per second, shape n 4.
        variance: Variance of `place`, shape n 4.
        covariance: Covariance of `place` with `speed`, shape n 4.
        speed_variance: Variance of `speed`, shape n 4.

    Source: Bar-Shalom, Li, Kirubarajan, "Estimation with applications to tracking and navigation" (2001), 6.2.2.
    """

    place: Array
    speed: Array
    variance: Array
    covariance: Array
    speed_variance: Array

    @classmethod
    def start(cls, boxes: Array, speed: Array | None = None) -> Motion:
        """Beliefs after one observation of each box.

        Args:
            boxes: Boxes ``x0 y0 x1 y1`` in pixels, shape n 4.
            speed: Speed (x, y) in pixels per second that all of them are assumed to have, shape 2; None: at rest.
        """
        place = to_centre_size(boxes)
        side = _sides(place)
        guess = np.zeros(2) if speed is None else speed
        return cls(
            place=place,
            speed=np.concatenate([np.broadcast_to(guess, (len(place), 2)), np.zeros((len(place), 2))], axis=1),
            variance=_per_coordinate(side, POSITION_NOISE, SIZE_NOISE) ** 2,
            covariance=np.zeros_like(place),
            speed_variance=_per_coordinate(side, FIRST_SPEED, FIRST_GROWTH) ** 2,
        )

    def predicted(self, dt_s: float | Array) -> Motion:
        """Beliefs `dt_s` seconds later (a number, or shape n)."""
        dt = np.broadcast_to(np.asarray(dt_s, dtype=np.float64), len(self.place))[:, None]
        density = _per_coordinate(_sides(self.place), POSITION_AGILITY, SIZE_AGILITY) ** 2
        return Motion(
            place=self.place + dt * self.speed,
            speed=self.speed,
            variance=self.variance + 2 * dt * self.covariance + dt**2 * self.speed_variance + density * dt**3 / 3,
            covariance=self.covariance + dt * self.speed_variance + density * dt**2 / 2,
            speed_variance=self.speed_variance + density * dt,
        )

    def corrected(self, boxes: Array) -> Motion:
        """Beliefs after box i was seen at ``boxes[i]`` (shape n 4, ``x0 y0 x1 y1`` px)."""
        seen = to_centre_size(boxes)
        noise = _per_coordinate(_sides(seen), POSITION_NOISE, SIZE_NOISE) ** 2
        gain = self.variance / (self.variance + noise)
        speed_gain = self.covariance / (self.variance + noise)
        surprise = seen - self.place
        return Motion(
            place=self.place + gain * surprise,
            speed=self.speed + speed_gain * surprise,
            variance=(1 - gain) * self.variance,
            covariance=(1 - gain) * self.covariance,
            speed_variance=self.speed_variance - speed_gain * self.covariance,
        )

    def rows(self, which: NDArray[np.intp]) -> Motion:
        """The beliefs about some of the boxes."""
        return Motion(**{name: getattr(self, name)[which] for name in self.__dataclass_fields__})

    def with_rows(self, which: NDArray[np.intp], other: Motion) -> Motion:
        """A copy in which the rows `which` are those of `other`."""
        changed = {}
        for name in self.__dataclass_fields__:
            values = getattr(self, name).copy()
            values[which] = getattr(other, name)
            changed[name] = values
        return replace(self, **changed)

    def joined(self, other: Motion) -> Motion:
        """The beliefs of both, one after the other."""
        return Motion(
            **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__dataclass_fields__}
        )

    def boxes(self) -> Array:
        """Where the boxes are believed to be: shape n 4, ``x0 y0 x1 y1`` px."""
        return to_corners(self.place)

    def doubt(self) -> Array:
        """Standard deviation of the centre in sides of the box, the larger of both axes: shape n."""
        doubt: Array = np.sqrt(self.variance[:, :2].max(axis=1)) / _sides(self.place)
        return doubt


def buffered_iou(boxes: Array, others: Array, buffer: Array) -> Array:
    """Intersection over union after every box has grown: two boxes that just miss each other still compare.

    Args:
        boxes: Boxes ``x0 y0 x1 y1`` in pixels, shape n 4.
        others: Boxes to compare them with, shape m 4.
        buffer: Growth on each side of a box and of the one it is compared with, in widths and heights of the box, shape
            n.

    Returns:
        Shape n m, in [0, 1].

    Source: Yang et al., "Hard to track objects with irregular motions and similar appearances? Make it easier by
    buffering the matching space" (WACV 2023), equation 1. Differs: the buffer follows the doubt of the prediction.
    """
    b = buffer[:, None, None]
    grow = np.concatenate([boxes[:, :2] - boxes[:, 2:], boxes[:, 2:] - boxes[:, :2]], axis=1)
    grow_others = np.concatenate([others[:, :2] - others[:, 2:], others[:, 2:] - others[:, :2]], axis=1)
    one = boxes[:, None] + b * grow[:, None]
    two = others[None] + b * grow_others[None]
    return aligned_overlaps(one, two)


def _sides(states: Array) -> Array:
    sides: Array = np.sqrt(np.maximum(states[:, 2], 1.0) * np.maximum(states[:, 3], 1.0))
    return sides


def _per_coordinate(side: Array, of_position: float, of_size: float) -> Array:
    scaled: Array = side[:, None] * np.array([of_position, of_position, of_size, of_size])
    return scaled
