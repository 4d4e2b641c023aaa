"""What all parts of the embedded default's benchmark share: the weights, photos, and what was measured before."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from _bench import WORK, shared_data, show
from torch import Tensor

from pa_lib import load_module
from pa_lib.data import FaceDataModule
from pa_lib.evaluation.attack import anonymized_photos, face_photos
from pa_lib.metrics import MetricValue
from pa_lib.modules import PassersbyAnonymizer, Photos
from pa_lib.reports.json import plain
from pa_lib.video import fingerprint

FOLDER = WORK / "embedded"
BATCH = 32  # photos generated at a time, and written: what a stopped run loses
Record = dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """What is measured.

    Args:
        path: A checkpoint of Passersby-Anonymizer, or ``.safetensors``.
        steps: Of the sampler; None takes what the weights bring.
        device: Where faces and clips are generated. Speed is measured on the CPU.
    """

    path: Path
    steps: int | None = None
    device: str = "cpu"

    @cached_property
    def digest(self) -> str:
        """Of the file, sha256, ten digits."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:10]

    @property
    def settings(self) -> Record:
        """What decides the pictures."""
        return {"weights": self.digest, "steps": self.steps}

    def with_steps(self, steps: int) -> Weights:
        """The same with another sampler."""
        return Weights(self.path, steps, self.device)

    @cached_property
    def system(self) -> PassersbyAnonymizer:
        """Ready to generate."""
        changed = {} if self.steps is None else {"sampler.steps": self.steps}
        module = load_module(self.path, changed=changed, map_location=self.device)
        assert isinstance(module, PassersbyAnonymizer)
        return module

    @property
    def n_parameters(self) -> int:
        """Of all slots."""
        return sum(weight.numel() for weight in self.system.parameters())


@dataclass(frozen=True, eq=False)
class Portraits:
    """The permissive portraits, and which of them the weights were trained on.

    Args:
        photos: First those of the training side, then those held out.
        n_training: How many are of the training side.
        side: Of the frames, px.
        name: Tells other photos apart in what is kept.
    """

    photos: Photos
    n_training: int
    side: int
    name: str = "all"

    @classmethod
    def of(cls, side: int) -> Portraits:
        """All of them, without motion or augmentation; kept, for to make them takes longer than to judge them."""
        archive = portraits_file()
        place = FOLDER / f"portraits_{marked(fingerprint(archive), side)}.pt"
        if not place.is_file():
            data = FaceDataModule(archive, side=side)
            made = face_photos(data)
            place.parent.mkdir(parents=True, exist_ok=True)
            told = (made.frames, made.masks, made.people, made.landmarks, len(data.train_set))
            torch.save(told, place.with_suffix(".partial"))
            place.with_suffix(".partial").rename(place)
        frames, masks, people, landmarks, n_training = torch.load(place, weights_only=True)
        return cls(Photos(frames, masks, people, landmarks), n_training, side)

    def training(self, n: int | None = None) -> Tensor:
        """Rows of the training side; `n` of them, evenly spread."""
        return _spread(torch.arange(self.n_training), n)

    def held_out(self, n: int | None = None) -> Tensor:
        """Rows of the held-out side; `n` of them, evenly spread."""
        return _spread(torch.arange(self.n_training, len(self.photos)), n)


def portraits_file() -> Path:
    """The permissive portraits."""
    return shared_data() / "faces" / "faces_permissive_128.zip"


def _spread(rows: Tensor, n: int | None) -> Tensor:
    if n is None or n >= len(rows):
        return rows
    return rows[torch.linspace(0, len(rows) - 1, n).round().long()]


def marked(*what: Any) -> str:
    """Ten digits that stand for everything that decides a value."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:10]


def kept(part: str, what: Sequence[Any], measure: Callable[[], Record] | None) -> Record | None:
    """What was measured before by the same weights, settings and protocols, else what is measured now.

    Args:
        part: Name of the part.
        what: All that decides its values.
        measure: Measures it; None where it was not asked for: then only what is there is given back.
    """
    place = FOLDER / f"{part}_{marked(part, *what)}.json"
    if not place.is_file():
        if measure is None:
            return None
        start = time.perf_counter()
        record = measure() | {"seconds": round(time.perf_counter() - start, 1)}
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(plain(record), indent=1) + "\n")
    told: Record = json.loads(place.read_text())
    return told


def generated(weights: Weights, portraits: Portraits, rows: Tensor, seed: int) -> Tensor:
    """Photos with a generated person in them, uint8; those generated before are read, 32 by 32."""
    folder = FOLDER / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    parts, told = [], time.perf_counter()
    for number, some in enumerate(rows.split(BATCH)):
        mark = marked(weights.settings, portraits.side, portraits.name, some.tolist(), seed)
        place = folder / f"{mark}.pt"
        if not place.is_file():
            made = anonymized_photos(weights.system, portraits.photos, some, seed=seed)
            torch.save(made, place.with_suffix(".partial"))
            place.with_suffix(".partial").rename(place)
        parts.append(torch.load(place, weights_only=True))
        if time.perf_counter() - told > 20:
            told = time.perf_counter()
            print(f"generated {min((number + 1) * BATCH, len(rows))} of {len(rows)}, seed {seed}", flush=True)
    return torch.cat(parts)


def as_records(figures: Sequence[MetricValue]) -> Record:
    """Values by name, for JSON."""
    return {figure.name: asdict(figure) for figure in figures}


def values(figures: Mapping[str, Any]) -> dict[str, float]:
    """Bare values by name; NaN where JSON holds nothing or a word."""
    return {
        name: float(figure["value"]) if isinstance(figure["value"], int | float) else math.nan
        for name, figure in figures.items()
    }


def cell(figure: Mapping[str, Any], scale: float = 1.0) -> str:
    """A value with its interval."""
    value, interval = figure["value"], figure["interval"]
    if value is None or not isinstance(value, float) or math.isnan(value):
        return "-"
    if not interval or not all(isinstance(end, float) for end in interval):
        return show(scale * value)
    low, high = (0.0 if abs(end) < 1e-9 else scale * float(end) for end in interval)  # what rounding leaves of 0
    return f"{show(scale * value)} ({show(low)} to {show(high)})"
