"""Every double's pictures, their landmarks and the index, as one archive that is the same byte for byte every time."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from doubles import faces
from doubles.faces import Face
from doubles.heads import Heads, Side
from doubles.morphs import MODES, REGIONS, Morpher, Recipe, dyed, tanned
from doubles.registration import agreed, crown_row, fitted, found_landmarks
from doubles.search import from_json
from doubles.sheets import PEOPLE, WHEEL, WHEEL_SHA256
from doubles.turns import turned
from pa_lib.contracts import HeadPose
from pa_lib.doubles.index import CHIN, SCHEMA, SCHEMA_VERSION, Index
from pa_lib.functional.head_pose import pose_of_landmarks
from pa_lib.pretrained import CenterFace

FRONT_PX = 512  # most rows of a neutral face from the front
SMALL = 0.6  # size of the other pictures, relative to the canvas
TURNED = 0.75  # size at which heads are turned
TURN = 28.0  # degrees; from about 35 on, the far side of the hair is seen to be missing
QUALITY_FRONT, QUALITY_OTHERS = 84, 78
# The face in P003's profiles is her own, which looks like a real person's; the sheet's frame cuts off P004's hair.
NO_PROFILES = ("P003", "P004")
EXPRESSIONS = ("smiling", "mouth_open", "eyes_closed")


@dataclass(frozen=True)
class Picture:
    """One picture before it is cut to its head: all in px of the canvas.

    Args:
        view: Name of the direction.
        expression: Name of the expression.
        yaw: Degrees.
        colour: RGB in [0, 1], shape h w 3.
        alpha: Opacity of the head in [0, 1], shape h w.
        landmarks: Eyes, tip of the nose and corners of the mouth, shape 5 2; None from behind.
        eye_line: Point between the ears at the height of the eyes.
        chin: Lowest point of the chin.
    """

    view: str
    expression: str
    yaw: float
    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None
    eye_line: tuple[float, float]
    chin: tuple[float, float]


class Packer:
    """Makes the pictures of doubles.

    Args:
        heads: All of openpeople's heads.
        recipes: Content of ``recipes.json``: names of photographs, and morphs by name.
    """

    def __init__(self, heads: Heads, recipes: Mapping[str, Any]) -> None:
        self.heads = heads
        self.photographs: list[str] = list(recipes["photographs"])
        self.morphs = {name: from_json(entry) for name, entry in recipes["morphs"].items()}
        self.morpher = Morpher(heads.fronts, expressions=heads.expressions(), lenders=heads.lenders())
        self._sides = {person: heads.sides(person) for person in PEOPLE}
        self._detector = CenterFace(n_threads=1)

    def names(self) -> list[str]:
        """All doubles, sorted."""
        return sorted([*self.photographs, *self.morphs])

    def recipe(self, name: str) -> tuple[Recipe, NDArray[np.float32]]:
        """What a double is made of, and its mesh."""
        if name in self.morphs:
            return self.morphs[name], self.morpher.target(self.morphs[name])
        plain = Recipe(name, name, name, name, name, np.zeros((len(REGIONS), len(PEOPLE))), np.zeros(MODES))
        return plain, self.heads.fronts[name].mesh[:, :2]

    def pictures(self, name: str, front: Face) -> Iterator[Picture]:
        """All pictures of a double; the neutral face from the front, which is given, first."""
        recipe, mesh = self.recipe(name)
        pose = pose_of_landmarks(self._of_face(front, "front", "neutral", 0.0).landmarks)
        shown = [("front", "neutral", 0.0, front)]
        shown += [("front", e, 0.0, self.morpher.render(recipe, mesh, e)) for e in EXPRESSIONS]
        shown += [
            (f"three_quarter_{s}", "neutral", t, _turned(front, t)) for s, t in (("left", -TURN), ("right", TURN))
        ]
        for view, expression, yaw, face in shown:
            picture = self._of_face(face, view, expression, yaw)
            yield replace(picture, landmarks=agreed(picture.landmarks, pose))
        right, left, back = self._sides[recipe.head]
        if recipe.is_mirrored:
            right, left, back = left.mirrored(), right.mirrored(), back.mirrored()
        sides = {"profile_left": left, "profile_right": right} if recipe.head not in NO_PROFILES else {}
        for view, frame in (sides | {"back": back}).items():
            yield self._of_side(fitted(frame, crown_row(front.alpha), float(front.mesh[152, 1])), view, recipe, pose)

    def _of_face(self, face: Face, view: str, expression: str, yaw: float) -> Picture:
        found = found_landmarks(self._detector, face.colour, face.alpha)
        landmarks = faces.five_landmarks(face.mesh) if found is None else found
        eyes, chin = faces.eyes_of(face.mesh).mean(axis=0), face.mesh[152, :2]
        return Picture(view, expression, yaw, face.colour, face.alpha, landmarks, _point(eyes), _point(chin))

    def _of_side(self, side: Side, view: str, recipe: Recipe, pose: HeadPose) -> Picture:
        colour = tanned(side.colour, side.skin, recipe.skin)
        if recipe.hair[0] or recipe.hair[2]:
            colour = colour + (1 - side.skin)[..., None] * (dyed(colour, *recipe.hair) - colour)
        colour = np.clip(colour, 0, 1)
        eyes_y = faces.EYES[0][1]
        middle = _middle(side.alpha, eyes_y)
        if view == "back":
            line, chin = (middle, pose.y), (middle, pose.y + CHIN * pose.scale)
            return Picture(view, "neutral", side.yaw, colour, side.alpha, None, line, chin)
        found = found_landmarks(self._detector, colour, side.alpha)
        if found is None:
            raise SystemExit(f"no face is found in {view} of {recipe.head}")
        chin = (float(found[3:, 0].mean()), eyes_y + side.chin_px)
        return Picture(view, "neutral", side.yaw, colour, side.alpha, agreed(found, pose), (middle, eyes_y), chin)

    def packed(self) -> bytes:
        """The archive."""
        return archive([self.double(name) for name in self.names()])

    def double(self, name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What the index says about a double, and its encoded pictures by file."""
        front = self.morpher.render(*self.recipe(name))
        face_px = float(front.mesh[152, 1] - faces.eyes_of(front.mesh)[:, 1].mean())
        cut = [_cut(picture, name, face_px) for picture in self.pictures(name, front)]
        views = [entry for entry, _ in cut]
        return self._about(name, front) | {"views": views}, {entry["file"]: content for entry, content in cut}

    def _about(self, name: str, face: Face) -> dict[str, Any]:
        recipe, _ = self.recipe(name)
        facts = {person: self.heads.people.facts(person)["demographics"] for person in recipe.parents}
        sexes = [facts[person]["sex"] for person in (recipe.eyes, recipe.mouth, recipe.face)]
        skin = _lab(faces.skin_colour(face))
        return {
            "name": name,
            "kind": "morph" if name in self.morphs else "photograph",
            "parents": recipe.parents,
            "presentation": max(set(sexes), key=sexes.count),
            "age_group": facts[recipe.face]["age_range"],
            "fitzpatrick": fitzpatrick(skin),
            "skin_lab": skin,
            "hair_lab": _lab(face.colour[faces.crown(face)].mean(axis=0)),
        }


