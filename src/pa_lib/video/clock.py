"""From the clock of a file to that of the film, which begins at 0 and runs on where the file's begins again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av

_LONGEST_GAP_S = 10  # as FFmpeg's own tool: a longer gap is another clock, a shorter one may be a loss on the way
_LONGEST_STEP_BACK_S = Fraction(1, 10)
_N_CLOCKS = 4  # tracks reach a joint one after the other, and a damaged time may seem to be one
_NO_TIMES, _CLOCK_JUMPS = 0x80, 0x200  # AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT of libavformat

Times = Literal["shown", "rising", "decoded", "none"]


@dataclass(frozen=True)
class Clock:
    """What the times of a file's packets mean.

    Args:
        start_s: Time by the file's clock at which the film begins, in seconds.
        times: Kind of the packets' times. ``shown``: when a picture is shown. ``rising``: the same, but in order of
            decoding, so that only the order in which the decoder gives pictures back says which is shown when.
            ``decoded``: as before, and only the times of decoding can be used (AVI). ``none``: a bare stream.
        can_jump: Whether the clock may begin again within the file, as in transport streams that were joined.
    """

    start_s: Fraction = Fraction(0)
    times: Times = "shown"
    can_jump: bool = False

    def units(self, time_base: Fraction) -> int:
        """`start_s` in units of `time_base`."""
        return round(self.start_s / time_base)


def has_no_times(container: av.container.InputContainer) -> bool:
    """Whether the format is a bare stream, whose times the demuxer makes up."""
    return bool(container.format.flags & _NO_TIMES)


def can_jump(container: av.container.InputContainer) -> bool:
    """Whether the format's clock begins anywhere and may begin again: transport and program streams."""
    return bool(container.format.flags & _CLOCK_JUMPS)


def film_packets(
    container: av.container.InputContainer, streams: Sequence[av.stream.Stream], clock: Clock
) -> Iterator[av.Packet[Any]]:
    """The packets of some streams that hold anything, with their times on the clock of the film.

    Raises:
        av.error.FFmpegError: If the file cannot be read.
    """
    wanted = {stream.index for stream in streams}
    # a joint lies at the same place for all tracks only if all of them are looked at, whichever are asked for
    joints = _Joints() if clock.can_jump else None
    last: dict[int, int] = {}
    looked_at = [*container.streams.video, *container.streams.audio] if joints else streams
    for packet in container.demux(*looked_at):
        if not packet.size:
            continue
        shift = joints.shift(packet) if joints else Fraction(0)
        if packet.stream_index not in wanted:
            continue
        units = round((shift - clock.start_s) / packet.time_base)
        if joints and packet.dts is not None:
            # a track that is longer than the others at a joint is caught up by those behind it
            units = max(units, last.get(packet.stream_index, packet.dts + units - 1) + 1 - packet.dts)
            last[packet.stream_index] = packet.dts + units
        if units:
            if packet.pts is not None:
                packet.pts += units
            if packet.dts is not None:
                packet.dts += units
        yield packet


class _Joints:
    """What has to be added to the times of packets, so that they go on where a clock begins again."""

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]  # of the clocks seen last, the newest first
        self._next: dict[int, Fraction] = {}  # when each track's next packet is due
        self._last: dict[int, tuple[Fraction, Fraction]] = {}  # time and length of each track's last packet

    def shift(self, packet: av.Packet[Any]) -> Fraction:
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return self._shifts[0]
        time, due = stamp * packet.time_base, self._next.get(packet.stream_index)
        shift = self._shifts[0]
        if due is not None:
            shift = min(self._shifts, key=lambda known: abs(time + known - due))
            if not -_LONGEST_STEP_BACK_S <= time + shift - due <= _LONGEST_GAP_S:
                shift = due - time
                self._shifts = [shift, *self._shifts[: _N_CLOCKS - 1]]
        self._next[packet.stream_index] = time + shift + self._length(packet, time)
        return shift

    def _length(self, packet: av.Packet[Any], time: Fraction) -> Fraction:
        """The packet's own duration, else the time since the one before."""
        before, length = self._last.get(packet.stream_index, (time, Fraction(0)))
        if packet.duration:
            length = packet.duration * packet.time_base
        elif 0 < time - before < 1:
            length = time - before
        self._last[packet.stream_index] = (time, length)
        return length
