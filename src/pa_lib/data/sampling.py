"""The order of clips: the same for any number of processes and workers, and again after a restart in mid-epoch.

The order of an epoch is a function of (seed, epoch) alone. It is cut into *global* batches, and each process takes its
share of every one, so that step s sees the same clips on one process as on eight. What is drawn at random within a clip
depends on (seed, clip, epoch): a `Draw` carries the epoch to wherever the clip is made, so workers need no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from pa_lib.errors import InputError, SettingError
from pa_lib.functional.draws import generator_of
from pa_lib.setting_types import checked_seed


@dataclass(frozen=True, slots=True)
class Draw:
    """A request to a data set for one clip.

    Args:
        index: Number of the clip, from 0.
        epoch: Number of the pass over the data, from 0.
    """

    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream of training batches.

    Args:
        epoch: Number of complete passes over the data.
        n_batches: Number of global batches of the present pass that were handed out.
    """

    epoch: int = 0
    n_batches: int = 0


def clip_generator(seed: int, draw: Draw) -> torch.Generator:
    """A generator of the random numbers of one clip in one epoch, on the CPU; the same in every process.

    Raises:
        SettingError: The seed is out of range.

    >>> a, b = (clip_generator(1, Draw(7, 0)) for _ in range(2))
    >>> bool(torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b)))
    True
    """
    return generator_of(checked_seed(seed), draw.epoch, draw.index)


