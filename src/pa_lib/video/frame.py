"""One decoded picture in the planes that the encoder will get, and the frame that carries it.

A `Picture` keeps the decoder's own samples. RGB is only a view: what is not replaced is never
converted, so it reaches the encoder bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import av
import numpy as np
from numpy.typing import NDArray

from pa_lib.functional.boxes import bounding_box

Samples = NDArray[Any]  # uint8, or uint16 holding 10 or 12 bits

_CHROMA_GRIDS = {"yuv420p": (2, 2), "yuv422p": (1, 2), "yuv444p": (1, 1)}
# (K_r, K_b) of the matrices that H.273 table 4 defines by two luma weights, under the numbers that it gives them.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_SWSCALE_NAMES = {1: "itu709", 4: "fcc", 5: "itu601", 6: "itu601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNSPECIFIED = 2


@dataclass(frozen=True)
class PixelFormat:
    """How the samples of a `Picture` are laid out, and what they mean.

    Args:
        name: Name of the format: ``yuv420p``, ``yuv422p`` or ``yuv444p``, with ``10le`` or ``12le`` behind it for more
            bits, or ``rgb24``.
        width, height: Size of the upright picture in pixels.
        is_full_range: Whether 0 is black and the largest number is white; False for the studio range 16..235.
        matrix, primaries, transfer: Colour codes of ITU-T H.273 as the file states them; 2 = not stated.
        is_interlaced: Whether the rows of luma, and of chroma, belong by turns to two fields of different moments; said
            of ``yuv420p`` alone, where a chroma sample then serves two rows of one field.
    """

    name: str
    width: int
    height: int
    is_full_range: bool = False
    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    is_interlaced: bool = False

    @property
    def is_rgb(self) -> bool:
        """Whether the one plane holds h w 3 RGB."""
        return self.name == "rgb24"

    @property
    def bits(self) -> int:
        """Bits a sample: 8, 10 or 12."""
        return int(self.name[7:-2]) if self.name.endswith("le") else 8

    @property
    def sampling(self) -> tuple[int, int]:
        """Rows and columns of luma for each row and column of chroma."""
        return (1, 1) if self.is_rgb else _CHROMA_GRIDS[self.name[:7]]

    @property
    def chroma_grid(self) -> tuple[int, int]:
        """Rows and columns of pixels that share chroma with no others: one sample, or one of each field."""
        rows, columns = self.sampling
        return (2 * rows, columns) if self.is_interlaced else (rows, columns)

    @property
    def field(self) -> PixelFormat:
        """The format of one field of an interlaced picture."""
        return replace(self, height=self.height // 2, is_interlaced=False)

    @property
    def working_matrix(self) -> int:
        """The matrix to convert by: the stated one, else BT.709 from 720 rows or 1280 columns on and BT.601 below.

        That is what players assume, too. Matrices that no two luma weights define (YCgCo, constant luminance) fall back
        in the same way: RGB is then off in hue, yet there and back agree, so nothing shows where pixels are replaced.
        """
        if self.matrix in _LUMA_WEIGHTS:
            return self.matrix
        return 1 if max(self.width / 1280, self.height / 720) >= 1 else 6

    def plane_shapes(self) -> list[tuple[int, ...]]:
        """The shape of every plane."""
        if self.is_rgb:
            return [(self.height, self.width, 3)]
        rows, columns = self.sampling
        chroma = (-(-self.height // rows), -(-self.width // columns))
        return [(self.height, self.width), chroma, chroma]


class Picture:
    """One upright picture in its native planes.

    Treat the planes as read-only: they may be the decoder's own memory.

    Args:
        planes: Planes of the picture: one h w 3 array for RGB, else Y, Cb, Cr; uint8, or uint16 above 8 bits.
        format: Pixel format of the planes.

    Raises:
        ValueError: If the planes do not fit the format.
    """

    __slots__ = ("_source", "format", "planes")

    def __init__(
        self, planes: tuple[Samples, ...], format: PixelFormat, *, source: av.VideoFrame | None = None
    ) -> None:
        if [plane.shape for plane in planes] != format.plane_shapes():
            raise ValueError(f"planes of {[p.shape for p in planes]} given for {format}; want {format.plane_shapes()}")
        self.planes = planes
        self.format = format
        self._source = source  # the decoder's frame where the planes are views of it: spares rgb() a copy

    def rgb(self) -> NDArray[np.uint8]:
        """The picture as uint8 RGB, shape h w 3. Do not write into it.

        By swscale's table conversion, which takes the nearest chroma sample: within 3 levels of the exact formula and
        ten times as fast (0.6 ms for 1080p on two cores) as the exact one. Converted again in every call: kept, it
        would be two thirds of what a picture takes, for as long as a window of frames lasts.
        """
        if self.format.is_interlaced:
            return _woven([field.rgb() for field in self._fields()])
        return cast("NDArray[np.uint8]", self.planes[0]) if self.format.is_rgb else self._converted()

    def _fields(self) -> tuple[Picture, Picture]:
        """The field of the even rows and that of the odd ones, each a picture of its own; views."""
        upper, lower = (tuple(plane[first::2] for plane in self.planes) for first in (0, 1))
        return Picture(upper, self.format.field), Picture(lower, self.format.field)

    def _converted(self) -> NDArray[np.uint8]:
        format, frame = self.format, self._source
        rows, columns = format.sampling
        pad = (-format.height % rows, -format.width % columns)
        if any(pad):  # swscale would stretch the chroma plane over an odd size instead of taking the nearest sample
            even = replace(format, height=format.height + pad[0], width=format.width + pad[1])
            luma = np.pad(self.planes[0], ((0, pad[0]), (0, pad[1])), mode="edge")
            frame = to_av_frame(Picture((luma, *self.planes[1:]), even))
        elif frame is None:
            frame = to_av_frame(self)
        name = _SWSCALE_NAMES[format.working_matrix]
        converted = frame.reformat(
            format="rgb24",
            src_colorspace=name,
            dst_colorspace=name,
            src_color_range="JPEG" if format.is_full_range else "MPEG",
            dst_color_range="JPEG",
            interpolation="POINT",  # else chroma of more than 8 bits would be blurred over its neighbours
        )
        rgb = cast("NDArray[np.uint8]", plane_views(converted)[0])
        return rgb[: format.height, : format.width]

    def replaced(self, rgb: NDArray[np.uint8], where: NDArray[np.bool_]) -> Picture:
        """This picture with other content in some places; every sample elsewhere is bit-identical.

        Args:
            rgb: New content, shape h w 3; read only under `where`.
            where: Mask, shape h w, aligned to the chroma grid: all pixels that share a chroma sample are in, or all are
                out.

        Raises:
            ValueError: If a shape is wrong or `where` cuts through a chroma sample.
        """
        height, width = self.format.height, self.format.width
        if rgb.shape != (height, width, 3) or rgb.dtype != np.uint8 or where.shape != (height, width):
            raise ValueError(
                f"want uint8 rgb ({height}, {width}, 3) and where ({height}, {width}), "
                f"got {rgb.dtype} {rgb.shape} and {where.shape}"
            )
        where = where.astype(bool, copy=False)
        if self.format.is_interlaced:
            done = [field.replaced(rgb[at::2], where[at::2]) for at, field in enumerate(self._fields())]
            return Picture(
                tuple(_woven(pair) for pair in zip(*(each.planes for each in done), strict=True)), self.format
            )
        box = _box_on_grid(where, self.format.sampling)
        if box is None:
            return self
        rows, columns = self.format.sampling
        at, under = rgb[box], where[box]
        small = under[::rows, ::columns]
        if (rows, columns) != (1, 1) and not np.array_equal(
            _spread(small, rows, columns)[: under.shape[0], : under.shape[1]], under
        ):
            raise ValueError(
                f"`where` cuts through chroma samples; align it to blocks of {rows} rows x {columns} columns"
            )
        planes = tuple(plane.copy() for plane in self.planes)
        if self.format.is_rgb:
            np.copyto(planes[0][box], at, where=under[..., None])
            return Picture(planes, self.format)
        fresh = _to_yuv(at, self.format)
        small_box = tuple(slice(s.start // n, -(-s.stop // n)) for s, n in zip(box, (rows, columns), strict=True))
        np.copyto(planes[0][box], fresh[0], where=under)
        for plane, new in zip(planes[1:], fresh[1:], strict=True):
            np.copyto(plane[small_box], new, where=small)
        return Picture(planes, self.format)


def _woven(fields: Sequence[Samples]) -> Samples:
    """A plane of the rows of two by turns."""
    upper, lower = fields
    return np.stack([upper, lower], axis=1).reshape(2 * len(upper), *upper.shape[1:])


def redacted_picture(format: PixelFormat) -> Picture:
    """A uniform mid-grey picture, for a frame that must not be shown or never could be decoded."""
    dtype = np.uint8 if format.bits == 8 else np.uint16
    middle = 1 << (format.bits - 1)
    return Picture(tuple(np.full(shape, middle, dtype) for shape in format.plane_shapes()), format)


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of the video, in order of presentation.

    Args:
        index: Index of the frame, from 0; the same frame has the same index in every pass.
        pts: Presentation time in units of the video's `time_base`; strictly increasing.
        duration: Duration in the same units, >= 1.
        time_s: Presentation time in seconds.
        picture: The picture; None where it could not be decoded.
        fault: Description of what failed, for the report; None where nothing did.
    """

    index: int
    pts: int
    duration: int
    time_s: float
    picture: Picture | None
    fault: str | None = None

    def with_picture(self, picture: Picture) -> Frame:
        """The same moment with another picture, e.g. the anonymized one."""
        return replace(self, picture=picture)


