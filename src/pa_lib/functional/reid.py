"""Retrieval: whether the right person comes first when a gallery is searched for a person."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from pa_lib.functional.identity import DistanceName, comparable

_CHUNK = 256  # queries at a time: 40 MB of distances against a gallery of 20,000


@dataclass(frozen=True)
class Retrieval:
    """Results of every query.

    Args:
        ranks: Rank of the first right picture in the gallery as sorted for this query, shape q, from 1; 0 where there
            is none: such queries are to be left out, and counted.
        average_precision: Average precision, shape q, in (0, 1]; NaN where there is no right picture.
        inverse_penalty: Inverse negative penalty (INP), shape q, in (0, 1]: right pictures by the rank of the last of
            them; NaN as above.
        n_right: Number of right pictures in the gallery, shape q.
        n_gallery: Number of pictures searched, shape q, without those left out for this query.
    """

    ranks: Int[Tensor, " q"]
    average_precision: Float[Tensor, " q"]
    inverse_penalty: Float[Tensor, " q"]
    n_right: Int[Tensor, " q"]
    n_gallery: Int[Tensor, " q"]


def rank_gallery(
    distances: Num[Tensor, "q g"], is_right: Bool[Tensor, "q g"], is_left_out: Bool[Tensor, "q g"] | None = None
) -> Retrieval:
    r"""Sort the gallery for every query, nearest first, and say where the right pictures lie.

    With :math:`h_i` the rank of the i-th of n right pictures,

    .. math:: AP = \frac{1}{n} \sum_{i=1}^n \frac{i}{h_i}, \qquad INP = \frac{n}{h_n}

    Equal distances keep the gallery's order.

    Args:
        distances: Distances from every query to every picture of the gallery.
        is_right: Whether the picture shows the person of the query.
        is_left_out: Pictures that this query does not see, such as those of its own camera.

    Raises:
        ValueError: Shapes differ, or distances that are not finite.

    >>> hits = torch.tensor([[False, True, False, True]])
    >>> found = rank_gallery(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), hits)
    >>> found.ranks.item(), found.average_precision.item(), found.inverse_penalty.item()
    (2, 0.5, 0.5)

    Source: Ye et al. 2021, "Deep Learning for Person Re-identification: A Survey and Outlook", section 4.1 (INP).
    """
    if distances.ndim != 2 or is_right.shape != distances.shape:
        raise ValueError(f"distances have shape {tuple(distances.shape)}, is_right {tuple(is_right.shape)}: not q g")
    if is_left_out is not None and is_left_out.shape != distances.shape:
        raise ValueError(f"is_left_out has shape {tuple(is_left_out.shape)}, expected {tuple(distances.shape)}")
    if not bool(distances.isfinite().all()):
        raise ValueError("distances are not finite: leave out queries and pictures without a finite embedding")
    is_seen = torch.ones_like(is_right) if is_left_out is None else ~is_left_out
    # Stable, so the same on every machine; what is left out comes last, behind every picture that is seen.
    order = torch.where(is_seen, distances.double(), torch.inf).argsort(dim=1, stable=True)
    hits = (is_right & is_seen).gather(1, order)
    places = torch.arange(1, distances.shape[1] + 1, device=distances.device)
    n_hits = hits.sum(1)
    so_far = hits.cumsum(1)
    precision = torch.where(hits, so_far.double() / places, 0.0)
    last = torch.where(hits, places, 0).amax(1) if distances.shape[1] else n_hits
    first = torch.where(hits, places, distances.shape[1] + 1).amin(1) if distances.shape[1] else n_hits
    is_answered = n_hits > 0
    return Retrieval(
        torch.where(is_answered, first, 0),
        torch.where(is_answered, precision.sum(1) / n_hits, torch.nan),
        torch.where(is_answered, n_hits / last.double(), torch.nan),
        n_hits,
        is_seen.sum(1),
    )


def reidentification(
    queries: Float[Tensor, "q d"],
    gallery: Float[Tensor, "g d"],
    query_ids: Int[Tensor, " q"],
    gallery_ids: Int[Tensor, " g"],
    is_left_out: Bool[Tensor, "q g"] | None = None,
    distance: DistanceName = "euclidean",
) -> Retrieval:
    """Search a gallery of known people for every query, by the distance of embeddings. See `rank_gallery`.

    Args:
        queries: Embeddings of anonymized pictures.
        gallery: Embeddings of originals.
        query_ids: Identities of the queries.
        gallery_ids: Identities of the gallery.
        is_left_out: Pictures that a query does not see, such as the one it was made from.
        distance: ``euclidean`` or ``cosine``, see `identity_distance`.

    Raises:
        ValueError: Shapes do not fit, or embeddings that are not finite.

    >>> queries, gallery = torch.tensor([[0.0], [9.0]]), torch.tensor([[1.0], [2.0], [8.0]])
    >>> found = reidentification(queries, gallery, torch.tensor([5, 5]), torch.tensor([5, 6, 7]))
    >>> found.ranks.tolist(), round(found.average_precision.mean().item(), 4)
    ([1, 3], 0.6667)
    """
    for name, faces, ids in (("queries", queries, query_ids), ("gallery", gallery, gallery_ids)):
        if faces.ndim != 2 or ids.shape != faces.shape[:1]:
            raise ValueError(f"{name} have shape {tuple(faces.shape)} and ids {tuple(ids.shape)}, expected n d and n")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, the gallery {gallery.shape[1]}")
    gallery = comparable(gallery, distance)
    parts = []
    for start in range(0, max(len(queries), 1), _CHUNK):
        here = slice(start, start + _CHUNK)
        # Unit vectors sort by their Euclidean distance as by their cosine. No matrix product: it rounds away small
        # differences between near pictures, and its sums change with the shapes.
        distances = torch.cdist(
            comparable(queries[here], distance), gallery, compute_mode="donot_use_mm_for_euclid_dist"
        )
        left_out = None if is_left_out is None else is_left_out[here]
        parts.append(rank_gallery(distances, query_ids[here, None] == gallery_ids, left_out))
    return Retrieval(*(torch.cat([getattr(part, name) for part in parts]) for name in Retrieval.__dataclass_fields__))


def chance_of_rank(n_right: Int[Tensor, " q"], n_gallery: Int[Tensor, " q"], k: int = 1) -> Float[Tensor, " q"]:
    r"""Chance that a gallery in random order has a right picture among its first k.

    .. math:: 1 - \binom{N - n}{k} \Big/ \binom{N}{k}

    >>> chance_of_rank(torch.tensor([1, 2]), torch.tensor([4, 4]), 1).tolist()
    [0.25, 0.5]
    """
    misses = torch.ones(n_right.shape, dtype=torch.float64, device=n_right.device)
    for drawn in range(k):
        # Fewer than k pictures are all drawn, and then a right one is among them.
        misses = misses * ((n_gallery - n_right - drawn).clamp(min=0) / (n_gallery - drawn).clamp(min=1).double())
    return torch.where(n_right > 0, 1 - misses, torch.nan)


def chance_of_precision(n_right: Int[Tensor, " q"], n_gallery: Int[Tensor, " q"]) -> Float[Tensor, " q"]:
    r"""Average precision to be expected of a gallery in random order.

    .. math:: E[AP] = \frac{1}{N} \left( H_N + \frac{n - 1}{N - 1} (N - H_N) \right), \quad H_N = \sum_{i=1}^N \frac 1 i

    >>> chance_of_precision(torch.tensor([1, 2]), torch.tensor([2, 2])).round(decimals=6).tolist()
    [0.75, 1.0]

    Ours: the i-th place holds a right picture with chance n/N, and then each place before it with (n-1)/(N-1).
    """
    n, total = n_right.double(), n_gallery.double()
    # H_N as a difference of digammas is exact to rounding at any N.
    harmonic = torch.digamma(total + 1) - torch.digamma(torch.ones_like(total))
    others = torch.where(total > 1, (n - 1) / (total - 1).clamp(min=1), 0.0)
    return torch.where(n > 0, (harmonic + others * (total - harmonic)) / total.clamp(min=1), torch.nan)
