"""Which parts of a system are divided among processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from pa_lib.modules.adapters.base import AbstractAdapter
from pa_lib.modules.backbones.base import AbstractBackbone

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def divide(slots: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Divide backbones and the layers of adapters among the processes of a mesh; what is divided already stays so.

    Other slots stay whole in every process: they are not called as modules (an autoencoder encodes and decodes).

    Args:
        slots: The direct children of a system; changed in place.
        mesh: The processes that share the weights, one dimension.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for slot in slots:
        parts: list[nn.Module] = [slot] if isinstance(slot, AbstractBackbone) else []
        if isinstance(slot, AbstractAdapter):
            parts = list(slot.layers.values())
        for part in parts:
            if not isinstance(part, FSDPModule):
                fully_shard(part, mesh=mesh)
