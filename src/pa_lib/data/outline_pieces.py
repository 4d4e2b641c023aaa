"""Pieces that scenes are composed of: cut-out people with alpha, and pictures behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Disc
from pa_lib.data.index import FileTree, Row, read_table
from pa_lib.errors import DamagedInputError, InputError

Pixels = NDArray[np.uint8]
UNKNOWN = 255  # in the numbers of a picture: counted neither as a person nor as none

_COCO_HELD_OUT = 350  # of a thousand
# How often people of each source are drawn: rendered ones have exact edges, photographs have real cloth and light.
_WEIGHTS = {"synthetic": 0.4, "openpeople": 0.3, "coco": 0.3, "portraits": 1.0}


def is_coco_held_out(stem: str) -> bool:
    """Whether an annotated photograph is measured on, and not trained on: a third of them, by name."""
    return int(hashlib.sha256(stem.encode()).hexdigest(), 16) % 1000 < _COCO_HELD_OUT


class Cutout(NamedTuple):
    """A cut-out person.

    Args:
        pixels: RGBA, shape h w 4; color is not multiplied by alpha.
        head: Middle and radius of the head in its pixels; None where unknown.
    """

    pixels: Pixels
    head: Disc | None


class Place(NamedTuple):
    """A picture behind people.

    Args:
        pixels: RGB, shape h w 3.
        people: Number of the person that each pixel belongs to, shape h w; 0 = none, 255 = unknown.
    """

    pixels: Pixels
    people: Pixels


class Pieces:
    """One side of the split of an archive of pieces. People are decoded when they are drawn, places are kept: few.

    Args:
        tree: The archive: ``index.tsv`` with the columns file, kind (body | head | scene), split, head_x, head_y and
            head_r (px, ``nan`` where unknown), and RGBA pictures; a scene is RGB, with ``.png`` beside it that numbers
            the people in it.
        split: ``train`` or ``val``.

    Raises:
        InputError: The split lacks bodies, heads or scenes.
    """

    def __init__(self, tree: FileTree, split: str) -> None:
        self._tree = tree
        rows = read_table(tree, "index.tsv", ("file", "kind", "split", "head_x", "head_y", "head_r"))
        self._rows: Mapping[str, Sequence[Row]] = {
            kind: [row for row in rows if row["split"] == split and row["kind"] == kind]
            for kind in ("body", "head", "scene")
        }
        if missing := [kind for kind, found in self._rows.items() if not found]:
            raise InputError(f"pieces {tree.path}: the split {split} has no {missing[0]}, expected at least one")
        self._places: dict[int, Place] = {}
        self._weights = {kind: _weights(self._rows[kind]) for kind in ("body", "head")}

    def person(self, kind: str, rng: np.random.Generator) -> Cutout:
        """A body or a head, drawn by source first."""
        row = self._rows[kind][int(rng.choice(len(self._rows[kind]), p=self._weights[kind]))]
        pixels = _decoded(self._tree, row["file"], 4)
        head = float(row["head_x"]), float(row["head_y"]), float(row["head_r"])
        return Cutout(pixels, head if np.isfinite(head).all() else None)

    def place(self, rng: np.random.Generator) -> Place:
        """A picture to stand before."""
        number = int(rng.integers(len(self._rows["scene"])))
        if number not in self._places:
            name = self._rows["scene"][number]["file"]
            people = _decoded(self._tree, Path(name).with_suffix(".png").as_posix(), 1)
            self._places[number] = Place(_decoded(self._tree, name, 3), people)
        return self._places[number]


def _weights(rows: Sequence[Row]) -> NDArray[np.float64]:
    sources = [row["file"].partition("/")[0] for row in rows]
    share = np.array([_WEIGHTS.get(source, 1.0) / sources.count(source) for source in sources])
    normalized: NDArray[np.float64] = share / share.sum()
    return normalized


def _decoded(tree: FileTree, name: str, channels: int) -> Pixels:
    data = np.frombuffer(tree.read(name), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    found = 0 if image is None else 1 if image.ndim == 2 else image.shape[2]
    if found != channels:
        raise DamagedInputError(f"pieces {tree.path}: {name} has {found} channels, expected {channels}")
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(channels)
    return np.asarray(image if code is None else cv2.cvtColor(image, code), np.uint8)
