"""Sound on its way into another file: copied packet by packet where the container holds it, else converted on request.

No track is held in memory for longer than the pictures beside it. One that cannot go does not stop the others.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal, cast

import av
import av.error
from av.audio.stream import AudioStream
from av.stream import Disposition

from pa_lib.errors import InputError, SettingError
from pa_lib.video.clock import film_packets
from pa_lib.video.container import open_video
from pa_lib.video.info import VideoInfo

AudioWish = Literal["copy", "convert", "drop"]

_LEAD_S = Fraction(1, 10)  # Apple's AAC encoder starts 48 ms early, Opus asks for 80 ms
_CONVERTED_TO = {"webm": "libopus"}  # AAC elsewhere: every player knows it
_BITS_A_CHANNEL = 96_000
_MARKS = (
    Disposition.default
    | Disposition.dub
    | Disposition.original
    | Disposition.comment
    | Disposition.forced
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
)


@dataclass(frozen=True)
class _Plan:
    """What becomes of one track, and the remarks about it where it is not copied as it is."""

    number: int
    action: Literal["copy", "convert", "leave"]
    remarks: tuple[str, ...] = ()


def is_sound_held(info: VideoInfo, muxer: str) -> bool:
    """Whether a container takes every sound track that can be decoded, as it is.

    Raises:
        InputError: If the source cannot be read any more.
    """
    with _source(info) as source:
        tracks = enumerate(source.streams.audio, 1)
        return all(number in info.audio_faults or _is_held(stream, muxer) for number, stream in tracks)


def _plans(
    info: VideoInfo, streams: Sequence[AudioStream], muxer: str, wish: AudioWish, suffix: str
) -> Iterator[_Plan]:
    for number, stream in enumerate(streams, 1):
        name = f"sound track {number} ({info.audio[number - 1]})"
        fault = info.audio_faults.get(number)
        if fault is not None:  # muxers look into packets, too, and refuse damaged ones when all the work is done
            yield _Plan(number, "leave", (f"{name} {fault}; it is left out",))
            continue
        lost = stream.disposition & _MARKS & ~_marks_held(muxer)
        marks = [str(mark.name) for mark in Disposition if mark & lost]
        remarks = (f"{name} loses its mark as {', '.join(marks)}: a {suffix} file does not hold it",) if marks else ()
        if _is_held(stream, muxer):
            yield _Plan(number, "copy", remarks)
        elif wish == "convert":
            codec = _CONVERTED_TO.get(muxer, "aac").removeprefix("lib")
            converted = f"{name} is converted to {codec}: a {suffix} file cannot hold it"
            yield _Plan(number, "convert", (converted, *remarks))
        else:
            other = "" if muxer == "matroska" or not _is_held(stream, "matroska") else ", or name a .mkv file as output"
            raise SettingError(
                f"input {info.path}: {name} does not fit into a {suffix} file; convert it by write.audio=convert, "
                f"leave all sound out by write.audio=drop{other}"
            )


def _is_held(stream: AudioStream, muxer: str) -> bool:
    """Whether the container takes the track as it is: found by writing the header of a file that is thrown away."""
    if not _sample_rate(stream):
        return False
    scratch = av.open(io.BytesIO(), "w", format=muxer)
    try:
        _add_copy(scratch, stream)
        scratch.start_encoding()
    except (ValueError, av.error.FFmpegError):
        return False
    finally:
        with suppress(ValueError, OSError, av.error.FFmpegError):
            scratch.close()
    return True


@cache
def _marks_held(muxer: str) -> Disposition:
    """The marks of a sound track that a container gives back: found by writing a file with a track for each."""
    file, marks = io.BytesIO(), [mark for mark in Disposition if mark & _MARKS]
    with av.open(file, "w", format=muxer) as written:
        streams = []
        for mark in marks:
            streams.append(cast("AudioStream", written.add_stream(_CONVERTED_TO.get(muxer, "aac"), rate=48000)))
            streams[-1].disposition = mark
        for stream in streams:
            silence = av.AudioFrame("s16", "stereo", 2048)
            silence.sample_rate, silence.pts = 48000, 0
            written.mux([*stream.encode(silence), *stream.encode(None)])
    file.seek(0)
    held = Disposition(0)
    with av.open(file) as read:
        for mark, stream in zip(marks, read.streams.audio, strict=True):
            held |= stream.disposition & mark
    return held


def _sample_rate(stream: AudioStream) -> int:
    return stream.codec_context.sample_rate if stream.codec_context is not None else 0


def _add_copy(output: av.container.OutputContainer, stream: AudioStream) -> av.stream.Stream:
    """A stream of `output` that takes the packets of `stream`.

    Raises:
        ValueError: If the container does not list the codec.
        av.error.FFmpegError: If it refuses its parameters.
    """
    try:
        target = output.add_stream_from_template(stream)
        target.codec_context.extradata = _without_comments(stream)
    except ValueError:
        if output.format.name != "matroska":
            raise
        # Matroska holds whatever WAV and AVI know, e.g. Windows Media, but lists only codecs with names of its own:
        # the parameters go there by a filter that does nothing, past PyAV's look at the list.
        target = cast("AudioStream", output.add_mux_stream("aac"))
        av.BitStreamFilterContext("null", stream, target)
    target.time_base = stream.time_base
    return cast("av.stream.Stream", target)


def _without_comments(stream: AudioStream) -> bytes | None:
    """What a decoder begins with, without the comments that Vorbis and FLAC keep there: they may name people."""
    setup = stream.codec_context.extradata
    if setup is None or len(setup) < 3:
        return setup
    if setup[:4] == b"fLaC":
        return setup[8:42]  # the first block, which is what all decoders need
    if stream.codec_context.name != "vorbis" or setup[0] != 2:
        return setup
    sizes, at = [], 1
    for _ in range(2):  # lengths of all headers but the last, as in Ogg: bytes of 255 and one below
        size = 0
        while setup[at] == 255:
            size, at = size + 255, at + 1
        sizes.append(size + setup[at])
        at += 1
    identity, codebooks = setup[at : at + sizes[0]], setup[at + sum(sizes) :]
    comments = b"\x03vorbis" + bytes(8) + b"\x01"  # no vendor, no comments, the framing bit
    return bytes([2, len(identity), len(comments)]) + identity + comments + codebooks


@contextmanager
def _source(info: VideoInfo) -> Iterator[av.container.InputContainer]:
    try:
        with open_video(info.path, info.limits) as source:
            if len(source.streams.audio) != len(info.audio):
                raise InputError(f"input {info.path} has other sound than before; was it changed meanwhile?")
            yield source
    except av.error.FFmpegError as error:
        raise InputError(f"input {info.path} cannot be read any more ({error.strerror})") from error


@dataclass
class _Track:
    """One track on its way. Packets and bytes are counted where they are copied, see `AudioCopy.check`."""

    stream: av.stream.Stream
    source: AudioStream
    encoder: AudioStream | None = None
    n_packets: int = 0
    n_bytes: int = 0


class AudioCopy:
    """The audio tracks of a video on their way into another file.

    `remarks` holds one line for every track that is not copied, or cannot be decoded.

    Args:
        info: The source.
        output: The container that is being made; every track that goes there gets a stream in it.
        wish: See `WriteSettings.audio`.
        suffix: Suffix of the output, for messages.

    Raises:
        SettingError: If the container cannot hold a track as it is, and converting it was not asked for.
        InputError: If the source cannot be read.
    """

    def __init__(self, info: VideoInfo, output: av.container.OutputContainer, wish: AudioWish, suffix: str) -> None:
        self._info, self._output = info, output
        self._stack = ExitStack()
        self._next: av.Packet[Any] | None = None
        self._tracks: dict[int, _Track] = {}
        self.remarks: tuple[str, ...] = ()
        self._packets: Iterator[av.Packet[Any]] = iter(())
        if wish == "drop" or not info.audio:
            return
        try:
            source = self._stack.enter_context(_source(info))
            used = []
            plans = list(_plans(info, source.streams.audio, output.format.name, wish, suffix))
            self.remarks = tuple(remark for plan in plans for remark in plan.remarks)
            for plan in plans:
                stream = source.streams.audio[plan.number - 1]
                if plan.action == "leave":
                    continue
                used.append(stream)
                self._tracks[stream.index] = self._added(stream, plan.action)
            if used:
                self._packets = _shown(film_packets(source, used, info.clock))
        except BaseException:
            self._stack.close()
            raise

    def _added(self, stream: AudioStream, action: str) -> _Track:
        if action == "copy":
            track = _Track(_add_copy(self._output, stream), stream)
        else:
            encoder = _add_encoder(self._output, stream)
            track = _Track(cast("av.stream.Stream", encoder), stream, encoder)
        track.stream.disposition = cast("Disposition", int(stream.disposition & _MARKS))
        # the language distinguishes two tracks and says nothing about a person
        if language := stream.metadata.get("language"):
            track.stream.metadata["language"] = language
        return track

    def copy_until(self, time_s: Fraction | None) -> None:
        """Copy what is to be decoded before `time_s`, or all the rest.

        Raises:
            InputError: If the source cannot be read.
        """
        while True:
            packet = self._next or self._read()
            self._next = None
            if packet is None:
                break
            if time_s is not None and packet.dts is not None and packet.dts * packet.time_base > time_s:
                self._next = packet
                return
            self._take(packet, self._tracks[packet.stream_index])
        if time_s is None:
            for track in self._tracks.values():
                self._decode(track, None)  # some decoders are a packet behind
                self._encode(track, None)

    def _take(self, packet: av.Packet[Any], track: _Track) -> None:
        if track.encoder is None:
            packet.stream = track.stream
            track.n_packets, track.n_bytes = track.n_packets + 1, track.n_bytes + packet.size
            try:
                self._output.mux(packet)
            except av.error.InvalidDataError as error:
                raise InputError(
                    f"input {self._info.path}: a damaged packet of its sound cannot be copied; go on without sound by "
                    "write.audio=drop"
                ) from error
            return
        self._decode(track, packet)

    def _decode(self, track: _Track, packet: av.Packet[Any] | None) -> None:
        if track.encoder is None:
            return
        try:
            frames = track.source.codec_context.decode(packet)
        except av.error.FFmpegError:
            frames = []  # what a player would skip, too; the next packet's time keeps the sound in step
        for frame in frames:
            self._encode(track, frame)

    def _encode(self, track: _Track, frame: av.AudioFrame | None) -> None:
        if track.encoder is not None:
            self._output.mux(track.encoder.encode(frame))

    def _read(self) -> av.Packet[Any] | None:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError as error:
            if self._info.faults:  # known and reported to end early: its sound ends with it
                return None
            raise InputError(
                f"input {self._info.path}: its sound cannot be read to the end ({error.strerror}); its pictures can: "
                "go on without sound by write.audio=drop"
            ) from error

    def check(self, found: Sequence[tuple[int, int]]) -> None:
        """Compare with what was written.

        Args:
            found: Packets and bytes of every sound track of the file that was made.

        Raises:
            OSError: If sound is missing there.
        """
        if len(found) != len(self._tracks):
            raise OSError(f"it holds {len(found)} sound tracks, {len(self._tracks)} were written")
        for number, (track, (n_packets, n_bytes)) in enumerate(zip(self._tracks.values(), found, strict=True), 1):
            # Containers cut uncompressed sound into other packets of as many bytes, and leave headers out of others.
            if track.encoder is None and track.n_packets != n_packets and track.n_bytes != n_bytes:
                raise OSError(
                    f"its sound track {number} holds {n_packets} packets of {n_bytes} bytes in all, "
                    f"{track.n_packets} of {track.n_bytes} bytes were written"
                )

    def close(self) -> None:
        """Close the source."""
        self._stack.close()


def _add_encoder(output: av.container.OutputContainer, stream: AudioStream) -> AudioStream:
    name = _CONVERTED_TO.get(output.format.name, "aac")
    rates = av.codec.Codec(name, "w").audio_rates or []
    rate = _sample_rate(stream)
    encoder = cast("AudioStream", output.add_stream(name, rate=rate if rate in rates else 48000))
    n_channels = stream.codec_context.channels
    encoder.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(n_channels, "stereo")
    encoder.codec_context.bit_rate = _BITS_A_CHANNEL * encoder.codec_context.channels
    return encoder


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
