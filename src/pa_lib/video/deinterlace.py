"""Two fields of different moments to one picture of one moment, on request: FFmpeg's ``bwdif``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import av

from pa_lib.video.frame import Frame, Picture, PixelFormat, plane_views, to_av_frame
from pa_lib.video.info import VideoInfo
from pa_lib.video.marks import FieldOrder


def deinterlacing(info: VideoInfo) -> VideoInfo:
    """The description of a video whose pictures are to be deinterlaced as they are read; a progressive one stays."""
    if info.marks.fields is None or info.format.is_rgb:
        return info
    return replace(
        info,
        format=replace(info.format, is_interlaced=False),
        marks=replace(info.marks, fields=None),
        deinterlaced=info.marks.fields,
        notes=(*info.notes, "interlaced pictures are deinterlaced"),
    )


def deinterlaced(frames: Iterable[Frame], format: PixelFormat, fields: FieldOrder) -> Iterator[Frame]:
    """Every frame at its time, with the rows of its first field as they are and the others made from their neighbors.

    Args:
        frames: Frames whose pictures hold two fields each.
        format: Format of the pictures.
        fields: Field that is shown first.
    """
    graph = _graph(format, fields)
    held: deque[Frame] = deque()
    for frame in frames:
        if frame.picture is None:  # what is before and behind it has nothing to do with each other
            yield from _rest(graph, held, format)
            yield frame
            graph = _graph(format, fields)
            continue
        source = to_av_frame(frame.picture)
        source.pts, source.time_base = frame.index, Fraction(1, 25)  # only their order counts
        graph.vpush(source)
        held.append(frame)
        yield from _ready(graph, held, format)
    yield from _rest(graph, held, format)


def _graph(format: PixelFormat, fields: FieldOrder) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=format.width, height=format.height, format=av.VideoFormat(format.name), time_base=Fraction(1, 25)
    )
    steps = (source, graph.add("bwdif", f"mode=send_frame:parity={fields}:deint=all"), graph.add("buffersink"))
    graph.link_nodes(*steps).configure()
    return graph


def _ready(graph: av.filter.Graph, held: deque[Frame], format: PixelFormat) -> Iterator[Frame]:
    while held:
        try:
            done = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        yield held.popleft().with_picture(Picture(plane_views(done), format, source=done))


def _rest(graph: av.filter.Graph, held: deque[Frame], format: PixelFormat) -> Iterator[Frame]:
    if held:
        graph.vpush(None)
        yield from _ready(graph, held, format)
