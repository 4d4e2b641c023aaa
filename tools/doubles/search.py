"""The search for morphs that the identity network takes for different people, all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from doubles.faces import Face, before_wall, five_landmarks, skin_colour
from doubles.morphs import MODES, REGIONS, Morpher, Recipe
from pa_lib.pretrained import FaceIdentity, align_faces
from pa_lib.pretrained.identity.face_identity import TEMPLATE

SCALE = 0.5  # eyes 55 px apart, as in the identity network's chips
WINDOW = 110, 160, 530, 600  # of the canvas: what those chips show
BEARDED = "P005"
DARK_BROWS = ("P002", "P004", "P005", "P006", "P007", "P008", "P010")
BROWN_OR_BLOND = ("P003", "P008")
SLEEK = ("P005", "P006", "P009", "P010")  # bright tints would show the light of the studio as white strands


class Searcher:
    """Draws recipes and measures the identities of what they give.

    Args:
        people: Neutral faces on the canvas.
    """

    def __init__(self, people: dict[str, Face]) -> None:
        self.morpher = Morpher(people, SCALE, WINDOW)
        self.names = list(people)
        self.skins = {name: skin_colour(face) for name, face in people.items()}
        self.network = FaceIdentity()

    def chip(self, face: Face) -> NDArray[np.uint8]:
        """A face as the identity network sees it."""
        picture = before_wall(face.colour, face.alpha)
        return align_faces(picture, five_landmarks(face.mesh)[None], TEMPLATE, self.network.chip_px)[0]

    def identities(self, recipes: Sequence[Recipe]) -> NDArray[np.float32]:
        """Shape n 128."""
        return self.embed([self.chip(self.morpher.render(recipe)) for recipe in recipes])

    @torch.no_grad()
    def embed(self, chips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Identities of chips, shape n 128."""
        stacked = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float() / 255
        return torch.cat([self.network(part) for part in stacked.split(32)]).numpy()

    def drawn(self, random: np.random.Generator) -> Recipe:
        """A recipe at random."""
        head = str(random.choice(self.names))
        beardless = [name for name in self.names if name != BEARDED]
        face, mouth = (str(name) for name in random.choice(beardless, 2))
        eyes, nose = (str(name) for name in random.choice(self.names, 2))
        if random.random() < 0.3:
            face = head
        if head == BEARDED:  # half a beard, or thin eyebrows above a full one, look put together
            face = mouth = head
            eyes = str(random.choice(DARK_BROWS))
        if random.random() < 0.2:
            nose = face
        shape = np.zeros((len(REGIONS), len(self.names)), np.float32)
        for row in shape:
            row[:] = random.dirichlet(np.full(len(self.names), 0.2)) * random.uniform(0.5, 1.45)
        modes = np.clip(random.normal(0, 0.9, MODES), -1.6, 1.6).astype(np.float32)
        return Recipe(
            head=head,
            face=face,
            eyes=eyes,
            nose=nose,
            mouth=mouth,
            shape=shape,
            modes=modes,
            skin=self._skin(random, head),
            hair=hair_tint(random, head),
            brows=float(random.uniform(0.75, 1.0)) if random.random() < 0.5 and head != BEARDED else 1.0,
            detail=float(random.choice([0.9, 1.0, 1.1])),
            is_mirrored=bool(random.random() < 0.5),
        )

    def _skin(self, random: np.random.Generator, head: str) -> tuple[float, float, float]:
        """Factors that bring the head's skin towards a mixture of two other people's."""
        a, b = random.choice(self.names, 2)
        share = random.uniform(-0.15, 1.15)
        wanted = np.exp(share * np.log(self.skins[a]) + (1 - share) * np.log(self.skins[b]))
        gain = np.clip(wanted / self.skins[head], 0.78, 1.28)
        return tuple(float(x) for x in gain)


