"""Every head that doubles are made from, cut out and set on one canvas at one scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from doubles import faces
from doubles.faces import CANVAS, EYES, Face
from doubles.mattes import Guide, matte
from doubles.meshes import front
from doubles.sheets import PEOPLE, People
from doubles.warps import hull

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
LONG_HAIR = ("P003", "P008", "P009")
FADE = 0.03  # of a frame's width: hair that its sides cut ends softly
# Crowns that a frame cuts off are completed up to so far above it, in distances from the eyes to the chin.
CROWN = 0.3


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
        picture = front(self.people, person)
        # The shaded neck is skin, though it is as dark as hair.
        jaw = mesh[[172, 397], :2]
        neck = np.vstack([jaw, [[x, len(picture)] for x in jaw[:, 0]]])
        skin = np.maximum(
            _Complexion(picture, mesh).skin(picture), hull(neck, picture.shape[1::-1], 0, 0.03 * _chin(mesh))
        )
        x, y = faces.eyes_of(mesh).mean(axis=0)
        guide = Guide((float(x), float(y)), float(mesh[152, 1]), skin, person in LONG_HAIR)
        return faces.onto_canvas(*matte(picture, guide), mesh)

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
        sheet = _Sheet(frames["front"], self._meshes[f"{person}/angle/front"], self.fronts[person])
        yaw = PROFILE_YAW.get(person, 85.0)
        result = []
        for name, turn in zip((*PROFILES[person], "back"), (yaw, -yaw, 180.0), strict=True):
            side = sheet.side(frames[name.strip("~")], turn, person in LONG_HAIR)
            result.append(_flipped(side) if name.startswith("~") else side)
        return result[0], result[1], result[2]


class _Sheet:
    """Brings the frames of a character sheet to the canvas, at the portrait's scale and in its light.

    Args:
        frame: The front on the sheet, RGB, shape h w 3.
        mesh: Dense landmarks in `frame`.
        portrait: The head from the front, on the canvas.
    """

    def __init__(self, frame: NDArray[np.uint8], mesh: NDArray[np.float32], portrait: Face) -> None:
        self._complexion = _Complexion(frame, mesh)
        self._chin_px, self._scale = _chin(mesh), _chin(portrait.mesh) / _chin(mesh)
        self._eye_y = float(faces.eyes_of(mesh)[:, 1].mean())
        here = (frame[_cheeks(mesh, frame.shape[1::-1])] / 255).mean(axis=0)
        there = portrait.colour[_cheeks(portrait.mesh, portrait.colour.shape[1::-1])].mean(axis=0)
        self._gain = np.clip(there / here, 0.75, 1.33).astype(np.float32)

    def side(self, frame: NDArray[np.uint8], yaw: float, has_long_hair: bool) -> Side:
        """Another frame of the sheet, cut out."""
        h, w = frame.shape[:2]
        guide = Guide((w / 2, self._eye_y), self._eye_y + self._chin_px, self._complexion.skin(frame), has_long_hair)
        colour, alpha = matte(frame, guide)
        skin = self._complexion.skin(colour)
        alpha = alpha * np.clip(np.minimum(np.arange(w), np.arange(w)[::-1]) / (FADE * w), 0, 1).astype(np.float32)
        columns = np.nonzero((alpha[: round(self._eye_y + 0.1 * h)] > 0.5).any(axis=0))[0]
        shift_x = np.mean(EYES, axis=0)[0] - self._scale * (columns.min() + columns.max()) / 2
        colour, alpha, skin, added = crowned(colour, alpha, skin, round(CROWN * self._chin_px))
        shift_y = EYES[0][1] - self._scale * (self._eye_y + added)
        to_canvas = np.array([[self._scale, 0, shift_x], [0, self._scale, shift_y]])
        picture, alpha, skin = (
            np.clip(cv2.warpAffine(x, to_canvas, CANVAS, flags=cv2.INTER_CUBIC, borderMode=border), 0, 1)
            for x, border in (
                (colour.astype(np.float32) / 255 * self._gain, cv2.BORDER_REPLICATE),
                (alpha, cv2.BORDER_CONSTANT),
                (skin, cv2.BORDER_REPLICATE),
            )
        )
        return Side(picture, alpha, skin, yaw, self._chin_px * self._scale)


def crowned(
    colour: NDArray[np.uint8], alpha: NDArray[np.float32], skin: NDArray[np.float32], most_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], int]:
    """A head with the crown that the picture's upper edge has cut off, if it has.

    The outline goes on as an ellipse's does near its top: the square of its width falls in proportion to the height.
    The hair goes on as its mirror image.

    Args:
        colour: RGB, shape h w 3.
        alpha: Opacity of the head, shape h w.
        skin: Share of skin, shape h w.
        most_px: Number of rows that are added above.

    Returns:
        The three with the rows added, and their number.
    """
    colour, skin = (cv2.copyMakeBorder(x, most_px, 0, 0, 0, cv2.BORDER_REFLECT) for x in (colour, skin))
    whole = cv2.copyMakeBorder(alpha, most_px, 0, 0, 0, cv2.BORDER_CONSTANT)
    if not (alpha[0] > 0.5).any():
        return colour, whole, skin, most_px
    solid = alpha[: max(4, most_px // 2)] > 0.5
    left, right = solid.argmax(axis=1), solid.shape[1] - 1 - solid[:, ::-1].argmax(axis=1)
    rows = np.arange(len(solid))
    slope, start = np.polyfit(rows, ((right - left) / 2) ** 2, 1)
    drift, middle = np.polyfit(rows, (left + right) / 2, 1)
    # However flat the outline is, the crown ends within the rows added.
    slope = max(slope, start / (0.9 * most_px))
    y, x = np.mgrid[-most_px:0, : alpha.shape[1]]
    half = np.sqrt(np.maximum(start + slope * y, 0))
    cap = np.clip((half - abs(x - middle - drift * y)) / 1.5 + 0.5, 0, 1) * (half > 0)
    whole[:most_px] = cv2.GaussianBlur(cap.astype(np.float32), (0, 0), 0.8)
    return colour, whole, skin, most_px


class _Complexion:
    """What is skin and what is hair in the light of one picture.

    Args:
        frame: A head from the front, RGB, shape h w 3.
        mesh: Dense landmarks in `frame`.
    """

    def __init__(self, frame: NDArray[np.uint8], mesh: NDArray[np.float32]) -> None:
        lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        crown_y, crown_x = mesh[10, 1] - 0.22 * _chin(mesh), mesh[10, 0]
        rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
        crown = np.hypot(rows - crown_y, columns - crown_x) < 0.12 * _chin(mesh)
        self._skin, self._hair = (
            (lab[where].mean(axis=0), np.maximum(lab[where].std(axis=0), 6.0))
            for where in (_cheeks(mesh, frame.shape[1::-1]), crown)
        )

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
