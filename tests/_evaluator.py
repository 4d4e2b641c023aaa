"""One of two processes that validate together, importable by both."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from _metrics import Brightness
from pa_lib.callbacks import Evaluator
from pa_lib.contracts import Result


class _Logged:
    """What a callback needs of a module and a trainer."""

    sanity_checking = False
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    def log(self, name: str, value: float, **_: Any) -> None:
        self.logged[name] = float(value)


def validate_share(rank: int, port: int, queue: Any) -> None:
    """The first process has one clip, the second two."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    both: Any = _Logged()
    evaluator = Evaluator(Brightness())
    evaluator.on_validation_epoch_start(both, both)
    lights = torch.tensor([0.1] if rank == 0 else [0.2, 0.6])
    frames = lights.view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4)
    ids = torch.tensor([0] if rank == 0 else [1, 2])
    result = Result(frames, frames, torch.zeros(len(lights), 2, 1, 4, 4), ids)
    evaluator.on_validation_batch_end(both, both, result, None, 0)
    evaluator.on_validation_epoch_end(both, both)
    queue.put(both.logged["val/brightness"])
    distributed.destroy_process_group()
