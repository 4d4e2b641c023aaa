"""Morphs: the head of one person, with the parts of others' faces, in a shape that none of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from doubles import faces
from doubles.faces import Face
from doubles.warps import blended, hull, thin_plate, warped

REGIONS = ("brows", "eyes", "nose", "mouth", "jaw", "forehead")
MODES = 11  # of `deformations`
CONTROL = tuple(
    sorted(
        {*faces.OVAL, *faces.LEFT_EYE, *faces.RIGHT_EYE, *faces.LEFT_BROW, *faces.RIGHT_BROW, *faces.NOSE}
        | {*faces.LIPS, *faces.INNER_LIPS, 50, 280, 205, 425, 117, 346, 187, 411, 151, 9, 8, 168, 199, 200, 18, 164}
        | {104, 333, 69, 299, 108, 337, 123, 352, 207, 427, 214, 434, 210, 430, 119, 348, 101, 330, 36, 266}
    )
)


@dataclass(frozen=True)
class Recipe:
    """What a morph is made of.

    Args:
        head: Person with the hair, the ears, the neck and the outline.
        face: Person with the cheeks and the forehead.
        eyes: Person with the eyes and the eyebrows.
        nose: Person with the nose.
        mouth: Person with the mouth and the chin.
        shape: Per region and person how much of what sets their shape apart from the mean: shape 6 10.
        modes: Strengths of the `deformations`, in their standard deviations: shape 11.
        skin: Factors of red, green and blue of all skin.
        hair: Added to the hair's lightness (Lab), and the hue angle and strength of a tint.
        brows: Strength of the eyebrows: 1 unchanged, below 1 lighter.
        detail: Strength of lines and pores: 1 unchanged.
        is_mirrored: Left and right exchanged in the head.
    """

    head: str
    face: str
    eyes: str
    nose: str
    mouth: str
    shape: NDArray[np.float32]
    modes: NDArray[np.float32]
    skin: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hair: tuple[float, float, float] = (0.0, 0.0, 0.0)
    brows: float = 1.0
    detail: float = 1.0
    is_mirrored: bool = False

    @property
    def parents(self) -> list[str]:
        """Everyone whose pixels are in it, the head first."""
        return list(dict.fromkeys([self.head, self.face, self.eyes, self.nose, self.mouth]))


class Morpher:
    """Makes morphs at one scale.

    Args:
        people: Neutral faces on the canvas, by person.
        scale: Size of the results relative to the canvas.
        window: The part of the canvas that is made, ``x0 y0 x1 y1`` px of the whole canvas.
        expressions: Faces by expression and person, on the whole canvas; only at scale 1.
        lenders: Neutral meshes of those who lend an expression to another person, by expression and that person.
    """

    def __init__(
        self,
        people: Mapping[str, Face],
        scale: float = 1.0,
        window: tuple[int, int, int, int] = (0, 0, *faces.CANVAS),
        expressions: Mapping[str, Mapping[str, Face]] | None = None,
        lenders: Mapping[tuple[str, str], NDArray[np.float32]] | None = None,
    ) -> None:
        self.scale = scale
        self.expressions = expressions or {}
        self.lenders = lenders or {}
        self.origin = np.array([round(window[0] * scale), round(window[1] * scale)], np.float32)
        self.size = round(window[2] * scale) - int(self.origin[0]), round(window[3] * scale) - int(self.origin[1])
        whole = {name: face.shrunk(scale) if scale != 1 else face for name, face in people.items()}
        self.names = tuple(people)
        self.meshes = np.stack([people[name].mesh[:, :2] for name in self.names])  # in px of the whole canvas
        self.mean = self.meshes.mean(axis=0)
        self._partner = faces.mirror_partners(self.mean)
        self.mean = (self.mean + self._flip(self.mean)) / 2
        self._region_weights = _region_weights(self.mean)
        self._deformations = deformations(self.mean)
        self.faces = {name: self._cut(face) for name, face in whole.items()}
        self.looks = {name: tuple(self._cut_plane(plane) for plane in _look(face)) for name, face in whole.items()}

    def _cut_plane(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = self.origin.astype(int)
        return np.ascontiguousarray(plane[y : y + self.size[1], x : x + self.size[0]])

    def _cut(self, face: Face) -> Face:
        mesh = face.mesh.copy()
        mesh[:, :2] -= self.origin
        alpha = None if face.alpha is None else self._cut_plane(face.alpha)
        return Face(self._cut_plane(face.colour), alpha, mesh)

    def _flip(self, mesh: NDArray[np.float32]) -> NDArray[np.float32]:
        return mesh[self._partner] * np.array([-1, 1], np.float32) + np.array([faces.CANVAS[0], 0], np.float32)

    def target(self, recipe: Recipe) -> NDArray[np.float32]:
        """The morph's mesh, px of the whole canvas: shape 478 2."""
        apart = self.meshes - self.mean  # people points 2
        own = np.einsum("pr,rk,kpc->pc", self._region_weights, recipe.shape, apart)
        mesh = self.mean + own + np.einsum("m,mpc->pc", recipe.modes, self._deformations)
        # Half of what is lopsided goes: lopsidedness of several people adds up to a distorted face.
        return (0.75 * mesh + 0.25 * self._flip(mesh)).astype(np.float32)

    def render(self, recipe: Recipe, target: NDArray[np.float32] | None = None, expression: str = "neutral") -> Face:
        """The morph as a head on the (scaled) canvas.

        Args:
            recipe: Parts of the morph.
            target: Mesh of the morph, shape 478 2, px of the whole canvas; None for the recipe's.
            expression: ``neutral``, or one that the morpher was given.
        """
        mesh = self.target(recipe) if target is None else target
        if expression != "neutral":
            mesh = mesh + self._change(recipe, expression)
        mesh = mesh * self.scale - self.origin
        head = self.faces[recipe.head]
        look = self.looks[recipe.head]
        if recipe.is_mirrored:
            head, look = head.mirrored(self._partner), tuple(np.ascontiguousarray(x[:, ::-1]) for x in look)
        places = self.head_places(head, mesh)
        colour, alpha = warped(head.colour, places), np.clip(warped(head.alpha, places), 0, 1)
        skin, hair = (np.clip(warped(x, places), 0, 1) for x in look)
        layers = {"face": recipe.face, "eyes": recipe.eyes, "nose": recipe.nose, "mouth": recipe.mouth}
        shown = self.expressions[expression] if expression == "smiling" else self.faces
        for region, person in layers.items():
            if shown is self.faces and person == (recipe.head if region == "face" else recipe.face):
                continue  # it is there already
            colour = self.with_layer(colour, shown[person], mesh, region)
        if expression == "mouth_open":
            colour = self.with_layer(colour, self.expressions[expression][recipe.mouth], mesh, "mouth")
        if expression == "eyes_closed":
            colour = self.with_layer(colour, self.expressions[expression][recipe.eyes], mesh, "lids")
        inside = hull(mesh[list(faces.OVAL)], self.size, -10 * self.scale, 8 * self.scale)
        colour = self._finished(colour, mesh, np.maximum(skin * (1 - inside), inside), hair * (1 - inside), recipe)
        points = np.concatenate([mesh, head.mesh[:, 2:]], axis=1)
        return Face(np.clip(colour, 0, 1), alpha, points.astype(np.float32))

    def _change(self, recipe: Recipe, expression: str) -> NDArray[np.float32]:
        """How far an expression moves each point, px of the whole canvas: shape 478 2."""
        givers = {"brows": recipe.eyes, "eyes": recipe.eyes, "nose": recipe.face, "mouth": recipe.mouth}
        givers |= {"jaw": recipe.mouth, "forehead": recipe.face}
        moving = {"smiling": REGIONS[:-1], "mouth_open": ("mouth", "jaw"), "eyes_closed": ("eyes",)}[expression]
        change = np.zeros((len(self.mean), 2), np.float32)
        for index, region in enumerate(REGIONS):
            if region in moving:
                person = givers[region]
                neutral = self.lenders.get((expression, person), self.meshes[self.names.index(person)])
                moved = self.expressions[expression][person].mesh[:, :2] - neutral
                change += self._region_weights[:, [index]] * moved
        return change

    def head_places(self, head: Face, mesh: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where a head's pixels come from when its face takes the shape `mesh`."""
        w, h = (side * self.scale for side in faces.CANVAS)
        ring = np.array([(x * w, y * h) for x in (0, 0.25, 0.5, 0.75, 1) for y in (0, 0.3, 0.6, 0.8, 1)])
        ring = ring[(np.abs(ring[:, 0] - w / 2) > 0.3 * w) | (ring[:, 1] < 1) | (ring[:, 1] > 0.75 * h)]
        ring -= self.origin
        control = list(CONTROL)
        return thin_plate(
            np.vstack([mesh[control], ring]), np.vstack([head.mesh[control, :2], ring]), self.size, self._step
        )

    @property
    def _step(self) -> int:
        return max(4, round(16 * self.scale))

    def with_layer(
        self, below: NDArray[np.float32], source: Face, mesh: NDArray[np.float32], region: str
    ) -> NDArray[np.float32]:
        """A region of another face, warped onto `mesh`, in the light of what lies below."""
        control = list(CONTROL)
        above = warped(source.colour, thin_plate(mesh[control], source.mesh[control, :2], self.size, self._step))
        mask = self.mask(mesh, region)
        band = (4 * mask * (1 - mask))[..., None] + 1e-4
        if region == "face":
            band = band + mask[..., None]
        gain = (below * band).sum(axis=(0, 1)) / np.maximum((above * band).sum(axis=(0, 1)), 1e-6)
        levels = max(2, round(np.log2(48 * self.scale)))
        return blended(below, above * np.clip(gain, 0.4, 2.5).astype(np.float32), mask, levels)

    def mask(self, mesh: NDArray[np.float32], region: str) -> NDArray[np.float32]:
        """Where a region of the face lies: shape h w, in [0, 1]."""
        s = self.scale
        if region == "eyes":
            points = mesh[[*faces.LEFT_BROW, *faces.RIGHT_BROW, *faces.LEFT_EYE, *faces.RIGHT_EYE, 168, 9]]
            return hull(points, self.size, 9 * s, 5 * s)
        if region == "lids":
            eyes = (hull(mesh[list(eye)], self.size, 7 * s, 3 * s) for eye in (faces.LEFT_EYE, faces.RIGHT_EYE))
            return np.clip(sum(eyes), 0, 1)
        if region == "nose":
            return hull(mesh[list(faces.NOSE)], self.size, 6 * s, 5 * s)
        if region == "mouth":
            points = np.vstack([mesh[[*faces.LIPS, 199, 208, 428, 175]], mesh[[164]]])
            return hull(points, self.size, 8 * s, 6 * s)
        oval = mesh[list(faces.OVAL)].copy()
        brow = mesh[[105, 334], 1].mean()
        middle = mesh[[168, 1]].mean(axis=0)
        oval = middle + 0.9 * (oval - middle)
        high = oval[:, 1] < brow
        oval[high, 1] = brow + 0.62 * (oval[high, 1] - brow)
        return hull(oval, self.size, 0, 7 * s)

    def _finished(
        self,
        colour: NDArray[np.float32],
        mesh: NDArray[np.float32],
        skin: NDArray[np.float32],
        hair: NDArray[np.float32],
        recipe: Recipe,
    ) -> NDArray[np.float32]:
        """Skin, hair, eyebrows and fine lines as the recipe wants them."""
        s = self.scale
        if recipe.detail != 1:
            smooth = cv2.GaussianBlur(colour, (0, 0), max(0.6, 3 * s))
            inside = self.mask(mesh, "face")[..., None]
            colour = colour + inside * (recipe.detail - 1) * (colour - smooth)
        if recipe.brows != 1:
            for brow in (faces.LEFT_BROW, faces.RIGHT_BROW):
                where = hull(mesh[list(brow)], self.size, 5 * s, 3 * s)[..., None]
                bright = cv2.GaussianBlur(cv2.dilate(colour, np.ones((3, 3))), (0, 0), max(1.0, 14 * s))
                colour = colour + where * (1 - recipe.brows) * np.clip(bright - colour, 0, 1)
        light, angle, strength = recipe.hair
        brows = sum(hull(mesh[list(b)], self.size, 3 * s, 3 * s) for b in (faces.LEFT_BROW, faces.RIGHT_BROW))
        if light or strength:
            where = np.clip(hair + 0.6 * brows, 0, 1)
            colour = colour + where[..., None] * (dyed(colour, light, angle, strength) - colour)
        return tanned(colour, skin * (1 - self._whites(mesh)), recipe.skin)

    def _whites(self, mesh: NDArray[np.float32]) -> NDArray[np.float32]:
        """Eyes and teeth, whose white stays."""
        parts = [hull(mesh[list(eye)], self.size, 0, 1.5 * self.scale) for eye in (faces.LEFT_EYE, faces.RIGHT_EYE)]
        parts.append(hull(mesh[list(faces.INNER_LIPS)], self.size, 0, 1.5 * self.scale))
        return np.clip(np.sum(parts, axis=0), 0, 1)


def tanned(
    colour: NDArray[np.float32], skin: NDArray[np.float32], gain: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Skin in another tone: red, green and blue times `gain` where `skin` is 1; shines stay below white."""
    change = (np.array(gain, np.float32) - 1) * skin[..., None]
    brighter = np.maximum(change, 0)
    return (colour * (1 + change) / (1 + brighter * np.clip(colour, 0, 1))).astype(np.float32)


def dyed(colour: NDArray[np.float32], light: float, angle: float, strength: float) -> NDArray[np.float32]:
    """Hair in another colour: lighter or darker, and tinted by `strength` (Lab chroma) at a hue angle (radians)."""
    lab = cv2.cvtColor(np.clip(colour, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)
    # Shines gain more than what lies in the dark, as with real pigment.
    shine = np.clip(lab[..., 0] / 45, 0, 1.3)
    lab[..., 0] = np.clip(lab[..., 0] + light * (0.25 + 0.75 * shine), 0, 100)
    lab[..., 1] += strength * np.cos(angle) * (0.2 + shine)
    lab[..., 2] += strength * np.sin(angle) * (0.2 + shine)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _look(face: Face) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How far each pixel is skin, and hair, by its colour: cheeks against the top of the head."""
    mesh, colour = face.mesh, cv2.cvtColor(face.colour, cv2.COLOR_RGB2LAB)
    size = face.colour.shape[1], face.colour.shape[0]
    side = size[0] / faces.CANVAS[0]
    cheeks = hull(mesh[[117, 346, 205, 425, 6, 4], :2], size, 0, 1) > 0.5

    def distance(where: NDArray[np.bool_], least: float, lightness: float) -> NDArray[np.float32]:
        values = colour[where]
        mean, spread = values.mean(axis=0), np.maximum(values.std(axis=0), least)
        return (((colour - mean) / spread) ** 2 * [lightness, 1, 1]).sum(axis=2)

    # Necks lie in the shade: what distinguishes skin is its hue rather than its lightness.
    to_skin, to_hair = distance(cheeks, 6.0, 0.2), distance(faces.crown(face), 6.0, 0.6)
    skin = 1 / (1 + np.exp(np.clip((to_skin - to_hair) / 4, -30, 30)))
    skin = cv2.GaussianBlur(cv2.medianBlur((skin * 255).astype(np.uint8), 5).astype(np.float32) / 255, (0, 0), 2 * side)
    # Above the face and far from its sides there is no skin; below the chin, in the middle, no hair is assumed.
    h = size[1]
    oval = mesh[list(faces.OVAL), :2]
    reach = hull(np.vstack([oval, [[oval[:, 0].min(), h], [oval[:, 0].max(), h]]]), size, 28 * side, 10 * side)
    skin *= reach
    # The shaded neck is skin too, but for hair that hangs before it.
    jaw = mesh[[172, 397, 152], :2]
    corners = [[jaw[0, 0], h], [jaw[1, 0], h]]
    neck = hull(np.vstack([jaw, corners]), size, 0, 8 * side) * np.clip((colour[..., 0] - 12) / 10, 0, 1)
    skin = np.maximum(skin, neck)
    return skin.astype(np.float32), (1 - skin).astype(np.float32)


def _region_weights(mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each point belongs to each of `REGIONS`: shape 478 6, rows add up to 1."""
    centres = {
        "brows": mean[[105, 334]],
        "eyes": mean[[159, 386, 145, 374]],
        "nose": mean[[4, 195, 48, 278]],
        "mouth": mean[[13, 61, 291]],
        "jaw": mean[[152, 149, 378, 172, 397, 58, 288, 132, 361]],
        "forehead": mean[[10, 54, 284, 127, 356]],
    }
    near = [np.min(np.linalg.norm(mean[:, None] - c[None], axis=2), axis=1) for c in centres.values()]
    weights = np.exp(-(np.stack(near, axis=1) ** 2) / (2 * 32.0**2))
    return weights / weights.sum(axis=1, keepdims=True)


def deformations(mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ways in which faces differ, each about one standard deviation far: shape 11 478 2, px of the canvas."""
    left, right = mean[list(faces.LEFT_EYE)].mean(axis=0), mean[list(faces.RIGHT_EYE)].mean(axis=0)
    nose, mouth, chin = mean[[4, 195]].mean(axis=0), mean[[13]].mean(axis=0), mean[152]
    x = mean[:, 0] - mean[[10, 152], 0].mean()

    def around(centre: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
        return np.exp(-((mean - centre) ** 2).sum(axis=1) / (2 * sigma_px**2))

    def moved(dx: NDArray[np.float32] | float, dy: NDArray[np.float32] | float) -> NDArray[np.float32]:
        return np.stack(np.broadcast_arrays(dx, dy, x)[:2], axis=1)

    eyes = around(left, 32) + around(right, 32)
    side = np.sign(x)
    lower = np.clip((mean[:, 1] - nose[1]) / (chin[1] - nose[1]), 0, 1)
    upper = np.clip((left[1] - 10 - mean[:, 1]) / 120, 0, 1)
    big = sum(around(c, 26)[:, None] * (mean - c) * 0.10 for c in (left, right))
    brows = around(mean[105], 26) + around(mean[334], 26)
    lips = around(mouth, 30)
    modes = [
        moved(eyes * side * 3.0, 0),  # eyes apart
        big,  # large eyes
        moved(0, eyes * -np.abs(x) / 55 * side * side * 3.0 + eyes * 3.0),  # eyes rising to the outside
        moved(0, -4.0 * brows),  # high eyebrows
        moved(around(nose + np.array([0, 12]), 24) * x * 0.16, 0),  # wide nose
        moved(0, around(nose, 34) * 5.0),  # long nose
        moved(lips * x * 0.10, 0),  # wide mouth
        moved(0, around(mouth, 22) * (mean[:, 1] - mouth[1]) * 0.28),  # full lips
        moved(0, lower * 9.0),  # long chin
        moved(lower * x * 0.07, 0),  # wide jaw
        moved(x * 0.035 + 0 * upper, upper * -5.0),  # wide face, high forehead
    ]
    return np.stack(modes).astype(np.float32)
