"""How many faces a detector still finds after anonymization."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.functional.intervals import wilson_of_mean
from pa_lib.metrics.base import Measurement, MetricValue, TrackRow
from pa_lib.metrics.faces.comparer import FaceComparer, FacePairs
from pa_lib.metrics.faces.tracks import N_KEYS, AbstractFaceMetric
from pa_lib.metrics.rows import clip_number

_FACES, _BEFORE, _AFTER, _BOTH = range(N_KEYS, N_KEYS + 4)


class DetectionRate(AbstractFaceMetric):
    """Share of hidden faces that the finder still finds, beside how many it finds in the source.

    Values:
    ``detection_rate``: of the faces of a track that it finds in the source, the share that it finds at the same place
    of the anonymized frame; mean over tracks.
    ``detection_rate_source``: of all hidden faces of a track, the share found in the source; mean over tracks.

    High where a face was replaced by another, low where it was destroyed. Neither is better in itself; but an identity
    distance with a low detection rate is one of destroyed faces.

    Args:
        compare: Comparer that finds the faces; share one between metrics. `FaceComparer` with its defaults if None.

    >>> from pa_lib.contracts import Sighting
    >>> metric = DetectionRate()
    >>> video = torch.zeros(1, 1, 3, 40, 40)
    >>> metric.update(video, video, [Sighting(0, 0, 1, (4.0, 4.0, 36.0, 36.0))])
    >>> rate, of_source = metric.measure().values
    >>> of_source.value, dict(rate.counted)["tracks not found in the source"]
    (0.0, 1)

    Ours: the mean over tracks. Faces of one track are found or lost together, so the interval (Wilson's) takes the
    number of tracks for the number of trials.
    """

    name = "detection_rate"
    higher_is_better = None

    n_faceless: Tensor

    def __init__(self, compare: FaceComparer | None = None) -> None:
        super().__init__(compare)
        self.add_tracks(4)
        self.add_state("n_faceless", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add_faces(self, pairs: FacePairs, keys: Float[Tensor, "n 3"]) -> None:
        """See `AbstractFaceMetric.add_faces`."""
        before, after = pairs.is_found_in_source, pairs.is_found
        counts = torch.stack([torch.ones_like(before), before, after, before & after], 1).double()
        self.add_to("rows", torch.cat([keys, counts], 1))
        self.n_faceless = self.n_faceless + pairs.n_faceless.sum().to(self.n_faceless)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        whole = self.compare.protocol()
        part = {name: whole[name] for name in whole if name.startswith(("finder", "found", "look", "region", "pixels"))}
        return {
            **part,
            "mean": "over the faces of a track (one person of one clip), then over tracks",
            "interval": "Wilson, the number of tracks as trials, 95 %",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        seen = rows[rows[:, _BEFORE] > 0]
        totals = rows.sum(0)
        counted = {
            "faces": int(totals[_FACES]),
            "faces found in the source": int(totals[_BEFORE]),
            "faces found in both": int(totals[_BOTH]),
            "faces found only after": int(totals[_AFTER] - totals[_BOTH]),
            "bodies or masks without a face": int(self.n_faceless),
            "tracks not found in the source": len(rows) - len(seen),
        }
        rates = seen[:, _BOTH] / seen[:, _BEFORE]
        values = (
            _share("detection_rate", rates, "share of a track's faces still found", counted),
            _share("detection_rate_source", rows[:, _BEFORE] / rows[:, _FACES], "share found in the source"),
        )
        tracks = [
            TrackRow(clip_number(row[0]), int(row[1]), {"detection_rate": float(rate)})
            for row, rate in zip(seen, rates, strict=True)
        ]
        return Measurement(values, tuple(tracks))


def _share(name: str, rates: Float[Tensor, " n"], what: str, counted: dict[str, int] | None = None) -> MetricValue:
    n = len(rates)
    value = float(rates.mean()) if n else math.nan
    return MetricValue(name, value, n, "tracks", what, None, wilson_of_mean(rates), counted or {})
