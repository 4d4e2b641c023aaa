"""Pack what people and places are composed of, to train outlines: cut-out people with alpha, and pictures behind them.

    python tools/pack_outline_pieces.py ../shared/data pieces.zip --openpeople openpeople-0.1.2-py3-none-any.whl

Only what may train weights that ship is taken (README of the data: P or A). Whoever was cut keeps the split of their
source; of COCO and openpeople whole pictures and whole people are held out, so that these can be measured on.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from doubles.sheets import PEOPLE, People, cut_frames, fetched
from numpy.typing import NDArray

from pa_lib.data.index import FileTree, read_table
from pa_lib.data.outline_pieces import is_coco_held_out
from pa_lib.pretrained import SelfieSegmentation

TALLEST_PX = {"body": 320, "head": 192}
LEAST_COCO_PX = 1200  # of a mask; smaller ones are not worth pasting
SCENE_PX = 480  # longer side of a picture behind people
UNLABELLED = {"000000000544", "000000005001"}  # COCO pictures whose crowds are not annotated
HELD_OUT_PEOPLE = {"P009", "P010"}
SCOOTER = (0, 14, 28, 42)  # frames of a clip of a street
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Piece:
    """One cut-out person, or one picture behind people.

    Args:
        name: Path in the archive.
        pixels: RGBA, shape h w 4; of a scene RGB and the number of the person each pixel belongs to, 0 = none.
        kind: ``body``, ``head`` or ``scene``.
        split: ``train`` or ``val``.
        head: Middle and radius (x, y, r) of the head in pixels; NaN where unknown.
        source: Where it comes from, with the licence.
    """

    name: str
    pixels: Picture
    kind: str
    split: str
    source: str
    head: tuple[float, float, float] = (np.nan, np.nan, np.nan)


def rgb_of(content: bytes) -> Picture:
    """A picture as RGB, shape h w 3."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def trimmed(pixels: Picture, head: tuple[float, float, float], tallest: int) -> tuple[Picture, tuple[float, ...]]:
    """Cut to what is opaque and scaled down to at most so many pixels on the longer side."""
    rows, columns = np.flatnonzero((pixels[..., 3] > 96).any(1)), np.flatnonzero((pixels[..., 3] > 96).any(0))
    top, left = max(0, rows[0] - 2), max(0, columns[0] - 2)
    cut = pixels[top : rows[-1] + 3, left : columns[-1] + 3]
    scale = min(1.0, tallest / max(cut.shape[:2]))
    if scale < 1:
        size = max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale))
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    return cut, ((head[0] - left) * scale, (head[1] - top) * scale, head[2] * scale)


def largest_part(is_person: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part of a mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(is_person.astype(np.uint8))
    return labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()) if len(stats) > 1 else is_person