def archive(doubles: Sequence[tuple[dict[str, Any], dict[str, bytes]]]) -> bytes:
    """The archive of doubles, sorted by name."""
    source = f"PyPI openpeople 0.1.2, {WHEEL}, sha256 {WHEEL_SHA256}"
    entries = [entry for entry, _ in doubles]
    text = json.dumps({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "source": source, "doubles": entries})
    Index.model_validate_json(text)
    files = {"index.json": text.encode()}
    for _, pictures in doubles:
        files |= pictures
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        # Pictures are compressed already; a fixed date keeps the bytes the same.
        for file, content in files.items():
            info = zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if file.endswith(".json") else zipfile.ZIP_STORED
            target.writestr(info, content)
    return stream.getvalue()


def fitzpatrick(lab: list[float]) -> str:
    """Type of the skin by the angle between lightness and yellow.

    Source: Del Bino & Bernerd 2013, "Variations in skin colour and the biological consequences of ultraviolet radiation
    exposure", individual typology angle; its six groups are taken for the six types.
    """
    angle = np.degrees(np.arctan2(lab[0] - 50, lab[2]))
    limits = {"I": 55, "II": 41, "III": 28, "IV": 10, "V": -30}
    return next((name for name, limit in limits.items() if angle > limit), "VI")


def _cut(picture: Picture, name: str, face_px: float) -> tuple[dict[str, Any], bytes]:
    """The entry and the encoded picture, cut to its head and at its final size.

    Args:
        picture: Head on the canvas.
        name: Name of the double.
        face_px: Distance from the eyes to the chin of the neutral face, px of the canvas.
    """
    is_main = (picture.view, picture.expression) == ("front", "neutral")
    rows, columns = (np.nonzero((picture.alpha > 0.02).any(axis=axis))[0] for axis in (1, 0))
    height, width = picture.alpha.shape
    top, bottom = max(0, rows[0] - 2), min(height, rows[-1] + 3)
    left, right = max(0, columns[0] - 2), min(width, columns[-1] + 3)
    scale = min(1.0, FRONT_PX / (bottom - top)) if is_main else SMALL
    size = max(16, round((right - left) * scale)), max(16, round((bottom - top) * scale))
    factors = np.array([size[0] / (right - left), size[1] / (bottom - top)])
    colour, alpha = picture.colour[top:bottom, left:right], picture.alpha[top:bottom, left:right, None]
    small = cv2.resize(np.dstack([colour * alpha, alpha]), size, interpolation=cv2.INTER_AREA)
    shade = small[..., 3:]
    colour = np.where(shade > 0.01, small[..., :3] / np.maximum(shade, 0.01), cv2.resize(colour, size))
    rgba = np.clip(np.dstack([colour, shade]) * 255 + 0.5, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    quality = QUALITY_FRONT if is_main else QUALITY_OTHERS
    Image.fromarray(rgba, "RGBA").save(stream, "WEBP", quality=quality, alpha_quality=60, method=6)

    def place(point: Any) -> list[float]:
        # Centres of pixels lie at whole numbers, in the canvas as in the result.
        moved = (np.asarray(point, np.float64) - [left, top] + 0.5) * factors - 0.5
        return [round(float(x), 2) for x in moved]

    chin = place(picture.chin)
    solid = shade[..., 0] > 0.5
    head = np.nonzero(solid[: max(1, round(chin[1]))].any(axis=0))[0]
    middle, reach = chin[0] if picture.view != "back" else place(picture.eye_line)[0], size[0] * 0.25
    low, high = max(0, round(middle - reach)), min(size[0], round(middle + reach) + 1)
    neck = np.nonzero(solid[:, low:high].any(axis=1))[0]
    file = f"{name}/{picture.view}{'' if picture.expression == 'neutral' else '_' + picture.expression}.webp"
    entry = {
        "file": file,
        "view": picture.view,
        "yaw_degrees": picture.yaw,
        "expression": picture.expression,
        "width": size[0],
        "height": size[1],
        "landmarks": None if picture.landmarks is None else [place(point) for point in picture.landmarks],
        "eye_line": place(picture.eye_line),
        "chin": chin,
        "face_px": round(face_px * float(factors[1]), 2),
        "collar_y": float(neck[-1]),
        "head_box": [
            float(head[0]),
            float(np.nonzero(solid.any(axis=1))[0][0]),
            float(head[-1]),
            min(chin[1], size[1] - 1.0),
        ],
    }
    return entry, stream.getvalue()


def _turned(front: Face, degrees: float) -> Face:
    """Turned at about the size at which the picture is kept: the same to the eye, in half the time."""
    small = turned(front.shrunk(TURNED), degrees)
    colour, alpha = (
        cv2.resize(plane, faces.CANVAS, interpolation=cv2.INTER_CUBIC) for plane in (small.colour, small.alpha)
    )
    return Face(np.clip(colour, 0, 1), np.clip(alpha, 0, 1), small.mesh / TURNED)


def _middle(alpha: NDArray[np.float32], row: float) -> float:
    columns = np.nonzero(alpha[round(row)] > 0.5)[0]
    return float((columns[0] + columns[-1]) / 2)


def _point(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _lab(rgb: NDArray[np.floating[Any]]) -> list[float]:
    lab = cv2.cvtColor(np.asarray(rgb, np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0]
    return [round(float(x), 2) for x in lab]
