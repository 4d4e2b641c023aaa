"""The diffusion losses against numpy, and two processes against one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import normal, uniform
from pa_lib.modules import FlowMatching, VariancePreserving
from pa_lib.modules.losses.masked_diffusion import MaskedDiffusionLoss
from pa_lib.modules.losses.plain_diffusion import PlainDiffusionLoss
from pa_lib.modules.losses.weighted_error import min_snr_weights

B, T, C, H, W = SHAPE = (3, 2, 4, 5, 6)
PREDICTION, TARGET = normal(SHAPE, 1), normal(SHAPE, 2)
MASK = (uniform((B, T, 1, H, W), 3) < 0.3).float()
SOFT = uniform((B, T, 1, H, W), 4)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 2), st.booleans())
def test_the_masked_loss_is_the_formula(background_weight: float, is_soft: bool) -> None:
    mask = SOFT if is_soft else MASK
    weights = mask.double().numpy() + background_weight * (1 - mask.double().numpy())
    squares = (PREDICTION.double().numpy() - TARGET.double().numpy()) ** 2
    expected = sum(weights[b, t, 0, y, x] * squares[b, t, :, y, x].sum() for b, t, y, x in np.ndindex(B, T, H, W)) / (
        C * weights.sum()
    )
    found = MaskedDiffusionLoss(background_weight)(PREDICTION, TARGET, mask)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 2), st.floats(0.1, 5))
def test_the_temporal_term_is_the_same_of_changes_between_frames(background_weight: float, temporal: float) -> None:
    weights = (SOFT + background_weight * (1 - SOFT)).double().numpy()
    errors = (PREDICTION - TARGET).double().numpy()
    pairs = np.minimum(weights[:, 1], weights[:, 0])  # T is 2
    flicker = (pairs * (errors[:, 1] - errors[:, 0]) ** 2).sum() / (C * pairs.sum())
    without = MaskedDiffusionLoss(background_weight)(PREDICTION, TARGET, SOFT)
    found = MaskedDiffusionLoss(background_weight, temporal_weight=temporal)(PREDICTION, TARGET, SOFT)
    assert float(found - without) == pytest.approx(temporal * flicker, rel=1e-4)


def test_an_error_that_all_frames_share_does_not_flicker_and_an_image_cannot() -> None:
    loss, with_term = MaskedDiffusionLoss(0.1), MaskedDiffusionLoss(0.1, temporal_weight=3.0)
    shifted = TARGET + PREDICTION[:, :1]
    assert float(with_term(shifted, TARGET, SOFT)) == pytest.approx(float(loss(shifted, TARGET, SOFT)), rel=1e-5)
    image = [part[:, :1] for part in (PREDICTION, TARGET, SOFT)]
    assert float(with_term(*image)) == float(loss(*image))


def test_all_ones_and_full_background_weight_are_the_plain_loss_which_is_the_mean() -> None:
    plain = float(PlainDiffusionLoss()(PREDICTION, TARGET, MASK))
    assert plain == pytest.approx(float(((PREDICTION - TARGET).double() ** 2).mean()), rel=1e-6)
    assert float(MaskedDiffusionLoss(0.2)(PREDICTION, TARGET, torch.ones_like(MASK))) == pytest.approx(plain, rel=1e-6)
    assert float(MaskedDiffusionLoss(1.0)(PREDICTION, TARGET, MASK)) == pytest.approx(plain, rel=1e-6)


def test_the_gradient_is_exactly_zero_where_the_weight_is_and_nowhere_else() -> None:
    prediction = PREDICTION.clone().requires_grad_()
    MaskedDiffusionLoss(background_weight=0)(prediction, TARGET, MASK).backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad != 0, (MASK > 0).expand(SHAPE))


def test_the_gradient_is_the_closed_form() -> None:
    prediction = PREDICTION.clone().requires_grad_()
    MaskedDiffusionLoss(0.25)(prediction, TARGET, MASK).backward()
    weights = MASK + 0.25 * (1 - MASK)
    torch.testing.assert_close(prediction.grad, 2 * weights * (PREDICTION - TARGET) / (C * weights.sum()))


def test_nothing_to_weigh_is_a_zero_loss_with_zero_gradient() -> None:
    prediction = PREDICTION.clone().requires_grad_()
    loss = MaskedDiffusionLoss(background_weight=0)(prediction, TARGET, torch.zeros_like(MASK))
    loss.backward()
    assert float(loss.detach()) == 0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def test_small_people_weigh_as_much_as_large_ones() -> None:
    small, large = torch.zeros_like(MASK), torch.ones_like(MASK)
    small[..., 2, 2] = 1
    error = torch.full(SHAPE, 3.0)
    for mask in (small, large):
        assert float(MaskedDiffusionLoss(0)(error, torch.zeros(SHAPE), mask)) == pytest.approx(9)


SNR = torch.tensor([0.1, 5.0, 50.0])
BY_HAND = {"epsilon": [1, 1, 0.1], "v_prediction": [0.1 / 1.1, 5 / 6, 5 / 51], "sample": [0.1, 5, 5]}


@pytest.mark.parametrize("prediction_type", list(BY_HAND))
@pytest.mark.parametrize("make", [PlainDiffusionLoss, lambda **kw: MaskedDiffusionLoss(0.3, **kw)])
def test_min_snr_weights_the_clips(prediction_type: str, make: Any) -> None:
    assert min_snr_weights(SNR, 5.0, prediction_type).tolist() == pytest.approx(BY_HAND[prediction_type])
    weights = MASK + 0.3 * (1 - MASK) if make is not PlainDiffusionLoss else torch.ones_like(MASK)
    per_clip = (weights * (PREDICTION - TARGET) ** 2).double().sum((1, 2, 3, 4))
    expected = float((per_clip * torch.tensor(BY_HAND[prediction_type])).sum() / (C * weights.double().sum()))
    found = make(min_snr_gamma=5.0)(PREDICTION, TARGET, MASK, SNR, prediction_type)
    assert float(found) == pytest.approx(expected, rel=1e-5)


LEVELS = np.arange(1000)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_with_zero_terminal_snr_is_the_closed_form_and_one_at_its_end(
    prediction_type: Any, gamma: float
) -> None:
    """As diffusers' training scripts have it: weight 1 where there is no signal at all."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    roots = np.sqrt(np.cumprod(1 - betas))
    alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2  # Lin et al. 2023, algorithm 1
    with np.errstate(divide="ignore"):
        snr = alphas / (1 - alphas)
    expected = np.minimum(snr, gamma) / (snr + 1 if prediction_type == "v_prediction" else 1)
    expected[-1] = 1
    process = VariancePreserving(prediction=prediction_type, is_zero_terminal_snr=True)
    found = min_snr_weights(process.snr(torch.from_numpy(LEVELS)), gamma, prediction_type).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-7)
    assert found[-1] == 1


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_of_flow_matching_weighs_errors_of_clean_latents(gamma: float) -> None:
    """An error d of the velocity is an error s d of x_0, so a weight min(SNR, gamma) there is s^2 of it here."""
    s = (LEVELS + 1) / 1000
    with np.errstate(divide="ignore"):
        expected = s**2 * np.minimum(((1 - s) / s) ** 2, gamma)
    expected[-1] = 1
    found = min_snr_weights(FlowMatching().snr(torch.from_numpy(LEVELS)), gamma, "flow").numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


