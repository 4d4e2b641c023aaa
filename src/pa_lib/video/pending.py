"""Packets on their way through the decoder: which picture came from which, when it is shown, and which are lost.

The decoder hands back with every picture the number of the packet that it came from. A packet without a picture is
lost only if it was to show one: some hold a picture that is kept for reference alone, some repeat the one before, some
hold the second field of one. Counting the decoder's errors alone would not do, since after a key frame that is lost
pictures vanish without any.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType

from pa_lib.video.info import VideoInfo
from pa_lib.video.shown import header_reader

# Their decoders may give neither picture nor error for a packet that is damaged or leans on one; others raise one.
_SILENT_CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg1video", "mpeg2video")
_FIELD_CODECS = ("h264", "mpeg2video")  # may have a packet for each field of a picture
_DEEP_CODECS = ("h264", "hevc")  # what is decoded before a picture without a future may be shown after it
_FURTHEST = 32  # packets: H.264 and H.265 move a picture by 16 at most, and a field may have a packet of its own
_N_REMEMBERED = 256


@dataclass
class Pending:
    """A packet from which no picture has come yet.

    Args:
        index: Number of the packet in order of decoding.
        time: Time of its picture in units of the video's `time_base`; None where the file does not say.
        duration: Duration in the same units; 0 if unknown.
        is_corrupt: Whether the demuxer flags it.
        shows: Whether it is to show a picture, by its own header.
    """

    index: int
    time: int | None
    duration: int
    is_corrupt: bool
    shows: bool


class PendingPackets:
    """What the decoder has not given back yet.

    Args:
        info: The video.
        stream: The stream that is decoded.
    """

    def __init__(self, info: VideoInfo, stream: av.video.stream.VideoStream) -> None:
        self._info = info
        self._keys: deque[int] = deque([0], maxlen=2)  # packets that need no other
        self._reads_header = header_reader(info.codec, stream.codec_context.extradata)
        self._is_in_order = info.clock.times != "shown"  # the decoder's order says which is shown when
        self._open: dict[int, Pending] = {}  # in order of decoding
        self._by_time: list[tuple[int, int]] = []  # heap of time and index; in order of decoding the free times
        self._n_packets = self._n_pictures = 0
        self.n_errors = 0  # errors of the decoder that no packet has been found for
        self._has_begun = False
        self._first_key: int | None = None
        self._last: int | None = None  # time of the last picture or loss
        self._with_fields: deque[int] = deque(maxlen=_N_REMEMBERED)  # packets whose picture has two fields
        self._lost: deque[int] = deque(maxlen=_N_REMEMBERED)

    def take(self, packet: av.Packet[Any]) -> None:
        """Note a packet and number it, before it is decoded."""
        index = self._n_packets
        packet.opaque = index
        self._n_packets += 1
        if packet.is_keyframe:
            self._keys.append(index)
            self._first_key = index if self._first_key is None else self._first_key
        if packet.is_discard:
            return
        time = packet.pts
        if self._info.clock.times == "decoded" and packet.dts is not None:
            time = packet.dts
        elif self._info.clock.times == "none":
            time = None
        shows = self._reads_header is None or self._reads_header(memoryview(packet))
        self._open[index] = Pending(index, time, packet.duration or 0, packet.is_corrupt, shows)
        if time is not None and (shows or not self._is_in_order):
            heapq.heappush(self._by_time, (time, index))

    @property
    def restart(self) -> int:
        """Number of a packet from which everything that is still awaited can be decoded again."""
        return self._keys[0]

    @property
    def is_any_awaited(self) -> bool:
        """Whether a picture is still to come."""
        return any(entry.shows for entry in self._open.values())

    def is_open(self, index: int) -> bool:
        """Whether no picture has come from a packet, and it has not been given up."""
        return index in self._open

    def fail(self) -> Iterator[Pending]:
        """An error of the decoder: the loss, if its place can only be here."""
        if not self._has_begun and self._first_key != 0:
            return  # the file begins between key frames
        self.n_errors += 1
        if self._is_in_order:
            time = self._next_time()
            self._note(time)
            yield Pending(-1, time, 0, False, True)

    def lost_before(self, frame: av.VideoFrame) -> Iterator[Pending]:
        """The packets that are known to be lost once the decoder has given this picture, each with a time."""
        index, source = self._source(frame)
        if not self._has_begun:
            self._begin(index, source)
        # nothing that was decoded before a key frame is shown after it
        is_anchor = frame.key_frame or (frame.pict_type != PictureType.B and self._info.codec not in _DEEP_CODECS)
        limit = index if is_anchor else index - _FURTHEST
        late = [entry for entry in self._open.values() if entry.index < limit and self._has_no_place(entry)]
        for entry in late:
            yield from self._resolved(entry)
        if not self._is_in_order and source is not None and source.time is not None:
            yield from self._passed_over(source.time)

    def picture(self, frame: av.VideoFrame) -> Pending | None:
        """Time and damage of a picture; None if it is given after its packet was counted as lost."""
        index, source = self._source(frame)
        if source is None:
            if index in self._lost:
                return None
            source = Pending(-1, None if self._is_in_order else frame.pts, frame.duration or 0, False, True)
        self._open.pop(source.index, None)
        if frame.interlaced_frame and self._info.codec in _FIELD_CODECS:
            self._with_fields.append(source.index)
        time = self._next_time() if self._is_in_order or source.time is None else source.time
        self._note(time)
        return Pending(source.index, time, source.duration or frame.duration or 0, source.is_corrupt, True)

    def rest(self) -> Iterator[Pending]:
        """The packets that are lost once the decoder has given all it had."""
        if not self._is_in_order:
            yield from self._passed_over(None)
        for entry in list(self._open.values()):
            yield from self._resolved(entry)

    # -- whose picture --------------------------------------------------------------------------------------------

    def _source(self, frame: av.VideoFrame) -> tuple[int, Pending | None]:
        index: Any = frame.opaque
        if index is None:  # a decoder that does not hand the number on
            at_that_time = (entry.index for entry in self._open.values() if entry.time == frame.pts)
            index = next(at_that_time, next(iter(self._open), -1))
        return index, self._open.get(index)

    def _has_no_place(self, entry: Pending) -> bool:
        return self._is_in_order or entry.time is None

    # -- times ----------------------------------------------------------------------------------------------------

    def _note(self, time: int) -> None:
        self._last = time if self._last is None else max(self._last, time)
        self._n_pictures += 1

    def _next_time(self) -> int:
        """The time of the next picture in order."""
        info = self._info
        if info.clock.times == "none":
            return round(self._n_pictures / (Fraction(info.fps).limit_denominator(100_000) * info.time_base))
        if self._is_in_order and self._by_time:
            return heapq.heappop(self._by_time)[0]
        return 0 if self._last is None else self._last + info.nominal_duration

    def _begin(self, index: int, source: Pending | None) -> None:
        """Leave out, as players do, what leans on pictures from before the file began.

        That is what comes before the first key frame, unless the decoder shows it, and what is shown before that frame.
        """
        self._has_begun = True
        first_key = index if self._first_key is None else self._first_key
        for entry in list(self._open.values()):
            is_leading = (
                index == first_key
                and source is not None
                and source.time is not None
                and entry.time is not None
                and entry.time < source.time
            )
            if entry.index < min(index, first_key) or (is_leading and not self._is_in_order):
                del self._open[entry.index]
                if self._is_in_order and entry.shows and self._by_time:
                    heapq.heappop(self._by_time)

    # -- losses ---------------------------------------------------------------------------------------------------

    def _passed_over(self, time: int | None) -> Iterator[Pending]:
        """The losses whose time lies before that of a picture, which the decoder gives back in order of time."""
        while self._by_time and (time is None or self._by_time[0][0] < time):
            entry = self._open.get(heapq.heappop(self._by_time)[1])
            if entry is not None:
                yield from self._resolved(entry)

    def _resolved(self, entry: Pending) -> Iterator[Pending]:
        """The entry, if it is lost and its place is not filled yet."""
        del self._open[entry.index]
        is_blamed = entry.shows and self.n_errors > 0
        if is_blamed:
            self.n_errors -= 1
        elif not entry.is_corrupt and not self._is_silent_loss(entry):
            if self._is_in_order and entry.shows and self._by_time:
                heapq.heappop(self._by_time)  # the picture before stays for its time
            return
        self._lost.append(entry.index)
        if self._is_in_order and is_blamed:
            return  # shown when the error came
        time = self._next_time() if self._has_no_place(entry) else entry.time
        assert time is not None
        self._note(time)
        yield Pending(entry.index, time, entry.duration, entry.is_corrupt, True)

    def _is_silent_loss(self, entry: Pending) -> bool:
        is_second_field = entry.index - 1 in self._with_fields
        return entry.shows and self._info.codec in _SILENT_CODECS and not is_second_field
