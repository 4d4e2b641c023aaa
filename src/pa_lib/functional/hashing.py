"""One number for a network's weights, whatever kind of file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_sha256(tensors: Mapping[str, Tensor], *, has_header: bool = True, dtype: torch.dtype | None = None) -> str:
    """Sha256 of names and numbers, tensor by tensor in the order of their names.

    Args:
        tensors: Tensors by name, e.g. a ``state_dict()``.
        has_header: Whether type and shape of every tensor are hashed too.
        dtype: Type that all numbers are converted to first, so that a copy in another type has the same hash. None
            keeps their own types.

    >>> weights_sha256({})[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update((f"{name} {tensor.dtype} {tuple(tensor.shape)}\n" if has_header else name).encode())
        numbers = tensor.detach().cpu().to(dtype or tensor.dtype).contiguous()
        # Viewed as bytes: numpy does not know bfloat16.
        digest.update(numbers.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
