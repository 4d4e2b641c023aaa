"""People generated again and again in crops, and nothing else: one process for `before_after.py` to measure.

python benchmarks/passersby_crops.py --side 64 --people 4 --frames 400 [--tcs]
python benchmarks/passersby_crops.py --side 64 --people 4 --count [--tcs]        operations on tensors for 8 frames
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from passersby import TEXT_WIDTH, RandomText, clip_with, networks, system_of
from torch.utils._python_dispatch import TorchDispatchMode


class Counting(TorchDispatchMode):
    """Counts operations on tensors, and the elements of the tensors that come out."""

    def __init__(self) -> None:
        super().__init__()
        self.n_operations = self.n_elements = 0

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        self.n_operations += 1
        self.n_elements += made.numel() if isinstance(made, torch.Tensor) else 0
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="of the crops, px")
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--frames", type=int, default=400, help="in clips of 8")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    parser.add_argument("--tcs", action="store_true", help="with temporal layers")
    parser.add_argument("--count", action="store_true", help="count instead of repeating")
    asked = parser.parse_args()
    system = system_of(*networks(), RandomText(TEXT_WIDTH), asked.steps, asked.side, has_tcs=asked.tcs)
    clip, masks = clip_with(asked.people, 8)
    if asked.count:
        with Counting() as counted:
            system.anonymize(clip, masks)
        print(counted.n_operations, counted.n_elements)
        return
    for _ in range(asked.frames // 8):
        system.anonymize(clip, masks)


if __name__ == "__main__":
    main()
