"""From the decoder's frame to the upright `Picture`: which way is up, and which working format the samples take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np

from pa_lib.video.frame import Picture, PixelFormat, Samples, converted, plane_views, to_av_frame

_FULL_RANGE = 2
_SUBSAMPLING = {(1, 1): "yuv420p", (1, 0): "yuv422p", (0, 0): "yuv444p"}  # log2 of columns, rows for one chroma sample


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lie: transposed first, then mirrored left-right, then top-bottom."""

    is_transposed: bool = False
    is_mirrored: bool = False
    is_upended: bool = False

    @property
    def is_flipped(self) -> bool:
        """Whether left and right are swapped, so that no turn alone would do."""
        return self.is_transposed ^ self.is_mirrored ^ self.is_upended

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn, 0, 90, 180 or 270, after the mirror image where `is_flipped`."""
        if self.is_transposed:
            return 90 if self.is_mirrored else 270
        return 180 if self.is_upended else 0

    def apply(self, plane: Samples) -> Samples:
        """The plane (rows and columns first) turned upright; a view."""
        if self.is_transposed:
            plane = plane.swapaxes(0, 1)
        if self.is_mirrored:
            plane = plane[:, ::-1]
        return plane[::-1] if self.is_upended else plane

    def undo(self, plane: Samples) -> Samples:
        """The upright plane as it lay; a view."""
        plane = plane[::-1] if self.is_upended else plane
        if self.is_mirrored:
            plane = plane[:, ::-1]
        return plane.swapaxes(0, 1) if self.is_transposed else plane


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> tuple[Orientation, list[str]]:
    """What the frame's display matrix asks for, and notes where it asks for what is not done.

    The matrix is a b u / c d v / x y w in 16.16 numbers; a pixel (x, y) is shown at (a x + c y, b x + d y).
    """
    sides: Any = frame.side_data
    data: Any = next((side for side in sides if side.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return UPRIGHT, []
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(float) / 65536
    unit = max(abs(a), abs(b), abs(c), abs(d)) or 1.0
    across = abs(b) > 0.99 * unit and abs(c) > 0.99 * unit and max(abs(a), abs(d)) < 0.01 * unit
    along = abs(a) > 0.99 * unit and abs(d) > 0.99 * unit and max(abs(b), abs(c)) < 0.01 * unit
    if across:
        return Orientation(True, bool(c < 0), bool(b < 0)), []
    if along:
        return Orientation(False, bool(a < 0), bool(d < 0)), []
    return UPRIGHT, ["the display matrix asks for a turn that is no multiple of 90 degrees; it is not applied"]


def working_format(frame: av.VideoFrame) -> tuple[PixelFormat, list[str]]:
    """The format that a frame's samples take before they are turned, and notes where that changes anything.

    Planar YUV of 8, 10 or 12 bits stays as it is. Grey gets neutral chroma. RGB of any kind becomes 8-bit RGB. All else
    becomes the nearest planar format that an encoder takes, without loss where the bits and the chroma grid allow.
    """
    source = frame.format
    notes = []
    codes: dict[str, Any] = {"primaries": int(frame.color_primaries), "transfer": int(frame.color_trc)}
    is_full = int(frame.color_range) == _FULL_RANGE or source.name.startswith("yuvj")
    bits = max(c.bits for c in source.components)
    if _has_alpha(frame):
        notes.append("transparent places are shown on white")
    if source.is_rgb or source.has_palette:
        if bits > 8:
            notes.append(f"{source.name} is brought to 8 bits")
        return PixelFormat("rgb24", frame.width, frame.height, **codes), notes
    depth = 8 if bits <= 8 else 12 if bits == 12 else 10
    if bits > depth:
        notes.append(f"{bits} bits are brought to {depth}")
    if _is_grey(frame):
        name = "yuv420p"
    else:
        shifts = (
            _shift(frame.width, source.chroma_width(frame.width)),
            _shift(frame.height, source.chroma_height(frame.height)),
        )
        name = _SUBSAMPLING.get(shifts) or ("yuv444p" if shifts[0] == 0 else "yuv422p" if shifts[1] == 0 else "yuv420p")
        if shifts not in _SUBSAMPLING:
            notes.append(f"{source.name} is brought to {name}")
    name += f"{depth}le" if depth > 8 else ""
    return PixelFormat(name, frame.width, frame.height, is_full, matrix=int(frame.colorspace), **codes), notes


def upright_format(format: PixelFormat, orientation: Orientation) -> PixelFormat:
    """The format after turning: 4:4:4 where turning would put the chroma grid out of step with the pixels."""
    if not format.is_rgb and _breaks_grid(format, orientation):
        format = replace(format, name="yuv444p" + format.name[7:])
    if orientation.is_transposed:
        format = replace(format, width=format.height, height=format.width)
    return format


def picture_of(frame: av.VideoFrame, wanted: PixelFormat, orientation: Orientation, *, is_scaled: bool) -> Picture:
    """The upright picture of a decoded frame.

    Args:
        frame: The frame.
        wanted: Format of the picture.
        orientation: Turn and mirror image that bring the frame upright.
        is_scaled: Whether a frame of another size or kind is brought to `wanted`.

    Raises:
        ValueError: If the frame is not of the size or kind that the video began with, and is not scaled.
    """
    lying, _ = working_format(frame)
    stated = {name: getattr(wanted, name) for name in ("primaries", "transfer", "matrix", "is_interlaced")}
    lying = replace(lying, **stated)
    upright = upright_format(lying, orientation)
    if upright != wanted:
        if is_scaled:
            return _scaled(frame, wanted, orientation)
        raise ValueError(
            f"the frame is {upright.width}x{upright.height} {upright.name}, the video began with "
            f"{wanted.width}x{wanted.height} {wanted.name}; other_sizes=scale scales such frames"
        )
    if orientation == UPRIGHT and _is_native(frame, lying):
        return Picture(plane_views(frame), lying, source=frame)
    picture = Picture(_planes(frame, lying), lying)
    if not lying.is_rgb and wanted.sampling != lying.sampling and _breaks_grid(lying, orientation):
        picture = converted(picture, "yuv444p")
    planes = tuple(np.ascontiguousarray(orientation.apply(plane)) for plane in picture.planes)
    return Picture(planes, wanted)


def _scaled(frame: av.VideoFrame, wanted: PixelFormat, orientation: Orientation) -> Picture:
    """The upright picture within `wanted`, as large as fits, in its own proportions, on black."""
    rows, columns = wanted.chroma_grid
    height, width = (wanted.width, wanted.height) if orientation.is_transposed else (wanted.height, wanted.width)
    zoom = min(width / frame.width, height / frame.height)
    if _has_alpha(frame):
        lying, _ = working_format(frame)
        frame = to_av_frame(Picture(_planes(frame, lying), lying))
    inner = frame.reformat(
        width=min(width, max(columns, round(frame.width * zoom / columns) * columns)),
        height=min(height, max(rows, round(frame.height * zoom / rows) * rows)),
        format=wanted.name,
        dst_color_range="JPEG" if wanted.is_rgb or wanted.is_full_range else "MPEG",
    )
    black = 0 if wanted.is_rgb or wanted.is_full_range else 16 << (wanted.bits - 8)
    turned = [orientation.apply(view) for view in plane_views(inner)]
    # margins in whole blocks of pixels that share chroma
    top = (wanted.height - turned[0].shape[0]) // 2 // rows * rows
    left = (wanted.width - turned[0].shape[1]) // 2 // columns * columns
    planes = []
    for number, (shape, plane) in enumerate(zip(wanted.plane_shapes(), turned, strict=True)):
        canvas = np.full(shape, 1 << (wanted.bits - 1) if number else black, plane.dtype)
        y, x = (top // wanted.sampling[0], left // wanted.sampling[1]) if number else (top, left)
        canvas[y : y + plane.shape[0], x : x + plane.shape[1]] = plane
        planes.append(canvas)
    return Picture(tuple(planes), wanted)


def _is_native(frame: av.VideoFrame, format: PixelFormat) -> bool:
    return frame.format.name.replace("yuvj", "yuv") == format.name


def _planes(frame: av.VideoFrame, format: PixelFormat) -> tuple[Samples, ...]:
    if _is_native(frame, format):
        return plane_views(frame)
    if format.is_rgb:
        return (_rgb(frame),)
    if _is_grey(frame):
        grey = frame.reformat(format="gray" + (f"{format.bits}le" if format.bits > 8 else ""))
        shapes = format.plane_shapes()
        luma = plane_views(grey)[0]
        planes = (luma, *(np.full(shape, 1 << (format.bits - 1), luma.dtype) for shape in shapes[1:]))
    else:
        # same matrix and range on both sides, so that only the layout changes
        side = "JPEG" if format.is_full_range else "MPEG"
        planes = plane_views(frame.reformat(format=format.name, src_color_range=side, dst_color_range=side))
    return _on_white(planes, frame, format) if _has_alpha(frame) else planes


def _on_white(planes: tuple[Samples, ...], frame: av.VideoFrame, format: PixelFormat) -> tuple[Samples, ...]:
    """The planes as they show on white; where the frame is opaque every sample stays as it is."""
    bits = frame.format.components[-1].bits
    with_alpha = frame if len(frame.planes) == 4 else frame.reformat(format="yuva444p" + ("" if bits == 8 else "16le"))
    share, opaque = plane_views(with_alpha)[3].astype(np.int64), (1 << with_alpha.format.components[3].bits) - 1
    if share.min() == opaque:
        return planes
    rows, columns = format.sampling
    pad = ((0, -format.height % rows), (0, -format.width % columns))
    blocks = np.pad(share, pad, mode="edge").reshape(
        -(-format.height // rows), rows, -(-format.width // columns), columns
    )
    white = ((1 << format.bits) - 1) if format.is_full_range else 235 << (format.bits - 8)
    middle = 1 << (format.bits - 1)
    done = []
    for plane, ground, own in zip(
        planes, (white, middle, middle), (share, *[blocks.min(axis=(1, 3))] * 2), strict=True
    ):
        done.append(((plane * own + ground * (opaque - own) + opaque // 2) // opaque).astype(plane.dtype))
    return tuple(done)


def _rgb(frame: av.VideoFrame) -> Samples:
    if not _has_alpha(frame):
        return plane_views(frame.reformat(format="rgb24"))[0]
    rgba = frame.reformat(format="rgba")
    plane = rgba.planes[0]
    pixels: Samples = np.ndarray((rgba.height, rgba.width, 4), np.uint8, plane, strides=(plane.line_size, 4, 1))  # type: ignore[arg-type]
    alpha = pixels[..., 3]
    if alpha.min() == 255:
        return np.ascontiguousarray(pixels[..., :3])
    share = alpha[..., None].astype(np.uint16)
    return ((pixels[..., :3] * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def _has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components) or frame.format.has_palette


def _is_grey(frame: av.VideoFrame) -> bool:
    return sum(not component.is_alpha for component in frame.format.components) < 3


def _breaks_grid(format: PixelFormat, orientation: Orientation) -> bool:
    rows, columns = format.sampling
    if orientation.is_transposed and rows != columns:
        return True
    # which of the picture's own sides are counted from the far end
    from_right = orientation.is_upended if orientation.is_transposed else orientation.is_mirrored
    from_bottom = orientation.is_mirrored if orientation.is_transposed else orientation.is_upended
    return bool((from_right and format.width % columns) or (from_bottom and format.height % rows))


def _shift(luma: int, chroma: int) -> int:
    return 0 if chroma == luma else 1 if chroma == -(-luma // 2) else 2
