"""Person re-identification by the body, as Market-1501 measures it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.body_reid import JUNK_ID, body_reidentification
from pa_lib.functional.identity import DistanceName
from pa_lib.functional.reid import chance_of_precision, chance_of_rank
from pa_lib.metrics.base import AbstractMetric, Field, Measurement, MetricValue
from pa_lib.metrics.faces.comparer import network_protocol
from pa_lib.metrics.faces.reid import precision_value, rank_value
from pa_lib.metrics.faces.tracks import checked_distance

_QUERY, _PERSON, _CAMERA, _FIRST = range(4)


class BodyReidentificationRate(AbstractMetric):
    """Rank-1, rank-5, rank-10, mAP and mINP over a split in queries and gallery; see `body_reidentification`.

    Its `update` takes embeddings, identities and cameras, which results of anonymization do not hold: it is used from
    Python, not by ``pa-evaluate``. Give anonymized people as queries and originals as gallery, or any other setting;
    the metric does not know which. Its values are an attacker's success (lower is more private); as a measure of the
    use of a data set, higher is better.

    Values: ``body_reidentification_rank1``, ``_rank5``, ``_rank10``, ``_map``, ``_minp``, and, for a gallery in random
    order, ``body_reidentification_chance_rank1`` and ``_chance_map``. Queries whose person no other camera saw are
    left out and counted.

    Args:
        n_dimensions: Length of the embeddings.
        network: Network from pictures to embeddings b d, frozen and in evaluation mode. None if `update` is given
            embeddings.
        distance: ``cosine`` (Market's usual), or ``euclidean``.

    >>> metric = BodyReidentificationRate(n_dimensions=2)
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    >>> metric.update(embeddings, torch.tensor([7, 8, 7]), torch.tensor([0, 1, 1]), torch.tensor([True, False, False]))
    >>> metric.measure().values[0].value
    1.0

    Source: Zheng et al. 2015, "Scalable Person Re-identification: A Benchmark"; mINP by Ye et al. 2021.
    """

    name = "body_reidentification"
    higher_is_better = False

    needs: frozenset[Field] = frozenset()  # results hold neither cameras nor pictures of bodies

    rows: Tensor

    def __init__(
        self,
        n_dimensions: int = 2048,
        network: Callable[[Tensor], Tensor] | None = None,
        distance: DistanceName = "cosine",
    ) -> None:
        super().__init__()
        if n_dimensions < 1:
            raise SettingError(f"n_dimensions is {n_dimensions}, expected at least 1")
        self.n_dimensions, self.distance = n_dimensions, checked_distance(distance)
        self.network = network
        self.add_rows("rows", _FIRST + n_dimensions)

    @torch.no_grad()
    def update(
        self,
        features: Float[Tensor, " b *shape"],
        ids: Int[Tensor, " b"],
        cameras: Int[Tensor, " b"],
        is_query: Bool[Tensor, " b"],
    ) -> None:
        """Add people.

        Args:
            features: Embeddings b d; or the input of the network, where there is one.
            ids: Identities, >= 0; -1 for boxes that show no person, in the gallery only.
            cameras: Number of the camera of each picture.
            is_query: Whether each picture is a query, or belongs to the gallery.

        Raises:
            ValueError: Shapes do not fit, embeddings that are not finite, or a query without identity.
        """
        embeddings = features if self.network is None else self.network(features)
        if tuple(embeddings.shape) != (len(ids), self.n_dimensions):
            raise ValueError(
                f"embeddings have shape {tuple(embeddings.shape)}, expected {(len(ids), self.n_dimensions)}"
            )
        if cameras.shape != ids.shape or is_query.shape != ids.shape:
            shapes = f"cameras {tuple(cameras.shape)}, is_query {tuple(is_query.shape)}"
            raise ValueError(f"{shapes}, expected the shape of the ids, {tuple(ids.shape)}")
        if not bool(embeddings.isfinite().all()) or (
            self.distance == "cosine" and not bool((embeddings != 0).any(1).all())
        ):
            raise ValueError(
                "embeddings are not finite, or have no direction: leave such pictures out, and say how many"
            )
        if bool((ids[is_query.bool()] < 0).any()) or bool((ids < JUNK_ID).any()):
            raise ValueError("ids hold negative numbers, expected >= 0, or -1 for junk in the gallery")
        keys = torch.stack([is_query.double(), ids.double(), cameras.double()], 1)
        self.add_to("rows", torch.cat([keys.cpu(), embeddings.double().cpu()], 1))

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        network = None if self.network is None else network_protocol(self.network)
        return {
            "network": network,
            "dimensions": self.n_dimensions,
            "distance": self.distance,
            "left_out": "same person by the same camera, identity -1",
            "without_match": "queries left out, and counted",
            "interval": "ranks: Wilson over queries; mAP, mINP: Student's t over queries; 95 %",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        # One order whatever batches and processes they came by: equal distances keep the gallery's order.
        keys = rows[:, : min(_FIRST + 4, rows.shape[1])].numpy()
        rows = rows[torch.from_numpy(np.lexsort(keys.T[::-1]))]
        queries, gallery = (rows[rows[:, _QUERY] == part] for part in (1, 0))
        found = body_reidentification(
            queries[:, _FIRST:],
            gallery[:, _FIRST:],
            queries[:, _PERSON].long(),
            gallery[:, _PERSON].long(),
            queries[:, _CAMERA].long(),
            gallery[:, _CAMERA].long(),
            self.distance,
        )
        is_answered = found.n_right > 0
        ranks, n_right, n_gallery = (part[is_answered] for part in (found.ranks, found.n_right, found.n_gallery))
        precisions, penalties = found.average_precision[is_answered], found.inverse_penalty[is_answered]
        counted = {
            "queries without a match": int((~is_answered).sum()),
            "gallery": len(gallery),
            "junk in the gallery": int((gallery[:, _PERSON] == JUNK_ID).sum()),
        }
        n, chance = len(ranks), "gallery in random order"
        by_chance = float(chance_of_rank(n_right, n_gallery).mean())
        precision_by_chance = float(chance_of_precision(n_right, n_gallery).mean())
        return Measurement(
            (
                rank_value("body_reidentification_rank1", ranks, 1, "queries", counted),
                rank_value("body_reidentification_rank5", ranks, 5, "queries"),
                rank_value("body_reidentification_rank10", ranks, 10, "queries"),
                precision_value("body_reidentification_map", precisions, "mean average precision", "queries"),
                precision_value("body_reidentification_minp", penalties, "mean inverse negative penalty", "queries"),
                MetricValue("body_reidentification_chance_rank1", by_chance, n, "queries", chance),
                MetricValue("body_reidentification_chance_map", precision_by_chance, n, "queries", chance),
            )
        )