def cut_out(rgb: Picture, network: SelfieSegmentation, *, is_studio: bool) -> Picture | None:
    """The one person of a picture with a soft edge; None where the network sees none.

    Args:
        rgb: The picture.
        network: Network that finds the person.
        is_studio: Whether the wall is of one grey, so that colors correct the edge.
    """
    height, width = rgb.shape[:2]
    ((top, left, likely),) = network.silhouette(rgb, [(0.0, 0.0, float(width), float(height))])
    alpha = np.zeros((height, width), np.float32)
    alpha[top : top + likely.shape[0], left : left + likely.shape[1]] = likely
    if (alpha > 0.5).mean() < 0.03:
        return None
    if is_studio:
        marks = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
        marks[alpha > 0.4], marks[alpha > 0.97], marks[alpha < 0.02] = cv2.GC_PR_FGD, cv2.GC_FGD, cv2.GC_BGD
        if (marks == cv2.GC_FGD).any():
            cv2.grabCut(rgb, marks, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
            alpha = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    keep = cv2.dilate(largest_part(alpha > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    alpha = np.where(keep, alpha, 0)
    alpha = np.clip((cv2.GaussianBlur(alpha, (3, 3), 0) - 0.35) / 0.4, 0, 1)
    return np.dstack([rgb, np.round(255 * alpha).astype(np.uint8)])


def synthetic(data: Path) -> Iterator[Piece]:
    """People who were rendered, with exact alpha."""
    tree = FileTree(data / "pedestrians" / "synthetic_pedestrians_128x256.zip")
    for row in read_table(tree, "index.tsv", ("file", "split")):
        bgra = cv2.imdecode(np.frombuffer(tree.read(row["file"]), np.uint8), cv2.IMREAD_UNCHANGED)
        pixels = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA)
        columns, rows = np.flatnonzero((pixels[..., 3] > 96).any(0)), np.flatnonzero((pixels[..., 3] > 96).any(1))
        radius = 0.065 * (rows[-1] - rows[0])
        top = np.flatnonzero(pixels[rows[0] + int(radius), :, 3] > 96)
        head = float(top.mean() if len(top) else columns.mean()), rows[0] + radius, radius
        yield Piece(f"synthetic/{row['file']}", pixels, "body", row["split"], "synthetic_pedestrians (CC0)", head)


def openpeople(wheel: Path, network: SelfieSegmentation) -> Iterator[Piece]:
    """Ten people who do not exist, as heads and whole."""
    people = People(wheel)
    for person in PEOPLE:
        split = "val" if person in HELD_OUT_PEOPLE else "train"
        pictures = {name: (people.picture(person, name), "head") for name in ("amateur_selfie", "studio_portrait")}
        pictures |= {name: (people.picture(person, name), "body") for name in ("amateur_posture", "studio_posture")}
        sheet = cut_frames(people.picture(person, "character_sheet"), rows=2, columns=4, share=0.02)
        pictures |= {f"angle{n}": (frame, "head" if n < 4 else "body") for n, frame in enumerate(sheet)}
        pictures |= {f"emotion_{name}": (frame, "head") for name, frame in people.emotions(person).items()}
        for name, (rgb, kind) in pictures.items():
            scale = min(1.0, 640 / max(rgb.shape[:2]))
            rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            pixels = cut_out(rgb, network, is_studio=not name.startswith("amateur"))
            if pixels is not None:
                yield Piece(f"openpeople/{person}_{name}.webp", pixels, kind, split, "openpeople 0.1.2 (MIT)")


def portraits(data: Path, network: SelfieSegmentation) -> Iterator[Piece]:
    """Heads and shoulders of portraits; their outline is the selfie network's."""
    tree = FileTree(data / "faces" / "faces_permissive_wide_192.zip")
    sides = ("valid_x0", "valid_y0", "valid_x1", "valid_y1", "box_x", "box_y", "box_w", "box_h")
    for row in read_table(tree, "index.tsv", ("file", "split", "licence", *sides)):
        x0, y0, x1, y1, x, y, w, h = (row.number(side) for side in sides)
        rgb = rgb_of(tree.read(row["file"]))[int(np.ceil(y0)) : int(y1), int(np.ceil(x0)) : int(x1)]
        pixels = cut_out(rgb, network, is_studio=False)
        if pixels is not None:
            head = x + w / 2 - np.ceil(x0), y + h / 2 - np.ceil(y0), 0.6 * h
            yield Piece(f"portraits/{row['file']}", pixels, "head", row["split"], row["licence"], head)


def coco(data: Path) -> Iterator[Piece]:
    """People of annotated pictures, and the pictures themselves, with everybody in them numbered."""
    tree = FileTree(data / "pedestrians" / "coco_person_permissive.zip")
    for row in read_table(tree, "index.tsv", ("file", "licence", "flickr_url")):
        stem = row["file"].removesuffix(".jpg")
        split = "val" if is_coco_held_out(stem) else "train"
        source = f"COCO {stem} ({row['licence']}) {row['flickr_url']}"
        rgb = rgb_of(tree.read(f"images/{stem}.jpg"))
        people = cv2.imdecode(np.frombuffer(tree.read(f"masks/{stem}.png"), np.uint8), cv2.IMREAD_UNCHANGED)
        people = people if people.ndim == 2 else people[..., 0]
        for number in np.unique(people[people > 0]):
            is_person = people == number
            if is_person.sum() >= LEAST_COCO_PX:
                alpha = cv2.GaussianBlur(is_person.astype(np.float32), (3, 3), 0)
                pixels = np.dstack([rgb, np.round(255 * np.clip(alpha * 2 - 0.9, 0, 1)).astype(np.uint8)])
                yield Piece(f"coco/{stem}_{number}.webp", pixels, "body", split, source)
        if stem not in UNLABELLED:
            yield scene(f"coco/{stem}.webp", rgb, people, split, source)


def scene(name: str, rgb: Picture, people: NDArray[np.uint8], split: str, source: str) -> Piece:
    """A picture behind people, with the numbers of those who are in it already."""
    scale = min(1.0, SCENE_PX / max(rgb.shape[:2]))
    size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    numbers = cv2.resize(people, size, interpolation=cv2.INTER_NEAREST)
    return Piece(f"scenes/{name}", np.dstack([small, numbers]), "scene", split, source)


def street(data: Path) -> Iterator[Piece]:
    """A street with a rider, who is one person with the scooter there and is left out by a mask of 255."""
    folder = data / "clips_with_masks" / "davis_scooter-black"
    for number in SCOOTER:
        rgb = rgb_of((folder / "frames" / f"{number:05d}.jpg").read_bytes())
        mask = cv2.imread(str(folder / "masks" / f"{number:05d}.png"), cv2.IMREAD_GRAYSCALE)
        rider = np.where(cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0, 255, 0).astype(np.uint8)
        yield scene(f"scooter/{number:05d}.webp", rgb, rider, "train", "DAVIS scooter-black (BSD)")


def pack(pieces: Iterator[Piece], out: Path) -> dict[str, int]:
    """Write the archive; the number of pieces of each kind and split."""
    lines, counts = ["\t".join(("file", "kind", "split", "head_x", "head_y", "head_r", "source"))], {}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for piece in pieces:
            pixels, head = piece.pixels, piece.head
            if piece.kind != "scene":
                pixels, head = trimmed(pixels, head, TALLEST_PX[piece.kind])
                if min(pixels.shape[:2]) < 12:
                    continue
            name = str(Path(piece.name).with_suffix(".webp"))
            # The numbers of people in a scene are no opacity, so colors and numbers are stored side by side.
            if piece.kind == "scene":
                archive.writestr(name, encoded(pixels[..., :3], 92))
                archive.writestr(str(Path(name).with_suffix(".png")), cv2.imencode(".png", pixels[..., 3])[1].tobytes())
            else:
                archive.writestr(name, encoded(pixels, 92))
            lines.append("\t".join((name, piece.kind, piece.split, *(f"{one:.1f}" for one in head), piece.source)))
            key = f"{piece.name.split('/')[0]} {piece.kind} {piece.split}"
            counts[key] = counts.get(key, 0) + 1
        archive.writestr("index.tsv", "\n".join(lines) + "\n")
    return counts


def encoded(pixels: Picture, quality: int) -> bytes:
    """As WebP, RGB or RGBA."""
    code = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, content = cv2.imencode(".webp", cv2.cvtColor(pixels, code), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return bytes(content.tobytes())


def main() -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of shared data")
    parser.add_argument("out", type=Path, help="the archive to write")
    parser.add_argument("--openpeople", type=Path, help="its wheel; default: downloaded beside the archive")
    given = parser.parse_args()
    wheel = given.openpeople or fetched(given.out.parent)
    network = SelfieSegmentation(margin=0.0, n_threads=1)

    def everything() -> Iterator[Piece]:
        yield from coco(given.data)
        yield from street(given.data)
        yield from openpeople(wheel, network)
        yield from synthetic(given.data)
        yield from portraits(given.data, network)

    for key, count in pack(everything(), given.out).items():
        print(f"{count:6d} {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
