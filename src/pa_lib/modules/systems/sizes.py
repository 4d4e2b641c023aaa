"""The check that masks belong to a clip, which every system makes before it replaces anything."""

from __future__ import annotations

from pa_lib.contracts import Clip, ClipMasks
from pa_lib.errors import SettingError


def check_same_size(clip: Clip, masks: ClipMasks) -> None:
    """Refuse masks of another clip: a mask that lies elsewhere than its person would pass the person through.

    Raises:
        SettingError: They have another number of frames or another size, or a mask lies outside of the clip.
    """
    n_frames, _, height, width = clip.frames.shape
    if (masks.n_frames, masks.height, masks.width) != (n_frames, height, width):
        raise SettingError(
            f"the masks are for {masks.n_frames} frames of {masks.width} x {masks.height}, "
            f"the clip has {n_frames} of {width} x {height}; give the masks of this clip"
        )
    for mask in masks.people:
        rows, columns = mask.alpha.shape
        is_inside = min(mask.top, mask.left) >= 0 and mask.top + rows <= height and mask.left + columns <= width
        if not is_inside or not 0 <= mask.frame < n_frames:
            raise SettingError(f"the mask of person {mask.person_id} lies outside of its clip; cut it at the border")
