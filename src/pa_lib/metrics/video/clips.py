"""From updates to features of clips: what the distances between sets of videos share."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.pixels import as_unit
from pa_lib.pretrained.features.base import AbstractVideoFeatures

Region = Literal["frame", "masks"]
MARGIN = 1.5  # side of the square over that of the masks' box: some of the surroundings, as people detectors see them


@dataclass(frozen=True)
class ClipCutter:
    """Cuts rows of frames into clips that do not overlap.

    Args:
        clip_frames: Frames of a clip.
        stride: Every how many frames one is taken.
        region: ``frame``, or ``masks``: the square around all that is masked in the clip, 1.5 times its size, moved
            into the frame where it reaches beyond.

    Raises:
        ValueError: No frames, no stride, or an unknown region.
    """

    clip_frames: int
    stride: int
    region: Region

    def __post_init__(self) -> None:
        if self.clip_frames < 1 or self.stride < 1:
            raise ValueError(f"clip_frames is {self.clip_frames} and stride {self.stride}, expected at least 1 of both")
        if self.region not in ("frame", "masks"):
            raise ValueError(f"region is {self.region!r}, expected frame or masks")

    @property
    def span(self) -> int:
        """How many frames of the video a clip reaches over."""
        return (self.clip_frames - 1) * self.stride + 1

    def protocol(self) -> dict[str, Any]:
        """How clips are cut; the beginning of a metric's own protocol."""
        region = "whole frame" if self.region == "frame" else f"square around the masks, {MARGIN:g} times their box"
        return {
            "clip_frames": self.clip_frames,
            "stride": self.stride,
            "clips": "one after the other without overlap; shorter pieces are left out and counted",
            "region": region,
        }

    def n_clips(self, n_frames: int) -> int:
        """How many clips so many frames give."""
        return n_frames // self.span

    def places(self, n_frames: int) -> Iterator[slice]:
        """Where in a row the clips are."""
        for at in range(self.n_clips(n_frames)):
            yield slice(at * self.span, (at + 1) * self.span, self.stride)

    def crop(self, masks: Float[Tensor, "t 1 h w"]) -> tuple[slice, slice] | None:
        """Rows and columns of the square around the masks of one clip; None where nothing is masked."""
        spans = bounding_box(masks.amax((0, 1)))
        if spans is None:
            return None
        side = round(MARGIN * max(span.stop - span.start for span in spans))
        slices = []
        for span, size in zip(spans, masks.shape[-2:], strict=True):
            length = min(side, size)
            first = min(max((span.start + span.stop - length) // 2, 0), size - length)
            slices.append(slice(first, first + length))
        return slices[0], slices[1]


@dataclass(frozen=True)
class FeatureRows:
    """Features of the clips of one update.

    Args:
        rows: float64; a sampling key, the clip id, then the features before and after.
        n_short: Pieces shorter than a clip: rows without one clip, and what is left at the end of rows.
        n_unmasked: Clips without a masked pixel, left out where the region is the masks'.
    """

    rows: Float[Tensor, "n k"]
    n_short: int
    n_unmasked: int


def feature_rows(
    network: AbstractVideoFeatures,
    cutter: ClipCutter,
    source: Tensor,
    anonymized: Tensor,
    masks: Tensor | None,
    clip_ids: Tensor,
    context: int,
) -> FeatureRows:
    """Features of all clips in the new frames of an update.

    Raises:
        ValueError: Shapes do not fit, or masks are missing where the region needs them.
    """
    _check(source, anonymized, masks, clip_ids, context, cutter.region)
    seen = tuple(part for part in (source, anonymized, masks) if part is not None)
    if any(part.is_inference() for part in seen):  # nobody counts what is written into such tensors
        return _feature_rows(network, cutter, source, anonymized, masks, clip_ids, context)
    asked = (cutter, tuple(clip_ids.tolist()), context, *(part._version for part in seen))
    last = _LAST.get(network)
    if last is not None and last.asked == asked and _are_same(last.seen, seen):
        return last.answer
    answer = _feature_rows(network, cutter, source, anonymized, masks, clip_ids, context)
    _LAST[network] = _Answer(asked, tuple(weakref.ref(part) for part in seen), answer)
    return answer


@dataclass(frozen=True)
class _Answer:
    asked: tuple[Any, ...]
    seen: tuple[weakref.ref[Tensor], ...]
    answer: FeatureRows


# What each network was asked last: metrics that share a network and see the same batch pay for it once.
_LAST: weakref.WeakKeyDictionary[AbstractVideoFeatures, _Answer] = weakref.WeakKeyDictionary()


def _are_same(known: tuple[weakref.ref[Tensor], ...], seen: tuple[Tensor, ...]) -> bool:
    return len(known) == len(seen) and all(ref() is part for ref, part in zip(known, seen, strict=True))


def _feature_rows(
    network: AbstractVideoFeatures,
    cutter: ClipCutter,
    source: Tensor,
    anonymized: Tensor,
    masks: Tensor | None,
    clip_ids: Tensor,
    context: int,
) -> FeatureRows:
    before, after = as_unit(source[:, context:]), as_unit(anonymized[:, context:])
    n_new = before.shape[1]
    rows, n_unmasked = [], 0
    for row, clip_id in enumerate(clip_ids.tolist()):
        for place in cutter.places(n_new):
            box = (slice(None), slice(None))
            if cutter.region == "masks":
                assert masks is not None
                found = cutter.crop(masks[row, context:][place])
                if found is None:
                    n_unmasked += 1
                    continue
                box = found
            # One clip at a time: the last digits of a network's answer hang on how many share its pass, and figures
            # must not hang on batches.
            pair = [network(frames[row, place][None, ..., box[0], box[1]])[0] for frames in (before, after)]
            rows.append(_with_keys(clip_id, *(part.detach().cpu().double() for part in pair)))
    is_rest = n_new % cutter.span != 0
    width = 2 + 2 * network.n_dimensions
    joined = torch.stack(rows) if rows else torch.zeros(0, width, dtype=torch.float64)
    return FeatureRows(joined, len(clip_ids) if is_rest else 0, n_unmasked)


def smallest_keys(rows: Float[Tensor, "n k"], most: int) -> Float[Tensor, "m k"]:
    """At most so many rows, those with the smallest keys, in the order of clip ids and keys.

    Keys are hashes of the features, so this is a fair draw that is the same whatever order rows came in, also when
    the rows of several processes were drawn from before they were joined.
    """
    by_key = torch.argsort(rows[:, 0], stable=True)[:most]
    rows = rows[by_key]
    return rows[torch.argsort(rows[:, 1], stable=True)]


def numbered(clip_ids: Tensor | None, n_rows: int, first: int) -> Tensor:
    """The given ids, or new ones from `first` on, with room for 2^40 in each process."""
    if clip_ids is not None:
        return clip_ids
    rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
    return torch.arange(n_rows, dtype=torch.int64) + (first + (rank << 40))


def _with_keys(clip_id: int, before: Float[Tensor, " d"], after: Float[Tensor, " d"]) -> Float[Tensor, " k"]:
    features = torch.cat([before, after])
    digest = hashlib.sha256(features.numpy().tobytes()).digest()
    key = int.from_bytes(digest[:6], "big")  # 48 bits: exact in a float64
    return torch.cat([torch.tensor([key, clip_id], dtype=torch.float64), features])


def _check(
    source: Tensor, anonymized: Tensor, masks: Tensor | None, clip_ids: Tensor, context: int, region: Region
) -> None:
    if source.ndim != 5 or source.shape[2] != 3 or source.shape != anonymized.shape:
        shapes = f"{tuple(source.shape)} and {tuple(anonymized.shape)}"
        raise ValueError(f"source and anonymized have shapes {shapes}, expected b t 3 h w, the same for both")
    b, t, _, h, w = source.shape
    if tuple(clip_ids.shape) != (b,):
        raise ValueError(f"clip_ids has shape {tuple(clip_ids.shape)}, expected {(b,)}")
    if not 0 <= context <= t:
        raise ValueError(f"context is {context}, expected 0 to {t}, the number of frames")
    if region == "masks":
        if masks is None:
            raise ValueError("no masks given, and the region is theirs; give masks, or set region to frame")
        if tuple(masks.shape) != (b, t, 1, h, w):
            raise ValueError(f"masks have shape {tuple(masks.shape)}, expected {(b, t, 1, h, w)}")
