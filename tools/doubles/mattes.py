"""A head cut out of a studio picture: hair, face, ears and neck down to the collar; grey wall and white shirt go."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.floating[Any]]

WALL_NEAR = 0.035  # colours nearer to the wall than this are wall; found by looking at curls
WALL_FAR = 0.16  # and farther than this are certainly not
SHIRT_CHROMA = 11.0  # Lab; skin lies above 14, the shirts below 8 but for reflexes at the neck
SHIRT_LIGHT = 62.0  # Lab; the shaded parts of the shirts are above


def matte(image: Image, seed: tuple[float, float]) -> tuple[Image, NDArray[np.float32]]:
    """The head around a point.

    Args:
        image: RGB, shape h w 3: one person in a white shirt before a grey wall.
        seed: A point of the head (x, y), px, such as the tip of the nose.

    Returns:
        Colours without the wall's grey, where the head is translucent; and alpha in [0, 1], shape h w.
    """
    picture = image.astype(np.float32) / 255
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    wall = _wall(picture, lab, chroma)
    distance = np.linalg.norm(picture - wall, axis=2)

    bright = (lab[..., 0] > SHIRT_LIGHT) & (chroma < SHIRT_CHROMA)
    shirt = _from_below(bright, image.shape[0])
    sure_wall = _from_border((distance < WALL_NEAR) & ~shirt)
    core = (distance > WALL_FAR) & ~bright | (chroma > 16) & (distance > WALL_NEAR * 2)
    core = _component(cv2.erode(core.astype(np.uint8), np.ones((3, 3), np.uint8)), seed)
    # Deep inside, grey shines on hair are hair: only near the outside may the wall be seen through it.
    side = max(image.shape[:2])
    outside = (sure_wall | shirt).astype(np.uint8)
    depth = cv2.distanceTransform(1 - outside, cv2.DIST_L2, 5)
    core |= _filled(core) & (depth > 0.02 * side)

    behind = wall.copy()
    shirt_colour = _spread(picture, cv2.erode(shirt.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, side * 0.01)
    near_shirt = cv2.distanceTransform(1 - shirt.astype(np.uint8), cv2.DIST_L2, 5) < np.maximum(
        cv2.distanceTransform(1 - sure_wall.astype(np.uint8), cv2.DIST_L2, 5), 1
    )
    behind[near_shirt] = shirt_colour[near_shirt]
    front = _spread(picture, core, side * 0.006)
    span = front - behind
    alpha = ((picture - behind) * span).sum(axis=2) / np.maximum((span**2).sum(axis=2), 0.004)
    alpha = np.clip((alpha - 0.06) / 0.86, 0, 1)
    alpha[core] = 1
    alpha[sure_wall | shirt] = 0
    alpha *= _near(core, side * 0.045)
    alpha *= _without_scraps(alpha, seed, side)
    # Hair against the wall is fine; what is translucent and smooth is a shadow on the wall.
    smooth = cv2.morphologyEx(alpha.astype(np.float32), cv2.MORPH_OPEN, np.ones((11, 11), np.uint8))
    alpha = np.where(smooth < 0.6, (alpha - smooth) / (1 - np.minimum(smooth, 0.6)), alpha)
    alpha = alpha.astype(np.float32)
    alpha = np.maximum(cv2.GaussianBlur(alpha, (0, 0), 0.6) * (alpha < 1), alpha * (alpha == 1)).astype(np.float32)
    edge = cv2.GaussianBlur((alpha > 0.5).astype(np.float32), (0, 0), 1.0)
    alpha = np.where(alpha == 1, np.clip(edge * 2, 0, 1) * alpha, alpha)
    solved = (picture - (1 - alpha[..., None]) * behind) / np.maximum(alpha[..., None], 0.15)
    certain = np.clip((alpha[..., None] - 0.3) / 0.6, 0, 1)
    colour = np.clip(certain * solved + (1 - certain) * front, 0, 1)
    colour = _spread(colour, alpha > 0.5, side * 0.006) * (alpha[..., None] <= 0.02) + colour * (
        alpha[..., None] > 0.02
    )
    return np.clip(colour * 255 + 0.5, 0, 255).astype(np.uint8), alpha


def _wall(picture: Plane, lab: Plane, chroma: Plane) -> NDArray[np.float32]:
    """The wall behind, as a polynomial of second degree for each channel, fitted to what is grey at the sides."""
    h, w = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, x**3, y**3, x * x * y, x * y * y], axis=-1)
    grey = (chroma < 7) & (lab[..., 0] > 30) & (lab[..., 0] < 68)
    grey &= cv2.erode(grey.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    grey &= (np.abs(x) > 0.55) | (y < -0.9)
    fitted = np.zeros_like(picture)
    kept = grey & (np.random.default_rng(0).random(grey.shape) < 60_000 / max(grey.sum(), 1))
    for _ in range(4):
        weights = np.linalg.lstsq(terms[kept], picture[kept].astype(np.float64), rcond=None)[0]
        fitted = (terms @ weights).astype(np.float32)
        kept &= np.linalg.norm(picture - fitted, axis=2) < 0.05
    return fitted


def _from_border(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts that touch the upper border or the sides."""
    n, labels = cv2.connectedComponents(where.astype(np.uint8), connectivity=4)
    touching = np.unique(np.concatenate([labels[0], labels[:, 0], labels[:, -1]]))
    kept = np.zeros(n, bool)
    kept[touching] = True
    kept[0] = False
    return kept[labels]