class GlobalBatchSampler(DistributedSampler[Draw], SequentialSampler):
    """One process's share of every global batch, in an order fixed by (seed, epoch), from any batch on.

    With `order` the clips of an epoch, B the global batch size and W the number of processes, process r gets
    ``order[s B + r B / W : s B + (r + 1) B / W]`` in step s: the shares of all processes, one after the other, are the
    global batch. Each iteration gives as many batches as an epoch has, from `start` on and over the end of an epoch
    where `start` lies within one: the stream of batches is one, wherever a training loop believes its epochs to end.
    It counts as a `DistributedSampler` and a `SequentialSampler` only so that Lightning leaves it in place, on several
    processes and with `overfit_batches`.

    Args:
        n_clips: Number of clips in the data set.
        batch_size: Number of clips in a global batch, >= 1: those of all processes together in one step.
        rank: Number of this process, from 0.
        world_size: Number of processes; must divide `batch_size`.
        seed: Seed of the order, >= 0.
        is_shuffled: Whether the order changes with every epoch; False = always by number.
        is_last_dropped: Whether the clips at the end of an epoch that do not fill a global batch are left out. True,
            for training: other clips are left out in each epoch, and every step weighs the same. False, for
            validation: the last batch is smaller, and where it does not divide either, its first clips are repeated for
            the last processes, so that all make the same number of steps; on one process every clip comes exactly once.
        n_used: Number of batches of the order that are used before the next epoch begins, to fit a few clips on
            purpose; None = all.

    Raises:
        SettingError: The number of processes does not divide the batch.
        InputError: The data does not fill one batch.

    >>> [draw.index for draw in GlobalBatchSampler(5, 2, is_shuffled=False)]
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        n_clips: int,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        is_shuffled: bool = True,
        is_last_dropped: bool = True,
        n_used: int | None = None,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise SettingError(
                f"batch_size {batch_size}, process {rank} of {world_size}: expected 1 or more, and a process of these"
            )
        if batch_size % world_size:
            raise SettingError(
                f"batch_size {batch_size} is of all processes together and does not divide among {world_size}; "
                f"set it to a multiple of {world_size}"
            )
        least = batch_size if is_last_dropped else 1
        if n_clips < least:
            raise InputError(
                f"the data set has {n_clips} clips, expected at least {least}; give more data or a smaller batch_size"
            )
        DistributedSampler.__init__(
            self,
            range(n_clips),  # type: ignore[arg-type]  # only its length is looked at
            num_replicas=world_size,
            rank=rank,
            shuffle=False,
            seed=checked_seed(seed),
            drop_last=is_last_dropped,
        )
        self.n_clips = n_clips
        self.batch_size = batch_size
        self.is_shuffled = is_shuffled
        self.n_batches = n_clips // batch_size if is_last_dropped else -(-n_clips // batch_size)
        self.n_used = min(n_used or self.n_batches, self.n_batches)
        self.start = Position()

    @property
    def local_size(self) -> int:
        """Number of clips in a batch of this process."""
        return self.batch_size // self.num_replicas

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: `start` is where to go on. Lightning counts an epoch that `max_steps` cut short as complete."""

    def after(self, start: Position, n: int) -> Position:
        """The position `n` batches later."""
        epochs, n_batches = divmod(start.n_batches + n, self.n_used)
        return Position(epoch=start.epoch + epochs, n_batches=n_batches)

    def order(self, epoch: int) -> list[int]:
        """All clips of an epoch, in the order in which all processes together get them."""
        if not self.is_shuffled:
            return list(range(self.n_clips))
        order: list[int] = np.random.default_rng((self.seed, epoch)).permutation(self.n_clips).tolist()
        return order

    def __iter__(self) -> Iterator[Draw]:  # type: ignore[override]
        epoch, step = self.start.epoch, self.start.n_batches
        order = self.order(epoch)
        for _ in range(self.n_batches):
            if step == self.n_used:
                epoch, step = epoch + 1, 0
                order = self.order(epoch)
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            batch += [batch[i % len(batch)] for i in range(-len(batch) % self.num_replicas)]
            share = len(batch) // self.num_replicas
            yield from (Draw(index, epoch) for index in batch[self.rank * share : (self.rank + 1) * share])
            step += 1

    def settings(self) -> dict[str, int]:
        """What the order depends on: a checkpoint in mid-epoch is of use only where these are the same."""
        return {"n_clips": self.n_clips, "batch_size": self.batch_size, "seed": self.seed}

    def __len__(self) -> int:
        """Number of clips of this process in a whole epoch."""
        whole, rest = divmod(self.n_clips, self.batch_size)
        return whole * self.local_size + (0 if self.drop_last else -(-rest // self.num_replicas))


class ClipLoader(DataLoader[Any]):
    """Batches of clips in the order of a `GlobalBatchSampler`, from its start whenever it is iterated.

    Args:
        dataset: Data set that maps a `Draw` to a clip.
        sampler: Sampler that gives the order.
        collate: Function that makes a batch of a list of clips.
        n_workers: Number of processes that make clips; 0 = the training process itself.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: GlobalBatchSampler,
        collate: Callable[[list[Any]], Any],
        n_workers: int = 0,
    ) -> None:
        # A fork of a process that runs threads may hang in its first parallel loop.
        start_method = "forkserver" if "forkserver" in torch.multiprocessing.get_all_start_methods() else "spawn"
        super().__init__(
            dataset,
            batch_size=sampler.local_size,
            sampler=sampler,
            num_workers=n_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=n_workers > 0,
            multiprocessing_context=start_method if n_workers else None,
            # The workers' base seed would otherwise be taken from, and change, the random numbers of the training.
            generator=torch.Generator().manual_seed(0),
        )
        self._clips = sampler


class ResumableLoader(ClipLoader):
    """A loader that knows how many batches it has handed out; the next iteration goes on from there.

    It counts what the training loop took, not what workers have made in advance.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: its first batch is made when it is taken, so an iterator that is not used costs nothing.
        start = self._clips.start
        for n, batch in enumerate(super().__iter__(), 1):
            self._clips.start = self._clips.after(start, n)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The position and what the order depends on, for a checkpoint."""
        return {**asdict(self._clips.start), **self._clips.settings()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on there. The number of processes and workers may have changed.

        Raises:
            SettingError: In the middle of an epoch of other data, or with another batch size or seed.
        """
        now = self._clips.settings()
        then = {name: state[name] for name in now if name in state}
        changed = [name for name, value in then.items() if value != now[name]]
        if state["n_batches"] and changed:
            differences = ", ".join(f"{name} {then[name]} then and {now[name]} now" for name in changed)
            raise SettingError(
                f"the checkpoint lies within an epoch ({state['n_batches']} batches done) of other data: "
                f"{differences}; resume with the same, or begin a new run from its weights"
            )
        self._clips.start = Position(epoch=state["epoch"], n_batches=state["n_batches"])
