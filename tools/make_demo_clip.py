"""Render the demo clip: a man in a park looks into the camera, and two people walk by behind him.

    python tools/make_demo_clip.py .demo/park.mp4 [--wheel FILE]

The people do not exist: all pictures come from PyPI's openpeople (MIT, 34 MB, downloaded by pip where no wheel is
given; its sha256 is compared). The man is part of his picture and moves with a smooth warp of it; the two who walk by
are cut out of theirs, grow as they come nearer, and pass behind him. Camera, steps and grain are made up. None of the
three is among the doubles that ship as a photograph, so that no person can be replaced by the same person.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from doubles.sheets import People, fetched

from pa_lib.pretrained import SelfieSegmentation

Image = NDArray[np.floating[Any]]

SIZE = (1280, 720)
FPS, N_FRAMES = 25, 125
PICTURE = "amateur_posture"
MAN, MAN_BOX = "P008", (480, 60, 1210, 1000)  # head, shoulders and arms; px of his picture
PLATE_HEIGHT = 1000  # of his picture; the rest is never in view
HORIZON = 720.0  # px
CAMERA_M = 1.2  # of the camera above the ground where people walk; it rises a little behind the man


@dataclass(frozen=True)
class Walker:
    """A person who walks by.

    Args:
        person: Number of the person in openpeople.
        box: Head and upper body in the picture, px.
        feet: Middle of the feet in the picture, px.
        tall_px: Height of the person in the picture, px.
        tall_m: Height of the person, m.
        start, end: Horizontal place in the man's picture, px, and scale there, px per m.
        steps_s: Duration of a step, s.
    """

    person: str
    box: tuple[int, int, int, int]
    feet: tuple[float, float]
    tall_px: float
    tall_m: float
    start: tuple[float, float]
    end: tuple[float, float]
    steps_s: float

    @property
    def largest(self) -> float:
        """Largest scale at which the picture is shown."""
        return max(self.start[1], self.end[1]) * self.tall_m / self.tall_px


WALKERS = (  # the farther one first
    Walker("P004", (530, 490, 1090, 1420), (850.0, 2400.0), 1890.0, 1.67, (80.0, 520.0), (400.0, 640.0), 0.54),
    Walker("P010", (530, 240, 1160, 1300), (850.0, 2420.0), 2160.0, 1.66, (1500.0, 500.0), (1340.0, 800.0), 0.5),
)


@dataclass(frozen=True, eq=False)
class CutOut:
    """A person without what was behind.

    Args:
        layer: Premultiplied colors and opacity in [0, 1], shape h w 4, float32.
        corner: Place of its corner in the person's picture, px.
        scale: Scale of it over that of the picture.
    """

    layer: NDArray[np.float32]
    corner: tuple[int, int]
    scale: float

    @classmethod
    def of(cls, color: Image, alpha: Image, scale: float) -> CutOut:
        """The part of a picture in which there is something, scaled."""
        rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        layer = np.dstack([color * alpha[..., None], alpha]).astype(np.float32)[top:bottom, left:right]
        small = cv2.resize(layer, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cls(small, (int(left), int(top)), scale)


def cut_out(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> tuple[Image, Image]:
    """The person in a box: colors and opacity in [0, 1]. The network's outline is made fine by the colors beside it."""
    top, left, silhouette = SelfieSegmentation(n_threads=1).silhouette(picture, [box])[0]
    seen = np.zeros(picture.shape[:2], np.float32)
    seen[top : top + silhouette.shape[0], left : left + silhouette.shape[1]] = silhouette
    reach = max(box[2] - box[0], box[3] - box[1]) // 90
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    inside = cv2.erode((seen > 0.85).astype(np.uint8), kernel)
    near = cv2.dilate((seen > 0.15).astype(np.uint8), kernel, iterations=2)
    labels = np.where(inside > 0, cv2.GC_FGD, np.where(near == 0, cv2.GC_BGD, cv2.GC_PR_BGD)).astype(np.uint8)
    labels[(seen > 0.5) & (labels == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    is_person = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
    color = picture.astype(np.float32) / 255
    alpha = np.clip((guided(color, is_person, 2 * reach, 1e-4) - 0.1) / 0.8, 0, 1)
    alpha[inside > 0], alpha[near == 0] = 1, 0
    # Where the wall behind shines through, colors come from the nearest parts of the person.
    solid = (alpha > 0.97).astype(np.float32)
    spread = cv2.GaussianBlur(color * solid[..., None], (0, 0), reach) / (
        cv2.GaussianBlur(solid, (0, 0), reach)[..., None] + 1e-4
    )
    share = np.clip((alpha - 0.6) / 0.37, 0, 1)[..., None]
    return np.clip(share * color + (1 - share) * spread, 0, 1), alpha


def guided(guide: Image, values: Image, radius: int, eps: float) -> Image:
    """Values that follow the edges of a picture. Source: He et al. (2010), guided image filtering, eq. 14 to 16."""
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: Image) -> Image:
        return cv2.boxFilter(plane.astype(np.float64), -1, side)

    of_guide = [mean(guide[..., at]) for at in range(3)]
    covariance = np.empty((*values.shape, 3, 3))
    for row in range(3):
        for column in range(3):
            product = mean(guide[..., row] * guide[..., column])
            covariance[..., row, column] = product - of_guide[row] * of_guide[column] + eps * (row == column)
    of_values = mean(values)
    with_values = [mean(guide[..., at] * values) - of_guide[at] * of_values for at in range(3)]
    slope = np.linalg.solve(covariance, np.stack(with_values, axis=-1)[..., None])[..., 0]
    offset = of_values - sum(slope[..., at] * of_guide[at] for at in range(3))
    return sum(mean(slope[..., at]) * guide[..., at] for at in range(3)) + mean(offset)


def drift(t: float, periods: Sequence[float], phase: float) -> float:
    """A slow movement without a period that is seen, within -1 and 1."""
    return float(np.mean([np.sin(2 * np.pi * t / period + phase * (at + 1)) for at, period in enumerate(periods)]))


class Sway:
    """A smooth warp of the man's picture, in which he sways from the hips and breathes.

    Args:
        shape: Height and width of the picture, px.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._y, self._x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        near = np.exp(-(((self._x - 830) / 420) ** 2) - ((self._y - 300) / 480) ** 2)
        self._aside, self._down = near * np.clip((1100 - self._y) / 900, 0, 1), near

    def at(self, seconds: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel comes from, x and y."""
        aside, down = 9 * drift(seconds, (2.9, 4.3), 0.4), 4 * drift(seconds, (1.7, 3.1), 1.3)
        return self._x - aside * self._aside, self._y - down * self._down


def placed(walker: Walker, cut: CutOut, t: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A walker in the man's picture, premultiplied, shape h w 4.

    Args:
        walker: The person and the way.
        cut: The person's picture.
        t: Time over the clip's duration, in [0, 1].
        shape: Height and width of the man's picture, px.
    """
    far, near = 1 / walker.start[1], 1 / walker.end[1]
    px_per_m = 1 / (far + (near - far) * t)  # an even walk, seen in perspective
    path = (px_per_m - walker.start[1]) / (walker.end[1] - walker.start[1])
    step = np.pi * t * N_FRAMES / FPS / walker.steps_s
    x = walker.start[0] + (walker.end[0] - walker.start[0]) * path + 0.018 * px_per_m * np.sin(step)
    ground = HORIZON + (CAMERA_M - 0.025 * abs(np.sin(step))) * px_per_m
    turn, scale = np.deg2rad(0.9 * np.sin(step)), px_per_m * walker.tall_m / walker.tall_px / cut.scale
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    fx, fy = ((foot - corner) * cut.scale for foot, corner in zip(walker.feet, cut.corner, strict=True))
    matrix = np.array([[cos, -sin, x - cos * fx + sin * fy], [sin, cos, ground - sin * fx - cos * fy]])
    return cv2.warpAffine(cut.layer, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)


def frames(people: People) -> Iterator[NDArray[np.uint8]]:
    """The frames of the clip, RGB."""
    whole = people.picture(MAN, PICTURE)
    in_front = cut_out(whole, MAN_BOX)[1][:PLATE_HEIGHT, :, None].astype(np.float32)
    plate = np.dstack([whole[:PLATE_HEIGHT].astype(np.float32) / 255, 1 - in_front])
    cuts = [CutOut.of(*cut_out(people.picture(one.person, PICTURE), one.box), one.largest) for one in WALKERS]
    sway, random = Sway(plate.shape[:2]), np.random.default_rng(0)
    for index in range(N_FRAMES):
        t = index / (N_FRAMES - 1)
        warped = cv2.remap(plate, *sway.at(index / FPS), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        picture, is_behind = warped[..., :3], warped[..., 3:]
        for walker, cut in zip(WALKERS, cuts, strict=True):
            layer = placed(walker, cut, t, plate.shape[:2]) * is_behind
            picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
        yield filmed(picture, t, random)


def filmed(picture: Image, t: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera in a hand sees of a picture: a slow pan, small movements, grain."""
    seconds, ease = t * N_FRAMES / FPS, t * t * (3 - 2 * t)
    width = 1470 - 30 * ease
    scale = SIZE[0] / width
    x = 90 + 100 * ease + 7 * drift(seconds, (1.1, 2.3, 5.3), 2.0)
    y = 40 + 8 * drift(seconds, (0.9, 1.9, 4.1), 0.7)
    turn = np.deg2rad(0.35 * drift(seconds, (2.7, 4.9), 1.0))
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    matrix = np.array([[cos, -sin, -x * scale], [sin, cos, -y * scale]])
    seen = cv2.warpAffine(picture.astype(np.float32), matrix, SIZE, flags=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(random.normal(0, 1, (SIZE[1], SIZE[0])).astype(np.float32), (0, 0), 0.6)
    seen += 0.011 * grain[..., None]
    return np.clip(seen * 255 + 0.5, 0, 255).astype(np.uint8)


def encode(path: Path, pictures: Iterator[NDArray[np.uint8]]) -> None:
    """H.264, as phones write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished.{path.name}")
    with av.open(str(unfinished), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "17", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    unfinished.rename(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the clip, unless it is there already."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="file to write, .mp4")
    parser.add_argument("--wheel", type=Path, help="openpeople's wheel; downloaded where none is given")
    given = parser.parse_args(arguments)
    if given.target.is_file():
        return
    print("Rendering the demo clip (half a minute) ...")
    with tempfile.TemporaryDirectory() as folder:
        people = People(given.wheel or fetched(Path(folder)))
        encode(given.target, frames(people))


if __name__ == "__main__":
    main()
