"""Every head that doubles are made from, cut out and set on one canvas at one scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from doubles import faces
from doubles.faces import CANVAS, EYES, Face
from doubles.mattes import matte
from doubles.meshes import front
from doubles.sheets import PEOPLE, People

# Frames of the character sheets that look to the right and to the left; "~" means mirrored, where both look one way.
PROFILES = {
    "P001": ("right", "~right"),
    "P002": ("right", "~left"),
    "P003": ("left", "right"),
    "P004": ("left", "right"),
    "P005": ("right", "~right"),
    "P006": ("right", "left"),
    "P007": ("left", "right"),
    "P008": ("left", "~right"),
    "P009": ("right", "left"),
    "P010": ("left", "~right"),
}
PROFILE_YAW = {"P005": 65.0}  # seen from a little further in front than the others
# Frames of the sheets of emotions. Lids of people who never close their eyes, or hide their face, come from others.
SMILING = dict.fromkeys(PEOPLE, "happy")
MOUTH_OPEN = dict.fromkeys(PEOPLE, "surprised") | {"P005": "shocked", "P007": "shocked"}
EYES_CLOSED = {
    "P001": ("P009", "exhausted"),
    "P002": ("P002", "pensive"),
    "P003": ("P003", "pensive"),
    "P004": ("P006", "pensive"),
    "P005": ("P005", "pensive"),
    "P006": ("P006", "pensive"),
    "P007": ("P007", "exhausted"),
    "P008": ("P008", "pensive"),
    "P009": ("P009", "exhausted"),
    "P010": ("P010", "pensive"),
}
FADE = 0.06  # of a frame's side: heads that it cuts end softly


@dataclass(frozen=True)
class Side:
    """A head from the side or from behind, on the canvas, with its eyes' height and scale those of the front.

    Args:
        colour: RGB in [0, 1], shape h w 3.
        alpha: Opacity of the head in [0, 1], shape h w.
        skin: Share of skin in each pixel, in [0, 1], shape h w.
        yaw: Degrees.
        chin_px: Distance of the chin below the eyes.
    """

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    skin: NDArray[np.float32]
    yaw: float
    chin_px: float

    def mirrored(self) -> Side:
        """Left and right exchanged."""
        planes = (np.ascontiguousarray(plane[:, ::-1]) for plane in (self.colour, self.alpha, self.skin))
        return Side(*planes, self.yaw if self.yaw == 180 else -self.yaw, self.chin_px)


class Heads:
    """All heads of openpeople.

    Args:
        wheel: Path of its wheel.
        meshes: Path of what `meshes.py` wrote.
    """

    def __init__(self, wheel: Path, meshes: Path) -> None:
        self.people = People(wheel)
        with np.load(meshes) as stored:
            self._meshes = dict(stored)
        self.fronts = {person: self._front(person) for person in PEOPLE}

    def _front(self, person: str) -> Face:
        mesh = self._meshes[f"{person}/front"]
        colour, alpha = matte(front(self.people, person), (float(mesh[1, 0]), float(mesh[1, 1])))
        return faces.onto_canvas(colour, alpha, mesh)

    def expressions(self) -> dict[str, dict[str, Face]]:
        """Faces with expressions by expression and person; only what lies inside the face is used."""
        found: dict[str, dict[str, Face]] = {"smiling": {}, "mouth_open": {}, "eyes_closed": {}}
        for person in PEOPLE:
            frames = self.people.emotions(person)
            wanted = {"smiling": SMILING[person], "mouth_open": MOUTH_OPEN[person]}
            for expression, frame in wanted.items():
                mesh = self._meshes[f"{person}/emotion/{frame}"]
                found[expression][person] = faces.onto_canvas(frames[frame], None, mesh)
        for person, (lender, frame) in EYES_CLOSED.items():
            mesh = self._meshes[f"{lender}/emotion/{frame}"]
            found["eyes_closed"][person] = faces.onto_canvas(self.people.emotions(lender)[frame], None, mesh)
        return found

    def lenders(self) -> dict[tuple[str, str], NDArray[np.float32]]:
        """Neutral meshes of those whose eyelids others borrow: see `Morpher`."""
        return {("eyes_closed", person): self.fronts[lender].mesh[:, :2] for person, (lender, _) in EYES_CLOSED.items()}

    def sides(self, person: str) -> tuple[Side, Side, Side]:
        """Profiles to the right and to the left of the picture, and the head from behind."""
        frames = self.people.angles(person)
        mesh = self._meshes[f"{person}/angle/front"]
        scale = _chin(self.fronts[person].mesh) / _chin(mesh)
        eye_y = float(faces.eyes_of(mesh)[:, 1].mean())
        colours = _Colours(self.fronts[person], frames["front"], mesh)
        yaw = PROFILE_YAW.get(person, 85.0)
        result = []
        for name, turn in zip((*PROFILES[person], "back"), (yaw, -yaw, 180.0), strict=True):
            side = self._side(frames[name.strip("~")], eye_y, scale, colours, turn, _chin(mesh) * scale)
            result.append(_flipped(side) if name.startswith("~") else side)
        return result[0], result[1], result[2]

    @staticmethod
    def _side(
        frame: NDArray[np.uint8], eye_y: float, scale: float, colours: _Colours, yaw: float, chin_px: float
    ) -> Side:
        h, w = frame.shape[:2]
        colour, alpha = matte(frame, (w / 2, 0.4 * h))
        alpha = alpha * _fade(h, w)
        columns = np.nonzero((alpha[: round(eye_y + 0.1 * h)] > 0.5).any(axis=0))[0]
        middle = (columns.min() + columns.max()) / 2
        shift = np.array([np.mean(EYES, axis=0)[0] - scale * middle, EYES[0][1] - scale * eye_y])
        to_canvas = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        picture = colours.matched(colour.astype(np.float32) / 255)
        skin = colours.skin(colour)
        picture, alpha, skin = (
            cv2.warpAffine(x.astype(np.float32), to_canvas, CANVAS, flags=cv2.INTER_CUBIC, borderMode=border)
            for x, border in (
                (picture, cv2.BORDER_REPLICATE),
                (alpha, cv2.BORDER_CONSTANT),
                (skin, cv2.BORDER_REPLICATE),
            )
        )
        return Side(np.clip(picture, 0, 1), np.clip(alpha, 0, 1), np.clip(skin, 0, 1), yaw, chin_px)


class _Colours:
    """What is skin and what is hair on one sheet, and how to bring its light to that of the portrait.

    Args:
        portrait: The head from the front, on the canvas.
        frame: The front on the sheet, RGB, shape h w 3.
        mesh: Dense landmarks in `frame`.
    """

    def __init__(self, portrait: Face, frame: NDArray[np.uint8], mesh: NDArray[np.float32]) -> None:
        picture = frame.astype(np.float32) / 255
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
        cheeks = _cheeks(mesh, frame.shape[1::-1])
        crown_y, crown_x = mesh[10, 1] - 0.22 * _chin(mesh), mesh[10, 0]
        rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
        crown = np.hypot(rows - crown_y, columns - crown_x) < 0.12 * _chin(mesh)
        self._skin, self._hair = (
            (lab[where].mean(axis=0), np.maximum(lab[where].std(axis=0), 6.0)) for where in (cheeks, crown)
        )
        there = portrait.colour[_cheeks(portrait.mesh, portrait.colour.shape[1::-1])].mean(axis=0)
        self._gain = np.clip(there / picture[cheeks].mean(axis=0), 0.75, 1.33).astype(np.float32)

    def matched(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """In the portrait's light."""
        return picture * self._gain

    def skin(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How far each pixel is skin rather than hair."""
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)

        def far(of: tuple[NDArray[np.float32], NDArray[np.float32]], lightness: float) -> NDArray[np.float32]:
            return (((lab - of[0]) / of[1]) ** 2 * [lightness, 1, 1]).sum(axis=2)

        skin = 1 / (1 + np.exp(np.clip((far(self._skin, 0.2) - far(self._hair, 0.6)) / 4, -30, 30)))
        return cv2.GaussianBlur(skin.astype(np.float32), (0, 0), 2.0)


def _flipped(side: Side) -> Side:
    """Mirrored pixels of a frame that looks the other way than wanted: the yaw is the wanted one already."""
    mirror = side.mirrored()
    return Side(mirror.colour, mirror.alpha, mirror.skin, side.yaw, side.chin_px)


def _chin(mesh: NDArray[np.float32]) -> float:
    return float(mesh[152, 1] - faces.eyes_of(mesh)[:, 1].mean())


def _cheeks(mesh: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros((size[1], size[0]), np.uint8)
    for cheek in ((117, 205, 50, 36), (346, 425, 280, 266)):
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(mesh[list(cheek), :2]).astype(np.int32)), 1)
    return mask > 0


def _fade(height: int, width: int) -> NDArray[np.float32]:
    """1 inside a frame, 0 at its border, with rounded corners."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    reach = FADE * min(height, width)
    away = [np.minimum(x, n - 1 - x) / reach for x, n in ((rows, height), (columns, width))]
    near = [np.clip(1 - x / 2.5, 0, 1) for x in away]
    rounded = 1 - np.hypot(*near)
    return np.clip(rounded * 2.5, 0, 1).astype(np.float32)
