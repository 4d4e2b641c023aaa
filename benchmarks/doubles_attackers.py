"""Doubles against attackers who learn: the same photos, attackers and tables as benchmarks/attackers.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from _bench import RESULTS
from attackers import SIDE, attacked
from doubles_rows import Row
from embedded_parrot import with_pairs
from embedded_weights import FOLDER, Portraits, Record, kept

from pa_lib.contracts import Clip, ClipMasks, PersonInfo
from pa_lib.modules import AbstractAnonymizer, ParrotAttack, ReversalAttack
from pa_lib.pretrained import FaceIdentity

RECORDED = {"blur": "blur 1", "mosaic": "mosaic 1"}
"""Rows of results/attackers.json that are these systems. Nothing in them, nor in the photos, has changed since."""


class KeptPictures(AbstractAnonymizer):
    """A system whose pictures are kept: a run that was stopped goes on, and the second attacker sees the same ones.

    Args:
        system: The system.
        folder: Where the pictures are kept; one system to a folder.
    """

    def __init__(self, system: AbstractAnonymizer, folder: Path) -> None:
        self.system, self.folder = system, folder
        self.n_made = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def window_frames(self) -> int:
        """The system's own."""
        return self.system.window_frames

    @property
    def is_non_interfering(self) -> bool:
        """The system's own."""
        return self.system.is_non_interfering

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """The system's own."""
        return self.system.replacements(people, seed=seed)

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """The system's own."""
        return self.system.extended(masks, seed=seed)

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """The system's own, made once."""
        digest = hashlib.sha256(clip.frames.contiguous().numpy().tobytes())
        for mask in masks.people:
            where = (mask.person_id, mask.frame, mask.top, mask.left, mask.kind, mask.pose)
            digest.update(repr((where, seed)).encode() + mask.alpha.contiguous().numpy().tobytes())
        place = self.folder / f"{digest.hexdigest()[:20]}.pt"
        if not place.is_file():
            self.n_made += 1
            made = self.system.anonymize(clip, masks, seed=seed).frames.cpu()
            torch.save(made, place.with_suffix(".partial"))
            place.with_suffix(".partial").rename(place)
        return Clip(torch.load(place, weights_only=True), clip.first_frame, clip.fps)


def attackers(row: Row, n: int | None, *, is_asked: bool) -> Record | None:
    """Both attackers on one system: from the record of attackers.py if they are there, else measured."""
    recorded = _recorded(row) if n is None else None
    if recorded is not None:
        return recorded

    def measure() -> Record:
        portraits = Portraits.of(SIDE)
        photos = (portraits if n is None else with_pairs(portraits, n)).photos
        system = KeptPictures(row.system(), FOLDER / f"attacked_{row.mark}")
        name = f"{row.name} {row.mark}" if n is None else f"{row.name} {row.mark}, {n} photos"
        return {"values": attacked(name, lambda: system, photos)["values"], "is_recorded": False}

    return kept("doubles_attackers", [row.mark, n, _protocols()], measure if is_asked else None)


def _protocols() -> dict[str, Any]:
    attacks = (ParrotAttack(FaceIdentity()), ReversalAttack(FaceIdentity()))
    return {attack.name: attack.protocol() for attack in attacks}


def _recorded(row: Row) -> Record | None:
    """What attackers.py has measured with the same protocols."""
    place = RESULTS / "attackers.json"
    if not place.is_file():
        return None
    name = RECORDED.get(row.name)
    found: Record | None = json.loads(place.read_text())["values"]["rows"].get(name)
    is_same = found is not None and found["protocol"] == json.loads(json.dumps(_protocols()))
    return {"values": found["values"], "is_recorded": True} if found is not None and is_same else None
