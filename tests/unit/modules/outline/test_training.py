"""The loss that outlines are learned by, against numpy; and that it is learned from."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from pa_lib.contracts import OutlineBatch
from pa_lib.errors import SettingError
from pa_lib.modules import OutlineTraining

SIDE = 32


def labels_of() -> torch.Tensor:
    """A person, another beside them, background, and a corner that is not counted."""
    labels = np.full((SIDE, SIDE), 2)
    labels[8:28, 6:14] = 0
    labels[6:28, 14:22] = 1
    labels[:4, 24:] = 255
    return torch.from_numpy(labels)[None]


def batch_of(n: int = 1) -> OutlineBatch:
    planes = torch.rand(n, 7, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return OutlineBatch(planes, labels_of().expand(n, -1, -1), torch.arange(n))


class Fixed(torch.nn.Module):
    """A network whose answer is given."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return self.logits


def training(logits: torch.Tensor, **settings: float) -> OutlineTraining:
    made = OutlineTraining((8, 8, 8, 8), **settings)
    made.network = Fixed(logits)
    return made


def test_the_loss_is_the_formula() -> None:
    logits = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    errors, _ = training(logits, edge=3.0, overlap=0.5)._errors(batch_of())

    z, labels = logits[0].double().numpy(), labels_of()[0].numpy()
    p = np.exp(z) / np.exp(z).sum(0)
    counted, truth = labels != 255, labels == 0
    square = np.ones((5, 5))
    near = binary_dilation(truth, square) & ~binary_erosion(truth, square, border_value=1)
    weight = counted * (1 + 3.0 * near)
    rows, columns = np.indices(labels.shape)
    entropy = -np.log(p[np.where(counted, labels, 0), rows, columns])
    mine = p[0] * counted
    overlap = (mine * truth).sum() / (mine + truth - mine * truth).sum()
    expected = (entropy * weight).sum() / weight.sum() + 0.5 * (1 - overlap)
    assert float(errors.detach()[0]) == pytest.approx(expected, rel=1e-5)


def test_what_is_not_counted_moves_nothing() -> None:
    made = training(torch.zeros(1, 3, SIDE, SIDE))
    made._errors(batch_of())[0].sum().backward()
    gradient = made.network.logits.grad
    assert not gradient[0, :, :4, 24:].any()
    assert gradient[0, :, 4:].abs().min() > 0


def test_the_right_answer_has_no_loss_and_the_whole_overlap() -> None:
    labels = labels_of()
    right = 50.0 * torch.nn.functional.one_hot(torch.where(labels == 255, 1, labels), 3).permute(0, 3, 1, 2)
    errors, overlaps = training(right.float())._errors(batch_of())
    assert float(errors.detach()) == pytest.approx(0, abs=1e-4)
    assert float(overlaps) == 1


def test_it_learns_who_is_asked_for() -> None:
    """Two people who look alike in every crop: only the box says which of them is wanted."""
    torch.manual_seed(0)
    planes = torch.zeros(8, 7, SIDE, SIDE)
    labels = torch.full((8, SIDE, SIDE), 2)
    for n in range(8):
        for place, left in enumerate((4, 18)):
            planes[n, :3, 8:28, left : left + 8] = 0.9
            is_wanted = place == n % 2
            labels[n, 8:28, left : left + 8] = 0 if is_wanted else 1
            planes[n, 3, 7:29, left - 1 : left + 9] = float(is_wanted)
    made = OutlineTraining((8, 8, 16, 16), optimizer=partial(torch.optim.AdamW, lr=5e-3), trainable=["network"])
    optimizer = made.configure_optimizers()
    batch = OutlineBatch(planes, labels, torch.arange(8))
    for _ in range(60):
        optimizer.zero_grad()
        errors, overlaps = made._errors(batch)
        errors.mean().backward()
        optimizer.step()
    assert float(overlaps.min()) > 0.8


@pytest.mark.parametrize("settings", [{"edge": -1.0}, {"overlap": float("nan")}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="expected a number >= 0"):
        OutlineTraining((8, 8, 8, 8), **settings)
