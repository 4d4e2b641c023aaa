"""Whether a search of the originals for an anonymized face finds the right person."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pa_lib.functional.identity import DistanceName, comparable
from pa_lib.functional.intervals import t_interval, wilson_interval, within
from pa_lib.functional.reid import (
    Retrieval,
    chance_of_precision,
    chance_of_rank,
    reidentification,
)
from pa_lib.metrics.base import Measurement, MetricValue, TrackRow
from pa_lib.metrics.faces.comparer import FaceComparer, FacePairs
from pa_lib.metrics.faces.tracks import N_KEYS, UNKNOWN, AbstractFaceMetric, checked_distance
from pa_lib.metrics.rows import clip_number

_COMPARED, _LOST = N_KEYS, N_KEYS + 1
_FIRST = N_KEYS + 2  # then sums of the anonymized and of the source's embeddings


class ReidentificationRate(AbstractFaceMetric):
    """Rank-1, rank-5 and mAP of anonymized faces that search a gallery of originals.

    A query is one track (one person of one clip; a photo is a clip of one frame): the mean embedding of its anonymized
    faces, found by the finder or not, as an attacker with a video would do. The gallery, with and without identities:

    - identities: every track's mean original is an entry, but a query does not see the track that it was made from,
      only the same person's other tracks and those of other people;
    - none: as above, but each query looks for the very track that it was made from: the stronger attacker, who has the
      original video.

    Values: ``reidentification_rank1``, ``_rank5``, ``_map``; ``reidentification_chance_rank1``, ``_rank5``, ``_map``:
    the same for a gallery in random order; ``reidentification_original_rank1``: rank-1 of the queries' originals,
    NaN where a query's own track is the only right one.

    Args:
        compare: Comparer that finds and embeds the faces; share one between metrics. `FaceComparer` with its defaults
            if None.
        distance: ``euclidean`` or ``cosine``; see `functional.identity_distance`.

    >>> metric = ReidentificationRate()
    >>> video = torch.zeros(1, 1, 3, 40, 40)
    >>> metric.update(video, video, masks=torch.ones(1, 1, 1, 40, 40))  # no face is there
    >>> metric.measure().values[0].n
    0

    Ours: one query for each track, and the mean of a track as its entry.
    """

    name = "reidentification"
    higher_is_better = False

    is_by_identity = True

    def __init__(self, compare: FaceComparer | None = None, distance: DistanceName = "euclidean") -> None:
        super().__init__(compare)
        self.distance: DistanceName = checked_distance(distance)
        self.add_tracks(_FIRST - N_KEYS + 2 * self.compare.network.n_dimensions)

    def add_faces(self, pairs: FacePairs, keys: Float[Tensor, "n 3"]) -> None:
        """See `AbstractFaceMetric.add_faces`."""
        after, before = (comparable(part, self.distance) for part in (pairs.anonymized, pairs.source))
        is_compared = after.isfinite().all(1) & before.isfinite().all(1)
        after, before = (part.nan_to_num(0.0) * is_compared[:, None] for part in (after, before))
        counts = torch.stack([is_compared, is_compared & ~pairs.is_found], 1).double()
        self.add_to("rows", torch.cat([keys, counts, after, before], 1))

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "faces": self.compare.protocol(),
            "distance": self.distance,
            "query": "mean embedding of a track's anonymized faces, those not found included",
            # Pictures are no longer given; the words are part of the hash, and the numbers are the same.
            "gallery": "given pictures, else mean embedding of each track's originals",
            "own_track": "not seen by queries with an identity; what queries without one look for",
            "without_match": "left out, and counted",
            "interval": "ranks: Wilson over queries; mAP: Student's t over queries; 95 %",
        }

    def _measure(self) -> Measurement:
        every = self.joined("rows")
        rows = every[every[:, _COMPARED] > 0]
        d = (rows.shape[1] - _FIRST) // 2
        means = rows[:, _FIRST:] / rows[:, _COMPARED, None]
        after, before = means[:, :d], means[:, d:]
        identities = rows[:, N_KEYS - 1].long()
        is_own = identities == UNKNOWN  # such a query looks for the track that it was made from
        # People of unknown identity get numbers that no other track has.
        ids = torch.where(is_own, -2 - torch.arange(len(rows)), identities)
        left_out = torch.diag(~is_own)
        found = reidentification(after, before, ids, ids, left_out, self.distance)
        is_answered = found.n_right > 0
        counted = {
            "queries without a match": int((~is_answered).sum()),
            "queries for their own pictures": int((is_own & is_answered).sum()),
            "tracks without a face to compare": len(every) - len(rows),
            "faces not found after": int(rows[:, _LOST].sum()),
            "gallery": len(before),
        }
        n_right, n_gallery = found.n_right[is_answered], found.n_gallery[is_answered]
        precisions = found.average_precision[is_answered]
        by_chance = [float(chance_of_rank(n_right, n_gallery, k).mean()) for k in (1, 5)]
        by_chance.append(float(chance_of_precision(n_right, n_gallery).mean()))
        originals = reidentification(before, before, ids, ids, left_out, self.distance)
        values = (
            rank_value("reidentification_rank1", found.ranks[is_answered], 1, "queries", counted),
            rank_value("reidentification_rank5", found.ranks[is_answered], 5, "queries"),
            precision_value("reidentification_map", precisions, "mean average precision", "queries"),
            *(
                MetricValue(
                    f"reidentification_chance_{kind}", value, len(precisions), "queries", "gallery in random order"
                )
                for kind, value in zip(("rank1", "rank5", "map"), by_chance, strict=True)
            ),
            rank_value(
                "reidentification_original_rank1",
                originals.ranks[is_answered & ~is_own],
                1,
                "queries",
                what="the same with the originals of the queries",
                is_higher_better=None,
            ),
        )
        return Measurement(values, _tracks(rows, found))


def rank_value(
    name: str,
    ranks: Int[Tensor, " q"],
    k: int,
    n_of: str,
    counted: dict[str, int] | None = None,
    *,
    what: str | None = None,
    is_higher_better: bool | None = False,
) -> MetricValue:
    """The share of queries with a right picture among the first k; `ranks` count from 1."""
    n, hits = len(ranks), int((ranks <= k).sum())
    what = what or f"share of queries with the right person among the first {k}"
    interval = wilson_interval(hits, n) if n else None
    return MetricValue(name, hits / n if n else math.nan, n, n_of, what, is_higher_better, interval, counted or {})


def precision_value(
    name: str, values: Float[Tensor, " q"], what: str, n_of: str, is_higher_better: bool | None = False
) -> MetricValue:
    """A mean of values in [0, 1]."""
    interval = within(t_interval(values), 0.0, 1.0)
    return MetricValue(name, float(values.mean()), len(values), n_of, what, is_higher_better, interval)


def _tracks(rows: Float[Tensor, "q k"], found: Retrieval) -> tuple[TrackRow, ...]:
    """The queries that were answered, those found first first."""
    tracks = []
    for row, rank, precision in zip(rows, found.ranks, found.average_precision, strict=True):
        if rank > 0:
            values = {"reidentification_rank1": float(rank == 1), "reidentification_map": float(precision)}
            tracks.append(TrackRow(clip_number(row[0]), int(row[1]), values))
    return tuple(sorted(tracks, key=lambda one: (-one.values["reidentification_map"], one.clip, one.person_id)))
