"""What metrics of faces share: the same faces before and after, as rows by clip, person and identity."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.contracts import Sighting
from pa_lib.errors import SettingError
from pa_lib.functional.identity import DistanceName
from pa_lib.metrics.base import AbstractMetric, Field
from pa_lib.metrics.faces.comparer import FaceComparer, FacePairs

N_KEYS = 3  # clip, person, identity
UNKNOWN = -1  # as in `contracts.Batch.identities`


class AbstractFaceMetric(AbstractMetric):
    """A metric of tracks. A track is one person of one clip.

    Args:
        compare: Comparer that finds and embeds the faces; share one between metrics. `FaceComparer` with its defaults
            if None.
    """

    needs: frozenset[Field] = frozenset({"source", "anonymized"})
    needs_one_of: frozenset[Field] = frozenset({"people", "masks"})
    uses: frozenset[Field] = frozenset({"clip_ids", "identities", "context"})
    is_by_identity: ClassVar[bool] = False  # whether identities matter

    rows: Tensor

    def __init__(self, compare: FaceComparer | None) -> None:
        super().__init__()
        self.compare = FaceComparer() if compare is None else compare

    def add_tracks(self, n_columns: int) -> None:
        """Add the state ``rows``: keys of the track, then `n_columns` columns, which are added up over its faces."""
        self.add_rows("rows", N_KEYS + n_columns, n_keys=N_KEYS, clip_column=0)

    def update(
        self,
        source: Tensor,
        anonymized: Tensor,
        people: Sequence[Sighting] | None = None,
        masks: Tensor | None = None,
        clip_ids: Tensor | None = None,
        identities: Tensor | None = None,
        context: int = 0,
    ) -> None:
        """Add frames; arguments as in `contracts.Result`. The first `context` frames were counted before.

        Raises:
            ValueError: Shapes or ranges do not fit, or neither `people` nor `masks` are given.
        """
        pairs = self.compare(source, anonymized, people, masks, context)
        n_rows = len(source)
        if identities is None:
            identities = torch.full((n_rows,), UNKNOWN)
        if tuple(identities.shape) != (n_rows,):
            shape = tuple(identities.shape)
            raise ValueError(f"identities have shape {shape}, expected {(n_rows,)}: one for each clip")
        clips = self.clip_keys(clip_ids, n_rows).cpu()
        who = identities.cpu().double() if self.is_by_identity else torch.full((n_rows,), float(UNKNOWN)).double()
        keys = torch.stack([clips[pairs.rows], pairs.person_ids.double(), who[pairs.rows]], 1)
        self.add_faces(pairs, keys)

    @abstractmethod
    def add_faces(self, pairs: FacePairs, keys: Float[Tensor, "n 3"]) -> None:
        """Add the faces of an update to the states; `keys` are clip, person and identity of each, float64."""


def checked_distance(distance: DistanceName) -> DistanceName:
    """The name of a distance between embeddings.

    Raises:
        SettingError: Unknown name.
    """
    if distance not in ("euclidean", "cosine"):
        raise SettingError(f"distance is {distance!r}, expected 'euclidean' or 'cosine'")
    return distance
