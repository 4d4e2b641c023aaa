"""Two fields of different moments to one picture of one moment, on request: FFmpeg's ``bwdif``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import av

from pa_lib.video.frame import Frame, Picture, PixelFormat, plane_views, to_av_frame
from pa_lib.video.info import VideoInfo
from pa_lib.video.marks import FieldOrder, is_of_fields
from pa_lib.video.orient import UPRIGHT, Orientation


def deinterlacing(info: VideoInfo) -> VideoInfo:
    """The description of a video whose pictures are to be deinterlaced as they are read; a progressive one stays."""
    if info.coded_fields is None:
        return info
    return replace(
        info,
        format=replace(info.format, is_interlaced=False),
        marks=replace(info.marks, fields=None),
        is_deinterlaced=True,
        notes=(*(note for note in info.notes if not is_of_fields(note)), "interlaced pictures are deinterlaced"),
    )


def deinterlaced(
    frames: Iterable[Frame], format: PixelFormat, fields: FieldOrder, orientation: Orientation = UPRIGHT
) -> Iterator[Frame]:
    """Every frame at its time, with the rows of its first field as they are and the others made from their neighbors.

    Args:
        frames: Frames whose pictures hold two fields each.
        format: Format of the pictures.
        fields: Field of the pictures as they are coded that is shown first.
        orientation: Turn that has brought them upright: after one of 90 degrees the rows of a field are columns.
    """
    lying = replace(format, width=format.height, height=format.width) if orientation.is_transposed else format
    graph = _graph(lying, fields)
    held: deque[Frame] = deque()
    for frame in frames:
        if frame.picture is None:  # what is before and behind it has nothing to do with each other
            yield from _rest(graph, held, format, orientation)
            yield frame
            graph = _graph(lying, fields)
            continue
        planes = tuple(orientation.undo(plane) for plane in frame.picture.planes)
        source = to_av_frame(Picture(planes, lying))
        source.pts, source.time_base = frame.index, Fraction(1, 25)  # only their order counts
        graph.vpush(source)
        held.append(frame)
        yield from _ready(graph, held, format, orientation)
    yield from _rest(graph, held, format, orientation)


def _graph(format: PixelFormat, fields: FieldOrder) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=format.width, height=format.height, format=av.VideoFormat(format.name), time_base=Fraction(1, 25)
    )
    steps = (source, graph.add("bwdif", f"mode=send_frame:parity={fields}:deint=all"), graph.add("buffersink"))
    graph.link_nodes(*steps).configure()
    return graph


def _ready(
    graph: av.filter.Graph, held: deque[Frame], format: PixelFormat, orientation: Orientation
) -> Iterator[Frame]:
    while held:
        try:
            done = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        is_as_coded = orientation == UPRIGHT
        planes = tuple(plane if is_as_coded else orientation.apply(plane) for plane in plane_views(done))
        yield held.popleft().with_picture(Picture(planes, format, source=done if is_as_coded else None))


def _rest(graph: av.filter.Graph, held: deque[Frame], format: PixelFormat, orientation: Orientation) -> Iterator[Frame]:
    if held:
        graph.vpush(None)
        yield from _ready(graph, held, format, orientation)
