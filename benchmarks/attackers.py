"""What attackers who learn find out: naming people, and restoring faces, for blur, mosaic, fill and what is given.

python benchmarks/attackers.py                                  the conventional ones, and no anonymization at all
python benchmarks/attackers.py --weights runs/…/last.ckpt       and a trained system beside them
python benchmarks/attackers.py --rows 'blur 0.5' fill           some of the rows; those measured before are kept
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from _bench import WORK, Table, publish, shared_data

from pa_lib.contracts import Clip, ClipMasks, ProgressCallback
from pa_lib.data import FaceDataModule
from pa_lib.evaluation.attack import face_photos, run_attack
from pa_lib.functional import blur, region_size
from pa_lib.modules import AbstractAnonymizer, ConventionalAnonymizer, ParrotAttack, Photos, ReversalAttack
from pa_lib.pretrained import FaceIdentity

SIDE = 128
GREY = (128, 128, 128)
STEPS = 5  # of a trained system: 12,000 pictures have to be generated
Make = Callable[[], AbstractAnonymizer]


class _Nothing(AbstractAnonymizer):
    """No anonymization."""

    window_frames = 1
    is_non_interfering = False

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


class _MildBlur(_Nothing):
    """A blur of half the least strength that ConventionalAnonymizer agrees to: sigma 0.0375 of the mask's size."""

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        frames = clip.frames.clone()
        for mask in masks.people:
            height, width = mask.alpha.shape
            region = frames[mask.frame, :, mask.top : mask.top + height, mask.left : mask.left + width]
            region.copy_(blur(region, 0.25 * 0.15 * region_size(height, width)))
        return Clip(frames, clip.first_frame, clip.fps)


ROWS: dict[str, Make] = {
    "nothing": _Nothing,
    "blur 0.25": _MildBlur,
    "blur 0.5": lambda: ConventionalAnonymizer("blur", 0.5),
    "blur 1": lambda: ConventionalAnonymizer("blur", 1.0),
    "blur 2": lambda: ConventionalAnonymizer("blur", 2.0),
    "mosaic 0.5": lambda: ConventionalAnonymizer("mosaic", 0.5),
    "mosaic 1": lambda: ConventionalAnonymizer("mosaic", 1.0),
    "fill, one grey": lambda: ConventionalAnonymizer("fill", color=GREY),
    "fill, colour of the surroundings": lambda: ConventionalAnonymizer("fill"),
}


def attacked(row: str, make: Make, photos: Photos) -> dict[str, Any]:
    """Both attacks on one system; each is kept by what the attacker is."""
    told: dict[str, Any] = {"values": {}, "seconds": {}, "protocol": {}}
    for attack in (ParrotAttack(FaceIdentity()), ReversalAttack(FaceIdentity())):
        mark = hashlib.sha256(json.dumps([row, attack.name, attack.protocol()], sort_keys=True).encode()).hexdigest()
        kept = WORK / "attackers" / f"{mark[:10]}.json"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            measured = run_attack(attack, make(), photos, on_progress=_printed(f"{row}: {attack.name}"))
            seconds = time.perf_counter() - start
            figures = {figure.name: asdict(figure) for figure in measured.values}
            kept.write_text(json.dumps({"row": row, "values": figures, "seconds": seconds}, indent=1) + "\n")
            if isinstance(attack, ReversalAttack):
                sheet = attack.pictures().permute(1, 2, 0).flip(-1).numpy()
                cv2.imwrite(str(kept.with_name(f"{row.replace(' ', '_').replace(',', '')}.png")), sheet)
        measured_before = json.loads(kept.read_text())
        told["values"] |= measured_before["values"]
        told["seconds"][attack.name] = measured_before["seconds"]
        told["protocol"][attack.name] = attack.protocol()
    return told


def _printed(what: str) -> ProgressCallback:
    last = 0.0

    def report(task: str, done: int, total: int | None = None) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last > 20:
            last = time.perf_counter()
            print(f"{what}: {task} {done} of {total}", flush=True)

    return report


