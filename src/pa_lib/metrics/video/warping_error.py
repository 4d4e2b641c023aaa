"""Temporal warping error of the output beside that of the source, over the frame, inside the mask and outside it."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.intervals import t_interval
from pa_lib.functional.pixels import as_unit, check_videos
from pa_lib.functional.sharpness import gradient_sums
from pa_lib.functional.warping_error import CHANNELS_COUNTED, Convention, region_sums
from pa_lib.metrics.base import AbstractMetric, Field, Measurement, MetricValue
from pa_lib.pretrained.optical_flow import AbstractOpticalFlow, DISFlow

_REGIONS = {"": "the whole frame", "_inside": "what is inside the mask", "_outside": "what is outside the mask"}
# Columns of a clip's row after its number: for each region the sums of the pairs' errors of output and source and the
# pairs compared, wholly hidden and without such pixels; then, inside the mask, gradient lengths and squared changes.
_PER_REGION = 5
_GRADIENTS, _CHANGES = slice(16, 18), slice(18, 20)
_N_COLUMNS = 20


class TemporalWarpingError(AbstractMetric):
    """How much the output flickers along the flow of the source; see `functional.temporal_warping_error`.

    Values, each a mean over pairs of frames per clip, then over clips: ``warping_error`` over the whole frame,
    ``warping_error_inside`` and ``warping_error_outside`` the mask, of the output; with ``…_source`` what the source
    itself has in the same pixels, which is not 0, and with ``…_excess`` the difference. A pair of which nothing can be
    compared is left out and counted.

    A blurred or a frozen video has a low warping error. So two ratios of output to source inside the mask stand beside
    it: ``warping_error_sharpness_inside`` of gradient lengths, well below 1 when blurred, and
    ``warping_error_motion_inside`` of mean squared changes from frame to frame at the same pixel, well below 1 when
    frozen. Read an error as low only where both are near 1.

    Args:
        flow: Network or method that estimates the optical flow of the source; None is `DISFlow`.
        convention: ``lai``, per pixel and channel, or ``per_pixel``, three times as large.

    Raises:
        SettingError: No such convention.

    >>> source = torch.rand(1, 1, 3, 32, 32).expand(1, 3, 3, 32, 32)
    >>> flicker = source * 0.5 + torch.tensor([0.0, 0.1, 0.0]).view(1, 3, 1, 1, 1)
    >>> metric = TemporalWarpingError()
    >>> metric.update(source, flicker)
    >>> round(metric.measure().values[0].value, 6)
    0.01

    Source: Lai et al. 2018, "Learning blind video temporal consistency", and the code of its evaluation.
    Differs: DIS or RAFT for FlowNet 2, at the video's own size.
    Ours: regions, excess and companions, and that wholly hidden pairs are left out.
    """

    name = "warping_error"
    higher_is_better = False

    needs: frozenset[Field] = frozenset({"source", "anonymized"})
    uses: frozenset[Field] = frozenset({"masks", "clip_ids", "context"})

    rows: Tensor

    def __init__(self, flow: AbstractOpticalFlow | None = None, convention: Convention = "lai") -> None:
        super().__init__()
        if convention not in CHANNELS_COUNTED:
            raise SettingError(f"convention is {convention!r}, expected one of {', '.join(CHANNELS_COUNTED)}")
        self.flow = DISFlow() if flow is None else flow
        self.convention = convention
        self.add_rows("rows", _N_COLUMNS, n_keys=1, clip_column=0)

    def update(
        self,
        source: Tensor,
        anonymized: Tensor,
        masks: Tensor | None = None,
        clip_ids: Tensor | None = None,
        context: int = 0,
    ) -> None:
        """Add frames; arguments as in `contracts.Result`.

        Pairs begin with the last of the first `context` frames, which were counted themselves before. Without masks
        nothing is inside.

        Raises:
            ValueError: Shapes or ranges do not fit.
        """
        _check(source, anonymized, masks, context)
        new = torch.zeros(len(source), _N_COLUMNS, dtype=torch.float64, device=self.rows.device)
        new[:, 0] = self.clip_keys(clip_ids, len(source))
        first = max(context - 1, 0)
        for row, (before, after) in enumerate(zip(source, anonymized, strict=True)):
            mask = None if masks is None else masks[row, first:]
            self._add_clip(new[row], before[first:], after[first:], mask, is_first_known=context > 0)
        self.add_to("rows", new)

    def _add_clip(
        self, row: Tensor, source: Tensor, anonymized: Tensor, masks: Tensor | None, *, is_first_known: bool
    ) -> None:
        """Add one clip's pairs, and its frames but for a first one that is known."""
        flows = self.flow.both_ways(source) if len(source) > 1 else iter(())
        earlier = earlier_mask = None
        for number, (frame, output) in enumerate(zip(source, anonymized, strict=True)):
            forward = backward = None
            if number:
                forward, backward = next(flows)
            device = row.device if forward is None else forward.device
            pixels = torch.stack([as_unit(video.to(device)).float() for video in (output, frame)])
            mask = None if masks is None or not masks[number].any() else masks[number].to(device).float()
            if number or not is_first_known:
                row[_GRADIENTS] += _gradients(pixels, mask).to(row.device)
            if forward is not None and backward is not None:
                assert earlier is not None
                earlier = earlier.to(device)
                row[_CHANGES] += _changes(earlier, pixels, earlier_mask, mask).to(row.device)
                row[1:16] += self._pair(earlier, pixels, earlier_mask, mask, forward, backward).to(row.device).flatten()
            earlier, earlier_mask = pixels, mask

    def _pair(
        self,
        earlier: Float[Tensor, "2 3 h w"],
        later: Float[Tensor, "2 3 h w"],
        earlier_mask: Float[Tensor, "1 h w"] | None,
        later_mask: Float[Tensor, "1 h w"] | None,
        forward: Float[Tensor, "2 h w"],
        backward: Float[Tensor, "2 h w"],
    ) -> Float[Tensor, "3 5"]:
        """One pair's columns of all regions."""
        squares, visible = region_sums(earlier, later, forward, backward, earlier_mask, later_mask)
        masks = (earlier_mask, later_mask)
        has_inside = all(mask is not None for mask in masks)
        has_outside = all(mask is None or float(mask.min()) < 1 for mask in masks)
        is_there = torch.tensor([True, has_inside, has_outside], device=visible.device)
        is_compared = visible > 0
        errors = torch.where(is_compared, squares / (CHANNELS_COUNTED[self.convention] * visible), 0.0)
        return torch.stack([*errors, is_compared, is_there & ~is_compared, ~is_there], 1)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "flow": self.flow.protocol(),
            "flow_of": "the source, both ways",
            "convention": self.convention,
            "pixels": "RGB in [0, 1], 8-bit values / 255",
            "lookup": "bilinear in pixel coordinates, clamped to the border",
            "hidden": "|w' + w|^2 > 0.01 (|w'|^2 + |w|^2) + 0.5, w' the backward flow where w leads, px",
            "motion_boundary": "|grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002, forward differences",
            "regions": "inside: mask times mask looked up along the flow; outside: the same of 1 - mask",
            "pairs": "mean over pairs, then over clips; pairs of which nothing can be compared left out and counted",
            "sharpness": "sum of grey gradient lengths inside the mask, output over source, per clip",
            "motion": "sum of squared changes between frames inside both masks, output over source, per clip",
            "interval": "Student's t over clips, 95 %",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        regions = rearrange(rows[:, 1:16], "n (region column) -> n region column", column=_PER_REGION)
        values = [
            value
            for (suffix, where), region in zip(_REGIONS.items(), regions.unbind(1), strict=True)
            for value in _region_values(suffix, where, region)
        ]
        values.append(
            _ratio("warping_error_sharpness_inside", rows[:, _GRADIENTS], "gradient length", "without detail")
        )
        values.append(_ratio("warping_error_motion_inside", rows[:, _CHANGES], "change from frame to frame", "still"))
        return Measurement(tuple(values))


