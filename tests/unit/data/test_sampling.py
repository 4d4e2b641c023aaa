"""Which clip comes when: shares of global batches, and the place to go on from."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from pa_lib.data import Draw, GlobalBatchSampler, Position, ResumableLoader, clip_generator
from pa_lib.errors import PaLibError


class Numbers(Dataset[torch.Tensor]):
    def __getitem__(self, draw: Draw) -> torch.Tensor:
        return torch.tensor([draw.epoch, draw.index])


def global_batches(
    n_clips: int, batch_size: int, world_size: int, start: Position, **options: bool
) -> list[list[Draw]]:
    """What all processes together get in each step of one iteration."""
    steps: list[list[Draw]] = []
    for rank in range(world_size):
        sampler = GlobalBatchSampler(n_clips, batch_size, rank=rank, world_size=world_size, seed=3, **options)
        sampler.start = start
        draws = list(sampler)
        n = sampler.n_batches
        for step in range(n):
            share = draws[step * sampler.local_size : (step + 1) * sampler.local_size]
            if rank == 0:
                steps.append([])
            steps[step] += share
    return steps


@given(st.integers(1, 6), st.sampled_from([1, 2, 3, 4]), st.integers(0, 40), st.integers(0, 5))
def test_step_sees_the_same_clips_on_any_number_of_processes(
    n_local: int, world_size: int, n_more: int, n_batches: int
) -> None:
    batch_size = n_local * world_size
    n_clips = batch_size + n_more
    start = Position(epoch=2, n_batches=n_batches % (n_clips // batch_size))
    assert global_batches(n_clips, batch_size, world_size, start) == global_batches(n_clips, batch_size, 1, start)


def test_epoch_is_a_permutation_without_the_rest_and_differs_from_the_next() -> None:
    one, two = (
        [draw for batch in global_batches(11, 2, 1, Position(epoch=epoch)) for draw in batch] for epoch in (0, 1)
    )
    assert len({draw.index for draw in one}) == 10
    assert {draw.epoch for draw in one} == {0}
    assert [draw.index for draw in one] != [draw.index for draw in two]
    other = GlobalBatchSampler(11, 2, seed=4)
    assert [draw.index for draw in other] != [draw.index for draw in one]


def test_everything_is_seen_equally_often_in_the_long_run() -> None:
    seen = Counter(
        draw.index for epoch in range(200) for batch in global_batches(7, 3, 1, Position(epoch=epoch)) for draw in batch
    )
    # 6 of 7 clips an epoch: 171 on average, standard deviation 5
    assert all(150 < seen[index] < 192 for index in range(7))


@given(st.integers(1, 30), st.sampled_from([1, 2, 4]))
def test_validation_holds_every_clip_and_as_many_steps_everywhere(n_clips: int, world_size: int) -> None:
    options = {"is_shuffled": False, "is_last_dropped": False}
    samplers = [
        GlobalBatchSampler(n_clips, 4, rank=rank, world_size=world_size, **options) for rank in range(world_size)
    ]
    shares = [[draw.index for draw in sampler] for sampler in samplers]
    assert len({len(share) for share in shares}) == 1
    assert all(len(sampler) == len(shares[0]) for sampler in samplers)
    assert set().union(*shares) == set(range(n_clips))
    assert sum(map(len, shares)) - n_clips < world_size
    if world_size == 1:
        assert shares[0] == list(range(n_clips))


def test_stream_goes_on_over_the_end_of_an_epoch() -> None:
    sampler = GlobalBatchSampler(6, 2, seed=1)
    first, second = ([[(e, i) for i in sampler.order(e)[s : s + 2]] for s in (0, 2, 4)] for e in (0, 1))
    sampler.start = Position(epoch=0, n_batches=2)
    draws = [(draw.epoch, draw.index) for draw in sampler]
    assert draws == first[2] + second[0] + second[1]
    assert sampler.after(Position(0, 2), 5) == Position(2, 1)


def test_overfitting_repeats_the_first_batches() -> None:
    sampler = GlobalBatchSampler(8, 2, is_shuffled=False, n_used=2)
    assert [draw.index for draw in sampler] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_loader_counts_what_was_taken_and_goes_on_there() -> None:
    def loader() -> ResumableLoader:
        return ResumableLoader(Numbers(), GlobalBatchSampler(7, 2, seed=5), torch.stack)

    whole = loader()
    stream = [batch.tolist() for _ in range(3) for batch in whole]
    assert whole.state_dict() == {"epoch": 3, "n_batches": 0, "n_clips": 7, "batch_size": 2, "seed": 5}

    one = loader()
    taken = [batch.tolist() for batch in one]
    batches = iter(one)
    taken += [next(batches).tolist() for _ in range(2)]
    assert (one.state_dict()["epoch"], one.state_dict()["n_batches"]) == (1, 2)
    two = loader()
    two.load_state_dict(one.state_dict())
    taken += [batch.tolist() for batch in two]
    assert taken == stream[:8]


def test_resuming_in_mid_epoch_of_other_data_is_refused() -> None:
    loader = ResumableLoader(Numbers(), GlobalBatchSampler(9, 2), torch.stack)
    state = {"epoch": 1, "n_batches": 1, "n_clips": 7, "batch_size": 2, "seed": 0}
    with pytest.raises(PaLibError, match="n_clips 7 then and 9 now"):
        loader.load_state_dict(state)
    loader.load_state_dict({**state, "n_batches": 0})  # between epochs, data may grow
    assert loader.state_dict()["epoch"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clips": 10, "batch_size": 3, "world_size": 2}, "does not divide among 2"),
        ({"n_clips": 2, "batch_size": 3}, "has 2 clips, expected at least 3"),
        ({"n_clips": 2, "batch_size": 0}, "batch_size 0"),
        ({"n_clips": 2, "batch_size": 2, "rank": 2, "world_size": 2}, "process 2 of 2"),
        ({"n_clips": 2, "batch_size": 2, "seed": -1}, "seed: got -1, expected a whole number from 0 to 4294967295"),
    ],
)
def test_wrong_settings_get_one_clear_line(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(PaLibError, match=message) as caught:
        GlobalBatchSampler(**arguments)
    assert "\n" not in str(caught.value)


def test_random_numbers_of_a_clip_hang_on_seed_clip_and_epoch_alone() -> None:
    def numbers(seed: int, index: int, epoch: int) -> tuple[float, ...]:
        return tuple(torch.rand(4, generator=clip_generator(seed, Draw(index, epoch))).tolist())

    torch.manual_seed(1)
    first = numbers(1, 2, 3)
    torch.rand(1)
    assert numbers(1, 2, 3) == first
    assert len({numbers(s, i, e) for s in range(4) for i in range(4) for e in range(4)}) == 64
