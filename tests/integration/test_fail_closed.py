"""Faults at every stage: no original masked pixel reaches the output, and no partial file carries its name.

Every kind of fault at every stage: test_fault_matrix.py. The secret is a magenta square, see `_secret`.
"""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from _secret import N_FRAMES, SIDE, ColorFinder, decoded, is_magenta, leaks, pipeline, report_of, secret_clip
from pa_lib.contracts import Clip, ClipMasks
from pa_lib.errors import PaLibError
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import BoxMasker, KalmanTracker, MaskRequest
from pa_lib.pipeline import RunSettings


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return secret_clip(tmp_path / "clip.mkv")


def assert_nothing_leaked(output: Path) -> None:
    assert leaks(output) == [], "frames show the secret"


def test_without_a_fault_everything_is_hidden_and_nothing_redacted(clip: Path, tmp_path: Path) -> None:
    assert is_magenta(decoded(clip)[7]).sum() >= 0.9 * SIDE * SIDE, "the test would prove nothing"
    outcome = pipeline().run(clip, tmp_path / "out.mkv")
    assert_nothing_leaked(tmp_path / "out.mkv")
    assert report_of(outcome).counts == {"untouched": 0, "anonymized": N_FRAMES, "redacted": 0}
    assert outcome.n_redacted == 0


@pytest.mark.parametrize("call", [1, 4, 11])
def test_a_failed_search_redacts_its_frame_and_is_told(clip: Path, tmp_path: Path, call: int) -> None:
    outcome = pipeline(finder=ColorFinder(lambda at: at == call)).run(clip, tmp_path / "out.mkv")
    assert_nothing_leaked(tmp_path / "out.mkv")
    redacted = [record for record in report_of(outcome).frames if record.status == "redacted"]
    assert len(redacted) == outcome.n_redacted == 1
    assert "the network is on fire" in str(redacted[0].fault)


def test_a_finder_that_never_works_redacts_everything(clip: Path, tmp_path: Path) -> None:
    outcome = pipeline(finder=ColorFinder(lambda at: True)).run(clip, tmp_path / "out.mkv")
    assert outcome.n_redacted == N_FRAMES
    assert all(np.ptp(image.reshape(-1, 3), axis=0).max() <= 2 for image in decoded(tmp_path / "out.mkv"))


class Broken(ConventionalAnonymizer):
    """An anonymizer that goes wrong in one window."""

    def __init__(self, how: Callable[[Clip], Clip], at: int = 12) -> None:
        super().__init__("fill", color=(0, 90, 0))
        self.how, self.at = how, at

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        result = super().anonymize(clip, masks, seed=seed)
        return self.how(result) if clip.first_frame == self.at else result


def raises(clip: Clip) -> NoReturn:
    raise RuntimeError("out of ideas")


@pytest.mark.parametrize(
    "how",
    [
        raises,
        lambda clip: replace(clip, frames=clip.frames[:, :, :-2]),
        lambda clip: replace(clip, frames=clip.frames.float() * float("nan")),
        lambda clip: replace(clip, frames=clip.frames[:0]),
        lambda clip: None,
    ],
    ids=["exception", "wrong shape", "NaN", "no frames", "nothing"],
)
def test_a_broken_anonymizer_redacts_its_frames(clip: Path, tmp_path: Path, how: Callable[[Clip], Clip]) -> None:
    outcome = pipeline(module=Broken(how)).run(clip, tmp_path / "out.mkv")
    assert_nothing_leaked(tmp_path / "out.mkv")
    assert [record.index for record in report_of(outcome).frames if record.status == "redacted"] == [12]


