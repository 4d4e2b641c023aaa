"""Whether a person shows the face or the back of the head: a vote of all moments, the near ones first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pa_lib.people.tracking.motion import Array

# What a moment says: a detection of a face its score less the first number, a detection of the body without one less
# the second. Backs of heads get scores up to about 0.5; a face that is seen goes on being seen.
_DOUBT, _ABSENT = 0.5, 0.2
# Heights of faces in pixels between which a missing detection begins to say something: no detector finds smaller ones.
_TOO_SMALL_PX, _LARGE_PX = 20.0, 38.0
_FADES_S = 0.8  # a moment counts e times less for every such time that it is away


def is_facing(faces: Array, bodies: Array, face_px: Array, times: Array) -> NDArray[np.bool_]:
    r"""Whether a person's face is to be seen, in every frame.

    .. math:: \sum_j e^{-|t_i - t_j| / \tau} v_j > 0

    with :math:`v_j` the detector's score less 0.5 where it saw the face in frame j; -0.2 where it saw the body without
    a face, and less than that where the face would be too small to be found; 0 where nothing was searched. So a face
    that is seen once on the back of a head is not believed, one that is lost now and then is still there, and someone
    whose face is seen after coming nearer was facing the camera all along.

    Args:
        faces: Scores of detections of the face, shape n; NaN where there is none.
        bodies: Scores of detections of the body, shape n; NaN where there is none.
        face_px: Heights that a face would have, in pixels, shape n; NaN where there is no body.
        times: Times of the frames in seconds, increasing, shape n.

    >>> nothing = float("nan")
    >>> seen = np.array([nothing, 0.45, nothing, nothing, 0.9, 0.9, nothing, 0.8])
    >>> is_facing(seen, np.ones(8), np.full(8, 40.0), np.arange(8) / 2.0).tolist()
    [False, False, False, False, True, True, True, True]
    """
    has_face, has_body = np.isfinite(faces), np.isfinite(bodies)
    share = np.clip((np.nan_to_num(face_px) - _TOO_SMALL_PX) / (_LARGE_PX - _TOO_SMALL_PX), 0, 1)
    votes = np.where(has_face, np.nan_to_num(faces) - _DOUBT, np.where(has_body, -_ABSENT * share, 0.0))
    fade = np.exp(-np.diff(times) / _FADES_S)
    return _faded(votes, fade) + _faded(votes[::-1], fade[::-1])[::-1] - votes > 0


def _faded(votes: Array, fade: Array) -> Array:
    """Each vote with those before it."""
    total = votes.copy()
    for at in range(1, len(votes)):
        total[at] += total[at - 1] * fade[at - 1]
    return total