def _from_below(where: NDArray[np.bool_], height: int) -> NDArray[np.bool_]:
    """The large parts that reach into the lowest quarter."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(where.astype(np.uint8), connectivity=4)
    low = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] > 0.8 * height
    kept = low & (stats[:, cv2.CC_STAT_AREA] > 0.0005 * where.size)
    kept[0] = False
    return kept[labels]


def _component(where: NDArray[np.uint8], seed: tuple[float, float]) -> NDArray[np.bool_]:
    """The part that holds the point, or else the largest."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(where, connectivity=4)
    held = labels[round(seed[1]), round(seed[0])]
    if held == 0:
        held = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    # Strands that all but touch the head belong to it too.
    grown = cv2.dilate((labels == held).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    kept = np.zeros(len(stats), bool)
    kept[np.unique(labels[grown])] = True
    kept[0] = False
    return kept[labels]


def _without_scraps(alpha: Plane, seed: tuple[float, float], side: int) -> NDArray[np.bool_]:
    """All but what lies apart from the head and below the face: shades and buttons of shirts."""
    _, labels, _, centres = cv2.connectedComponentsWithStats((alpha > 0.2).astype(np.uint8), connectivity=4)
    is_scrap = centres[:, 1] > seed[1] + 0.1 * side
    is_scrap[[0, labels[round(seed[1]), round(seed[0])]]] = False
    scraps = cv2.dilate(is_scrap[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return ~scraps | (labels == labels[round(seed[1]), round(seed[0])])


def _filled(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With its holes."""
    framed = cv2.copyMakeBorder(where.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] != 2


def _spread(picture: Plane, where: NDArray[np.bool_], sigma_px: float) -> NDArray[np.float32]:
    """Colours of `where`, carried over to everything near it, by means at growing distances."""
    result = np.zeros_like(picture, np.float32)
    known = np.zeros(picture.shape[:2], np.float32)
    inside = where.astype(np.float32)
    for factor in (1, 3, 9, 27):
        # Wide means are taken on small pictures: the same within a grey level.
        small = 1 / max(1, round(sigma_px * factor / 4))
        sums = cv2.resize(picture * inside[..., None], None, fx=small, fy=small, interpolation=cv2.INTER_AREA)
        counts = cv2.resize(inside, None, fx=small, fy=small, interpolation=cv2.INTER_AREA)
        sums = cv2.GaussianBlur(sums, (0, 0), sigma_px * factor * small)
        counts = cv2.GaussianBlur(counts, (0, 0), sigma_px * factor * small)
        size = picture.shape[1], picture.shape[0]
        sums, counts = cv2.resize(sums, size), cv2.resize(counts, size)
        share = np.clip(counts / 0.02, 0, 1) * (1 - known)
        result += share[..., None] * sums / np.maximum(counts, 1e-6)[..., None]
        known += share
    return (result / np.maximum(known, 1e-6)[..., None]).astype(np.float32)


def _near(where: NDArray[np.bool_], reach_px: float) -> NDArray[np.float32]:
    """1 on `where`, falling to 0 at a distance."""
    away = cv2.distanceTransform((~where).astype(np.uint8), cv2.DIST_L2, 5)
    return np.clip(2 - 2 * away / reach_px, 0, 1).astype(np.float32)
