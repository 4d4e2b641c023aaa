"""Person re-identification by the body, as Market-1501 measures it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pa_lib.functional.body_reid import JUNK_ID, body_reidentification
from pa_lib.functional.identity import DistanceName
from pa_lib.functional.reid import chance_of_precision, chance_of_rank
from pa_lib.metrics.base import AbstractMetric, Measurement, MetricValue
from pa_lib.metrics.faces.comparer import network_protocol
from pa_lib.metrics.faces.reid import precision_figure, rank_figure

_QUERY, _PERSON, _CAMERA, _FIRST = range(4)


class BodyReidentificationRate(AbstractMetric):
    """Rank-1, rank-5, rank-10, mAP and mINP over a split in queries and gallery; see `body_reidentification`.

    Feed anonymized people as queries and originals as gallery, or any other setting: the numbers do not know which.
    They are those of an attacker (lower is more private); for the use of a data set, higher is better.

    Figures: ``body_reidentification_rank1``, ``_rank5``, ``_rank10``, ``_map``, ``_minp``, and, for a gallery in random
    order, ``body_reidentification_chance_rank1`` and ``_chance_map``. Queries whose person no other camera saw are
    left out and counted.

    Args:
        n_dimensions: Of the embeddings.
        network: Makes embeddings of pictures, b d; None takes what `update` is given for embeddings. Frozen, and in
            evaluation mode.
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

    rows: Tensor

    def __init__(
        self,
        n_dimensions: int = 2048,
        network: Callable[[Tensor], Tensor] | None = None,
        distance: DistanceName = "cosine",
    ) -> None:
        super().__init__()
        if n_dimensions < 1:
            raise ValueError(f"n_dimensions is {n_dimensions}, expected at least 1")
        if distance not in ("euclidean", "cosine"):
            raise ValueError(f"distance is {distance!r}, expected 'euclidean' or 'cosine'")
        self.n_dimensions, self.distance = n_dimensions, distance
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
            features: Embeddings b d; or what the network takes, where there is one.
            ids: Who they are, >= 0; -1 for boxes that show nobody, in the gallery only.
            cameras: Which camera saw them.
            is_query: Whether each is a query, or belongs to the gallery.

        Raises:
            ValueError: Shapes do not fit, embeddings that are not finite, or a query without identity.
        """
        told = features if self.network is None else self.network(features)
        if tuple(told.shape) != (len(ids), self.n_dimensions):
            raise ValueError(f"embeddings have shape {tuple(told.shape)}, expected {(len(ids), self.n_dimensions)}")
        if cameras.shape != ids.shape or is_query.shape != ids.shape:
            shapes = f"cameras {tuple(cameras.shape)}, is_query {tuple(is_query.shape)}"
            raise ValueError(f"{shapes}, expected the shape of the ids, {tuple(ids.shape)}")
        if not bool(told.isfinite().all()) or (self.distance == "cosine" and not bool((told != 0).any(1).all())):
            raise ValueError(
                "embeddings are not finite, or have no direction: leave such pictures out, and say how many"
            )
        if bool((ids[is_query.bool()] < 0).any()) or bool((ids < JUNK_ID).any()):
            raise ValueError("ids hold negative numbers, expected >= 0, or -1 for junk in the gallery")
        keys = torch.stack([is_query.double(), ids.double(), cameras.double()], 1)
        new = torch.cat([keys.to(self.rows.device), told.double().to(self.rows.device)], 1)
        self.rows = torch.cat([self.rows, new])

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
        rows = self.rows.cpu()
        # One order whatever batches and processes they came by: equal distances keep the gallery's order.
        keys = rows[:, : min(_FIRST + 4, rows.shape[1])].numpy()
        rows = rows[torch.from_numpy(np.lexsort(keys.T[::-1]))]
        queries, gallery = (rows[rows[:, _QUERY] == part] for part in (1, 0))
        told = body_reidentification(
            queries[:, _FIRST:],
            gallery[:, _FIRST:],
            queries[:, _PERSON].long(),
            gallery[:, _PERSON].long(),
            queries[:, _CAMERA].long(),
            gallery[:, _CAMERA].long(),
            self.distance,
        )
        is_answered = told.n_right > 0
        ranks, n_right, n_gallery = (part[is_answered] for part in (told.ranks, told.n_right, told.n_gallery))
        precisions, penalties = told.average_precision[is_answered], told.inverse_penalty[is_answered]
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
                rank_figure("body_reidentification_rank1", ranks, 1, "queries", counted),
                rank_figure("body_reidentification_rank5", ranks, 5, "queries"),
                rank_figure("body_reidentification_rank10", ranks, 10, "queries"),
                precision_figure("body_reidentification_map", precisions, "mean average precision", "queries"),
                precision_figure("body_reidentification_minp", penalties, "mean inverse negative penalty", "queries"),
                MetricValue("body_reidentification_chance_rank1", by_chance, n, "queries", chance),
                MetricValue("body_reidentification_chance_map", precision_by_chance, n, "queries", chance),
            )
        )