def share(figure: dict[str, Any]) -> str | None:
    """A rate with its interval, in percent."""
    if figure["value"] != figure["value"]:
        return None
    low, high = figure["interval"]
    return f"{100 * figure['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def parrot_table(rows: dict[str, dict[str, Any]]) -> Table:
    first = next(iter(rows.values()))["values"]
    rank1, apart = first["parrot_rank1"], first["parrot_rank1_other_photos"]
    cells = [
        (
            row,
            share(told["values"]["parrot_rank1"]),
            share(told["values"]["parrot_rank5"]),
            share(told["values"]["parrot_rank1_other_photos"]),
            told["seconds"]["parrot"],
        )
        for row, told in rows.items()
    ]
    notes = [
        f"One known photo of each of {rank1['n']} people, another one to be named; chance is {100 / rank1['n']:.2f} % "
        f"(rank-1) and {500 / rank1['n']:.2f} % (rank-5). Intervals: 95 %, Wilson. The attacker sees the inside of the "
        "mask only, aligned by the original's landmarks. Other photos: without the "
        f"{rank1['n'] - apart['n']} people whose two photos are the same portrait to the eye. After blur and mosaic, "
        "the strength (see ConventionalAnonymizer, which agrees to 0.5 and more).",
        "What falls short: one known photo of most people and 3 epochs. An attacker with more of either does better: "
        "these shares are lower bounds of what leaks.",
    ]
    title = "Parrot attack: people named after learning from anonymized photos, %"
    return Table(title, ("anonymized by", "rank-1", "rank-5", "rank-1, other photos", "s"), cells, notes)


def reversal_table(rows: dict[str, dict[str, Any]]) -> Table:
    first = next(iter(rows.values()))["values"]["reversal_rank1"]
    cells = []
    for row, told in rows.items():
        figures = told["values"]
        pairs = [
            (figures[f"reversal_unrestored_{what}"], figures[f"reversal_{what}"]) for what in ("same_person", "rank1")
        ]
        cells.append(
            (
                row,
                *(share(figure) for pair in pairs for figure in pair),
                figures["reversal_unrestored_distance"]["value"],
                figures["reversal_distance"]["value"],
                told["seconds"]["reversal"],
            )
        )
    notes = [
        f"{first['n']} people of whom the attacker has learned nothing. Same person: share within "
        f"{FaceIdentity.same_person_distance} of the truth's identity (dlib's network, Euclidean). Rank-1: in a "
        f"gallery of another photo of each; chance is {100 / first['n']:.2f} %. As it is: the anonymized face without "
        "restoration. Intervals: 95 %, Wilson.",
        "An average face is within 0.6 of most people: the same-person share says something only where it is above "
        "that of fill, behind which there is nothing to restore. Rank-1 is not misled so.",
    ]
    heads = ("same person, as it is", "restored", "rank-1, as it is", "restored", "distance, as it is", "restored", "s")
    return Table("Reversal attack: faces restored, % and distance", ("anonymized by", *heads), cells, notes)


def goals(rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """What has to come out if the attackers are any good."""
    told: dict[str, bool] = {}
    chance = {row: of["values"]["parrot_chance"]["value"] for row, of in rows.items()}
    parrot = {row: of["values"]["parrot_rank1"] for row, of in rows.items()}
    for row in ("blur 0.5", "mosaic 0.5"):
        if row in rows:
            told[f"{row.replace(' ', '_')}_is_broken_tenfold_chance"] = parrot[row]["interval"][0] > 10 * chance[row]
    if "blur 0.25" in rows and "nothing" in rows:
        near = 0.8 * parrot["nothing"]["value"]
        told["a_mild_blur_is_nearly_as_good_as_nothing_for_the_attacker"] = parrot["blur 0.25"]["value"] >= near
    if "fill, one grey" in rows:
        row = "fill, one grey"
        told["a_fill_of_one_grey_gives_exactly_chance"] = abs(parrot[row]["value"] - chance[row]) < 1e-9
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--weights", type=Path, help="a checkpoint of a system, for a row of its own")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    photos = face_photos(FaceDataModule(shared_data() / "faces" / "faces_permissive_128.zip", side=SIDE))
    makers = {row: ROWS[row] for row in asked.rows}
    if asked.weights is not None:
        import pa_lib

        system = pa_lib.load_module(asked.weights, changed={"sampler.steps": STEPS})
        digest = hashlib.sha256(asked.weights.read_bytes()).hexdigest()[:8]
        makers[f"{type(system).__name__} ({digest}), {STEPS} steps"] = lambda: system
    rows = {row: attacked(row, make, photos) for row, make in makers.items()}
    publish("attackers", [parrot_table(rows), reversal_table(rows)], {"goals": goals(rows), "rows": rows})


if __name__ == "__main__":
    main()
