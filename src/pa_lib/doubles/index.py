"""What a bank of doubles says about its pictures: the index inside the archive, as it is read and checked."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA = "pa_lib.doubles"
SCHEMA_VERSION = 1
Expression = Literal["neutral", "smiling", "mouth_open", "eyes_closed"]
EXPRESSIONS: tuple[str, ...] = get_args(Expression)
ViewName = Literal["front", "three_quarter_left", "three_quarter_right", "profile_left", "profile_right", "back"]
Point = tuple[float, float]
CHIN = 1.82
"""Distance from the eyes down to the chin of a head seen from behind, in scales of `HeadPose`: the median of the fronts
of the doubles. Only where the eyes and the chin would be says how large such a head is."""
Lab = tuple[Annotated[float, Field(ge=0, le=100)], float, float]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ViewEntry(_Entry):
    """One picture of a head.

    Args:
        file: Name inside the archive.
        view: Name of the direction; left and right are the picture's.
        yaw_degrees: Direction of the head: 0 from the front, positive where the nose points to the right edge of the
            picture, 180 from behind.
        expression: Expression of the face; neutral from behind.
        width: Width of the picture, px.
        height: Height of the picture, px.
        landmarks: Eyes, tip of the nose, corners of the mouth (x, y), px, in the order of `Detection`; hidden ones
            where they would be seen through the head. None from behind.
        eye_line: Point in the middle of the head at the height of the eyes (x, y), px; from behind at the height of the
            front's pose.
        chin: Lowest point of the chin (x, y), px; from behind: `CHIN` scales of the front's pose below `eye_line`.
        face_px: Distance from the eyes to the chin of the neutral face, at the scale of this picture, px.
        collar_y: Row of the lowest skin of the neck, px: the neck ends here, in a curve.
        head_box: Hair, face and ears without the neck, ``x0 y0 x1 y1`` px.
    """

    file: str
    view: ViewName
    yaw_degrees: float = Field(ge=-180, le=180)
    expression: Expression
    width: int = Field(ge=16, le=4096)
    height: int = Field(ge=16, le=4096)
    landmarks: tuple[Point, Point, Point, Point, Point] | None
    eye_line: Point
    chin: Point
    face_px: float = Field(gt=0)
    collar_y: float
    head_box: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _fits(self) -> ViewEntry:
        if (self.landmarks is None) != (self.view == "back"):
            raise ValueError("landmarks are given for every view but the back")
        x0, y0, x1, y1 = self.head_box
        if not (x0 < x1 and y0 < y1 and self.eye_line[1] < self.chin[1]):
            raise ValueError("head_box needs x0 < x1 and y0 < y1, and the eyes lie above the chin")
        return self


class DoubleEntry(_Entry):
    """One person who does not exist.

    Args:
        name: ``P...`` for people of openpeople as they are, ``M...`` for morphs.
        kind: Origin: a person of openpeople, or a morph.
        parents: People of openpeople whose pixels are in it, the one with the hair first.
        presentation: Sex that most of those have who gave the eyes, the mouth and the cheeks.
        age_group: Age range that openpeople gives for the person who gave the cheeks and the forehead.
        fitzpatrick: Type of the skin by its measured lightness and hue, I to VI.
        skin_lab: Mean colour of the cheeks from the front, CIE Lab (D65).
        hair_lab: Mean colour of the hair above the forehead, CIE Lab (D65).
        views: Pictures; the front with a neutral face first.
    """

    name: str = Field(pattern=r"^[A-Z][0-9A-Za-z_]*$")
    kind: Literal["photograph", "morph"]
    parents: tuple[str, ...] = Field(min_length=1)
    presentation: Literal["female", "male"]
    age_group: str
    fitzpatrick: Literal["I", "II", "III", "IV", "V", "VI"]
    skin_lab: Lab
    hair_lab: Lab
    views: tuple[ViewEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _begins_with_the_front(self) -> DoubleEntry:
        if (self.views[0].view, self.views[0].expression) != ("front", "neutral"):
            raise ValueError("the first view has to be the front with a neutral face")
        return self


class Index(_Entry):
    """The whole index.

    Args:
        schema_name: ``pa_lib.doubles``.
        schema_version: Version of this layout.
        source: Package, version and sha256 that the pictures come from.
        doubles: Sorted by name.
    """

    schema_name: Literal["pa_lib.doubles"] = Field(alias="schema")
    schema_version: Literal[1]
    source: str
    doubles: tuple[DoubleEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_sorted(self) -> Index:
        names = [double.name for double in self.doubles]
        if names != sorted(set(names)):
            raise ValueError("doubles have to be sorted by name, each once")
        return self
