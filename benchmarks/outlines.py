"""Outlines: how far those of one person among others overlap the truth, by both networks, and what they cost.

    python benchmarks/outlines.py

Photographs that the network was not trained on, a street, and two dancers before crowds; each person is asked for by
the box of their true outline, off by a twentieth of its sides at random, the same for both networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from _annotations import overlap, pedestrian_clip
from _bench import Table, frames_of, publish, shared_data
from numpy.typing import NDArray

from pa_lib.contracts import Box, Silhouettes
from pa_lib.data.index import FileTree, read_table
from pa_lib.data.outline_pieces import is_coco_held_out
from pa_lib.pretrained import PersonOutline, SelfieSegmentation

LEAST_PX = 300  # of a true outline
OFF = 0.05
HIDING, SHARING = 0.1, 0.5  # from which value a pixel counts where people are hidden, and where they are told apart
EVERY = 3  # frames of a clip: neighbours look alike


class Asked(NamedTuple):
    """One person in one picture: the picture, their own pixels, and those that others have."""

    image: NDArray[np.uint8]
    own: NDArray[np.bool_]
    others: NDArray[np.bool_]


def photographs() -> Iterator[Asked]:
    """Everybody in the annotated photographs that were held out."""
    tree = FileTree(shared_data() / "pedestrians" / "coco_person_permissive.zip")
    for row in read_table(tree, "index.tsv", ("file",)):
        stem = row["file"].removesuffix(".jpg")
        if is_coco_held_out(stem):
            image = tree.picture(f"images/{stem}.jpg").permute(1, 2, 0).contiguous().numpy()
            encoded = np.frombuffer(tree.read(f"masks/{stem}.png"), np.uint8)
            numbers = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED).reshape(*image.shape[:2], -1)[..., 0]
            for number in np.unique(numbers[numbers > 0]):
                yield Asked(image, numbers == number, (numbers > 0) & (numbers != number))


def street() -> Iterator[Asked]:
    """Pedestrians whose boxes touch nobody else's: elsewhere the annotation does not say whose pixels are whose."""
    clip = pedestrian_clip()
    for frame, image in enumerate(frames_of(clip.path)):
        found = clip.targets[frame]
        for target in found if frame % EVERY == 0 else ():
            if target.pixels is not None and not any(
                overlap(target.box, one.box) for one in found if one is not target
            ):
                own = np.zeros(image.shape[:2], np.bool_)
                x0, y0, x1, y1 = target.box
                own[y0:y1, x0:x1] = target.pixels
                yield Asked(image, own, np.zeros_like(own))


def dancer(name: str) -> Iterator[Asked]:
    """The subject of a clip before a crowd."""
    folder = shared_data() / "clips_with_masks" / f"davis_{name}"
    masks = sorted((folder / "masks").iterdir())
    for number, (image, mask) in enumerate(zip(frames_of(folder / "frames"), masks, strict=True)):
        if number % EVERY == 0:
            own = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 127
            yield Asked(image, own, np.zeros_like(own))


def box_around(own: NDArray[np.bool_], rng: np.random.Generator) -> Box:
    """The box of an outline, a little off."""
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    sides = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    size = np.tile(sides[2:] - sides[:2], 2)
    x0, y0, x1, y1 = sides + rng.normal(0, OFF, 4) * size
    return float(x0), float(y0), float(x1), float(y1)


def measured(network: Silhouettes, people: Iterator[Asked]) -> dict[str, list[float]]:
    """For every person: overlap, share that hiding covers, share of other people's pixels that is taken, and time."""
    rng = np.random.default_rng(0)
    values: dict[str, list[float]] = {"iou": [], "covered": [], "taken": [], "ms": []}
    for image, own, others in people:
        if own.sum() < LEAST_PX:
            continue
        box = box_around(own, rng)
        began = time.process_time()
        ((top, left, likely),) = network.silhouette(image, [box])
        values["ms"].append(1000 * (time.process_time() - began))
        whole = np.zeros(own.shape, np.float32)
        whole[top : top + likely.shape[0], left : left + likely.shape[1]] = likely
        is_this = whole > SHARING
        values["iou"].append(float((is_this & own).sum() / (is_this | own).sum()))
        values["covered"].append(float((whole > HIDING)[own].mean()))
        near = whole.any() and others.any()
        values["taken"].append(float((is_this & others).sum() / own.sum()) if near else 0.0)
    return values


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    networks: dict[str, Silhouettes] = {"selfie": SelfieSegmentation(n_threads=1), "person": PersonOutline()}
    places: dict[str, Callable[[], Iterator[Asked]]] = {
        "photographs (COCO, held out)": photographs,
        "street (PETS)": street,
        "breakdance (DAVIS)": lambda: dancer("breakdance"),
        "dance-twirl (DAVIS)": lambda: dancer("dance-twirl"),
    }
    done = {
        (place, name): measured(network, people())
        for place, people in places.items()
        for name, network in networks.items()
    }
    rows = [
        (
            place,
            name,
            len(values["iou"]),
            float(np.mean(values["iou"])),
            float(np.percentile(values["iou"], 10)),
            float(np.mean(values["covered"])),
            float(np.mean(values["taken"])),
            float(np.median(values["ms"])),
        )
        for (place, name), values in done.items()
    ]
    table = Table(
        "Outlines of people whose box is known, each frame alone",
        (
            "people",
            "outlines by",
            "number",
            "IoU",
            "IoU, 10th percentile",
            f"covered at {HIDING:g}",
            "others' pixels taken",
            "ms a person",
        ),
        rows,
        [
            f"IoU at {SHARING:g}. Taken: pixels of other people in the outline, as a share of the person's own; only "
            "the photographs annotate others. Time of one core.",
            "A third of the frames of the clips. Pedestrians whose boxes touch no other's.",
        ],
    )
    goals = {
        f"better_than_selfie_on_{place.split()[0].replace('-', '_')}": np.mean(done[place, "person"]["iou"])
        > np.mean(done[place, "selfie"]["iou"])
        for place in places
    }
    goals["10_ms_a_person"] = all(np.median(done[place, "person"]["ms"]) <= 10 for place in places)
    publish(
        "outlines",
        [table],
        {
            "goals": {name: bool(is_met) for name, is_met in goals.items()},
            **{f"{place}, {name}": values for (place, name), values in done.items()},
        },
    )


if __name__ == "__main__":
    main()
