"""The null adapter changes nothing and is attached once like others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.none import NoAdapter
from pa_lib.modules.backbones.base import AbstractBackbone


def test_it_has_nothing_and_does_nothing(
    backbone: AbstractBackbone, predict: Callable[[AbstractBackbone], Tensor]
) -> None:
    before = predict(backbone)
    adapter = NoAdapter()
    adapter.attach(backbone)
    assert torch.equal(predict(backbone), before)
    assert not adapter.state_dict()
    assert not any(module._forward_hooks for module in backbone.modules())


def test_configs_of_earlier_versions_build_it() -> None:
    assert not list(NoAdapter(scale=0.5).parameters())


def test_attaching_twice_is_refused_as_everywhere(backbone: AbstractBackbone) -> None:
    adapter = NoAdapter()
    adapter.attach(backbone)
    with pytest.raises(PaLibError, match="attached already"):
        adapter.attach(backbone)