def hair_tint(random: np.random.Generator, head: str) -> tuple[float, float, float]:
    """Lightness, hue angle and strength of a change of the hair that looks natural on this head."""
    if random.random() < 0.35:
        return 0.0, 0.0, 0.0
    if head in BROWN_OR_BLOND:
        return float(random.uniform(-16, 8)), 1.1, float(random.uniform(-7, 3))
    kind = random.choice(["brown", "auburn", "grey"], p=[0.5, 0.25, 0.25])
    if head in SLEEK:
        return float(random.uniform(0, 6)), float(random.uniform(0.75, 1.2)), float(random.uniform(0, 6))
    if kind == "brown":
        return float(random.uniform(3, 13)), float(random.uniform(0.95, 1.2)), float(random.uniform(4, 11))
    if kind == "auburn":
        return float(random.uniform(3, 9)), float(random.uniform(0.7, 0.9)), float(random.uniform(7, 13))
    return float(random.uniform(14, 28)), 1.2, float(random.uniform(0, 2))


def as_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain numbers, rounded as they are used."""
    entry = asdict(recipe)
    for name in ("shape", "modes"):
        entry[name] = np.round(entry[name].astype(np.float64), 3).tolist()
    for name in ("skin", "hair"):
        entry[name] = [round(value, 4) for value in entry[name]]
    entry["brows"], entry["detail"] = round(recipe.brows, 3), round(recipe.detail, 3)
    return entry


def as_text(photographs: Sequence[str], morphs: Mapping[str, Recipe]) -> str:
    """Content of ``recipes.json``, a line for each morph."""
    lines = (f"  {json.dumps(name)}: {json.dumps(as_json(recipe))}" for name, recipe in morphs.items())
    joined = ",\n".join(lines)
    return f'{{\n "photographs": {json.dumps(list(photographs))},\n "morphs": {{\n{joined}\n }}\n}}\n'


def from_json(entry: dict[str, Any]) -> Recipe:
    """The inverse of `as_json`."""
    arrays = {name: np.array(entry[name], np.float32) for name in ("shape", "modes")}
    pairs = {name: tuple(entry[name]) for name in ("skin", "hair")}
    return Recipe(**entry | arrays | pairs)


def chosen(
    identities: NDArray[np.float32], least: float, costs: NDArray[np.floating[Any]], steps: int = 800
) -> list[int]:
    """As many rows as can be found that are all farther than `least` from each other, unlikely faces last.

    Begins with the row that has fewest near neighbours, and so on; then exchanges one row for two where that is
    possible, and otherwise puts in a row at the cost of one or two others, so that new exchanges open.

    Args:
        identities: Embeddings of faces, shape n 128.
        least: Euclidean distance.
        costs: Distance of each face from the mean of faces, in numbers of neighbours that it is worth: shape n.
        steps: Number of exchanges that are tried.

    Source: Andrade, Resende & Werneck 2012, "Fast local search for the maximum independent set problem".
    """
    squared = (identities**2).sum(axis=1)
    near = squared[:, None] + squared[None] - 2 * identities @ identities.T < least**2
    np.fill_diagonal(near, False)
    random = np.random.default_rng(0)
    inside = np.zeros(len(near), bool)
    best = inside.copy()

    def exchanged() -> bool:
        """One row goes and two come, where there are such."""
        conflicts = near[:, inside].sum(axis=1)
        for row in random.permutation(np.nonzero(inside)[0]):
            alone = np.nonzero((conflicts == 1) & near[row] & ~inside)[0]
            pairs = np.argwhere(np.triu(~near[np.ix_(alone, alone)], 1))
            if len(pairs):
                inside[row] = False
                inside[alone[pairs[random.integers(len(pairs))]]] = True
                return True
        return False

    for _ in range(steps):
        while (free := ~inside & ~near[:, inside].any(axis=1)).any():
            rows = np.nonzero(free)[0]
            crowd = near[np.ix_(rows, rows)].sum(axis=1)
            inside[rows[np.argmin(crowd + costs[rows] + random.random(len(rows)))]] = True
        if exchanged():
            continue
        if inside.sum() > best.sum():
            best = inside.copy()
        elif inside.sum() < best.sum() - 3:
            inside[:] = best
        others = np.nonzero(~inside & (near[:, inside].sum(axis=1) <= 2))[0]
        if not len(others):
            break
        row = random.choice(others)
        inside[near[row]] = False
        inside[row] = True
    return [int(row) for row in np.nonzero(best)[0]]


def oddness(recipe: Recipe) -> float:
    """How far a morph's shape goes in the `deformations`: squared standard deviations, summed."""
    return float((recipe.modes**2).sum())
