from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules import ClassifierFreeGuidance, ForwardContext, SamplingStart, VariancePreserving


def start(other: ForwardContext | None, asked: list[tuple[str, ...]] | None = None) -> SamplingStart:
    def without(names: object) -> ForwardContext | None:
        if asked is not None:
            asked.append(tuple(names))  # type: ignore[call-overload]
        return other

    return SamplingStart(VariancePreserving(), decode=lambda latents: latents, without=without)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 20), st.integers(0, 999))
def test_it_is_the_formula(scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    given_, without = torch.randn(2, 1, 2, 3, 3, generator=draw), torch.randn(2, 1, 2, 3, 3, generator=draw)
    combine = ClassifierFreeGuidance(scale).prepare(start(None)).combine
    assert combine is not None
    expected = scale * given_.double() + (1 - scale) * without.double()
    found: Tensor = combine(given_, without)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_it_asks_without_the_conditioners_that_it_names() -> None:
    asked: list[tuple[str, ...]] = []
    other = ForwardContext(1, torch.tensor([0]))
    prepared = ClassifierFreeGuidance(3.0, leaves_out=["prompt", "pose"]).prepare(start(other, asked))
    assert prepared.context is other
    assert prepared.correct is None
    assert asked == [("prompt", "pose")]


@pytest.mark.parametrize("arguments", [{"scale": -1.0}, {"scale": float("nan")}, {"leaves_out": ()}])
def test_senseless_settings_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="of classifier-free guidance is"):
        ClassifierFreeGuidance(**arguments)  # type: ignore[arg-type]
