"""Random numbers that depend on their keys alone: not on the device, the process, or on what was drawn before.

Keys are whole numbers such as ``(seed, clip, step)``. Whatever a training step or a sampler draws is drawn per clip
from that clip's keys, so neither the number of processes nor the other clips of a batch change a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_WORD = 2**32


def generator(*keys: int) -> torch.Generator:
    """A CPU generator, for callers that need one, such as diffusers' schedulers.

    PyTorch's CPU generator keeps 32 bits of its seed: among n generators two are alike with a chance of about
    ``n^2 / 2^33``. `normal` and `uniform` use the keys in full.

    Args:
        keys: Key of the draw, integers, at least one; negative ones count as 64-bit two's complement.

    >>> float(torch.rand((), generator=generator(0, 7))) == float(torch.rand((), generator=generator(0, 7)))
    True
    """
    drawn = torch.Generator(device="cpu")
    drawn.manual_seed(int(_sequence(keys).generate_state(1, np.uint64)[0]))
    return drawn


def normal(shape: Sequence[int], *keys: int) -> Float[Tensor, ...]:
    """Independent standard normal numbers, float32 on the CPU.

    >>> normal((2, 3), 0, 7).shape
    torch.Size([2, 3])
    >>> bool((normal((4,), 0, 7) == normal((4,), 0, 8)).any())
    False
    """
    return torch.from_numpy(np.asarray(_numbers(keys).standard_normal(tuple(shape), dtype=np.float32)))


def uniform(shape: Sequence[int], *keys: int) -> Float[Tensor, ...]:
    """Independent numbers in [0, 1), float32 on the CPU.

    >>> 0 <= float(uniform((), 3)) < 1
    True
    """
    return torch.from_numpy(np.asarray(_numbers(keys).random(tuple(shape), dtype=np.float32)))


def generator_of(*numbers: int) -> torch.Generator:
    """As `generator`, by numpy's own sequence of numbers >= 0; of more than three, the last must be above 0.

    The data modules have used it since the first version.
    """
    # numpy's sequence mixes them, as sums or products of seeds would not: neighbours would share their streams.
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def seed_of(*numbers: int) -> int:
    """A 32-bit seed mixed from numbers >= 0, by numpy's own sequence.

    >>> seed_of(0, 1) != seed_of(1, 0)
    True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def bytes_of(n: int, *numbers: int) -> bytes:
    """N independent random bytes, from numbers >= 0, by numpy's own sequence.

    >>> len(bytes_of(3, 0, 7))
    3
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers))).bytes(n)


def _numbers(keys: Sequence[int]) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(_sequence(keys)))


def _sequence(keys: Sequence[int]) -> np.random.SeedSequence:
    """Every key as two words, after their number: numpy by itself takes (1,) and (1, 0) for the same."""
    if not keys:
        raise ValueError("random numbers need at least one key")
    words = [len(keys)]
    for key in keys:
        words += [int(key) % _WORD, int(key) // _WORD % _WORD]
    return np.random.SeedSequence(words)
