"""Long clips by overlapping windows, whose predictions are averaged frame by frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def window_starts(n: int, window: int, overlap: int) -> list[int]:
    """First frames of windows that cover n frames; the last window ends with the last frame.

    Args:
        n: Number of frames of the clip, >= 1.
        window: Number of frames of a window, >= 1. A shorter clip is one shorter window.
        overlap: Least number of frames that neighbours share, from 0 to window - 1.

    Raises:
        ValueError: A number is out of range.

    >>> window_starts(10, 4, 1)
    [0, 3, 6]
    >>> window_starts(11, 4, 1)
    [0, 3, 6, 7]
    >>> window_starts(3, 4, 1)
    [0]
    """
    if n < 1 or window < 1 or not 0 <= overlap < window:
        raise ValueError(
            f"windows of {window} frames with an overlap of {overlap} over {n} frames: "
            "expected n >= 1, window >= 1 and 0 <= overlap < window"
        )
    if n <= window:
        return [0]
    starts = list(range(0, n - window, window - overlap))
    return [*starts, n - window]


def blend_weights(window: int) -> Float[Tensor, " window"]:
    """A pyramid: a frame counts the more, the further it is from the ends of the window. Unnormalised, >= 1.

    Source: FreeNoise (Qiu et al. 2024), as in diffusers.

    >>> blend_weights(4).tolist(), blend_weights(5).tolist()
    ([1.0, 2.0, 2.0, 1.0], [1.0, 2.0, 3.0, 2.0, 1.0])
    """
    places = torch.arange(1, window + 1, dtype=torch.float32)
    return torch.minimum(places, places.flip(0))


def blend(predict: Callable[[slice], Tensor], n: int, window: int, overlap: int, dim: int = 1) -> Tensor:
    """Average what overlapping windows predict: ``sum_k w_k p_k / sum_k w_k`` at every frame.

    One window at a time is held, beside one float32 sum of the whole length. A single window's prediction is returned
    as it is.

    Args:
        predict: Function from the frames of a window, as a slice, to a tensor with as many along `dim`.
        n: Number of frames of the clip.
        window: Number of frames of a window, see `window_starts`.
        overlap: Least number of frames that neighbours share, see `window_starts`.
        dim: Dimension of the frames.

    Returns:
        n frames in the type of the predictions.

    Raises:
        ValueError: A number is out of range, or a prediction has the wrong number of frames.

    >>> blend(lambda frames: torch.arange(10.0)[frames], 10, 4, 2, dim=0).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """
    starts = window_starts(n, window, overlap)
    if len(starts) == 1:
        return _checked(predict(slice(0, n)), n, dim)
    total: Tensor | None = None
    weight = torch.zeros(n)
    pyramid = blend_weights(window)
    for start in starts:
        frames = slice(start, start + window)
        predicted = _checked(predict(frames), window, dim)
        if total is None:
            shape = list(predicted.shape)
            shape[dim] = n
            total, dtype = torch.zeros(shape, device=predicted.device), predicted.dtype
        total.narrow(dim, start, window).add_(_along(pyramid, predicted, dim) * predicted)
        weight[frames] += pyramid
    assert total is not None  # there is always a window
    return (total / _along(weight, total, dim)).to(dtype)


def _along(weights: Float[Tensor, " n"], like: Tensor, dim: int) -> Tensor:
    """One weight per frame, shaped to multiply a tensor whose frames lie along `dim`."""
    shape = [1] * like.ndim
    shape[dim] = len(weights)
    return weights.to(like.device).reshape(shape)


def _checked(predicted: Tensor, expected: int, dim: int) -> Tensor:
    if predicted.shape[dim] != expected:
        raise ValueError(f"a window of {expected} frames was predicted as {predicted.shape[dim]}")
    return predicted
