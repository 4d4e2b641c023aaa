"""Batches of several clips of each of several people, as losses between clips of the same and of other people need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pa_lib.data.sampling import GlobalBatchSampler
from pa_lib.errors import InputError, SettingError


class IdentityBatchSampler(GlobalBatchSampler):
    """Global batches of P people with K clips each ("PK sampling").

    In every epoch the clips of each person are shuffled and cut into groups of K; a person with fewer than K clips has
    one group, in which clips repeat, and clips that do not fill a group are left out, others in each epoch. With c_i
    groups of person i, an epoch has as many batches as P groups of different people allow::

        m = the largest number with sum_i min(c_i, m) >= m P

    The groups (at most m of a person) are laid out person by person, in random order, and distributed to the m batches
    in turn: neighbours go to different batches, so no batch has two groups of one person. Clips of unknown people do
    not take part. Like every order it depends on (seed, epoch) alone, and processes take their shares of each batch.

    Source: the batches, A. Hermans, L. Beyer and B. Leibe, In Defense of the Triplet Loss for Person Re-Identification,
    2017; the distribution, McNaughton's wrap-around rule, 1959.

    Args:
        identities: Number of the person in each clip; -1 if unknown.
        batch_size: Number of clips in a global batch, P K.
        n_instances: Number of clips K of each person, >= 1; must divide `batch_size`.
        rank: Number of this process, from 0.
        world_size: Number of processes; must divide `batch_size`.
        seed: Seed of the order, >= 0.
        n_used: Number of batches that are used before the next epoch begins; None = all.

    Raises:
        SettingError: `n_instances` does not divide the batch.
        InputError: Fewer than P people are known.

    >>> sampler = IdentityBatchSampler([0, 0, 0, 1, 1, 2, 2, 2, 2], batch_size=4, n_instances=2)
    >>> len(list(sampler)) // 4, sorted({[0, 0, 0, 1, 1, 2, 2, 2, 2][draw.index] for draw in sampler})
    (2, [0, 1, 2])
    """

    def __init__(
        self,
        identities: Sequence[int],
        batch_size: int,
        *,
        n_instances: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        n_used: int | None = None,
    ) -> None:
        if n_instances < 1 or batch_size % n_instances:
            raise SettingError(
                f"n_instances {n_instances}: expected a divisor of batch_size {batch_size}, clips of each person"
            )
        clips: dict[int, list[int]] = {}
        for clip, identity in enumerate(identities):
            if identity >= 0:
                clips.setdefault(identity, []).append(clip)
        self._clips_of = [clips[identity] for identity in sorted(clips)]
        self.n_instances = n_instances
        self.n_people = batch_size // n_instances
        if len(self._clips_of) < self.n_people:
            raise InputError(
                f"the data set has {len(self._clips_of)} known people, expected {self.n_people} for batches of "
                f"{batch_size} clips, {n_instances} of each; give more data, a smaller batch_size or more n_instances"
            )
        n_batches = self._most_batches()
        super().__init__(n_batches * batch_size, batch_size, rank=rank, world_size=world_size, seed=seed, n_used=n_used)

    def order(self, epoch: int) -> list[int]:
        """All clips of an epoch, batch by batch, in a batch person by person."""
        random = np.random.default_rng((self.seed, epoch, self.n_instances))
        people = random.permutation(len(self._clips_of)).tolist()
        groups = [group for person in people for group in self._groups(person, random)]
        batches: list[list[int]] = [[] for _ in range(self.n_batches)]
        for place, group in enumerate(groups[: self.n_batches * self.n_people]):
            batches[place % self.n_batches] += group
        return [clip for batch in random.permutation(self.n_batches) for clip in batches[batch]]

    def settings(self) -> dict[str, int]:
        """What the order depends on."""
        return {**super().settings(), "n_instances": self.n_instances}

    def _groups(self, person: int, random: np.random.Generator) -> list[list[int]]:
        clips: list[int] = random.permutation(self._clips_of[person]).tolist()
        whole = [
            [clips[(first + i) % len(clips)] for i in range(self.n_instances)]
            for first in range(0, max(len(clips) - self.n_instances, 0) + 1, self.n_instances)
        ]
        return whole[: self.n_batches]

    def _most_batches(self) -> int:
        n_groups = np.array([max(1, len(clips) // self.n_instances) for clips in self._clips_of])
        low, high = 1, int(n_groups.sum()) // self.n_people
        while low < high:  # one batch is always possible, and where m are, fewer are
            middle = (low + high + 1) // 2
            if np.minimum(n_groups, middle).sum() >= middle * self.n_people:
                low = middle
            else:
                high = middle - 1
        return low