def plane_views(frame: av.VideoFrame) -> tuple[Samples, ...]:
    """The planes of a decoded frame as arrays of its visible part, without a copy; packed RGB as h w 3."""
    packed = frame.format.name == "rgb24"
    dtype = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
    views: list[Samples] = []
    for plane in frame.planes:
        values = plane.width * (3 if packed else 1)
        row = plane.line_size // dtype.itemsize
        # the last row may lack its padding, so no reshape of the whole buffer
        view: Samples = np.ndarray(
            (plane.height, values), dtype, cast("Any", plane), strides=(row * dtype.itemsize, dtype.itemsize)
        )
        views.append(view.reshape(plane.height, plane.width, 3) if packed else view)
    return tuple(views)


def to_av_frame(picture: Picture) -> av.VideoFrame:
    """The picture as a new frame for swscale or an encoder. Nothing but samples and colour codes goes along."""
    format = picture.format
    frame = av.VideoFrame(format.width, format.height, format.name)
    for target, plane in zip(plane_views(frame), picture.planes, strict=True):
        target[...] = plane
    frame.colorspace = 0 if format.is_rgb else format.matrix
    frame.color_range = 2 if format.is_rgb or format.is_full_range else 1
    frame.color_primaries = format.primaries
    frame.color_trc = format.transfer
    return frame


