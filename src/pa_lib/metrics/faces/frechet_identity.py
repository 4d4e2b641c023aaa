"""How far the faces of anonymized people lie, as a set, from those of real ones: whether they look like faces."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.frechet import frechet_distance
from pa_lib.functional.intervals import resampled_interval
from pa_lib.metrics.base import Measurement, MetricValue
from pa_lib.metrics.faces.comparer import FaceComparer, FacePairs
from pa_lib.metrics.faces.tracks import N_KEYS, AbstractFaceMetric

_COMPARED = N_KEYS  # then sums of the anonymized and of the source's embeddings
_FIRST = N_KEYS + 1


class FrechetIdentityDistance(AbstractFaceMetric):
    """Frechet distance between the identity embeddings of the originals' faces and of the anonymized ones.

    0 if the sets have the same mean and covariance: as varied as people are, and as much a face. Which face became
    which does not matter, nor does texture, which an identity network hardly sees. A person counts once in a clip, by
    the mean embedding of its faces; those that the finder no longer sees are embedded where they were.

    Fewer people than the network has dimensions make it too large, whatever is measured; the value's counts say so.

    Args:
        compare: Comparer that finds and embeds the faces; share one between metrics. `FaceComparer` with its defaults
            if None.
        resamples: Number of draws of people for the interval, with a fixed seed, see `resampled_interval`. 0 = no
            interval.

    Raises:
        SettingError: A setting is out of range.

    >>> from pa_lib.contracts import Sighting
    >>> video = torch.rand(3, 1, 3, 40, 40)
    >>> points = ((12.0, 16.0), (28.0, 16.0), (20.0, 22.0), (14.0, 30.0), (26.0, 30.0))
    >>> people = [Sighting(clip, 0, 1, (4.0, 4.0, 36.0, 36.0), points) for clip in range(3)]
    >>> metric = FrechetIdentityDistance()
    >>> metric.update(video, video, people)
    >>> abs(metric.measure().values[0].value) < 1e-9
    True

    Source: the distance is that of Heusel et al. 2017 (FID), of a face network's features in the place of Inception's.
    """

    name = "frechet_identity_distance"
    higher_is_better = False

    def __init__(self, compare: FaceComparer | None = None, resamples: int = 100) -> None:
        super().__init__(compare)
        if resamples < 0 or resamples == 1:
            raise SettingError(f"resamples is {resamples}, expected 0 or more, and not 1 resample")
        self.resamples = resamples
        self.add_tracks(1 + 2 * self.compare.network.n_dimensions)

    def add_faces(self, pairs: FacePairs, keys: Float[Tensor, "n 3"]) -> None:
        """See `AbstractFaceMetric.add_faces`."""
        keys = keys[pairs.is_compared]
        embeddings = (part[pairs.is_compared].double() for part in (pairs.anonymized, pairs.source))
        self.add_to("rows", torch.cat([keys, torch.ones(len(keys), 1, dtype=torch.float64), *embeddings], 1))

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "faces": self.compare.protocol(),
            "unit": "one person of one clip, by the mean of its faces' embeddings",
            "not_found": "embedded, and part of the set",
            "covariance_ddof": 0,
            "interval": f"95 %, {self.resamples} draws of people with replacement" if self.resamples else "none",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        n, d = len(rows), self.compare.network.n_dimensions
        means = rows[:, _FIRST:] / rows[:, _COMPARED, None]
        after, before = means[:, :d], means[:, d:]
        value, interval = float("nan"), None
        if n >= 2:
            value = float(frechet_distance(before, after))
            interval = resampled_interval(
                lambda some: float(frechet_distance(before[some], after[some])), torch.arange(n), value, self.resamples
            )
        missing = {
            "people missing to the 2 it takes": max(0, 2 - n),
            f"people missing to the network's {d} dimensions": max(0, d - n),
        }
        return Measurement(
            (
                MetricValue(
                    self.name,
                    value,
                    n,
                    "tracks",
                    f"distance between original and anonymized faces as sets, {type(self.compare.network).__name__}",
                    False,
                    interval,
                    {what: number for what, number in missing.items() if number},
                ),
            )
        )
