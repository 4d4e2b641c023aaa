"""A head turned about its vertical axis, from its picture from the front: depth of the mesh, and of a rounded head."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt

from doubles import faces
from doubles.faces import Face
from doubles.morphs import CONTROL
from doubles.warps import hull

FINE = 2  # pixels are moved at this multiple of the resolution, so that few holes open
BACK = 0.55  # how far the ears lie behind the edge of the mesh, in eye distances
NECK = 0.75  # and the neck


def depth(face: Face) -> NDArray[np.float32]:
    """Depth of every pixel of the head, px of the canvas, growing away from the camera: shape h w."""
    h, w = face.colour.shape[:2]
    unit = float(np.linalg.norm(np.diff(faces.eyes_of(face.mesh), axis=0)))
    mesh = face.mesh[list(CONTROL)]
    inside = hull(face.mesh[list(faces.OVAL), :2], (w, h), 0, 0.6) > 0.5
    # The mesh's depth within the face; its edge is carried outwards and bends back to the plane of the ears.
    z = _interpolated(mesh, (w, h))
    outline = face.alpha > 0.5
    to_face = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    to_outside = cv2.distanceTransform((outline | inside).astype(np.uint8), cv2.DIST_L2, 5)
    share = to_face / np.maximum(to_face + to_outside, 1e-3)
    plane = face.mesh[[234, 454, 127, 356], 2].mean() + BACK * unit
    nearest = _carried(z, inside)
    bent = nearest + (plane - nearest) * (1 - np.sqrt(np.clip(1 - share**2, 0, 1)))
    # Below the jaw: the neck, a cylinder behind the chin; hair beside it hangs in the plane of the ears.
    rows, columns = np.mgrid[:h, :w].astype(np.float32)
    jaw = face.mesh[[172, 397], 1].mean()
    middle = face.mesh[[152, 10], 0].mean()
    radius = 0.8 * unit
    round_neck = np.sqrt(np.clip(1 - ((columns - middle) / (1.3 * radius)) ** 2, 0, 1))
    neck = face.mesh[152, 2] + NECK * unit + (1 - round_neck) * 0.5 * unit
    below = np.clip((rows - jaw) / (0.35 * unit), 0, 1) * ~inside
    below = np.clip(np.maximum(below, np.clip(to_face / 6, 0, 1) * (rows > face.mesh[152, 1])), 0, 1)
    result = np.where(inside, z, bent * (1 - below) + neck * below)
    smooth = cv2.GaussianBlur(result.astype(np.float32), (0, 0), 0.035 * unit)
    return smooth.astype(np.float32)


def turned(face: Face, degrees: float) -> Face:
    """The head turned by an angle.

    Args:
        face: Head from the front, on a canvas.
        degrees: Positive turns the nose to the right edge of the picture; up to about 35 looks natural.
    """
    h, w = face.colour.shape[:2]
    z = depth(face)
    angle = np.deg2rad(degrees)
    middle = face.mesh[[152, 10, 168], 0].mean()
    unit = float(np.linalg.norm(np.diff(faces.eyes_of(face.mesh), axis=0)))
    axis = face.mesh[[234, 454], 2].mean() + 0.35 * unit

    def moved(x: NDArray[np.float32], depth_px: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        across, away = x - middle, depth_px - axis
        return middle + across * np.cos(angle) - away * np.sin(angle), across * np.sin(angle) + away * np.cos(angle)

    size = w * FINE, h * FINE
    premultiplied = np.dstack([face.colour * face.alpha[..., None], face.alpha])
    large = cv2.resize(premultiplied, size, interpolation=cv2.INTER_CUBIC)
    z = cv2.resize(z, size, interpolation=cv2.INTER_LINEAR)
    rows, columns = np.mgrid[: size[1], : size[0]].astype(np.float32)
    x, far = moved(columns / FINE, z)
    inside = cv2.resize(face.alpha, size) > 0.004
    order = np.argsort(-far[inside], kind="stable")  # the nearest are written last
    to_x = np.clip(np.round(x[inside] * FINE).astype(int), 0, size[0] - 1)[order]
    to_y = rows[inside].astype(int)[order]
    result = np.zeros_like(large)
    known = np.zeros(size[::-1], np.float32)
    result[to_y, to_x] = large[inside][order]
    known[to_y, to_x] = 1
    # Cracks between neighbours that moved apart are filled along the row.
    for reach in (3, 7, 15, 31):
        kernel = (reach, 1)
        spread = cv2.blur(result * known[..., None], kernel) / np.maximum(cv2.blur(known, kernel), 1e-6)[..., None]
        closed = cv2.morphologyEx(known, cv2.MORPH_CLOSE, np.ones((1, reach), np.uint8))
        fill = (known == 0) & (closed > 0)
        result[fill] = spread[fill]
        known[fill] = 1
    small = cv2.resize(result, (w, h), interpolation=cv2.INTER_AREA)
    alpha = np.clip(small[..., 3], 0, 1)
    colour = small[..., :3] / np.maximum(alpha[..., None], 0.02)
    mesh = face.mesh.copy()
    mesh[:, 0], mesh[:, 2] = moved(face.mesh[:, 0], face.mesh[:, 2])
    return Face(np.clip(colour, 0, 1).astype(np.float32), alpha.astype(np.float32), mesh.astype(np.float32))


def _interpolated(points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Depth between the points of a mesh, linear in its triangles."""
    step = 3
    x, y = np.meshgrid(np.arange(0, size[0], step), np.arange(0, size[1], step))
    values = LinearNDInterpolator(points[:, :2], points[:, 2], fill_value=np.nan)(x, y).astype(np.float32)
    filled = _carried(np.nan_to_num(values), ~np.isnan(values))
    return cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR)


def _carried(values: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The value of the nearest pixel in `where`."""
    rows, columns = distance_transform_edt(~where, return_distances=False, return_indices=True)
    return values[rows, columns]
