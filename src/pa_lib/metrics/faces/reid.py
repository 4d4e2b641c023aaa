"""Whether somebody who searches the originals for an anonymized face finds the right person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pa_lib.contracts import Sighting
from pa_lib.functional.identity import DistanceName, comparable
from pa_lib.functional.intervals import t_interval, wilson_interval, within
from pa_lib.functional.reid import (
    Retrieval,
    chance_of_precision,
    chance_of_rank,
    reidentification,
)
from pa_lib.metrics.base import AbstractMetric, Measurement, MetricValue, TrackRow
from pa_lib.metrics.faces.comparer import FaceComparer
from pa_lib.metrics.faces.tracks import N_KEYS, UNKNOWN, face_keys
from pa_lib.metrics.per_clip import summed

_COMPARED, _LOST = N_KEYS, N_KEYS + 1
_FIRST = N_KEYS + 2  # then sums of the anonymized and of the source's embeddings


class ReidentificationRate(AbstractMetric):
    """Rank-1, rank-5 and mAP of anonymized faces that search a gallery of originals.

    A query is one track (one person of one clip; a photo is a clip of one frame): the mean embedding of its anonymized
    faces, found by the finder or not. That pools what a video gives away. The gallery, by what is known:

    - pictures from `add_gallery`: each is an entry; queries need an identity;
    - identities: every track's mean original is an entry, but a query does not see the track that it was made from,
      only the same person's other pictures and everybody else's;
    - neither: as above, but each query looks for the very track that it was made from: the stronger attacker, who has
      the original video.

    Figures: ``reidentification_rank1``, ``_rank5``, ``_map``; ``reidentification_chance_rank1``, ``_rank5``, ``_map``:
    the same for a gallery in random order; ``reidentification_original_rank1``: rank-1 of the queries' originals,
    NaN where a query's own track is the only right one.

    Args:
        compare: Finds and embeds faces; share one between metrics. `FaceComparer` with its defaults if None.
        distance: ``euclidean`` or ``cosine``; see `functional.identity_distance`.

    >>> metric = ReidentificationRate()
    >>> video = torch.zeros(1, 1, 3, 40, 40)
    >>> metric.update(video, video, masks=torch.ones(1, 1, 1, 40, 40))  # nobody is there
    >>> metric.measure().values[0].n
    0

    Ours: one query for each track, and the mean of a track as its entry.
    """

    name = "reidentification"
    higher_is_better = False

    rows: Tensor
    gallery: Tensor

    def __init__(self, compare: FaceComparer | None = None, distance: DistanceName = "euclidean") -> None:
        super().__init__()
        if distance not in ("euclidean", "cosine"):
            raise ValueError(f"distance is {distance!r}, expected 'euclidean' or 'cosine'")
        self.compare = FaceComparer() if compare is None else compare
        self.distance: DistanceName = distance
        self.add_rows("rows", _FIRST + 2 * self.compare.network.n_dimensions)
        self.add_rows("gallery", 1 + self.compare.network.n_dimensions)

    def add_gallery(
        self,
        source: Tensor,
        identities: Tensor,
        people: Sequence[Sighting] | None = None,
        masks: Tensor | None = None,
    ) -> None:
        """Add originals to search, which are not the pictures that were anonymized. `reset` empties the gallery.

        The same picture added again, also by another process, counts once. Pictures whose face cannot be compared are
        left out.

        Args:
            source: As in `contracts.Result`; every face is an entry.
            identities: Shape b: who it is, >= 0.
            people: As in `contracts.Result`.
            masks: As in `contracts.Result`; needed without `people`.

        Raises:
            ValueError: Shapes or ranges do not fit, or an identity is negative.
        """
        if tuple(identities.shape) != (len(source),) or bool((identities < 0).any()):
            raise ValueError(f"identities have shape {tuple(identities.shape)}, expected {(len(source),)}, all >= 0")
        pairs = self.compare(source, source, people, masks)
        entries = torch.cat([identities.cpu().double()[pairs.rows, None], comparable(pairs.source, self.distance)], 1)
        known = torch.cat([self.gallery.cpu(), entries[entries.isfinite().all(1)]])
        self.gallery = torch.unique(known, dim=0).to(self.gallery.device)
        # What was measured before is measured anew against this gallery.
        self._computed = None

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
        keys = face_keys(pairs, clip_ids, identities, self.rows)
        after, before = (comparable(part, self.distance) for part in (pairs.anonymized, pairs.source))
        is_compared = after.isfinite().all(1) & before.isfinite().all(1)
        after, before = (part.nan_to_num(0.0) * is_compared[:, None] for part in (after, before))
        counts = torch.stack([is_compared, is_compared & ~pairs.is_found], 1).double()
        new = torch.cat([keys, counts, after, before], 1)
        self.rows = summed(torch.cat([self.rows, new.to(self.rows.device)]), N_KEYS)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "faces": self.compare.protocol(),
            "distance": self.distance,
            "query": "mean embedding of a track's anonymized faces, those not found included",
            "gallery": "given pictures, else mean embedding of each track's originals",
            "own_track": "not seen by queries with an identity; what queries without one look for",
            "without_match": "left out, and counted",
            "interval": "ranks: Wilson over queries; mAP: Student's t over queries; 95 %",
        }

    def _measure(self) -> Measurement:
        every = summed(self.rows.cpu(), N_KEYS)
        rows = every[every[:, _COMPARED] > 0]
        d = (rows.shape[1] - _FIRST) // 2
        means = rows[:, _FIRST:] / rows[:, _COMPARED, None]
        after, before = means[:, :d], means[:, d:]
        entries, entry_ids, ids, left_out, is_own = self._searched(rows, before)
        told = reidentification(after, entries, ids, entry_ids, left_out, self.distance)
        is_answered = told.n_right > 0
        counted = {
            "queries without a match": int((~is_answered).sum()),
            "queries for their own pictures": int((is_own & is_answered).sum()),
            "tracks without a face to compare": len(every) - len(rows),
            "faces not found after": int(rows[:, _LOST].sum()),
            "gallery": len(entries),
        }
        n_right, n_gallery = told.n_right[is_answered], told.n_gallery[is_answered]
        precisions = told.average_precision[is_answered]
        by_chance = [float(chance_of_rank(n_right, n_gallery, k).mean()) for k in (1, 5)]
        by_chance.append(float(chance_of_precision(n_right, n_gallery).mean()))
        originals = reidentification(before, entries, ids, entry_ids, left_out, self.distance)
        figures = (
            rank_figure("reidentification_rank1", told.ranks[is_answered], 1, "queries", counted),
            rank_figure("reidentification_rank5", told.ranks[is_answered], 5, "queries"),
            precision_figure("reidentification_map", precisions, "mean average precision", "queries"),
            *(
                MetricValue(
                    f"reidentification_chance_{kind}", value, len(precisions), "queries", "gallery in random order"
                )
                for kind, value in zip(("rank1", "rank5", "map"), by_chance, strict=True)
            ),
            rank_figure(
                "reidentification_original_rank1",
                originals.ranks[is_answered & ~is_own],
                1,
                "queries",
                what="the same with the originals of the queries",
                is_higher_better=None,
            ),
        )
        return Measurement(figures, _tracks(rows, told))

    def _searched(
        self, rows: Float[Tensor, "q k"], before: Float[Tensor, "q d"]
    ) -> tuple[
        Float[Tensor, "g d"], Int[Tensor, " g"], Int[Tensor, " q"], Bool[Tensor, "q g"] | None, Bool[Tensor, " q"]
    ]:
        """Entries and who they are, who the queries are, what they do not see, and who looks for their own track."""
        identities = rows[:, N_KEYS - 1].long()
        is_unknown = identities == UNKNOWN
        # Numbers of their own for those whom nobody knows, which nothing else has.
        ids = torch.where(is_unknown, -2 - torch.arange(len(rows)), identities)
        gallery = torch.unique(self.gallery.cpu(), dim=0)
        if len(gallery):
            return gallery[:, 1:], gallery[:, 0].long(), ids, None, torch.zeros_like(is_unknown)
        return before, ids, ids, torch.diag(~is_unknown), is_unknown


def rank_figure(
    name: str,
    ranks: Int[Tensor, " q"],
    k: int,
    n_of: str,
    counted: dict[str, int] | None = None,
    *,
    what: str | None = None,
    is_higher_better: bool | None = False,
) -> MetricValue:
    """The share of queries with a right picture among the first k; `ranks` are from 1."""
    n, hits = len(ranks), int((ranks <= k).sum())
    what = what or f"share of queries with the right person among the first {k}"
    interval = wilson_interval(hits, n) if n else None
    return MetricValue(name, hits / n if n else math.nan, n, n_of, what, is_higher_better, interval, counted or {})


def precision_figure(
    name: str, values: Float[Tensor, " q"], what: str, n_of: str, is_higher_better: bool | None = False
) -> MetricValue:
    """A mean of values in [0, 1]."""
    interval = within(t_interval(values), 0.0, 1.0)
    return MetricValue(name, float(values.mean()), len(values), n_of, what, is_higher_better, interval)


def _tracks(rows: Float[Tensor, "q k"], told: Retrieval) -> tuple[TrackRow, ...]:
    """The queries that were answered, those found first first."""
    tracks = [
        TrackRow(
            int(row[0]), int(row[1]), {"reidentification_rank1": float(rank == 1), "reidentification_map": float(ap)}
        )
        for row, rank, ap in zip(rows, told.ranks, told.average_precision, strict=True)
        if rank > 0
    ]
    return tuple(sorted(tracks, key=lambda one: (-one.values["reidentification_map"], one.clip, one.person_id)))
