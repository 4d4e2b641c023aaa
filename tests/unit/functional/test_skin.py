"""The hue of skin, from colors whose hue is known."""

from __future__ import annotations

import math

import pytest
import torch

from pa_lib.functional.skin import skin_hue


@pytest.mark.parametrize("chroma", [5.0, 30.0])
@pytest.mark.parametrize(("degrees", "expected"), [(50, 1.0), (25, math.exp(-1)), (75, math.exp(-1)), (-130, 0.0)])
def test_hue_and_chroma(degrees: float, expected: float, chroma: float) -> None:
    angle = math.radians(degrees)
    color = torch.tensor([40.0, chroma * math.cos(angle), chroma * math.sin(angle)]).view(1, 3, 1, 1)
    hue, found = skin_hue(color)
    assert float(hue) == pytest.approx(expected, abs=1e-4)
    assert float(found) == pytest.approx(chroma, rel=1e-5)
    assert torch.equal(skin_hue(color + torch.tensor([30.0, 0, 0]).view(1, 3, 1, 1))[0], hue)  # light or dark
