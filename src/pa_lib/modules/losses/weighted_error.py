"""A weighted mean of squared errors, the same on any number of processes, of which both diffusion losses consist."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, distributed

from pa_lib.errors import SettingError


def weighted_error(
    prediction: Float[Tensor, "b t c h w"],
    target: Float[Tensor, "b t c h w"],
    weights: Float[Tensor, "b t 1 h w"],
    clip_weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """``sum(s W (p - y)^2) / (c sum(W))`` in float32, W a pixel's weight and s a clip's, which is not divided by.

    Where gradients are on and processes train together, the sum of W is that of all of them divided by their number:
    the mean over processes of the loss, and of its gradient, is then what one process with all clips would get,
    however the weight is distributed. Such a call is collective: all processes must make as many.

    Raises:
        SettingError: The shapes do not fit.
    """
    _check(prediction, target, weights)
    weights = weights.float()
    squares = weights * (prediction.float() - target.float()).square()
    if clip_weights is not None:
        squares = squares * rearrange(clip_weights.to(squares), "b -> b 1 1 1 1")
    total = _mean_over_processes(weights.sum().detach()) * prediction.shape[2]
    # Nothing to weigh: the numerator is zero with gradient zero, and so is the loss, instead of 0 / 0.
    return squares.sum() / torch.where(total > 0, total, torch.ones_like(total))


def min_snr_weights(snr: Float[Tensor, " b"] | None, gamma: float, prediction_type: str) -> Float[Tensor, " b"]:
    """Weights that keep clean and noisy time steps from pulling against each other.

    ``min(SNR, gamma)`` for x_0; divided by ``SNR`` for the noise, by ``SNR + 1`` for v, and by ``(sqrt(SNR) + 1)^2``
    for the velocity of flow matching: what an error of the prediction amounts to in x_0.

    Where there is no signal at all (SNR 0, the last level with zero terminal SNR or flow matching) the weight is 1, as
    in diffusers' training scripts: sampling begins there, so the network must learn it.

    Source: Hang et al. 2023, section 3.4. Ours: flow matching, by the same reasoning.

    Raises:
        SettingError: The ratios are missing, or the prediction is unknown.

    >>> min_snr_weights(torch.tensor([1.0, 10.0]), 5.0, "epsilon").tolist()
    [1.0, 0.5]
    >>> min_snr_weights(torch.tensor([0.0, 1.0]), 5.0, "v_prediction").tolist()
    [1.0, 0.5]
    """
    if snr is None:
        raise SettingError("min_snr_gamma is set, but the loss got no signal-to-noise ratios; pass snr")
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)  # not min(SNR, gamma) / SNR, which is 0 / 0 at zero terminal SNR
    if prediction_type not in _PER_CLEAN:
        raise SettingError(f"unknown prediction {prediction_type!r}; choose epsilon, {', '.join(_PER_CLEAN)}")
    weights = snr.clamp(max=gamma) / _PER_CLEAN[prediction_type](snr)
    return torch.where(snr == 0, torch.ones_like(weights), weights)


_PER_CLEAN: Mapping[str, Callable[[Tensor], Tensor]] = {  # squared error of a prediction over that in x_0
    "v_prediction": lambda snr: snr + 1,
    "sample": torch.ones_like,
    "flow": lambda snr: (snr.sqrt() + 1).square(),
}


def checked_gamma(gamma: float | None) -> float | None:
    """The same number, if it can be a limit."""
    if gamma is not None and not 0 < gamma < float("inf"):
        raise SettingError(f"min_snr_gamma of the loss is {gamma}, expected more than 0 (5 is usual), or null for none")
    return gamma


def _mean_over_processes(total: Tensor) -> Tensor:
    """Of the weight of all processes each takes one share; validation, without gradients, stays by itself."""
    if not (torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized()):
        return total
    n_processes = distributed.get_world_size()
    if n_processes > 1:
        total = total.clone()
        distributed.all_reduce(total)
    return total / n_processes


def _check(prediction: Tensor, target: Tensor, weights: Tensor) -> None:
    if prediction.ndim != 5 or prediction.shape != target.shape:
        raise SettingError(
            f"the loss got a prediction of shape {tuple(prediction.shape)} and a target of {tuple(target.shape)}; "
            "expected both alike, b t c h w"
        )
    b, t, _, h, w = prediction.shape
    if tuple(weights.shape) != (b, t, 1, h, w):
        raise SettingError(
            f"the loss got a mask of shape {tuple(weights.shape)} for latents of {tuple(prediction.shape)}; "
            f"expected {(b, t, 1, h, w)}: bring the mask to the latent grid"
        )
