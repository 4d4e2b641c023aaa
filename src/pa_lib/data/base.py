"""What all data modules share: clips to batches, loaders for any number of processes, and a place in a checkpoint."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypedDict

import torch
from jaxtyping import Float
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from pa_lib.contracts import AbstractBatch, Batch
from pa_lib.data.identity_sampling import IdentityBatchSampler
from pa_lib.data.sampling import ClipLoader, Draw, GlobalBatchSampler, ResumableLoader
from pa_lib.errors import InputError, SettingError
from pa_lib.setting_types import check_arguments, checked_seed


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip of one person, as a data set gives it.

    Args:
        frames: The frames, shape t 3 h w, float32 in [0, 1].
        mask: The person's mask, shape t 1 h w, float32 in [0, 1], 1 = the person.
        clip_id: The clip's number in its data set.
        identity: Number of the person, -1 if unknown; None where the data has no identities.
        prompt: Description of the clip; None where the data has none.
        flow: Optical flow from each frame to the next in pixels, shape t-1 2 h w; see `contracts.Batch`.
        reference: Picture to go by of what is hidden, shape t 4 h w; see `contracts.Batch`.
    """

    frames: Float[Tensor, "t 3 h w"]
    mask: Float[Tensor, "t 1 h w"]
    clip_id: int
    identity: int | None = None
    prompt: str | None = None
    flow: Float[Tensor, "t-1 2 h w"] | None = None
    reference: Float[Tensor, "t 4 h w"] | None = None


