"""Pictures to the 256 colours of a GIF frame."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pa_lib.video.frame import plane_views


def to_palette_frame(rgb: NDArray[np.uint8]) -> av.VideoFrame:
    """One frame with a palette of its own: exact up to 256 colours, else by median cut without dithering.

    No dithering: its noise would differ from frame to frame and flicker where nothing was changed.

    Args:
        rgb: The frame, shape h w 3.

    Returns:
        A ``pal8`` frame.
    """
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=2, dtype=np.uint32)
    colours, indices = np.unique(packed, return_inverse=True)
    if len(colours) > 256:
        image = Image.fromarray(rgb).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        flat = np.asarray(image.getpalette() or [], np.uint32).reshape(-1, 3)
        colours = (flat << np.array([16, 8, 0], np.uint32)).sum(axis=1, dtype=np.uint32)
        indices = np.asarray(image)
    palette = np.full(256, 0xFF000000, np.uint32)
    palette[: len(colours)] |= colours
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], "pal8")
    plane_views(frame)[0][...] = indices.reshape(rgb.shape[:2])
    np.frombuffer(frame.planes[1], np.uint32)[:] = palette  # type: ignore[call-overload]
    return frame
