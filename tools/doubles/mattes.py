"""A head cut out of a studio picture: hair, face, ears and neck down to the collar; grey wall and white shirt go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.floating[Any]]
Where = NDArray[np.bool_]

WALL_NEAR = 0.035  # colours nearer to the wall than this are wall; found by looking at curls
WALL_FAR = 0.16  # and farther than this are not wall alone
SHIRT_CHROMA = 11.0  # Lab; skin lies above 14, the shirts below 8 but for reflexes at the neck
SHIRT_LIGHT = 62.0  # Lab; the lit parts of the shirts are above
SHADE_LIGHT = 32.0  # Lab; the shaded parts of the shirts are above, black hair is below
# Lengths are in distances from the eyes to the chin, about 12 cm.
RIM = 0.10  # so deep, from its outline, hair may be mixed with what is seen through it
FRINGE = 0.035  # and skin with the collar
ENDS = 0.22  # hair that a shoulder or the picture's edge cuts off ends in strands of about this length


@dataclass(frozen=True)
class Guide:
    """Where a head lies in a picture.

    Args:
        eyes: A point of the head at the height of the eyes (x, y), px.
        chin_y: Row of the chin.
        skin: How far each pixel is skin rather than hair, in [0, 1], shape h w.
        has_long_hair: Hair falls onto the shoulders, which cut it, or to the picture's lower edge.
    """

    eyes: tuple[float, float]
    chin_y: float
    skin: NDArray[np.float32]
    has_long_hair: bool = False

    @property
    def face_px(self) -> float:
        """Distance from the eyes to the chin."""
        return self.chin_y - self.eyes[1]


def matte(image: Image, guide: Guide) -> tuple[Image, NDArray[np.float32]]:
    """The head of which the guide says where it lies.

    Args:
        image: RGB, shape h w 3: one person in a white shirt before a grey wall.
        guide: Place of the head.

    Returns:
        Colours without what is seen through the head where it is translucent; and alpha in [0, 1], shape h w.
    """
    picture = image.astype(np.float32) / 255
    unit = guide.face_px
    wall = _wall(picture)
    outside, cloth, core = _parts(picture, wall, guide)
    # What is not the head is taken for what the nearest part of the head is.
    hair = 1 - _spread(guide.skin[..., None], core, unit * 0.01)[..., 0]
    depth = cv2.distanceTransform(1 - outside.astype(np.uint8), cv2.DIST_L2, 5)
    to_cloth = cv2.distanceTransform(1 - cloth.astype(np.uint8), cv2.DIST_L2, 5)
    to_wall = cv2.distanceTransform(1 - (outside & ~cloth).astype(np.uint8), cv2.DIST_L2, 5)

    behind = wall.copy()
    cloth_colour = _spread(picture, cv2.erode(cloth.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, unit * 0.035)
    before_cloth = to_cloth < np.maximum(to_wall, 1)
    behind[before_cloth] = cloth_colour[before_cloth]
    # Colours of hair are taken from deep inside: at the rim, grey may be the strand's own or the wall's.
    front = _spread(picture, core, unit * 0.02)
    inner = _spread(picture, core & (depth > RIM / 2 * unit), unit * 0.03)
    front += hair[..., None] * (inner - front)
    span = front - behind
    length = np.maximum((span**2).sum(axis=2), 0.004)
    share = ((picture - behind) * span).sum(axis=2) / length
    beside = np.linalg.norm(picture - behind - share[..., None] * span, axis=2) / np.sqrt(length)
    share = np.clip((share - 0.06) / 0.86, 0, 1)

    rim = hair * np.clip((RIM * unit - depth) / (0.4 * RIM * unit), 0, 1) * np.clip(2 - beside / 0.2, 0, 1)
    fringe = np.clip(2 - 2 * to_cloth / (FRINGE * unit), 0, 1)
    alpha = np.where(core, 1 - np.maximum(rim, fringe) * (1 - share), share)
    alpha[outside] = 0
    alpha *= _near(core, unit * 0.15)
    alpha *= _without_scraps(alpha, guide)
    # Hair against the wall is fine; what is translucent and smooth is a shadow on the wall.
    (width,) = _odd(0.036 * unit)
    smooth = cv2.morphologyEx(alpha.astype(np.float32), cv2.MORPH_OPEN, np.ones((width, width), np.uint8))
    alpha = np.where(smooth < 0.6, (alpha - smooth) / (1 - np.minimum(smooth, 0.6)), alpha)
    if guide.has_long_hair:
        alpha *= _ends(guide, cloth, alpha[-1] > 0.3)
    alpha = alpha.astype(np.float32)
    # Skin has smooth outlines.
    even = np.clip((cv2.GaussianBlur(alpha, (0, 0), 0.012 * unit) - 0.5) * 1.6 + 0.5, 0, 1)
    alpha += np.clip(1 - 2 * hair, 0, 1) * (even - alpha)
    alpha = np.maximum(cv2.GaussianBlur(alpha, (0, 0), 0.6) * (alpha < 1), alpha * (alpha == 1)).astype(np.float32)
    edge = cv2.GaussianBlur((alpha > 0.5).astype(np.float32), (0, 0), 1.0)
    alpha = np.where(alpha == 1, np.clip(edge * 2, 0, 1) * alpha, alpha)
    return _unmixed(picture, behind, front, alpha, hair), alpha


def _parts(picture: Plane, wall: Plane, guide: Guide) -> tuple[Where, Where, Where]:
    """What is certainly not the head; the cloth in it; and what is the head, at least in part."""
    unit = guide.face_px
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    distance = np.linalg.norm(picture - wall, axis=2)
    bright = (lab[..., 0] > SHIRT_LIGHT) & (chroma < SHIRT_CHROMA)
    shirt = _from_below(bright)
    sure_wall = _from_border((distance < WALL_NEAR) & ~shirt) | _gaps(picture, distance, unit)
    rows = np.arange(len(picture))[:, None]
    # Below the chin there is no grey but cloth and wall, and shines on hair, which lie apart from these.
    shade = (rows > guide.chin_y + 0.05 * unit) & (chroma < SHIRT_CHROMA) & (lab[..., 0] > SHADE_LIGHT)
    grey = _touching(shade | shirt, shirt)
    cloth = shirt | grey & ~sure_wall
    core = (distance > WALL_FAR) & ~bright | (chroma > 16) & (distance > WALL_NEAR * 2)
    core = _component(cv2.erode((core & ~cloth).astype(np.uint8), np.ones((3, 3), np.uint8)), guide.eyes)
    # Deep inside, grey shines on hair are hair: only near the outside may the wall be seen through it.
    outside = sure_wall | cloth
    depth = cv2.distanceTransform(1 - outside.astype(np.uint8), cv2.DIST_L2, 5)
    core |= _filled(core) & (depth > 0.07 * unit)
    return outside, cloth, core


def _unmixed(picture: Plane, behind: Plane, front: Plane, alpha: Plane, hair: Plane) -> Image:
    """The head's own colours: what is seen through it is taken out, and the uncertain is like its neighbourhood."""
    solved = (picture - (1 - alpha[..., None]) * behind) / np.maximum(alpha[..., None], 0.15)
    # Strands at the rim are no brighter than the hair behind them: else they would be the wall's light.
    most = front + 0.06 + (1 - hair[..., None]) + np.clip(alpha[..., None] - 0.9, 0, 1) * 20
    solved = np.minimum(solved, most)
    certain = np.clip((alpha[..., None] - 0.3) / 0.6, 0, 1)
    colour = np.clip(certain * solved + (1 - certain) * front, 0, 1)
    faint = alpha[..., None] <= 0.02
    colour = np.where(faint, _spread(colour, alpha > 0.5, 2.0), colour)
    return np.clip(colour * 255 + 0.5, 0, 255).astype(np.uint8)


