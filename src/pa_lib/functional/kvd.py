"""Kernel distance between the features of two sets of clips, which need not be Gaussian."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def kernel_video_distance(
    source: Float[Tensor, "n d"],
    anonymized: Float[Tensor, "m d"],
    degree: int = 3,
    scale: float | None = None,
    *,
    is_paired: bool = False,
) -> Float[Tensor, ""]:
    r"""Squared maximum mean discrepancy with a polynomial kernel, without bias at any number of clips.

    .. math::
        \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
        - \frac{2}{n m} \sum_{i, j} k(x_i, y_j), \qquad k(x, y) = (\gamma \, x \cdot y + 1)^p

    Args:
        source: x, the features of one set of clips; every floating type is converted to float64.
        anonymized: y, the features of the other set.
        degree: p, the degree of the polynomial kernel.
        scale: :math:`\gamma`, the scale of the kernel; None takes 1 / d.
        is_paired: Whether clip i of both is the same clip before and after. Such pairs are not independent, so the last
            term leaves out i = j and is over n (n - 1); without that it would be biased. Equal sets then give exactly
            0.

    Returns:
        Scalar, float64. Around 0 for equal distributions, and below it as often as above: it is not clamped.

    Raises:
        ValueError: Fewer than two clips, other shapes, NaN or infinity, or pairs of unequal number.

    >>> import torch
    >>> x = torch.tensor([[0.0], [2.0]])
    >>> float(kernel_video_distance(x, x, degree=1)), float(kernel_video_distance(x, x, degree=1, is_paired=True))
    (-2.0, 0.0)

    Source: Gretton et al. 2012, "A kernel two-sample test", equation 3, and for pairs the statistic of equation 4;
    Binkowski et al. 2018, "Demystifying MMD GANs", for the kernel. Ours: a statistic of its own for pairs.
    """
    if not is_paired:
        x, y, gamma = _checked(source, anonymized, scale)
        return (
            _off_diagonal_mean(_kernel(x, x, degree, gamma))
            + _off_diagonal_mean(_kernel(y, y, degree, gamma))
            - 2 * _kernel(x, y, degree, gamma).mean()
        )
    return _off_diagonal_mean(paired_terms(source, anonymized, degree, scale))


def paired_terms(
    source: Float[Tensor, "n d"], anonymized: Float[Tensor, "n d"], degree: int = 3, scale: float | None = None
) -> Float[Tensor, "n n"]:
    r"""Terms of every two pairs of clips: the mean of all but the diagonal is `kernel_video_distance` of pairs.

    .. math:: h_{ij} = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)

    Args and errors: as of `kernel_video_distance`.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> paired_terms(x, x + 1, degree=1).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    x, y, gamma = _checked(source, anonymized, scale)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} source and {len(y)} anonymized clips are no pairs; set is_paired to false")
    across = _kernel(x, y, degree, gamma)
    return _kernel(x, x, degree, gamma) + _kernel(y, y, degree, gamma) - across - across.T


def _kernel(x: Tensor, y: Tensor, degree: int, scale: float) -> Float[Tensor, "n m"]:
    return (scale * (x @ y.T) + 1) ** degree


def _off_diagonal_mean(square: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    n = len(square)
    return (square.sum() - square.diagonal().sum()) / (n * (n - 1))


def _checked(source: Tensor, anonymized: Tensor, scale: float | None) -> tuple[Tensor, Tensor, float]:
    for name, features in (("source", source), ("anonymized", anonymized)):
        if features.ndim != 2 or not features.is_floating_point():
            kind = f"{features.dtype} of shape {tuple(features.shape)}"
            raise ValueError(f"{name} is {kind}, expected floats of shape n d")
        if len(features) < 2:
            raise ValueError(f"{name}: {len(features)} clips, expected at least 2")
        if not bool(features.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity; find out which clip its features come from")
    d = source.shape[1]
    if anonymized.shape[1] != d:
        raise ValueError(f"source has {d} dimensions and anonymized {anonymized.shape[1]}, expected the same")
    return source.detach().double(), anonymized.detach().double(), 1 / d if scale is None else scale