def test_pure_noise_is_no_division_of_zero_by_zero() -> None:
    for prediction_type in ("epsilon", "v_prediction", "sample", "flow"):
        assert min_snr_weights(torch.zeros(1), 5.0, prediction_type).tolist() == [1.0]


def test_half_precision_is_close() -> None:
    loss = MaskedDiffusionLoss()
    half = loss(PREDICTION.bfloat16(), TARGET.bfloat16(), MASK.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(PREDICTION, TARGET, MASK), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedDiffusionLoss(background_weight=-0.1), "background_weight"),
        (lambda: MaskedDiffusionLoss(background_weight=float("nan")), "background_weight"),
        (lambda: MaskedDiffusionLoss(min_snr_gamma=0), "min_snr_gamma"),
        (lambda: MaskedDiffusionLoss(temporal_weight=-1), "temporal_weight"),
        (lambda: PlainDiffusionLoss(min_snr_gamma=-1), "min_snr_gamma"),
        (lambda: PlainDiffusionLoss(min_snr_gamma=5)(PREDICTION, TARGET, MASK), "pass snr"),
        (lambda: PlainDiffusionLoss(min_snr_gamma=5)(PREDICTION, TARGET, MASK, SNR, "noise"), "unknown prediction"),
        pytest.param(
            lambda: MaskedDiffusionLoss()(PREDICTION, TARGET[:, :1], MASK),
            "expected both alike",
            marks=pytest.mark.wrong_types,
        ),
        pytest.param(
            lambda: MaskedDiffusionLoss()(PREDICTION, TARGET, MASK[..., :3]),
            "latent grid",
            marks=pytest.mark.wrong_types,
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        make()


TWO_PROCESSES = """
    import json, sys
    import torch
    from torch import distributed, multiprocessing, nn
    from torch.nn.parallel import DistributedDataParallel
    from pa_lib.functional.draws import normal, uniform
    from pa_lib.modules.losses.masked_diffusion import MaskedDiffusionLoss

    folder = sys.argv[1]
    torch.set_num_threads(1)
    shape = (4, 2, 3, 4, 4)
    inputs, targets = normal(shape, 1), normal(shape, 2)
    sizes = torch.tensor([0.9, 0.5, 0.05, 0.0])[:, None, None, None, None]  # the last process sees hardly a person
    masks = (uniform((4, 2, 1, 4, 4), 3) < sizes).float()

    def step(rank, world, clips):
        model = nn.Linear(3, 3)
        nn.init.constant_(model.weight, 0.1)
        nn.init.constant_(model.bias, 0.2)
        if world > 1:
            address = f"file://{folder}/meeting"
            distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
            model = DistributedDataParallel(model)
        prediction = model(inputs[clips].movedim(2, -1)).movedim(-1, 2)
        loss = MaskedDiffusionLoss(0.05)(prediction, targets[clips], masks[clips])
        loss.backward()
        with torch.no_grad():  # validation does not meet
            alone = MaskedDiffusionLoss(0.05)(prediction, targets[clips], masks[clips])
        gradients = [parameter.grad.flatten().tolist() for parameter in model.parameters()]
        with open(f"{folder}/{world}-{rank}.json", "w") as file:
            json.dump({"loss": loss.item(), "alone": alone.item(), "gradients": sum(gradients, [])}, file)
        if world > 1:
            distributed.destroy_process_group()

    def part(rank):
        step(rank, 2, [[0, 1, 2], [3]][rank])

    if __name__ == "__main__":
        step(0, 1, [0, 1, 2, 3])
        multiprocessing.start_processes(part, nprocs=2, start_method="fork")
"""


def test_two_processes_are_one(tmp_path: Path) -> None:
    script = tmp_path / "two_processes.py"
    script.write_text(textwrap.dedent(TWO_PROCESSES))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert (first["loss"] + second["loss"]) / 2 == pytest.approx(one["loss"], rel=1e-6)
    np.testing.assert_allclose(first["gradients"], one["gradients"], rtol=1e-6, atol=1e-7)
    assert first["gradients"] == second["gradients"]
    assert one["alone"] == pytest.approx(one["loss"], rel=1e-6)
    assert first["alone"] != pytest.approx(first["loss"], rel=1e-2)
