"""Composed scenes to learn outlines from: of one person, among others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pa_lib.contracts import AbstractBatch, OutlineBatch
from pa_lib.data.base import AbstractClipSet, AbstractDataModule, Loading
from pa_lib.data.index import FileTree
from pa_lib.data.outline_pieces import Pieces
from pa_lib.data.outline_scenes import SceneComposer
from pa_lib.data.sampling import Draw, clip_generator
from pa_lib.errors import SettingError

_STRIDE = 16  # the network's


class OutlineSample(NamedTuple):
    """The crops of one composed scene; see `contracts.OutlineBatch`."""

    planes: Float[Tensor, "n c s s"]
    labels: Int64[Tensor, "n s s"]
    clip_id: int


def collate_outlines(samples: Sequence[OutlineSample]) -> OutlineBatch:
    """The crops of all scenes as one batch."""
    return OutlineBatch(
        torch.cat([sample.planes for sample in samples]),
        torch.cat([sample.labels for sample in samples]),
        torch.tensor([sample.clip_id for sample in samples for _ in sample.labels], dtype=torch.int64),
    )


class OutlineSet(AbstractClipSet):
    """Scenes by number: each is composed when it is asked for, in training otherwise in every epoch."""

    def __init__(self, composer: SceneComposer, n_clips: int, n_crops: int, seed: int) -> None:
        self.composer, self.n_clips, self.n_crops, self.seed = composer, n_clips, n_crops, seed

    def __len__(self) -> int:
        """Number of scenes in an epoch."""
        return self.n_clips

    def sample(self, draw: Draw) -> OutlineSample:
        """The crops of one scene."""
        generator = clip_generator(self.seed, draw)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        crops = self.composer(rng, self.n_crops)
        planes, labels = (np.stack(one) for one in zip(*crops, strict=True))
        return OutlineSample(torch.from_numpy(planes), torch.from_numpy(labels).long(), draw.index)


class OutlineDataModule(AbstractDataModule):
    """Scenes of composed people, with the exact outline of each of them. Held out by the pieces' own split.

    Args:
        path: The pieces: a folder, or a zip of one; see `pa_lib.data.outline_pieces.Pieces` for the layout, and
            ``tools/pack_outline_pieces.py``, which makes them.
        side: Side of the crops in pixels, a multiple of 16.
        n_clips: Number of scenes in an epoch; `batch_size` counts scenes, too.
        n_crops: Number of crops of each scene: composing takes longer than cropping.
        n_held_out: Number of scenes that are validated, one crop each.
        real_p: Share of the crops that ask for a person of an annotated photograph, in [0, 1].
        believed_p: Share of the crops with an outline that is believed to be true, as from the frame before, in [0, 1].
        loading: See `AbstractDataModule`.

    Raises:
        SettingError: A number out of range.
        InputError: The pieces lack an index, or one of their kinds.
    """

    collate: ClassVar[Callable[[Sequence[Any]], AbstractBatch]] = staticmethod(collate_outlines)

    def __init__(
        self,
        path: str | Path,
        *,
        side: int = 128,
        n_clips: int = 8_000,
        n_crops: int = 3,
        n_held_out: int = 192,
        real_p: float = 0.15,
        believed_p: float = 0.5,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if side < _STRIDE or side % _STRIDE:
            raise SettingError(f"side {side} of outlines: expected a multiple of {_STRIDE}")
        for number, value, least in (("n_clips", n_clips, 1), ("n_crops", n_crops, 1), ("n_held_out", n_held_out, 0)):
            if value < least:
                raise SettingError(f"{number} {value} of outlines: expected at least {least}")
        for name, share in (("real_p", real_p), ("believed_p", believed_p)):
            if not 0 <= share <= 1:
                raise SettingError(f"{name} {share}: expected a share in [0, 1]")
        self.path, self.side = path, side
        self.n_clips, self.n_crops, self.n_held_out = n_clips, n_crops, n_held_out
        self.real_p, self.believed_p = real_p, believed_p

    def make_sets(self) -> tuple[OutlineSet, OutlineSet | None]:
        """Training crops, composed of training pieces, and held-out ones."""
        tree = FileTree(self.path)
        made = {
            split: SceneComposer(Pieces(tree, split), self.side, self.real_p, self.believed_p)
            for split in ("train", "val")[: 2 if self.n_held_out else 1]
        }
        held_out = OutlineSet(made["val"], self.n_held_out, 1, self.split_seed) if self.n_held_out else None
        return OutlineSet(made["train"], self.n_clips, self.n_crops, self.seed), held_out
