"""Distances between faces, as embeddings of an identity network."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

DistanceName = Literal["euclidean", "cosine"]


def identity_distance(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], distance: DistanceName = "euclidean"
) -> Float[Tensor, " n"]:
    r"""Distance between the identities of every pair of faces.

    .. math:: d = \lVert x - y \rVert \quad\text{or}\quad d = 1 - \frac{x^T y}{\lVert x \rVert \lVert y \rVert}

    Thresholds of one do not hold for the other, nor for another network.

    Args:
        first: Embeddings as the network gives them.
        second: Embeddings to compare them with, row by row.
        distance: ``euclidean`` on the embeddings as they are, or ``cosine``.

    Returns:
        >= 0, float64; at most 2 for ``cosine``; NaN where an embedding is NaN, or has no length and `distance` is
        ``cosine``.

    Raises:
        ValueError: Shapes differ or are not n d, or an unknown distance.

    >>> identity_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [5.0]
    >>> identity_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]]), "cosine").tolist()
    [1.0]

    Source: Schroff et al. 2015, "FaceNet", section 3 (Euclidean); the cosine is the usual one.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"embeddings have shapes {tuple(first.shape)} and {tuple(second.shape)}, expected n d twice")
    x, y = comparable(first, distance), comparable(second, distance)
    if distance == "euclidean":
        lengths: Tensor = torch.linalg.vector_norm(x - y, dim=1)
        return lengths
    return (1 - (x * y).sum(1)).clamp(0, 2)  # the clamp takes off the rounding of equal directions


def comparable(embeddings: Float[Tensor, "*n d"], distance: DistanceName) -> Float[Tensor, "*n d"]:
    """Embeddings in float64, of length 1 where the distance looks at directions only (NaN where they have none)."""
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"distance is {distance!r}, expected 'euclidean' or 'cosine'")
    embeddings = embeddings.double()
    if distance == "euclidean":
        return embeddings
    return torch.where(embeddings.norm(dim=-1, keepdim=True) > 0, normalize(embeddings, dim=-1), torch.nan)


def mean_pair_distance(
    n: Float[Tensor, "*tracks"],
    total: Float[Tensor, "*tracks d"],
    total_square: Float[Tensor, "*tracks"],
    distance: DistanceName = "euclidean",
) -> Float[Tensor, "*tracks"]:
    r"""How far apart the faces of one track are, from sums alone.

    With :math:`s = \sum x` and :math:`q = \sum \lVert x \rVert^2` over n faces, the mean over all pairs is

    .. math:: \overline{\lVert x - y \rVert^2} = 2 \, \frac{n q - \lVert s \rVert^2}{n (n - 1)}

    so pairs need not be looked at one by one. Euclidean: its root, the root mean square distance. Cosine, where
    embeddings have length 1: its half, which is the mean cosine distance itself.

    Args:
        n: Number of faces.
        total: Sum of the embeddings, after `comparable`.
        total_square: Sum of their squared lengths.
        distance: ``euclidean`` or ``cosine``, see `identity_distance`.

    Returns:
        NaN below two faces.

    >>> faces = torch.tensor([[0.0], [3.0]]).double()
    >>> mean_pair_distance(torch.tensor(2.0).double(), faces.sum(0), faces.square().sum()).item()
    3.0
    """
    squares = 2 * (n * total_square - total.square().sum(-1)) / (n * (n - 1))
    squares = torch.where(n > 1, squares.clamp(min=0), torch.nan)
    return squares.sqrt() if distance == "euclidean" else squares / 2
