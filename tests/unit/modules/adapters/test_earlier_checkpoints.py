"""Checkpoints written before SCA used peft: loaded, and training goes on from them."""

from __future__ import annotations

import lightning
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from pa_lib.callbacks.average import ExponentialAverage
from pa_lib.callbacks.checkpoints import ConfigInCheckpoint
from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.spatial_content import SpatialContentAdapter
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet


class System(lightning.LightningModule):
    def __init__(self, backbone: DiffusersUNet) -> None:
        super().__init__()
        self.backbone, self.adapter = backbone.requires_grad_(False), SpatialContentAdapter(2)
        self.adapter.attach(backbone)

    def external_slots(self) -> set[str]:
        return {"backbone"}


def earlier(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("lora_A.default.weight", "down").replace("lora_B.default.weight", "up"): value
        for name, value in weights.items()
    }


@pytest.fixture
def fitting() -> Trainer:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.state.fn = TrainerFn.FITTING
    return trainer


def test_training_goes_on_from_an_earlier_average(text_backbone: DiffusersUNet, fitting: Trainer) -> None:
    system = System(text_backbone)
    own = {name: weight for name, weight in system.named_parameters() if weight.requires_grad}
    training = {name: torch.full_like(weight, index) for index, (name, weight) in enumerate(own.items())}
    callback = ExponentialAverage()
    callback.on_load_checkpoint(fitting, system, {"training_weights": earlier(training)})
    assert all(torch.equal(weight, training[name]) for name, weight in own.items())


def test_the_weights_of_an_earlier_checkpoint_are_found(text_backbone: DiffusersUNet, fitting: Trainer) -> None:
    system = System(text_backbone)
    state = earlier({n: w for n, w in system.state_dict().items() if n.startswith("adapter.")})
    callback = ConfigInCheckpoint({})
    callback.on_load_checkpoint(fitting, system, {"state_dict": state})
    state.popitem()
    with pytest.raises(PaLibError, match="lacks adapter"):
        callback.on_load_checkpoint(fitting, system, {"state_dict": state})