def _gradients(pixels: Float[Tensor, "2 3 h w"], mask: Float[Tensor, "1 h w"] | None) -> Float[Tensor, " 2"]:
    """Sums of gradient lengths inside the mask, of output and source."""
    if mask is None:
        return torch.zeros(2, dtype=torch.float64)
    box = _box(mask)
    return gradient_sums(pixels[..., *box], mask[None, :, *box])[0]


def _changes(
    earlier: Float[Tensor, "2 3 h w"],
    later: Float[Tensor, "2 3 h w"],
    earlier_mask: Float[Tensor, "1 h w"] | None,
    later_mask: Float[Tensor, "1 h w"] | None,
) -> Float[Tensor, " 2"]:
    """Sums of squared changes inside both masks, of output and source, with nothing moved back."""
    if earlier_mask is None or later_mask is None:
        return torch.zeros(2, dtype=torch.float64)
    box = _box(earlier_mask)
    weights = earlier_mask[..., *box] * later_mask[..., *box]
    squares = (later[..., *box] - earlier[..., *box]).square_().mul_(weights)
    return squares.flatten(1).sum(1, dtype=torch.float64)


def _box(mask: Float[Tensor, "1 h w"]) -> tuple[slice, slice]:
    """The rows and columns that the mask reaches; what is beyond weighs nothing."""
    box = bounding_box(mask[0])
    assert box is not None  # masks without a masked pixel are None here
    return box


def _region_values(suffix: str, where: str, region: Float[Tensor, "n 5"]) -> list[MetricValue]:
    """Error of the output, of the source, and their difference."""
    output, source, n_pairs, n_hidden, n_absent = region.unbind(1)
    is_there = n_pairs > 0
    counted = {"pairs wholly hidden": int(n_hidden.sum()), "clips without such pairs": int((~is_there).sum())}
    if suffix:
        counted["pairs without such pixels"] = int(n_absent.sum())
    name = f"warping_error{suffix}"
    values = []
    for end, errors, what, is_higher_better in (
        ("", output, "of the output", False),
        ("_source", source, "of the source itself", None),
        ("_excess", output - source, "of the output beyond that of the source", False),
    ):
        means = errors[is_there] / n_pairs[is_there]
        values.append(
            MetricValue(
                name + end,
                float(means.mean()),
                int(n_pairs.sum()),
                "pairs of frames",
                f"warping error {what}, {where}",
                is_higher_better,
                t_interval(means),
                counted,
            )
        )
    return values


def _ratio(name: str, sums: Float[Tensor, "n 2"], what: str, lacking: str) -> MetricValue:
    output, source = sums.unbind(1)
    is_there = source > 0
    ratios = output[is_there] / source[is_there]
    return MetricValue(
        name,
        float(ratios.mean()),
        len(ratios),
        "clips",
        f"{what} inside the mask, output over source",
        None,
        t_interval(ratios),
        {f"clips without a mask, or {lacking} in it": int((~is_there).sum())},
    )


def _check(source: Tensor, anonymized: Tensor, masks: Tensor | None, context: int) -> None:
    check_videos(source, anonymized, masks, context=context)
    if masks is not None and masks.numel() and not (float(masks.min()) >= 0 and float(masks.max()) <= 1):
        raise ValueError(f"masks lie in [{float(masks.min()):g}, {float(masks.max()):g}], expected [0, 1]")