class BrokenMasker(BoxMasker):
    def mask(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no silhouette")


class BrokenTracker(KalmanTracker):
    def track(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("lost everybody")


class SilentMasker(BoxMasker):
    def mask(self, request: MaskRequest) -> Any:
        return None


@pytest.mark.parametrize("masker", [BrokenMasker(), SilentMasker()], ids=["exception", "nothing"])
def test_a_broken_masker_redacts(clip: Path, tmp_path: Path, masker: BoxMasker) -> None:
    outcome = pipeline(masker=masker).run(clip, tmp_path / "out.mkv")
    assert outcome.n_redacted == N_FRAMES
    assert_nothing_leaked(tmp_path / "out.mkv")


def test_a_broken_tracker_ends_the_run_and_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="lost everybody"):
        pipeline(tracker=BrokenTracker()).run(clip, tmp_path / "out.mkv")
    assert list(tmp_path.iterdir()) == [clip]


@pytest.mark.parametrize(
    "parts",
    [{"finder": ColorFinder(lambda at: at == 4)}, {"module": Broken(raises)}, {"masker": BrokenMasker()}],
    ids=["finder", "module", "masker"],
)
def test_abort_ends_the_run_and_leaves_no_video(clip: Path, tmp_path: Path, parts: dict[str, Any]) -> None:
    with pytest.raises(PaLibError, match=r"frame .* could not be protected"):
        pipeline(**parts).run(clip, tmp_path / "out.mkv", settings=RunSettings(on_failure="abort"))
    assert list(tmp_path.iterdir()) == [clip]


def test_damaged_frames_are_redacted(clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    clip.write_bytes(data)
    outcome = pipeline().run(clip, tmp_path / "out.mkv")
    assert_nothing_leaked(tmp_path / "out.mkv")
    report = report_of(outcome)
    assert outcome.n_redacted >= 1
    assert len(report.frames) == len(decoded(tmp_path / "out.mkv"))


def test_tracks_of_another_video_are_refused(clip: Path, tmp_path: Path) -> None:
    outcome = pipeline().run(clip, tmp_path / "out.mkv")
    other = tmp_path / "other.mkv"
    other.write_bytes(clip.read_bytes() + b"\0")
    with pytest.raises(PaLibError, match="another video"):
        pipeline().run(other, tmp_path / "other_out.mkv", settings=RunSettings(tracks=outcome.files["tracks"]))
    assert not (tmp_path / "other_out.mkv").exists()


def command(source: Path, output: Path) -> list[str]:
    settings = [f"input={source}", f"output={output}", "people/finder=centerface", "people/chooser=all"]
    return [sys.executable, "-c", "from pa_lib.cli.anonymize import run; run()", *settings, "people/masker=ellipse"]


@pytest.mark.parametrize("room_bytes", [4_000, 20_000], ids=["for no video", "for no report"])
def test_a_full_disk_leaves_nothing(clip: Path, tmp_path: Path, room_bytes: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))

    done = subprocess.run(
        command(clip, tmp_path / "out.mkv"), preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().count("pa-anonymize: error: ") == 1
    assert list(tmp_path.iterdir()) == [clip]


@pytest.mark.slow
def test_sigkill_at_random_moments_leaves_nothing_partial(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    began = time.monotonic()
    subprocess.run(command(clip, output), check=True, capture_output=True)
    whole_run_s = time.monotonic() - began
    complete = len(decoded(output))
    for made in set(tmp_path.iterdir()) - {clip}:
        made.unlink()
    moments = random.Random(5)
    for _ in range(6):
        process = subprocess.Popen(command(clip, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_run_s * moments.uniform(0.5, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)
        left = {path.name for path in tmp_path.iterdir()} - {"clip.mkv"}
        assert left in (set(), {"out.mkv", "out.tracks.json", "out.report.json", "out.report.html"})
        if output.exists():
            assert len(decoded(output)) == complete
        for made in set(tmp_path.iterdir()) - {clip}:
            made.unlink()


def test_the_same_seed_gives_the_same_video(clip: Path, tmp_path: Path) -> None:
    first = pipeline(module=ConventionalAnonymizer("noise")).run(clip, tmp_path / "a.mkv", settings=RunSettings(seed=3))
    second = pipeline(module=ConventionalAnonymizer("noise")).run(
        clip, tmp_path / "b.mkv", settings=RunSettings(seed=3)
    )
    pictures = [np.stack(decoded(outcome.files["video"])) for outcome in (first, second)]
    assert np.array_equal(*pictures)
