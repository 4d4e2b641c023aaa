"""One place and one size of a head in all its views: a change of view must not make it jump or grow."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from doubles.faces import EYES, before_wall
from doubles.heads import Side
from pa_lib.contracts import HeadPose
from pa_lib.functional.head_pose import pose_of_landmarks
from pa_lib.pretrained import CenterFace

Points = NDArray[np.float32]

EYES_X = (EYES[0][0] + EYES[1][0]) / 2
ENDS_PX = 36  # of the canvas
CURL_PX = 8  # of the canvas: curls that stand out are not the crown
MIRRORED = [1, 0, 2, 4, 3]  # order of the five landmarks in a mirror
# How far a side's size may be changed so that its crown is as high as the front's: the sheets' scales differ a little.
PROFILE_RATIO = 0.94, 1.07
BACK_RATIO = 0.88, 1.25


def found_landmarks(
    detector: CenterFace, colour: NDArray[np.float32], alpha: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The mean of what the detector finds in a picture and in its mirror image: shape 5 2, px; None without a face."""
    picture = before_wall(colour, alpha)
    straight, mirrored = (faces[0] if faces else None for faces in detector.detect([picture, picture[:, ::-1].copy()]))
    points = [] if straight is None else [straight.landmarks]
    if mirrored is not None:
        points.append(mirrored.landmarks[MIRRORED] * [-1, 1] + [picture.shape[1] - 1, 0])
    return np.mean(points, axis=0).astype(np.float32) if points else None


def agreed(landmarks: Points, pose: HeadPose) -> Points:
    """Landmarks, moved until they have the height, the scale and the roll of a pose; from left to right they stay.

    The detector scatters by up to a fifth of the scale in profiles, and by a few percent where a mouth is open or a
    head is turned, while all pictures of a double are at one scale.

    Args:
        landmarks: Landmarks of a view, shape 5 2 (x, y), px of the canvas.
        pose: Pose of the neutral face from the front, px of the canvas.
    """
    own = pose_of_landmarks(landmarks)
    turn = pose.scale / own.scale * np.exp(1j * np.radians(pose.roll - own.roll))
    moved = (landmarks @ [1, 1j] - (own.x + 1j * own.y)) * turn + (own.x + 1j * pose.y)
    return np.stack([moved.real, moved.imag], axis=1).astype(np.float32)


def fitted(side: Side, crown_y: float, chin_y: float) -> Side:
    """A head from the side or from behind, with crown and chin as high as those of the same head from the front.

    In a profile, what lies above the eyes is scaled in height to the crown, and the part from the eyes to the chin to
    the chin, since a morph's face may be shorter than that of the person whose profile it has. From behind, where no
    eyes are seen, the whole head is scaled. What lies below the chin moves with it.

    Args:
        side: The head on the canvas.
        crown_y: Row of the front's crown, px.
        chin_y: Row of its chin, px.
    """
    eyes_y = EYES[0][1]
    own_crown_y, own_chin_y = crown_row(side.alpha), eyes_y + side.chin_px
    if side.yaw == 180:
        above = np.clip((chin_y - crown_y) / (own_chin_y - own_crown_y), *BACK_RATIO)
    else:
        above = np.clip((eyes_y - crown_y) / (eyes_y - own_crown_y), *PROFILE_RATIO)
    height, width = side.alpha.shape
    x, y = np.arange(width) - EYES_X, np.arange(height)
    # Straight pieces: eyes come from eyes, and the chin from the chin; from behind, from the chin upwards.
    rows = own_chin_y + (y - chin_y) / np.where(y < chin_y, above, 1)
    if side.yaw != 180:
        face = eyes_y + (y - eyes_y) * side.chin_px / (chin_y - eyes_y)
        rows = np.where(y < eyes_y, eyes_y + (y - eyes_y) / above, np.where(y < chin_y, face, rows))
    to_x, to_y = (grid.astype(np.float32) for grid in np.meshgrid(EYES_X + x / above, rows))
    colour, alpha, skin = (
        np.clip(cv2.remap(plane, to_x, to_y, cv2.INTER_CUBIC, borderMode=border), 0, 1)
        for plane, border in (
            (side.colour, cv2.BORDER_REPLICATE),
            (side.alpha, cv2.BORDER_CONSTANT),
            (side.skin, cv2.BORDER_REPLICATE),
        )
    )
    # Long hair may reach below the canvas: it ends softly above the border.
    alpha = alpha * np.clip((height - 3 - y) / ENDS_PX, 0, 1)[:, None].astype(np.float32)
    return Side(colour, alpha, skin, side.yaw, chin_y - eyes_y)


def crown_row(alpha: NDArray[np.float32]) -> float:
    """The highest row in which the head is solid for more than a curl's width."""
    return float(np.nonzero((alpha > 0.5).sum(axis=1) > CURL_PX)[0][0])