def _wall(picture: Plane) -> NDArray[np.float32]:
    """The wall behind, as a polynomial of third degree for each channel, fitted to what is grey at the sides."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
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


def _gaps(picture: Plane, distance: Plane, unit: float) -> Where:
    """Wall between curls: of its colour, and as smooth as a wall, which shines on hair are not."""
    mean = cv2.blur(picture, (3, 3))
    spread = np.sqrt(np.maximum(cv2.blur(picture**2, (3, 3)) - mean**2, 0)).max(axis=2)
    where = ((distance < 1.5 * WALL_NEAR) & (spread < 0.02)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(where, connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] > (0.02 * unit) ** 2
    kept[0] = False
    return kept[labels]


def _ends(guide: Guide, cloth: Where, cut: Where) -> NDArray[np.float32]:
    """Where hair meets a shoulder or the lower edge of the picture it ends in strands, not along a line.

    Args:
        guide: Place of the head.
        cloth: Shirt, shape h w.
        cut: Columns in which the head, be it skin, is cut by the lower edge: shape w.

    Returns:
        Factors of alpha, shape h w.
    """
    height, width = cloth.shape
    unit = guide.face_px
    # Light strands look like skin, and shades of the neck like hair, but both are small; so does hair before cloth.
    large, small = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (n, n)) for n in _odd(0.15 * unit, 0.04 * unit))
    hair = ((guide.skin < 0.5) & ~cloth).astype(np.uint8)
    for act in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN):
        hair = cv2.morphologyEx(hair, act, large)
    hair = cv2.dilate(hair, small) > 0
    cut = cv2.dilate(cut.astype(np.uint8)[None], np.ones((1, len(small)), np.uint8))[0] > 0
    above = np.zeros(width, np.float32)  # of hair, without a break, over the cloth
    heights = np.full(cloth.shape, np.float32(height))
    ground = np.ones(width, bool)
    for row in range(height - 1, int(guide.chin_y), -1):
        stands = ~cloth[row] & (hair[row] | cut) & ground
        above = np.where(stands, above + 1, 0).astype(np.float32)
        heights[row] = np.where(stands, above, height)
        ground = stands | cloth[row]
        cut &= ~cloth[row]
    noise = np.random.default_rng(0).random(width + 64).astype(np.float32)
    strands = 0.6 * _standard(noise, 0.008 * unit) + 0.6 * _standard(noise[::-1], 0.03 * unit)
    reach = ENDS * unit * np.clip(1 + 0.35 * strands[32 : width + 32] * hair, 0.3, 2)
    # Just below the chin there is no room for long strands.
    rows = np.arange(height, dtype=np.float32)[:, None]
    reach = reach * np.clip((rows - guide.chin_y) / (0.4 * unit), 0.15, 1)
    rising = np.clip((heights - 1) / reach, 0, 1)
    return (rising * rising * (3 - 2 * rising)).astype(np.float32)


def _odd(*sizes_px: float) -> list[int]:
    return [2 * round(size / 2) + 1 for size in sizes_px]


def _standard(noise: Plane, sigma_px: float) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(noise[None], (0, 0), max(sigma_px, 0.5))[0]
    return (smooth - smooth.mean()) / smooth.std()


def _from_border(where: Where) -> Where:
    """The parts that touch the upper border or the sides."""
    border = np.zeros_like(where)
    border[0] = border[:, 0] = border[:, -1] = True
    return _touching(where, where & border)


def _from_below(where: Where) -> Where:
    """The large parts that reach into the lowest quarter."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(where.astype(np.uint8), connectivity=4)
    low = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] > 0.8 * len(where)
    kept = low & (stats[:, cv2.CC_STAT_AREA] > 0.0005 * where.size)
    kept[0] = False
    return kept[labels]


