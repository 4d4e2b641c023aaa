"""How far anonymized faces are from the originals, face by face and track by track."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.identity import DistanceName, comparable, identity_distance, mean_pair_distance
from pa_lib.functional.intervals import t_interval, wilson_interval, wilson_of_mean, within
from pa_lib.metrics.base import Measurement, MetricValue, TrackRow
from pa_lib.metrics.faces.comparer import FaceComparer, FacePairs
from pa_lib.metrics.faces.tracks import N_KEYS, UNKNOWN, AbstractFaceMetric, checked_distance
from pa_lib.metrics.rows import clip_number

# Columns of a track's row after its keys; then sums of the anonymized and of the source's embeddings.
_FACES, _SMALL, _UNSEEN, _COMPARED, _LOST, _DISTANCE, _NEAR, _SQUARE, _SOURCE_SQUARE = range(N_KEYS, N_KEYS + 9)
_FIRST = N_KEYS + 9
_CHUNK = 512  # tracks at a time against all others


class IdentityDistance(AbstractFaceMetric):
    """Distance between every hidden face and its replacement; see `functional.identity_distance`.

    A track is one person of one clip. Values:
    ``identity_distance``: mean over the faces of a track, then over tracks.
    ``identity_nearest_in_track``: the smallest distance of a track, mean over tracks: one frame can reveal a person.
    ``identity_faces_recognized``: share of a track's faces nearer than the same-person threshold, mean over tracks.
    ``identity_tracks_recognized``: share of tracks with any such face.
    ``intra_track_consistency``: distance between the anonymized faces of one track (see `mean_pair_distance`), mean
    over tracks; smaller is more consistent. ``intra_track_consistency_source``: the same of the originals.
    ``identity_between_people``: distance between the originals of different people, mean over pairs of tracks, as a
    reference. Tracks with the same identity are no pair; a track without one counts as another person.

    Faces that the finder no longer sees are embedded where they were, count in every value, and are counted apart.

    Args:
        compare: Comparer that finds and embeds the faces; share one between metrics. `FaceComparer` with its defaults
            if None.
        distance: ``euclidean`` on the network's embeddings, or ``cosine``.
        same_person_distance: Distance below which two faces count as one person. None takes the network's own, which is
            Euclidean. It was fixed on originals: never fit it to anonymized faces.

    Raises:
        SettingError: An unknown distance, or ``cosine`` without a threshold.

    >>> from pa_lib.contracts import Sighting
    >>> video = torch.rand(1, 2, 3, 40, 40)
    >>> points = ((12.0, 16.0), (28.0, 16.0), (20.0, 22.0), (14.0, 30.0), (26.0, 30.0))
    >>> people = [Sighting(0, frame, 1, (4.0, 4.0, 36.0, 36.0), points) for frame in (0, 1)]
    >>> metric = IdentityDistance()
    >>> metric.update(video, video, people)
    >>> metric.measure().values[0].value
    0.0

    Source: the threshold of each network: `FaceIdentity`, `FaceNet`. Ours: everything per track.
    """

    name = "identity_distance"
    higher_is_better = True

    is_by_identity = True

    nearest: Tensor
    n_faceless: Tensor

    def __init__(
        self,
        compare: FaceComparer | None = None,
        distance: DistanceName = "euclidean",
        same_person_distance: float | None = None,
    ) -> None:
        super().__init__(compare)
        if distance == "cosine" and same_person_distance is None:
            raise SettingError(
                "the networks' thresholds are Euclidean: give same_person_distance for distance='cosine'"
            )
        self.distance: DistanceName = checked_distance(distance)
        network = self.compare.network
        self.same_person_distance = float(
            network.same_person_distance if same_person_distance is None else same_person_distance
        )
        self.add_tracks(_FIRST - N_KEYS + 2 * network.n_dimensions)
        self.add_rows("nearest", 3, n_keys=2, clip_column=0)
        self.add_state("n_faceless", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add_faces(self, pairs: FacePairs, keys: Float[Tensor, "n 3"]) -> None:
        """See `AbstractFaceMetric.add_faces`."""
        before, after = (comparable(part, self.distance).nan_to_num(0.0) for part in (pairs.source, pairs.anonymized))
        distances = identity_distance(pairs.source, pairs.anonymized, self.distance)
        is_compared = distances.isfinite()
        before, after = (part * is_compared[:, None] for part in (before, after))
        columns = (
            torch.ones_like(distances),
            pairs.is_small,
            ~pairs.is_small & ~is_compared,
            is_compared,
            is_compared & ~pairs.is_found,
            distances.nan_to_num(0.0),
            distances < self.same_person_distance,
            after.square().sum(1),
            before.square().sum(1),
        )
        self.add_to(
            "rows", torch.cat([keys, torch.stack([column.double() for column in columns], 1), after, before], 1)
        )
        self.add_to("nearest", torch.cat([keys[:, :2], distances[:, None]], 1)[is_compared])
        self.n_faceless = self.n_faceless + pairs.n_faceless.sum().to(self.n_faceless)

    def compacted(self, name: str, rows: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
        """See `AbstractMetric.compacted`; of ``nearest`` the smallest is kept."""
        return _smallest(rows) if name == "nearest" else super().compacted(name, rows)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "faces": self.compare.protocol(),
            "distance": self.distance,
            "same_person_distance": self.same_person_distance,
            "mean": "over the faces of a track (one person of one clip), then over tracks",
            "not_found": "counted, and part of every mean",
            "consistency": "root mean square" if self.distance == "euclidean" else "mean",
            "interval": "Student's t over tracks; shares: Wilson, the number of tracks as trials; 95 %",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        totals = rows.sum(0)
        rows_left = rows[rows[:, _COMPARED] > 0]
        nearest = self.joined("nearest")  # the same tracks in the same order
        n = rows_left[:, _COMPARED]
        means, shares = rows_left[:, _DISTANCE] / n, rows_left[:, _NEAR] / n
        smallest = _of_tracks(rows_left, nearest)
        d = (rows.shape[1] - _FIRST) // 2
        after, before = rows_left[:, _FIRST : _FIRST + d], rows_left[:, _FIRST + d :]
        spread = mean_pair_distance(n, after, rows_left[:, _SQUARE], self.distance)
        source_spread = mean_pair_distance(n, before, rows_left[:, _SOURCE_SQUARE], self.distance)
        faces = {
            "faces": int(totals[_FACES]),
            "faces not found after": int(totals[_LOST]),
            "faces too small": int(totals[_SMALL]),
            "faces without an embedding": int(totals[_UNSEEN]),
            "bodies or masks without a face": int(self.n_faceless),
            "tracks without a face to compare": len(rows) - len(rows_left),
        }
        hits = float((smallest < self.same_person_distance).sum())
        what = f"{self.distance} distance of {type(self.compare.network).__name__}"
        nearer = f"nearer than {self.same_person_distance:g}"
        values = (
            _mean("identity_distance", means, f"{what}, original to anonymized", True, faces),
            _mean("identity_nearest_in_track", smallest, "smallest such distance in a track", True),
            _mean("identity_faces_recognized", shares, f"share of a track's faces {nearer}", False, is_share=True),
            MetricValue(
                "identity_tracks_recognized",
                hits / len(smallest) if len(smallest) else math.nan,
                len(smallest),
                "tracks",
                f"share of tracks with a face {nearer}",
                False,
                wilson_interval(hits, len(smallest)) if len(smallest) else None,
            ),
            _mean("intra_track_consistency", spread, "distance between a track's anonymized faces", False),
            _mean("intra_track_consistency_source", source_spread, "the same of its originals", None),
            _between_people(rows_left, before, self.distance),
        )
        tracks = [
            TrackRow(
                clip_number(row[0]),
                int(row[1]),
                {
                    name: float(value)
                    for name, value in (
                        ("identity_distance", mean),
                        ("identity_nearest_in_track", low),
                        ("identity_faces_recognized", share),
                        ("intra_track_consistency", apart),
                    )
                    if math.isfinite(value)
                },
            )
            for row, mean, low, share, apart in zip(rows_left, means, smallest, shares, spread, strict=True)
        ]
        tracks.sort(key=lambda track: (track.values["identity_nearest_in_track"], track.clip, track.person_id))
        return Measurement(values, tuple(tracks))


def _smallest(rows: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
    """Rows of clip, person and value: the smallest value of each, in the order of their keys."""
    keys, places = torch.unique(rows[:, :2], dim=0, return_inverse=True)
    start = rows.new_full((len(keys),), math.inf)
    return torch.cat([keys, start.scatter_reduce(0, places, rows[:, 2], "amin")[:, None]], 1)


def _of_tracks(rows: Float[Tensor, "n k"], nearest: Float[Tensor, "m 3"]) -> Float[Tensor, " n"]:
    """The value of `nearest` for each row; a person who goes by two identities has two rows and one value."""
    values = {(clip, person): value for clip, person, value in nearest.tolist()}
    return torch.tensor([values[clip, person] for clip, person in rows[:, :2].tolist()], dtype=torch.float64)


def _mean(
    name: str,
    values: Float[Tensor, " n"],
    what: str,
    is_higher_better: bool | None,
    counted: dict[str, int] | None = None,
    *,
    is_share: bool = False,
) -> MetricValue:
    there = values[values.isfinite()]
    counted = dict(counted or {})
    if len(there) < len(values):
        counted["tracks of one face"] = len(values) - len(there)
    interval = wilson_of_mean(there) if is_share else within(t_interval(there), 0.0, math.inf)
    return MetricValue(name, float(there.mean()), len(there), "tracks", what, is_higher_better, interval, counted)


def _between_people(rows: Float[Tensor, "n k"], before: Float[Tensor, "n d"], distance: DistanceName) -> MetricValue:
    """Mean over pairs of tracks of the distance between their originals, by the same closed form as consistency."""
    centres = before / rows[:, _COMPARED, None]
    squares = rows[:, _SOURCE_SQUARE] / rows[:, _COMPARED]
    who = rows[:, N_KEYS - 1]
    total, n_pairs, order = 0.0, 0, torch.arange(len(rows))
    for start in range(0, len(rows), _CHUNK):
        here = slice(start, start + _CHUNK)
        pair = (squares[here, None] + squares - 2 * centres[here] @ centres.T).clamp(min=0)
        values = pair.sqrt() if distance == "euclidean" else pair / 2
        is_pair = (order[here, None] < order) & ((who[here, None] != who) | (who == UNKNOWN))
        total, n_pairs = total + float(values[is_pair].sum()), n_pairs + int(is_pair.sum())
    return MetricValue(
        "identity_between_people",
        total / n_pairs if n_pairs else math.nan,
        n_pairs,
        "pairs of tracks",
        "distance between the originals of different people",
    )
