"""Draws depend on their keys and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.functional.draws import generator, normal, uniform

KEYS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(KEYS, KEYS)
def test_equal_keys_give_equal_numbers_and_other_keys_give_others(one: list[int], other: list[int]) -> None:
    for draw in (normal, uniform):
        torch.manual_seed(len(one))  # the global state has no say
        assert torch.equal(draw((3, 2), *one), draw((3, 2), *one))
        assert torch.equal(draw((3, 2), *one), draw((3, 2), *other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [((1,), (1, 0)), ((0, 0), (0,)), ((2**32,), (0, 1)), ((1, 2), (2, 1)), ((-1,), (2**32 - 1,))]
)
def test_keys_that_numpy_alone_would_confuse_are_told_apart(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert not torch.equal(uniform((4,), *one), uniform((4,), *other))
    assert generator(*one).initial_seed() != generator(*other).initial_seed()


def test_neighbouring_keys_are_independent_standard_normal_numbers() -> None:
    drawn = torch.stack([normal((1000,), 0, clip, step) for clip in range(10) for step in range(10)]).numpy()
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / drawn.size)
    correlations = np.corrcoef(drawn)[np.triu_indices(100, 1)]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(1000)  # 4950 pairs: 5.5 sigma
    first = np.array([float(normal((), seed)) for seed in range(2000)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4.5 / np.sqrt(2000)


def test_uniform_numbers_fill_0_to_1() -> None:
    drawn = uniform((20000,), 7).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=10, range=(0, 1))[0]
    assert (((counts - 2000) ** 2) / 2000).sum() < 35  # chi-square with 9 degrees: 1 in 10000 is 33.7


def test_a_generator_is_the_keys_own() -> None:
    assert torch.equal(torch.rand(5, generator=generator(3, 4)), torch.rand(5, generator=generator(3, 4)))
    assert not torch.equal(torch.rand(5, generator=generator(3, 4)), torch.rand(5, generator=generator(3, 5)))


def test_no_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        normal((2,))
