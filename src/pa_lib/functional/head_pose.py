"""The pose of a head from five landmarks of its face, in closed form, and the ellipse that holds the whole head.

Lengths are in units of a head's scale, the distance from the middle between the eyes to the middle of the mouth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from pa_lib.contracts import HeadPose

# Half the distance of the eyes and of the corners of the mouth: of the mouth, the place that dlib's face chips give it;
# of the eyes 4 % more, so that the eyes and the mouth of the faces of the shared clips say the same of their size.
_EYE, _MOUTH = 0.48, 0.408
# How far the tip of the nose stands out of the plane of eyes and mouth: about 25 mm where the scale is about 67 mm.
_NOSE = 0.38
# A head around the middle between its eyes. Above: skull and hair, below: chin and the top of the neck; half the width
# with ears and hair; how far its middle lies behind the eyes, which shows as it turns, and half its depth with hair.
_ABOVE, _BELOW, _HALF_WIDTH, _BEHIND, _HALF_DEPTH = 2.3, 2.4, 1.85, 0.8, 2.1

VIEW_EDGES = (15.0, 56.0, 130.0)
"""Yaws in degrees, to either side, at which a head shows another of its views: front, three quarters, profile, back.
Halfway between the views of the doubles, at 0, 28, 85 and 180."""
VIEW_MARGIN = 5.0
"""Degrees to either side of an edge within which both views are shown; smoothed poses pass through it quickly."""
_VIEWS = ("front", "three_quarter", "profile", "back")


def views_at(yaw: float) -> tuple[tuple[str, float], ...]:
    """The view of a head that a yaw shows, or two and their shares near an edge between them.

    Args:
        yaw: Yaw in degrees, in [-180, 180], as in `HeadPose`.

    Returns:
        ``front``, ``three_quarter_left``, ``three_quarter_right``, ``profile_left``, ``profile_right`` or ``back``,
        left and right being the picture's, with shares that add up to 1.

    >>> views_at(-40.0), views_at(15.0)
    ((('three_quarter_left', 1.0),), (('front', 0.5), ('three_quarter_right', 0.5)))
    """
    turn = abs(yaw)
    side = "right" if yaw > 0 else "left"
    names = [name if name in ("front", "back") else f"{name}_{side}" for name in _VIEWS]
    at = sum(turn > edge for edge in VIEW_EDGES)
    for inner, edge in enumerate(VIEW_EDGES):
        if abs(turn - edge) < VIEW_MARGIN:
            share = (turn - edge + VIEW_MARGIN) / (2 * VIEW_MARGIN)
            return (names[inner], 1 - share), (names[inner + 1], share)
    return ((names[at], 1.0),)


def poses_of_landmarks(landmarks: Float[np.ndarray, "n 5 2"]) -> Float[np.ndarray, "n 5"]:
    r"""Poses of faces by weak perspective: x, y, scale, roll, yaw of every face, as in `HeadPose`.

    With :math:`E` and :math:`M` the middles of the eyes and of the mouth, :math:`e` and :math:`m` the vectors from the
    left to the right eye and corner of the mouth, :math:`N` the tip of the nose, and :math:`\hat u` the unit vector to
    the right, at right angles to :math:`M - E`:

    .. math:: \tan(\mathrm{yaw}) = \frac{(N - E) \cdot \hat u \,/\, n}{w},\qquad
              w = \frac{e_0 (e \cdot \hat u) + m_0 (m \cdot \hat u)}{2 (e_0^2 + m_0^2)}

    where :math:`n, e_0, m_0` are the nose's height and half the distances of eyes and corners of the mouth in a mean
    head. Pitch moves points along :math:`M - E` alone, so it cancels. The position is :math:`E`. The scale is that of
    eyes and nose, which a mouth that opens does not move, and more of the distance down to the mouth as the head turns
    and hides an eye:

    .. math:: s = \left| \left( \frac{e \cdot \hat u}{2 e_0}, \frac{(N - E) \cdot \hat u}{n} \right)
              \right|^{\cos^2(\mathrm{yaw})} |M - E|^{\sin^2(\mathrm{yaw})}

    The roll is that of the similarity that brings eyes and mouth of the mean head, turned by this yaw, nearest to the
    seen ones by least squares.

    Args:
        landmarks: Landmarks (x, y) in pixels in the order of `Detection`; a face with NaN has a pose of NaN.

    Returns:
        float64.

    Source: scaled orthography for poses, DeMenthon & Davis, Model-Based Object Pose in 25 Lines of Code (IJCV 1995).
    Differs: for five named points, in closed form.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    left, right, nose, mouth_left, mouth_right = (points[:, at, 0] + 1j * points[:, at, 1] for at in range(5))
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    down = mouth - eyes
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.conj(-1j * down / np.abs(down))  # multiplying by it, the real part is the share along u
        apart = ((right - left) * along).real
        wide = _EYE * apart + _MOUTH * ((mouth_right - mouth_left) * along).real
        wide /= 2 * (_EYE**2 + _MOUTH**2)
        aside = ((nose - eyes) * along).real / _NOSE
        yaw = np.arctan2(aside, np.maximum(wide, 0.0))
        across = np.cos(yaw)
        scale = np.hypot(apart / (2 * _EYE), aside) ** across**2 * np.abs(down) ** (1 - across**2)
        seen = np.stack([left, right, mouth_left, mouth_right])
        mean = np.stack([-_EYE * across, _EYE * across, -_MOUTH * across + 1j, _MOUTH * across + 1j])
        centred = mean - 0.5j
        turn = (np.conj(centred) * seen).sum(0) / (np.abs(centred) ** 2).sum(0)
    return np.stack([eyes.real, eyes.imag, scale, np.degrees(np.angle(turn)), np.degrees(yaw)], axis=1)


def pose_of_landmarks(landmarks: Shaped[Any, "5 2"]) -> HeadPose:
    """The pose of one face, see `poses_of_landmarks`.

    >>> pose = pose_of_landmarks(np.array([[40, 50], [60, 50], [52, 62], [41, 72], [59, 72]]))
    >>> round(pose.x), round(pose.y), round(pose.scale), round(pose.roll), round(pose.yaw)
    (50, 50, 22, 0, 14)
    """
    x, y, scale, roll, yaw = (
        round(float(v), 6) + 0.0 for v in poses_of_landmarks(np.asarray(landmarks, np.float64)[None])[0]
    )
    return HeadPose(x, y, scale, roll, yaw)


def head_ellipse(pose: HeadPose, growth: float = 1.0) -> tuple[float, float, float, float, float]:
    """The ellipse that holds the whole head with hair, ears, chin and the top of the neck.

    Args:
        pose: Pose of the head.
        growth: Ratio of the axes to those of a usual head, > 0.

    Returns:
        Centre x and y and the half axes across and along the head, in pixels, and the tilt in degrees.

    >>> [round(number, 6) for number in head_ellipse(HeadPose(50.0, 50.0, 10.0))]
    [50.0, 50.5, 18.5, 23.5, 0.0]
    """
    turn, tilt = math.radians(pose.yaw), math.radians(pose.roll)
    aside, below = -_BEHIND * math.sin(turn), (_BELOW - _ABOVE) / 2
    across = math.hypot(_HALF_WIDTH * math.cos(turn), _HALF_DEPTH * math.sin(turn))
    x = pose.x + pose.scale * (aside * math.cos(tilt) - below * math.sin(tilt))
    y = pose.y + pose.scale * (aside * math.sin(tilt) + below * math.cos(tilt))
    size = growth * pose.scale
    return x, y, across * size, (_ABOVE + _BELOW) / 2 * size, pose.roll