class AbstractClipSet(Dataset[Any], ABC):
    """Clips by number. Everything random in a clip depends on the seed, its number and the epoch, and nothing else.

    Attributes:
        identities: The person in each clip, by number; -1 if unknown. None where the data has no identities.
    """

    identities: Sequence[int] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of clips."""

    @abstractmethod
    def sample(self, draw: Draw) -> Any:
        """One clip: a `Sample`, or what the `collate` of its data module takes."""

    def __getitem__(self, draw: Draw | int) -> Any:
        """One clip; a bare number stands for the first epoch."""
        return self.sample(draw if isinstance(draw, Draw) else Draw(range(len(self))[draw], 0))


def collate(samples: Sequence[Sample]) -> Batch:
    """Clips of one data set, stacked.

    Raises:
        InputError: Clips of different sizes, or of which only some have identities, prompts, flow or a reference.
    """
    shapes = {tuple(sample.frames.shape) for sample in samples}
    if len(shapes) > 1:
        raise InputError(f"clips of shapes {sorted(shapes)} in one batch: expected one size; set side and n_frames")
    return Batch(
        torch.stack([sample.frames for sample in samples]),
        torch.stack([sample.mask for sample in samples]),
        torch.tensor([sample.clip_id for sample in samples], dtype=torch.int64),
        identities=_stacked([sample.identity for sample in samples], "identities"),
        prompts=_all_or_none([sample.prompt for sample in samples], "prompts"),
        flow=_stacked([sample.flow for sample in samples], "flow"),
        reference=_stacked([sample.reference for sample in samples], "a reference"),
    )


class Loading(TypedDict, total=False):
    """Keyword arguments that every data module hands on to `AbstractDataModule`, which describes them."""

    batch_size: int
    n_workers: int
    n_instances: int | None
    seed: int
    split_seed: int
    val_share: float


class _Share(TypedDict):
    rank: int
    world_size: int


class AbstractDataModule(LightningDataModule, ABC):
    """Loaders whose batches do not depend on the number of processes and workers, and that resume in mid-epoch.

    With a trainer, `batch_size` is divided among its processes; without one, the loaders are those of a single process.
    `state_dict` holds how many batches the training has taken; after `load_state_dict` the train loader goes on with
    those that would have come. `setup` for a fit begins again, a further call of `train_dataloader` goes on.

    Args:
        batch_size: Number of clips that all processes together see in one step, >= 1.
        n_workers: Number of processes that make clips, per training process; 0 = the training process itself.
        n_instances: Number of clips of each person in a training batch, for losses between clips of the same person;
            must divide `batch_size`. None = clips are drawn one by one.
        seed: Seed of the order and of everything random in training clips, >= 0.
        split_seed: Seed of the split and of everything random in held-out clips, >= 0. Runs with different seeds are
            compared on the same held-out clips as long as this one stays.
        val_share: Share of the data that is held out for validation, in [0, 1); 0 = no validation.

    Attributes:
        collate: Makes a batch of a list of clips. A function of a module, since workers are sent it.
    """

    collate: ClassVar[Callable[[Sequence[Any]], AbstractBatch]] = staticmethod(collate)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the types of plain arguments."""
        check_arguments(cls, args, kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        batch_size: int = 8,
        n_workers: int = 0,
        n_instances: int | None = None,
        seed: int = 0,
        split_seed: int = 0,
        val_share: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("n_workers", n_workers, 0)):
            if value < least:
                raise SettingError(f"{name} {value}: expected at least {least}")
        if not 0 <= val_share < 1:
            raise SettingError(f"val_share {val_share}: expected a share in [0, 1)")
        self.batch_size = batch_size
        self.n_workers = n_workers
        self.n_instances = n_instances
        self.seed = checked_seed(seed)
        self.split_seed = checked_seed(split_seed, "split_seed")
        self.val_share = val_share
        self._sets: tuple[AbstractClipSet, AbstractClipSet | None] | None = None
        self._loader: ResumableLoader | None = None
        self._resumed: dict[str, int] | None = None

    @abstractmethod
    def make_sets(self) -> tuple[AbstractClipSet, AbstractClipSet | None]:
        """Training and held-out clips; None where nothing is held out."""

    @property
    def train_set(self) -> AbstractClipSet:
        """The clips of the training side of the split."""
        return self._made()[0]

    @property
    def val_set(self) -> AbstractClipSet | None:
        """The held-out clips; None where nothing is held out."""
        return self._made()[1]

    def setup(self, stage: str | None = None) -> None:
        """Read the data; a new fit begins at its beginning, and a checkpoint that is resumed is loaded after this."""
        self._made()
        if stage in (None, "fit"):
            self._loader = self._resumed = None

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled; clips at the end of an epoch that do not fill a global batch are left out.

        Raises:
            InputError: Fewer clips, or people, than a batch needs.
            SettingError: A batch that does not divide among the processes, or a checkpoint from within an epoch of
                other data.
        """
        clips = self.train_set
        loader = ResumableLoader(clips, self._train_sampler(clips), type(self).collate, self.n_workers)
        state = self._resumed if self._loader is None else self._loader.state_dict()
        if state is not None:
            loader.load_state_dict(state)
        self._loader = loader
        return loader

    def val_dataloader(self) -> ClipLoader | list[Any]:
        """Every held-out clip once, in order and the same every time; an empty list where nothing is held out."""
        clips = self.val_set
        if clips is None:
            return []
        sampler = GlobalBatchSampler(
            len(clips), self.batch_size, **self._share(), is_shuffled=False, is_last_dropped=False
        )
        return ClipLoader(clips, sampler, type(self).collate, self.n_workers)

    def state_dict(self) -> dict[str, Any]:
        """Number of epochs and batches that the training has taken, and of what data."""
        if self._loader is not None:
            return dict(self._loader.state_dict())
        return dict(self._resumed or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next train loader go on there."""
        self._resumed = {name: int(value) for name, value in state_dict.items()} or None
        self._loader = None

    def _made(self) -> tuple[AbstractClipSet, AbstractClipSet | None]:
        if self._sets is None:
            self._sets = self.make_sets()
        return self._sets

    def _train_sampler(self, clips: AbstractClipSet) -> GlobalBatchSampler:
        overfit: float = getattr(self.trainer, "overfit_batches", 0)  # a number of batches, or a share
        n_used = overfit if isinstance(overfit, int) else int(overfit * (len(clips) // self.batch_size))
        share = self._share()
        if self.n_instances is None:
            return GlobalBatchSampler(len(clips), self.batch_size, **share, seed=self.seed, n_used=n_used or None)
        if clips.identities is None:
            raise SettingError(
                f"n_instances {self.n_instances}: the data knows no identities; set n_instances to null, or name people"
            )
        return IdentityBatchSampler(
            clips.identities,
            self.batch_size,
            n_instances=self.n_instances,
            **share,
            seed=self.seed,
            n_used=n_used or None,
        )

    def _share(self) -> _Share:
        """Rank and size in the data-parallel group: with tensor parallelism several processes see the same clips."""
        trainer = self.trainer
        group = (trainer.distributed_sampler_kwargs if trainer is not None else None) or {}
        return {"rank": int(group.get("rank", 0)), "world_size": int(group.get("num_replicas", 1))}


def held_out(groups: Iterable[str], share: float, seed: int) -> set[str]:
    """The groups that are held out: drawn by name, so that data added later moves few of the others.

    Whole groups (a person, a video) go to one side: no person is on both. With a share above 0 and two groups or more,
    both sides get at least one.
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    if share == 0 or len(names) < 2:
        return set()
    return set(names[: min(max(1, math.floor(share * len(names) + 0.5)), len(names) - 1)])


def _stacked(values: Sequence[Any], name: str) -> Tensor | None:
    known = _all_or_none(values, name)
    if known is None:
        return None
    return torch.stack(known) if isinstance(known[0], Tensor) else torch.tensor(known, dtype=torch.int64)


def _all_or_none(values: Sequence[Any], name: str) -> tuple[Any, ...] | None:
    n_known = sum(value is not None for value in values)
    if n_known not in (0, len(values)):
        raise InputError(f"{n_known} of {len(values)} clips have {name}: expected all or none of a batch")
    return tuple(values) if n_known else None
