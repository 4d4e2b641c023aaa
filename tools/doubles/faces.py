"""Heads from the front on one canvas, with their meshes: what morphs are made of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from doubles.warps import hull

CANVAS = 640, 720  # width, height
EYES = ((265.0, 330.0), (375.0, 330.0))  # where the eyes of every head lie on the canvas
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
LEFT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
RIGHT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
NOSE = (6, 197, 195, 5, 4, 1, 19, 94, 2, 48, 278, 64, 294, 98, 327, 115, 344, 129, 358, 209, 429, 198, 420)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
WALL = 0.45  # grey behind a head where a network looks at it, in [0, 1]


@dataclass(frozen=True)
class Face:
    """A head on the canvas.

    Args:
        colour: RGB in [0, 1], shape h w 3.
        alpha: Opacity of the head in [0, 1], shape h w; None for frames whose outline is not needed.
        mesh: Dense landmarks, 478 points (x, y, z), px of the canvas; z grows away from the camera.
    """

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    mesh: NDArray[np.float32]

    def shrunk(self, scale: float) -> Face:
        """The same on a smaller canvas."""
        size = round(CANVAS[0] * scale), round(CANVAS[1] * scale)
        alpha = None if self.alpha is None else cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA)
        return Face(cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA), alpha, self.mesh * scale)

    def mirrored(self, partner: NDArray[np.intp]) -> Face:
        """Left and right exchanged.

        Args:
            partner: The mirror image of every point of the mesh; see `mirror_partners`.
        """
        mesh = self.mesh[partner]
        mesh[:, 0] = self.colour.shape[1] - 1 - mesh[:, 0]
        alpha = None if self.alpha is None else np.ascontiguousarray(self.alpha[:, ::-1])
        return Face(np.ascontiguousarray(self.colour[:, ::-1]), alpha, mesh)


def mirror_partners(mean: NDArray[np.float32]) -> NDArray[np.intp]:
    """The mirror image of every point of the mesh, by the mean of upright faces on the canvas: shape 478.

    Args:
        mean: Mean of their meshes, shape 478 2 (x, y), px.
    """
    middle = mean[[10, 152, 168, 1], 0].mean()
    flipped = mean * [-1, 1] + [2 * middle, 0]
    distance = np.linalg.norm(mean[:, None] - flipped[None], axis=2)
    # One to one: nearest points alone would pair two points of a cheek with one.
    _, partner = linear_sum_assignment(distance + distance.T)
    if (partner[partner] != np.arange(len(partner))).any():
        raise SystemExit("the mesh has points without a mirror image")
    return partner


def eyes_of(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middles of both eyes: shape 2 2, px. The left one of the picture first."""
    return np.stack([mesh[list(LEFT_EYE), :2].mean(axis=0), mesh[list(RIGHT_EYE), :2].mean(axis=0)])


def onto_canvas(picture: NDArray[np.uint8], alpha: NDArray[np.float32] | None, mesh: NDArray[np.float32]) -> Face:
    """A picture from the front, turned, moved and scaled until its eyes lie at `EYES`."""
    eyes = eyes_of(mesh) @ [1, 1j]
    wanted = np.array(EYES) @ [1, 1j]
    factor = (wanted[1] - wanted[0]) / (eyes[1] - eyes[0])
    shift = wanted.mean() - factor * eyes.mean()
    to_canvas = np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
    colour = picture.astype(np.float32) / 255
    if abs(factor) < 0.75:
        # Sampling far below the picture's own size would skip pixels.
        colour = cv2.GaussianBlur(colour, (0, 0), 0.4 / abs(factor))
    colour = cv2.warpAffine(colour, to_canvas, CANVAS, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if alpha is not None:
        alpha = cv2.warpAffine(alpha, to_canvas, CANVAS, flags=cv2.INTER_LINEAR).astype(np.float32)
    placed = mesh.copy()
    placed[:, :2] = mesh[:, :2] @ to_canvas[:, :2].T + to_canvas[:, 2]
    placed[:, 2] *= abs(factor)
    return Face(np.clip(colour, 0, 1), alpha, placed.astype(np.float32))


def five_landmarks(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """The five landmarks of `Detection`: eyes, tip of the nose, corners of the mouth; shape 5 2."""
    return np.concatenate([eyes_of(mesh), mesh[[1, 61, 291], :2]]).astype(np.float32)


def before_wall(colour: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A head before a plain grey wall, as networks look at it: RGB 0..255, shape h w 3."""
    mixed = np.clip(colour, 0, 1) * alpha[..., None] + WALL * (1 - alpha[..., None])
    return (mixed * 255 + 0.5).astype(np.uint8)


def crown(face: Face) -> NDArray[np.bool_]:
    """The solid part of the head above the forehead, which is hair: shape h w."""
    top, chin = face.mesh[[10, 152], 1]
    rows = np.arange(len(face.alpha))[:, None]
    return (face.alpha > 0.95) & (rows < top - 0.06 * (chin - top))


def skin_colour(face: Face) -> NDArray[np.float64]:
    """Mean red, green and blue of the cheeks, in [0, 1]."""
    mesh = face.mesh[:, :2]
    size = face.colour.shape[1], face.colour.shape[0]
    where = hull(mesh[[117, 205, 50, 36]], size, 0, 1) + hull(mesh[[346, 425, 280, 266]], size, 0, 1) > 0.5
    return face.colour[where].mean(axis=0).astype(np.float64)
