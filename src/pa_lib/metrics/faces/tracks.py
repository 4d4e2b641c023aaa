"""Keys of faces: which clip, which person, and who that is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.metrics.faces.comparer import FacePairs
from pa_lib.metrics.over_clips import clip_keys

N_KEYS = 3  # clip, person, identity
UNKNOWN = -1  # as in `contracts.Batch.identities`


def face_keys(
    pairs: FacePairs, clip_ids: Tensor | None, identities: Tensor | None, known: Float[Tensor, "m k"]
) -> Float[Tensor, "n 3"]:
    """Clip, person and identity of every face, float64, as keys for `summed`.

    Args:
        pairs: Of one update.
        clip_ids: As in `contracts.Result`; None makes every row a clip of its own.
        identities: As in `contracts.Result`; None where nobody knows.
        known: The metric's rows so far, with these keys in front.

    Raises:
        ValueError: As many numbers as rows are expected.
    """
    n_rows = len(pairs.n_faceless)
    clips = clip_keys(None if clip_ids is None else clip_ids.cpu(), n_rows, known.cpu())
    if identities is None:
        identities = torch.full((n_rows,), UNKNOWN)
    if tuple(identities.shape) != (n_rows,):
        raise ValueError(f"identities have shape {tuple(identities.shape)}, expected {(n_rows,)}: one for each clip")
    return torch.stack([clips[pairs.rows], pairs.person_ids.double(), identities.cpu().double()[pairs.rows]], 1)
