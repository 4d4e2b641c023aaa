"""Person re-identification as Market-1501 measures it."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from pa_lib.functional.identity import DistanceName
from pa_lib.functional.reid import Retrieval, reidentification

JUNK_ID = -1  # Market-1501's own mark for bad boxes: in the gallery, and counted neither as right nor as wrong


def body_reidentification(
    queries: Float[Tensor, "q d"],
    gallery: Float[Tensor, "g d"],
    query_ids: Int[Tensor, " q"],
    gallery_ids: Int[Tensor, " g"],
    query_cameras: Int[Tensor, " q"],
    gallery_cameras: Int[Tensor, " g"],
    distance: DistanceName = "cosine",
) -> Retrieval:
    r"""Search a gallery of people for every query, without the query's own camera's pictures of the same person.

    Pictures are sorted by :math:`\lVert x \rVert^2 + \lVert y \rVert^2 - 2 x^T y` of normalised embeddings, which is
    twice the cosine distance. Left out for each query: what shows the same person by the same camera (the next frame
    of the same walk), and boxes with identity -1.

    Args:
        queries: Embeddings of the queries.
        gallery: Embeddings of the gallery.
        query_ids: Identities of the queries, >= 0.
        gallery_ids: Identities of the gallery, >= 0; -1 marks junk.
        query_cameras: Number of the camera of each query.
        gallery_cameras: Number of the camera of each picture in the gallery.
        distance: ``euclidean`` or ``cosine``, see `identity_distance`.

    Returns:
        One entry per query; rank 0 and NaN where no other camera saw the person.

    Raises:
        ValueError: Shapes do not fit, or embeddings that are not finite or have no length.

    >>> import torch
    >>> faces = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.3]])
    >>> ids, cameras = torch.tensor([1, 1, 2, 1]), torch.tensor([0, 0, 1, 1])
    >>> found = body_reidentification(faces[:1], faces[1:], ids[:1], ids[1:], cameras[:1], cameras[1:])
    >>> found.ranks.item(), found.n_gallery.item()
    (1, 2)

    Source: Zheng et al. 2015, "Scalable Person Re-identification: A Benchmark", section 5; mINP by Ye et al. 2021.
    """
    if query_cameras.shape != query_ids.shape or gallery_cameras.shape != gallery_ids.shape:
        raise ValueError(
            f"cameras have shapes {tuple(query_cameras.shape)} and {tuple(gallery_cameras.shape)}, "
            f"expected those of the ids, {tuple(query_ids.shape)} and {tuple(gallery_ids.shape)}"
        )
    is_own = (query_ids[:, None] == gallery_ids) & (query_cameras[:, None] == gallery_cameras)
    return reidentification(queries, gallery, query_ids, gallery_ids, is_own | (gallery_ids == JUNK_ID), distance)
