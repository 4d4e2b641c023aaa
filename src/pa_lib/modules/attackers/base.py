"""What all attacks share: the photos, the anonymized pictures, the result, and the interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import lightning
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from pa_lib.errors import SettingError


@dataclass(frozen=True, eq=False)
class Photos:
    """Portraits of people, one face to a photo, and where that face is.

    Args:
        frames: The photos, shape n 3 h w, uint8 RGB in 0..255.
        masks: Masks, shape n 1 h w, float32 in [0, 1], 1 = to be anonymized.
        people: Number of the person, shape n; photos of one person share it.
        landmarks: Landmarks (x, y) of the original in pixels, shape n 5 2, in the order of `contracts.Detection`. The
            attacker knows them: an attack that fails only because the face was not found would say little.

    Raises:
        SettingError: Shapes or types that do not fit.
    """

    frames: UInt8[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n 1 h w"]
    people: Int64[Tensor, " n"]
    landmarks: Float[Tensor, "n 5 2"]

    def __post_init__(self) -> None:
        n, _, height, width = self.frames.shape
        expected = {"masks": (n, 1, height, width), "people": (n,), "landmarks": (n, 5, 2)}
        if self.frames.dtype != torch.uint8:
            raise SettingError(f"photos of {self.frames.dtype}: expected uint8 in 0..255")
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise SettingError(f"photos: {name} has shape {tuple(getattr(self, name).shape)}, expected {shape}")

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, eq=False)
class Anonymized:
    """Anonymized pictures of photos: what the attacker sees.

    Args:
        photos: The originals.
        frames: Anonymized pictures, shape m 3 h w, uint8; several of a photo with different seeds, or none of it.
        photo: Row of the photo that each picture was made from, shape m.
    """

    photos: Photos
    frames: UInt8[Tensor, "m 3 h w"]
    photo: Int64[Tensor, " m"]

    def rows(self, photos: Int64[Tensor, " k"], *, is_first: bool = False) -> Int64[Tensor, " j"]:
        """The rows of `frames` that show these photos, in order of the photos; all of each, or the first of each.

        Raises:
            SettingError: One of the photos was not anonymized.
        """
        of: dict[int, list[int]] = {}
        for row, photo in enumerate(self.photo.tolist()):
            of.setdefault(photo, []).append(row)
        missing = [photo for photo in photos.tolist() if photo not in of]
        if missing:
            raise SettingError(f"photo {missing[0]} was not anonymized; anonymize all that attack.views() asks for")
        return torch.tensor([row for photo in photos.tolist() for row in of[photo][: 1 if is_first else None]])


@dataclass(frozen=True, eq=False)
class AttackResult:
    """One number of an attack, photo by photo.

    Args:
        name: Name of the value.
        values: One value for each photo (or person) that was attacked, shape n; for a rate, in [0, 1].
        n_of: Description of the n items, e.g. ``faces``.
        what: Description in one line.
        is_rate: Whether the mean is a share of successes.
        is_higher_better: Whether a higher value is better for the anonymized people; None where neither is.
        counted: Number of items that weaken the value, by name.
        has_interval: Whether an interval is computed; False for a known number, such as chance.
    """

    name: str
    values: Float[Tensor, " n"]
    n_of: str
    what: str
    is_rate: bool = True
    is_higher_better: bool | None = False
    counted: Mapping[str, int] = field(default_factory=dict)
    has_interval: bool = True


class AbstractAttack(lightning.LightningModule, ABC):
    """An attacker who knows the anonymizer and may run it on photos of their own: trained on pairs, then scored.

    The order: `views` says which photos are to be anonymized and how often; `prepare` receives the pictures;
    Lightning's trainer fits the attack on its own loaders; `results` gives its values.
    `pa_lib.evaluation.run_attack` does all of it.
    """

    name: ClassVar[str]  # in snake case; names of values begin with it
    max_epochs: int

    @abstractmethod
    def views(self, photos: Photos, n_views: int) -> Int64[Tensor, " n"]:
        """How often each photo is to be anonymized, with another seed each time; 0 = not needed.

        Args:
            photos: The photos.
            n_views: Number of pictures of each photo to learn from; 1 where the system gives the same for every seed.

        Raises:
            PaLibError: There are too few people or photos.
        """

    @abstractmethod
    def prepare(self, seen: Anonymized) -> None:
        """Take the pictures that `views` asked for, divide them, and make ready for training."""

    @abstractmethod
    def results(self) -> tuple[AttackResult, ...]:
        """The values of the attack, after training. The first value stands for the attack."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """All that is needed to reproduce the attack: plain JSON values; see `metrics.AbstractMetric.protocol`."""
