"""Originals estimated from anonymized faces by ridge regression: no training, and it undoes most of a mild blur."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_N_COMPONENTS = 400


class LinearRestoration:
    r"""A linear map from anonymized to original pixels, learned from pairs.

    .. math:: \hat y(x) = g(x)^T Y, \quad g(x) = (K + \lambda \bar k I)^{-1} (X x + \bar k), \quad
        K = X X^T + \bar k

    with rows of X and Y less their means, an intercept beside them (the constant, whose size is the mean of the
    diagonal of X X^T), Y in its 400 principal components, and the penalty that has the least error over pairs, each
    left out in turn. Of a pair that was learned from, `restored` gives what would come of it had it been left out, so
    that a network that learns from restored pictures sees them as it will see those of the test:

    .. math:: \hat y_{-i}(x) = \hat y(x) - g_i(x) \frac{y_i - \hat y(x_i)}{1 - g_i(x_i)}

    Args:
        seen: Anonymized pictures, n >= 2.
        truth: Originals of the same pictures.

    Source: Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", 3.4.1 (ridge regression) and
    7.10 (leaving one out); the form with a new x is ours, from the same matrix identity.
    """

    def __init__(self, seen: Float[Tensor, "n d"], truth: Float[Tensor, "n p"]) -> None:
        self.seen_mean, self.truth_mean = seen.mean(0), truth.mean(0)
        self.seen = seen - self.seen_mean
        centred = truth - self.truth_mean
        _, _, self.components = torch.svd_lowrank(centred, q=min(_N_COMPONENTS, *centred.shape), niter=2)
        codes = (centred @ self.components).double()
        # In doubles: where all faces look alike, single precision leaves less than nothing of what differs.
        kernel = self.seen.double() @ self.seen.double().T
        # Nothing to be seen at all: then the mean is restored.
        self._level = level = float(kernel.diagonal().mean()) or 1.0
        # The mean holds the pair that is left out: without an intercept, that pair is minus the sum of all others, and
        # could be computed from them.
        kernel += level
        errors: dict[float, float] = {}
        for penalty in _PENALTIES:
            inverse, residuals = _left_out(kernel, codes, penalty * level)
            errors[penalty] = float(residuals.square().sum())
            if errors[penalty] == min(errors.values()):
                self.penalty, self._inverse, self._residuals = penalty, inverse, residuals
        self._weights = self._inverse @ codes

    def restored(self, seen: Float[Tensor, "k d"], left_out: Int64[Tensor, " k"] | None = None) -> Float[Tensor, "k p"]:
        """What the originals may have been.

        Args:
            seen: Anonymized pictures.
            left_out: Number of the pair that is left out of the map of each picture, -1 for none; None = none is left
                out.
        """
        nearness = ((seen - self.seen_mean) @ self.seen.T).double() + self._level
        codes = nearness @ self._weights
        if left_out is not None:
            of = left_out.clamp(min=0)
            own = (nearness * self._inverse[of]).sum(1)
            codes -= torch.where(left_out >= 0, own, 0.0)[:, None] * self._residuals[of]
        return codes.float() @ self.components.T + self.truth_mean


def _left_out(kernel: Tensor, codes: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The inverse, and of every pair the error of a map that was made without it."""
    eye = torch.eye(len(kernel), dtype=kernel.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + penalty * eye))
    # y - K A y = penalty A y, and 1 - (K A)_ii = penalty A_ii
    return inverse, (inverse @ codes) / inverse.diagonal()[:, None]
