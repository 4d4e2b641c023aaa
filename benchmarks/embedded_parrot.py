"""The embedded default against an attacker who learns from photos that it anonymized for him."""

from __future__ import annotations

import math
import time

import torch
from _bench import Table
from embedded_weights import Portraits, Record, Weights, as_records, cell, kept

from pa_lib.evaluation.attack import run_attack
from pa_lib.modules import ParrotAttack, Photos
from pa_lib.pretrained import FaceIdentity

SIDE = 128


def parrot(weights: Weights, steps: int, n_photos: int | None, is_asked: bool) -> Record | None:
    """People named by an attacker who learned from photos that the system anonymized for him."""
    attack = ParrotAttack(FaceIdentity())
    what = [weights.settings, steps, SIDE, n_photos, attack.protocol()]

    def measure() -> Record:
        portraits = Portraits.of(SIDE)
        if n_photos is not None:
            portraits = with_pairs(portraits, n_photos)
        last = time.perf_counter()

        def report(task: str, done: int, total: int | None = None) -> None:
            nonlocal last
            if time.perf_counter() - last > 20:
                last = time.perf_counter()
                print(f"parrot: {task} {done} of {total}", flush=True)

        system = weights.with_steps(steps).system
        measured = run_attack(attack, system, portraits.photos, on_progress=report)
        return {"values": as_records(measured.values), "steps": steps, "n": len(portraits.photos)}

    return kept("parrot", what, measure if is_asked else None)


def with_pairs(portraits: Portraits, n_photos: int) -> Portraits:
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
    figures = record["values"]
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
