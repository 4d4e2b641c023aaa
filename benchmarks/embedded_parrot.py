"""The embedded default against an attacker who learns from photos that it anonymized for him."""

from __future__ import annotations

import hashlib
import math
import time

import torch
from _bench import Table
from embedded_weights import BATCH, Portraits, Record, Weights, as_records, cell, kept, painted
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks
from pa_lib.modules import AbstractAnonymizer, ParrotAttack, Photos
from pa_lib.pipeline.attack import run_attack
from pa_lib.pretrained import FaceIdentity

SIDE = 128


class Ahead(AbstractAnonymizer):
    """Paints photos before they are asked for, in batches: one by one takes twice as long, and a stopped run goes on.

    Every further seed on a photo is one more view of it; the attack only needs views to differ.
    """

    window_frames = 1
    is_non_interfering = True

    def __init__(self, weights: Weights, portraits: Portraits) -> None:
        self.weights, self.portraits = weights, portraits
        self.row_of = {_key(frame): row for row, frame in enumerate(portraits.photos.frames)}
        self.seeds: dict[int, list[int]] = {}
        self.made: dict[tuple[int, int], Tensor] = {}

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """One photo, as it was painted among others."""
        row = self.row_of[_key(clip.frames[0])]
        seeds = self.seeds.setdefault(row, [])
        if seed not in seeds:
            seeds.append(seed)
        view = seeds.index(seed)
        if (row, view) not in self.made:
            start = row // BATCH * BATCH
            rows = torch.arange(start, min(start + BATCH, len(self.portraits.photos)))
            pictures = painted(self.weights, self.portraits, rows, view)
            self.made |= {(int(at), view): picture for at, picture in zip(rows, pictures, strict=True)}
        return Clip(self.made[row, view][None])


def _key(frame: Tensor) -> str:
    return hashlib.sha256(frame.contiguous().numpy().tobytes()).hexdigest()


def parrot(weights: Weights, steps: int, n_photos: int | None, is_asked: bool) -> Record | None:
    """People named by an attacker who learned from photos that the system anonymized for him."""
    attack = ParrotAttack(FaceIdentity())
    what = [weights.settings, steps, SIDE, n_photos, attack.protocol()]

    def measure() -> Record:
        portraits = Portraits.of(SIDE)
        if n_photos is not None:
            portraits = _with_pairs(portraits, n_photos)
        last = time.perf_counter()

        def tell(doing: str, done: int, of: int) -> None:
            nonlocal last
            if time.perf_counter() - last > 20:
                last = time.perf_counter()
                print(f"parrot: {doing} {done} of {of}", flush=True)

        system = Ahead(weights.with_steps(steps), portraits)
        measured = run_attack(attack, system, portraits.photos, progress=tell)
        return {"figures": as_records(measured.figures), "steps": steps, "n": len(portraits.photos)}

    return kept("parrot", what, measure if is_asked else None)


def _with_pairs(portraits: Portraits, n_photos: int) -> Portraits:
    """The photos of people with two or more, as many as are wanted: for trying out."""
    photos = portraits.photos
    counts = torch.bincount(photos.people)
    rows = (counts[photos.people] > 1).nonzero()[:, 0]
    rows = rows[photos.people[rows].argsort(stable=True)][:n_photos]
    people = photos.people[rows].unique(return_inverse=True)[1]
    some = Photos(photos.frames[rows], photos.masks[rows], people, photos.landmarks[rows])
    return Portraits(some, 0, portraits.side, f"{n_photos} of pairs")


def parrot_table(record: Record) -> tuple[Table, dict[str, bool]]:
    """The table, and whether the goal is met."""
    figures = record["figures"]
    chance = figures["parrot_chance"]["value"]
    names = ("parrot_rank1", "parrot_rank5", "parrot_rank1_other_photos")
    row = ("embedded", *(cell(figures[name], 100) for name in names), 100 * chance)
    notes = [
        f"{figures['parrot_rank1']['n']} people, {record['n']} photos of {SIDE} px, {record['steps']} sampling steps. "
        "Intervals: 95 %, Wilson. Most of these photos were in the training of the weights, which can only help the "
        "attacker. Beside blur and mosaic: benchmarks/attackers.py."
    ]
    columns = ("anonymized by", "rank-1, %", "rank-5, %", "rank-1, other photos, %", "chance, %")
    value = figures["parrot_rank1"]["value"]
    is_met = not math.isnan(value) and value <= 3 * chance
    return Table("Embedded default: an attacker who learns", columns, [row], notes), {
        "parrot_at_most_three_times_chance": is_met
    }
