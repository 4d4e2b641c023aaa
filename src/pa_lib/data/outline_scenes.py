"""Scenes of composed people: crowds that overlap, in front of and behind each other, as a camera would film them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Disc, OutlinePrompt
from pa_lib.data.outline_figures import Figure, Floats, blurred, motion_kernel, posed, smooth_noise
from pa_lib.data.outline_pieces import UNKNOWN, Pieces, Pixels
from pa_lib.functional.outline_prompt import MARGIN, Square, planes_of

THIS, OTHER, BACKGROUND, IGNORED = 0, 1, 2, 255
_FRAME_PX = 256
_CROWD_P = (0.14, 0.22, 0.24, 0.2, 0.12, 0.08)  # of one person, two, ... six
_ADDED_P = (0.55, 0.25, 0.15, 0.05)  # of none, one, ... three before an annotated photograph
_RATIO = {("head", "body"): 0.45, ("body", "head"): 2.2}  # height of one kind among people of the other
_LEAST_VISIBLE, _LEAST_PX = 0.25, 60  # of a person, to be asked for: the share of them that is visible, and its area


class Example(NamedTuple):
    """One crop to learn from.

    Args:
        planes: Picture and prompt, see `functional.outline_prompt.planes_of`, shape c s s in [0, 1].
        labels: Class of each pixel, shape s s: 0 this person, 1 another, 2 background, 255 = not counted.
    """

    planes: Floats
    labels: Pixels


@dataclass(eq=False)
class _Standing:
    """A person in a scene: their number, the box of all of them, visible or not, and their head."""

    number: int
    box: tuple[float, float, float, float]
    area: float
    head: Disc | None


class _Scene:
    """A frame of a film while it is composed."""

    def __init__(self, pixels: Floats, numbers: NDArray[np.int32]) -> None:
        self.pixels, self.numbers = pixels, numbers
        self.people: list[_Standing] = []

    def paste(self, figure: Figure, left: int, top: int, number: int, shadow: float = 0.0) -> None:
        """Put a figure, or an object that is number 0, before everything that is there."""
        rows, columns = self._within(top, figure.pixels.shape[0], 0), self._within(left, figure.pixels.shape[1], 1)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        part = figure.pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        here, alpha = self.pixels[rows, columns], part[..., 3:]
        if shadow:
            dark = cv2.GaussianBlur(alpha[..., 0], (0, 0), max(1.0, 0.04 * len(alpha)))
            here *= 1 - shadow * dark[..., None]
        here *= 1 - alpha
        here += part[..., :3]
        self.numbers[rows, columns][alpha[..., 0] > 0.5] = number
        if number:
            opaque = figure.pixels[..., 3] > 0.5
            ys, xs = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
            if len(ys):
                box = float(left + xs[0]), float(top + ys[0]), float(left + xs[-1] + 1), float(top + ys[-1] + 1)
                head = figure.head and (figure.head[0] + left, figure.head[1] + top, figure.head[2])
                self.people.append(_Standing(number, box, float(opaque.sum()), head))

    def _within(self, start: int, size: int, axis: int) -> slice:
        return slice(max(0, start), min(self.numbers.shape[axis], start + size))


class SceneComposer:
    """Composes scenes and asks for people in them.

    Args:
        pieces: Pieces that scenes are composed of.
        side: Side of the crops in pixels.
        real_p: Share of the crops that ask for a person of an annotated photograph, in it or with people added.
        believed_p: Share of the crops with an outline that is believed to be true, as from the frame before.
    """

    def __init__(self, pieces: Pieces, side: int = 128, real_p: float = 0.15, believed_p: float = 0.5) -> None:
        self.pieces, self.side = pieces, side
        self.real_p, self.believed_p = real_p, believed_p

    def __call__(self, rng: np.random.Generator, n_crops: int = 1) -> list[Example]:
        """Crops of one scene; scenes without a person to ask for are drawn again.

        Every visible person is asked for before one is asked for again, then filmed otherwise.
        """
        while True:
            scene = self._scene(rng)
            targets = self._targets(scene, rng)
            if targets:
                return [self._example(scene, targets[n % len(targets)], rng) for n in range(n_crops)]

    # -- what is filmed --------------------------------------------------------------------------------------------

    def _scene(self, rng: np.random.Generator) -> _Scene:
        scene = self._empty(rng)
        is_real = bool(scene.people) and rng.random() < self.real_p
        kind: Literal["body", "head"] = "head" if rng.random() < 0.25 else "body"
        tall = math.exp(rng.uniform(math.log(26), math.log(230)))
        n_people = int(rng.choice(4, p=_ADDED_P)) if is_real else 1 + int(rng.choice(6, p=_CROWD_P))
        spread = (0.55, 0.2) if kind == "body" else (0.9, 0.3)
        if not is_real and rng.random() < 0.15:  # a crowd that watches
            n_people, spread = n_people + int(rng.integers(3, 6)), (1.1, 0.15)
        middle = rng.uniform(0.22, 0.78, 2) * _FRAME_PX
        for number in range(1, n_people + 1):
            own_kind = kind if rng.random() < 0.85 else "head" if kind == "body" else "body"
            own_tall = tall * math.exp(rng.normal(0, 0.25)) * _RATIO.get((own_kind, kind), 1.0)
            texture = self._texture(rng) if rng.random() < 0.35 else None
            figure = blurred(posed(self.pieces.person(own_kind, rng), min(own_tall, 330), rng, texture), rng)
            high, wide = figure.pixels.shape[:2]
            near = rng.normal(0, spread, 2) * min(wide, tall)
            left, top = (middle + near - (wide / 2, high / 2)).astype(int)
            shadow = rng.uniform(0.1, 0.5) if rng.random() < 0.25 else 0.0
            scene.paste(figure, int(left), int(top), number, shadow)
        for _ in range(int(rng.choice(3, p=(0.72, 0.2, 0.08)))):
            figure = self._object(tall, rng)
            left, top = (middle + rng.normal(0, 0.4 * tall, 2) - np.array(figure.pixels.shape[1::-1]) / 2).astype(int)
            scene.paste(figure, int(left), int(top), 0)
        return scene

    def _empty(self, rng: np.random.Generator) -> _Scene:
        """A place, cut and scaled at random; annotated people who are in it are people of the scene."""
        size = _FRAME_PX
        if rng.random() < 0.12:  # a wall, a sky, a curtain
            color = rng.uniform(0.05, 0.95, 3) + smooth_noise(
                size, size, int(rng.integers(2, 9)), 3, rng
            ) * rng.uniform(0.01, 0.15)
            return _Scene(np.clip(color, 0, 1).astype(np.float32), np.zeros((size, size), np.int32))
        place = self.pieces.place(rng)
        scale = max(rng.uniform(0.55, 1.9), size / min(place.people.shape) + 0.01)
        shape = round(place.people.shape[1] * scale), round(place.people.shape[0] * scale)
        left, top = int(rng.integers(shape[0] - size + 1)), int(rng.integers(shape[1] - size + 1))
        move = np.array([[scale, 0, -left], [0, scale, -top]], np.float64)
        pixels = cv2.warpAffine(place.pixels, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        numbers = cv2.warpAffine(place.people, move, (size, size), flags=cv2.INTER_NEAREST).astype(np.int32)
        if rng.random() < 0.5:
            pixels, numbers = pixels[:, ::-1], numbers[:, ::-1]
        colors = pixels.astype(np.float32) / 255
        if rng.random() < 0.3:  # out of focus
            colors = cv2.GaussianBlur(colors, (0, 0), rng.uniform(0.6, 3))
        numbers = np.where((numbers > 0) & (numbers != UNKNOWN), numbers + 1000, numbers)
        scene = _Scene(np.ascontiguousarray(colors), np.ascontiguousarray(numbers))
        for number in np.unique(numbers[numbers > 1000]):
            ys, xs = np.nonzero(numbers == number)
            box = float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)
            scene.people.append(_Standing(int(number), box, float(len(ys)), None))
        return scene

    def _texture(self, rng: np.random.Generator) -> Pixels:
        """A patch of some picture, as cloth or as an object."""
        pixels = self.pieces.place(rng).pixels
        size = int(rng.integers(24, 160))
        top, left = (int(rng.integers(max(1, length - size))) for length in pixels.shape[:2])
        return pixels[top : top + size, left : left + size]

    def _object(self, tall: float, rng: np.random.Generator) -> Figure:
        """Something that stands before people: a pole, a box, a leaf."""
        high, wide = (max(4, int(tall * size)) for size in rng.uniform((0.1, 0.05), (1.0, 0.6)))
        pixels = cv2.resize(self._texture(rng), (wide, high)).astype(np.float32) / 255
        alpha = np.zeros((high, wide), np.float32)
        if rng.random() < 0.5:
            alpha[:] = 1
        else:
            corners = (rng.uniform(0, 1, (int(rng.integers(3, 9)), 2)) * (wide, high)).astype(np.int32)
            cv2.fillConvexPoly(alpha, cv2.convexHull(corners), 1.0, cv2.LINE_AA)
        return Figure(np.dstack([pixels * alpha[..., None], alpha]), None)

    # -- who is asked for ------------------------------------------------------------------------------------------

    def _targets(self, scene: _Scene, rng: np.random.Generator) -> list[_Standing]:
        """Who can be asked for, in random order: people of the photograph, or those who were pasted."""
        counts = {int(n): int(c) for n, c in zip(*np.unique(scene.numbers, return_counts=True), strict=True)}
        seen = [
            one
            for one in scene.people
            if counts.get(one.number, 0) >= max(_LEAST_PX, _LEAST_VISIBLE * min(one.area, _FRAME_PX**2))
        ]
        pasted, real = [one for one in seen if one.number < 1000], [one for one in seen if one.number > 1000]
        wanted = real if real and (not pasted or rng.random() < self.real_p) else pasted
        return [wanted[int(n)] for n in rng.permutation(len(wanted))]

    def _example(self, scene: _Scene, target: _Standing, rng: np.random.Generator) -> Example:
        is_this = scene.numbers == target.number
        ys, xs = np.flatnonzero(is_this.any(1)), np.flatnonzero(is_this.any(0))
        box = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float64)
        if rng.random() < 0.3:  # detectors guess what is hidden
            box = np.clip(np.array(target.box), -0.1 * _FRAME_PX, 1.1 * _FRAME_PX)
        size = np.tile(box[2:] - box[:2], 2)
        box += np.clip(rng.normal(0, 0.06, 4), -0.15, 0.15) * size
        if rng.random() < 0.12:  # boxes that lag behind, or hold a part
            box += rng.normal(0, 0.15, 4) * size
        box[2:] = np.maximum(box[2:], box[:2] + 4)
        wanted = float(box[0]), float(box[1]), float(box[2]), float(box[3])
        square = Square.around(wanted, MARGIN * float(np.exp(rng.normal(0, 0.25))))
        heads = {one.number: one.head for one in scene.people if one.head is not None}
        own = heads.pop(target.number, None) if rng.random() < 0.6 else None
        heads.pop(target.number, None)
        others = [_nudged(head, rng) for head in heads.values()] if rng.random() < 0.6 else []
        prompt = OutlinePrompt(wanted, own and _nudged(own, rng), others)
        side = self.side
        filmed_px = min(square.side, side + 32)  # what is filmed larger is seen smaller: nothing of it would be left
        is_inside = _cut(np.ones_like(scene.pixels[..., :1]), square)
        shown = np.dstack([_cut(scene.pixels, square), is_inside])
        if filmed_px < square.side:
            shown = cv2.resize(shown, (filmed_px, filmed_px), interpolation=cv2.INTER_AREA)
        pixels = _filmed(shown[..., :3], shown[..., 3:], rng)
        method = cv2.INTER_AREA if filmed_px > side else cv2.INTER_LINEAR
        seen = cv2.resize(pixels, (side, side), interpolation=method)
        labels = self._labels(scene.numbers, is_this, square)
        believed = _believed(labels, rng) if rng.random() < self.believed_p else None
        return Example(planes_of(seen, square, prompt, believed), labels)

    def _labels(self, numbers: NDArray[np.int32], is_this: NDArray[np.bool_], square: Square) -> Pixels:
        planes = np.dstack([is_this, (numbers > 0) & (numbers != UNKNOWN) & ~is_this, numbers == UNKNOWN])
        shares = cv2.resize(
            _cut(planes.astype(np.float32), square), (self.side, self.side), interpolation=cv2.INTER_LINEAR
        )
        empty = 1 - shares.sum(2)
        best = np.argmax(np.dstack([shares[..., 0], shares[..., 1], empty, shares[..., 2]]), 2)
        labels: Pixels = np.array([THIS, OTHER, BACKGROUND, IGNORED], np.uint8)[best]
        return labels


def _nudged(head: Disc, rng: np.random.Generator) -> Disc:
    x, y = np.array(head[:2]) + rng.normal(0, 0.25 * head[2], 2)
    return float(x), float(y), float(head[2] * math.exp(rng.normal(0, 0.2)))


def _cut(planes: Floats, square: Square) -> Floats:
    """A square of the frame, 0 beyond it."""
    left, top, side = square
    height, width = planes.shape[:2]
    found = np.zeros((side, side, planes.shape[2]), np.float32)
    y0, y1, x0, x1 = max(0, top), min(height, top + side), max(0, left), min(width, left + side)
    if y0 < y1 and x0 < x1:
        found[y0 - top : y1 - top, x0 - left : x1 - left] = planes[y0:y1, x0:x1]
    return found


def _filmed(pixels: Floats, is_inside: Floats, rng: np.random.Generator) -> Pixels:
    """As a camera and a codec leave it: light, haze, blur, noise, compression; black beyond the frame stays black."""
    side = len(pixels)
    film = np.clip(pixels, 0, 1) ** np.float32(math.exp(rng.normal(0, 0.2)))
    film = film * (np.exp(rng.normal(0, 0.06, 3)) * math.exp(rng.normal(-0.05, 0.2))).astype(np.float32)
    mean = film.mean(2, keepdims=True)
    film = mean + np.float32(rng.uniform(0, 0.3) if rng.random() < 0.06 else rng.uniform(0.6, 1.25)) * (film - mean)
    if rng.random() < 0.2:
        film = film + np.float32(rng.uniform(0.05, 0.45)) * (np.float32(rng.uniform(0.4, 0.9)) - film)
    if rng.random() < 0.08:
        film = cv2.filter2D(film, -1, motion_kernel(rng.uniform(2, max(3, 0.04 * side)), rng.uniform(0, math.pi)))
    elif rng.random() < 0.6:
        film = cv2.GaussianBlur(film, (0, 0), rng.uniform(0.3, max(0.5, min(1.4, side / 70))))
    if rng.random() < 0.25:  # filmed smaller than it is shown
        small = max(min(side, 40), int(side / rng.uniform(1.2, 2.5)))
        film = cv2.resize(cv2.resize(film, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    if rng.random() < 0.15:  # sharpened by the camera
        film = film + np.float32(rng.uniform(0.3, 1)) * (film - cv2.GaussianBlur(film, (0, 0), 1.2))
    if rng.random() < 0.7:
        film = film + rng.standard_normal(film.shape, np.float32) * np.float32(rng.uniform(0, 0.035))
    frame = np.round(255 * np.clip(film * is_inside, 0, 1)).astype(np.uint8)
    if rng.random() < 0.75:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(22, 95))]
        frame = np.asarray(cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR))
        frame = frame * (is_inside > 0.5)
    return np.asarray(frame, np.uint8)


def _believed(labels: Pixels, rng: np.random.Generator) -> Floats:
    """The outline as another frame leaves it: moved, warped, too thin or too thick, parts missing, others taken in."""
    side = len(labels)
    outline = (labels == THIS).astype(np.float32)
    draw = rng.random()
    if draw < 0.25:  # a part of another was taken for this person
        part = smooth_noise(side, side, 4, 1, rng)[..., 0] > rng.uniform(0.2, 1.2)
        outline[(labels == OTHER) & part] = 1
    if draw > 0.6:  # a limb was not seen
        x, y, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.05, 0.22) * side
        cv2.circle(outline, (int(x), int(y)), int(r), 0.0, -1)
    reach = int(rng.integers(-2, 4))
    if reach:
        shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(reach) + 1,) * 2)
        outline = (cv2.dilate if reach > 0 else cv2.erode)(outline, shape)
    angle, scale = rng.normal(0, 4), math.exp(rng.normal(0, 0.03))
    move = cv2.getRotationMatrix2D((side / 2, side / 2), angle, scale)
    move[:, 2] += rng.normal(0, 0.02 * side, 2)
    outline = cv2.warpAffine(outline, move, (side, side))
    shift = smooth_noise(side, side, 4, 2, rng) * rng.uniform(0, 0.025) * side
    y, x = np.mgrid[:side, :side].astype(np.float32)
    outline = cv2.remap(outline, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR)
    believed: Floats = np.clip(cv2.GaussianBlur(outline, (0, 0), rng.uniform(0.5, 2.5)), 0, 1)
    return believed
