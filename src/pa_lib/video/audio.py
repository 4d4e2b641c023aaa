"""Sound, copied packet by packet: never decoded, never held in memory for longer than the pictures beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any, cast

import av
import av.error

from pa_lib.errors import InputError
from pa_lib.video.container import open_video
from pa_lib.video.info import VideoInfo

_LEAD_S = Fraction(1, 10)  # Apple's AAC encoder starts 48 ms early, Opus asks for 80 ms


class AudioCopy:
    """All audio tracks of a video on their way into another file.

    Args:
        info: The source.
        output: The container that is being made; every track gets a stream in it.

    Raises:
        InputError: If a track cannot be read, or the container cannot hold it.
    """

    def __init__(self, info: VideoInfo, output: av.container.OutputContainer) -> None:
        self.n_packets: list[int] = [0] * len(info.audio)
        self._info, self._output = info, output
        self._stack = ExitStack()
        self._next: av.Packet[Any] | None = None
        self._targets: dict[int, tuple[int, av.stream.Stream]] = {}
        if not info.audio:
            self._packets: Iterator[av.Packet[Any]] = iter(())
            return
        if info.audio_faults:
            raise self._unreadable(info.audio_faults[0])
        try:
            source = self._stack.enter_context(open_video(info.path, info.limits))
            for number, stream in enumerate(source.streams.audio):
                self._targets[stream.index] = (number, self._add(output, stream, number))
            self._packets = _shown(source.demux(*source.streams.audio))
        except BaseException:
            self._stack.close()
            raise

    def _add(
        self, output: av.container.OutputContainer, stream: av.audio.stream.AudioStream, number: int
    ) -> av.stream.Stream:
        try:
            target = output.add_stream_from_template(stream)
        except (ValueError, av.error.FFmpegError) as error:
            raise InputError(
                f"audio track {number + 1} ({self._info.audio[number]}) does not fit into {output.format.name}; "
                "write a .mkv file, or go on without sound by audio=drop"
            ) from error
        target.time_base = stream.time_base
        # the language distinguishes two tracks and says nothing about a person
        if language := stream.metadata.get("language"):
            target.metadata["language"] = language
        return cast("av.stream.Stream", target)

    def copy_until(self, time_s: Fraction | None) -> None:
        """Copy what is to be decoded before `time_s`, or all the rest.

        Raises:
            InputError: If the source cannot be read.
        """
        while True:
            packet = self._next or self._read()
            self._next = None
            if packet is None:
                return
            if time_s is not None and packet.dts is not None and packet.dts * packet.time_base > time_s:
                self._next = packet
                return
            number, packet.stream = self._targets[packet.stream_index]
            self._output.mux(packet)
            self.n_packets[number] += 1

    def _read(self) -> av.Packet[Any] | None:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError as error:
            if self._info.faults:  # known and reported to end early: its sound ends with it
                return None
            raise self._unreadable(f"its audio cannot be read to the end ({error.strerror})") from error

    def _unreadable(self, what: str) -> InputError:
        return InputError(
            f"input {self._info.path}: {what}; its pictures can be read: go on without sound by audio=drop"
        )

    def close(self) -> None:
        """Close the source."""
        self._stack.close()


def _shown(packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """Leave out what an edit list cuts away: the user who trimmed the sound did not want it to stay in the file.

    A decoder needs a little before the cut to get going, and encoders mark their own first packets in the same way, so
    the last 0.1 s before the first sound that is heard stay, still marked.
    """
    held: dict[int, deque[av.Packet[Any]]] = {}
    started: set[int] = set()
    for packet in packets:
        if not packet.size:
            continue
        track = packet.stream_index
        if packet.is_discard:
            if track not in started:
                held.setdefault(track, deque(maxlen=12)).append(packet)
            continue
        started.add(track)
        for early in held.pop(track, ()):
            if early.pts is None or packet.pts is None or (packet.pts - early.pts) * packet.time_base <= _LEAD_S:
                yield early
        yield packet