def _touching(where: Where, seeds: Where) -> Where:
    """The parts that hold some of the seeds."""
    n, labels = cv2.connectedComponents(where.astype(np.uint8), connectivity=4)
    kept = np.zeros(n, bool)
    kept[np.unique(labels[seeds])] = True
    kept[0] = False
    return kept[labels]


def _component(where: NDArray[np.uint8], seed: tuple[float, float]) -> Where:
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


def _without_scraps(alpha: Plane, guide: Guide) -> Where:
    """All but what lies apart from the head and below the face: shades and buttons of shirts."""
    x, y = (round(value) for value in guide.eyes)
    _, labels, _, centres = cv2.connectedComponentsWithStats((alpha > 0.2).astype(np.uint8), connectivity=4)
    is_scrap = centres[:, 1] > y + 0.6 * guide.face_px
    is_scrap[[0, labels[y, x]]] = False
    scraps = cv2.dilate(is_scrap[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return ~scraps | (labels == labels[y, x])


def _filled(where: Where) -> Where:
    """With its holes."""
    framed = cv2.copyMakeBorder(where.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] != 2


def _spread(picture: Plane, where: Where, sigma_px: float) -> NDArray[np.float32]:
    """Colours of `where`, carried over to everything near it, by means at growing distances."""
    result = np.zeros(picture.shape, np.float32)
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
        sums, counts = cv2.resize(sums, size).reshape(picture.shape), cv2.resize(counts, size)
        share = np.clip(counts / 0.02, 0, 1) * (1 - known)
        result += share[..., None] * sums / np.maximum(counts, 1e-6)[..., None]
        known += share
    return (result / np.maximum(known, 1e-6)[..., None]).astype(np.float32)


def _near(where: Where, reach_px: float) -> NDArray[np.float32]:
    """1 on `where`, falling to 0 at a distance."""
    away = cv2.distanceTransform((~where).astype(np.uint8), cv2.DIST_L2, 5)
    return np.clip(2 - 2 * away / reach_px, 0, 1).astype(np.float32)