def converted(picture: Picture, name: Literal["yuv420p", "yuv444p"]) -> Picture:
    """An RGB picture as 8-bit studio-range YUV, or a subsampled one as 4:4:4 by repeating chroma samples.

    Raises:
        ValueError: If neither is what is asked.
    """
    format = picture.format
    if format.is_rgb:
        wanted = PixelFormat(name, format.width, format.height, primaries=1, transfer=1, matrix=1)
        return Picture(_to_yuv(picture.planes[0], wanted), wanted)
    if name != "yuv444p":
        raise ValueError(f"cannot take {format.name} to {name}")
    rows, columns = format.sampling
    chroma = [_spread(plane, rows, columns)[: format.height, : format.width] for plane in picture.planes[1:]]
    return Picture((picture.planes[0], *chroma), replace(format, name=name + format.name[7:]))


def _spread(plane: Samples, rows: int, columns: int) -> Samples:
    return plane.repeat(rows, 0).repeat(columns, 1)


def _box_on_grid(where: NDArray[np.bool_], grid: tuple[int, int]) -> tuple[slice, slice] | None:
    """The smallest box around what is set, grown to the grid; None where nothing is set."""
    found = bounding_box(where)
    if found is None:
        return None
    rows, columns = (
        slice(span.start // step * step, min(-(-span.stop // step) * step, size))
        for span, step, size in zip(found, grid, where.shape, strict=True)
    )
    return rows, columns


def _to_yuv(rgb: NDArray[np.uint8], format: PixelFormat) -> tuple[Samples, ...]:
    """RGB to the planes of `format` (whose size is not looked at), chroma averaged over each block of its grid.

    By H.273 equations 20-22, in float32: swscale would blur chroma over the border of a block, and its rounding would
    add to that of `Picture.rgb`.
    """
    import cv2

    k_r, k_b = _LUMA_WEIGHTS[format.working_matrix]
    luma = np.array([k_r, 1 - k_r - k_b, k_b])
    matrix = np.stack(
        [luma, (np.array([0, 0, 1]) - luma) / (2 - 2 * k_b), (np.array([1, 0, 0]) - luma) / (2 - 2 * k_r)]
    )
    top, step = (1 << format.bits) - 1, 1 << (format.bits - 8)
    scales = (top, top, top) if format.is_full_range else (219 * step, 224 * step, 224 * step)
    offsets = (0 if format.is_full_range else 16 * step, 128 * step, 128 * step)
    affine = np.concatenate([matrix * np.array(scales)[:, None] / 255, np.array(offsets)[:, None]], axis=1)
    rows, columns = format.sampling
    pad = (-rgb.shape[0] % rows, -rgb.shape[1] % columns)
    whole = np.pad(rgb, ((0, pad[0]), (0, pad[1]), (0, 0)), mode="edge") if any(pad) else rgb
    yuv = cv2.transform(whole.astype(np.float32), affine)
    size = (whole.shape[1] // columns, whole.shape[0] // rows)
    chroma = yuv[..., 1:] if (rows, columns) == (1, 1) else cv2.resize(yuv[..., 1:], size, interpolation=cv2.INTER_AREA)
    dtype = np.uint8 if format.bits == 8 else np.uint16
    planes = (yuv[: rgb.shape[0], : rgb.shape[1], 0], chroma[..., 0], chroma[..., 1])
    return tuple(np.clip(np.rint(plane), 0, top).astype(dtype) for plane in planes)
