"""Batches of P people with K clips each."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.data import IdentityBatchSampler, Position, SyntheticDataModule
from pa_lib.errors import InputError, SettingError


@st.composite
def settings(draw: st.DrawFn) -> tuple[list[int], int, int, int]:
    """Clips of at least P people in any order, some of unknown ones, and P, K, and a number of processes."""
    n_people, n_instances = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 9), min_size=n_people, max_size=n_people + 6))
    clips = [person * 3 for person, size in enumerate(sizes) for _ in range(size)] + [-1] * draw(st.integers(0, 3))
    divisors = [n for n in (1, 2, 3, 4, 6) if n_people * n_instances % n == 0]
    return draw(st.permutations(clips)), n_people, n_instances, draw(st.sampled_from(divisors))


def batches(sampler: IdentityBatchSampler) -> list[list[int]]:
    clips = [draw.index for draw in sampler]
    return [clips[i : i + sampler.local_size] for i in range(0, len(clips), sampler.local_size)]


@given(settings(), st.integers(0, 3))
def test_every_batch_has_p_people_with_k_clips_each(case: tuple[list[int], int, int, int], epoch: int) -> None:
    identities, n_people, n_instances, _ = case
    sampler = IdentityBatchSampler(identities, n_people * n_instances, n_instances=n_instances, seed=1)
    sampler.start = Position(epoch=epoch)
    sizes = Counter(identities)
    for batch in batches(sampler):
        people = Counter(identities[clip] for clip in batch)
        assert -1 not in people
        assert sorted(people.values()) == [n_instances] * n_people
        for person in people:
            different = {clip for clip in batch if identities[clip] == person}
            assert len(different) == min(n_instances, sizes[person])  # repeated only where there are too few


@given(settings())
def test_epoch_repeats_no_clip_that_it_need_not_and_has_no_fewer_batches_than_it_can(
    case: tuple[list[int], int, int, int],
) -> None:
    identities, n_people, n_instances, _ = case
    sampler = IdentityBatchSampler(identities, n_people * n_instances, n_instances=n_instances)
    sizes = Counter(identity for identity in identities if identity >= 0)
    seen = Counter(draw.index for draw in sampler)
    assert all(n == 1 for clip, n in seen.items() if sizes[identities[clip]] >= n_instances)
    # One batch more would need more groups of different people than there are.
    more = sampler.n_batches + 1
    assert sum(min(max(1, size // n_instances), more) for size in sizes.values()) < more * n_people


@given(settings(), st.integers(0, 2), st.integers(0, 5))
def test_step_sees_the_same_clips_on_any_number_of_processes_and_from_any_place(
    case: tuple[list[int], int, int, int], epoch: int, n_batches: int
) -> None:
    identities, n_people, n_instances, world_size = case
    samplers = [
        IdentityBatchSampler(
            identities, n_people * n_instances, n_instances=n_instances, rank=rank, world_size=world_size, seed=2
        )
        for rank in range(world_size)
    ]
    whole = IdentityBatchSampler(identities, n_people * n_instances, n_instances=n_instances, seed=2)
    n_batches %= whole.n_batches
    for sampler in samplers:
        sampler.start = Position(epoch, n_batches)
    shares = [batches(sampler) for sampler in samplers]
    together = [[clip for share in step for clip in share] for step in zip(*shares, strict=True)]
    size = n_people * n_instances
    stream = whole.order(epoch)[n_batches * size :] + whole.order(epoch + 1)[: n_batches * size]
    assert [clip for batch in together for clip in batch] == stream


def test_epochs_and_seeds_differ_and_everybody_has_a_turn() -> None:
    identities = [person for person in range(9) for _ in range(4)] + [9]
    sampler = IdentityBatchSampler(identities, 6, n_instances=2, seed=3)
    assert sampler.order(0) != sampler.order(1) != IdentityBatchSampler(identities, 6, n_instances=2, seed=4).order(1)
    seen = Counter(clip for epoch in range(200) for clip in sampler.order(epoch))
    assert len(seen) == 37
    # 18 groups and one more, of which 18 have a place: a clip is left out of one epoch in 19, the last one repeats.
    assert all(160 < seen[clip] <= 200 for clip in range(36))
    partners = {frozenset(identities[clip] for clip in sampler.order(epoch)[:6]) for epoch in range(100)}
    assert len(partners) > 40


def test_data_module_draws_them_and_resumes() -> None:
    def data(n_instances: int | None = 2) -> SyntheticDataModule:
        return SyntheticDataModule(
            n_clips=40, n_frames=1, side=16, n_identities=8, batch_size=6, n_instances=n_instances, val_share=0
        )

    uninterrupted = data()
    whole = [batch.clip_ids for _ in range(2) for batch in uninterrupted.train_dataloader()]
    for clip_ids in whole:
        assert sorted(Counter((clip_ids % 8).tolist()).values()) == [2, 2, 2]
    first = data()
    loader = iter(first.train_dataloader())
    taken = [next(loader).clip_ids for _ in range(2)]
    rest = data()
    rest.load_state_dict(first.state_dict())
    taken += [batch.clip_ids for batch in rest.train_dataloader()]
    assert torch.equal(torch.stack(taken), torch.stack(whole[: len(taken)]))
    other = data(3)
    other.load_state_dict(first.state_dict())
    with pytest.raises(SettingError, match="n_instances 2 then and 3 now"):
        other.train_dataloader()


def test_wrong_settings_get_one_clear_line() -> None:
    with pytest.raises(SettingError, match="n_instances 3: expected a divisor of batch_size 8"):
        IdentityBatchSampler([0, 1], 8, n_instances=3)
    with pytest.raises(InputError, match="has 2 known people, expected 4"):
        IdentityBatchSampler([0, 0, 5, -1, -1], 8, n_instances=2)
