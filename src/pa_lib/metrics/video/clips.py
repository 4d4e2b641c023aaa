"""From updates to features of clips: what the distances between sets of videos share."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.intervals import Interval
from pa_lib.functional.pixels import as_unit, check_videos
from pa_lib.metrics.base import AbstractMetric, Field, Measurement, MetricValue
from pa_lib.pretrained.features.base import AbstractVideoFeatures

Region = Literal["frame", "masks"]
MARGIN = 1.5  # side of the square over that of the masks' box: some of the surroundings, as people detectors see them


@dataclass(frozen=True)
class ClipCutter:
    """Cuts rows of frames into clips that do not overlap.

    Args:
        clip_frames: Number of frames of a clip.
        stride: Distance in frames between two frames that are taken.
        region: ``frame``, or ``masks``: the square around all masks of the clip, 1.5 times its size, moved into the
            frame where it reaches beyond.

    Raises:
        SettingError: No frames, no stride, or an unknown region.
    """

    clip_frames: int
    stride: int
    region: Region

    def __post_init__(self) -> None:
        if self.clip_frames < 1 or self.stride < 1:
            raise SettingError(
                f"clip_frames is {self.clip_frames} and stride {self.stride}, expected at least 1 of both"
            )
        if self.region not in ("frame", "masks"):
            raise SettingError(f"region is {self.region!r}, expected frame or masks")

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
        """Number of clips in a number of frames."""
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
        rows: Rows in float64: a sampling key, the clip id, then the features before and after.
        n_short: Number of pieces shorter than a clip: rows without one clip, and remainders at the end of rows.
        n_unmasked: Number of clips without a masked pixel, left out where the region is that of the masks.
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
        ValueError: Masks are missing where the region needs them.
    """
    if cutter.region == "masks" and masks is None:
        raise ValueError("no masks given, and the region is theirs; give masks, or set region to frame")
    seen = tuple(part for part in (source, anonymized, masks) if part is not None)
    if any(part.is_inference() for part in seen):  # their versions are not counted
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
            # One clip at a time: the last digits of a network's answer depend on how many share its pass, and values
            # must not depend on batches.
            pair = [network(frames[row, place][None, ..., box[0], box[1]])[0] for frames in (before, after)]
            rows.append(_with_keys(clip_id, *(part.detach().cpu().double() for part in pair)))
    is_rest = n_new % cutter.span != 0
    width = 2 + 2 * network.n_dimensions
    joined = torch.stack(rows) if rows else torch.zeros(0, width, dtype=torch.float64)
    return FeatureRows(joined, len(clip_ids) if is_rest else 0, n_unmasked)


def smallest_keys(rows: Float[Tensor, "n k"], most: int) -> Float[Tensor, "m k"]:
    """The rows with the smallest keys, at most that number, in the order of clip ids and keys.

    Keys are hashes of the features, so this is a fair draw that is the same whatever order rows came in, also when
    the rows of several processes were drawn from before they were joined.
    """
    by_key = torch.argsort(rows[:, 0], stable=True)[:most]
    rows = rows[by_key]
    return rows[torch.argsort(rows[:, 1], stable=True)]


def _with_keys(clip_id: float, before: Float[Tensor, " d"], after: Float[Tensor, " d"]) -> Float[Tensor, " k"]:
    features = torch.cat([before, after])
    digest = hashlib.sha256(features.numpy().tobytes()).digest()
    key = int.from_bytes(digest[:6], "big")  # 48 bits: exact in a float64
    return torch.cat([torch.tensor([key, clip_id], dtype=torch.float64), features])


class AbstractClipDistance(AbstractMetric):
    """A distance between originals and anonymized clips as sets, in the features of a network.

    Args:
        features: Network that embeds clips, e.g. `pretrained.I3DFeatures`.
        cutter: Cutter of the clips.
        keep: Largest number of clips of which features are kept, at 16 bytes times the dimensions each.

    Raises:
        ValueError: The network does not take clips of this length.
    """

    higher_is_better = False

    needs: frozenset[Field] = frozenset({"source", "anonymized"})
    uses: frozenset[Field] = frozenset({"masks", "clip_ids", "context"})

    count: Tensor
    n_short: Tensor
    n_unmasked: Tensor
    rows: Tensor

    def __init__(self, features: AbstractVideoFeatures, cutter: ClipCutter, keep: int) -> None:
        super().__init__()
        features.check_frames(torch.zeros(1, cutter.clip_frames, 3, 1, 1))
        self.features, self.cutter, self.keep = features, cutter, keep
        if cutter.region == "masks":
            self.needs = self.needs | {"masks"}
        for state in ("count", "n_short", "n_unmasked"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_rows("rows", 2 + 2 * features.n_dimensions, clip_column=1)

    @property
    def value_name(self) -> str:
        """Name of the value, with that of the network."""
        return f"{self.name}_{self.features.name}" + ("_masks" if self.cutter.region == "masks" else "")

    def update(
        self,
        source: Tensor,
        anonymized: Tensor,
        masks: Tensor | None = None,
        clip_ids: Tensor | None = None,
        context: int = 0,
    ) -> None:
        """Add the clips of a batch; arguments as in `contracts.Result`.

        Clips are cut from the new frames of every row, those after the first `context`. Masks are needed if the region
        is theirs. Clip ids say which video each row belongs to; the interval takes the clips of one video together.

        Raises:
            ValueError: Shapes do not fit, or pixels are out of range.
        """
        check_videos(source, anonymized, masks, context=context)
        ids = self.clip_keys(clip_ids, len(source))
        found = feature_rows(self.features, self.cutter, source, anonymized, masks, ids, context)
        self.count = self.count + len(found.rows)
        self.n_short = self.n_short + found.n_short
        self.n_unmasked = self.n_unmasked + found.n_unmasked
        self.take(found.rows)

    def take(self, rows: Float[Tensor, "n k"]) -> None:
        """Add the rows of new clips to the states."""
        self.add_to("rows", rows)

    def split(self, rows: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Features before and after."""
        d = self.features.n_dimensions
        return rows[:, 2 : 2 + d], rows[:, 2 + d :]

    def measurement(
        self, value: float, n: int, interval: Interval | None, kind: str, lacking: dict[str, int]
    ) -> Measurement:
        """The one value, with counts of what is left out or lacking; those that are 0 are not mentioned."""
        counted = {
            f"pieces shorter than {self.cutter.span} frames": int(self.n_short),
            "clips without a mask": int(self.n_unmasked),
            "clips missing to the 2 it takes": max(0, 2 - n),
            **lacking,
        }
        what = f"{kind} between original and anonymized clips as sets, features of {self.features.name}"
        some = {name: number for name, number in counted.items() if number}
        return Measurement((MetricValue(self.value_name, value, n, "clips", what, False, interval, some),))
