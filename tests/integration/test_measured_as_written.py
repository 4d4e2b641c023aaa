"""What is measured is what is written: doubles in a file, beside the same file measured, and on photos under attack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Images

from _clips import make_clip, scene
from pa_lib.cli.build import build_module
from pa_lib.cli.compose import compose
from pa_lib.contracts import Batch, Decision, Detection, Image, Person, PersonMask, Track
from pa_lib.errors import InputError
from pa_lib.evaluation.attack import anonymized_photos
from pa_lib.evaluation.clips import module_results
from pa_lib.evaluation.maskers import Maskers
from pa_lib.evaluation.pairs import ClipPair
from pa_lib.evaluation.videos import OpenedPair, composited_results
from pa_lib.functional.boxes import bounding_box
from pa_lib.modules import AbstractAnonymizer, Photos
from pa_lib.people import (
    AbstractFinder,
    AbstractMasker,
    FrameMasks,
    HeadMasker,
    HideAll,
    KalmanTracker,
    MaskRequest,
    TracksRecord,
    write_tracks,
)
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.pipeline.protect import protect_frames
from pa_lib.video import WriteSettings, fingerprint, probe, read_frames

_N, _HEIGHT, _WIDTH = 5, 120, 160
_FACE = np.array([[-9.6, 0], [9.6, 0], [0, 11.3], [-8.2, 20], [8.2, 20]]) * 0.5  # a scale of 10 px


@pytest.fixture(scope="module")
def doubles() -> AbstractAnonymizer:
    return build_module(compose("anonymize", ["module=doubles", "input=clip.mp4"]), {})


def recorded(source: Path, n_frames: int = _N) -> TracksRecord:
    """One face that moves to the right, in the middle of the frame."""
    places = np.array([70.0, 55.0]) + np.arange(n_frames)[:, None] * [1.5, 0.5]
    marks = (places[:, None] + _FACE).astype(np.float32)
    boxes = np.concatenate([places - np.array([10, 8]), places + np.array([10, 18])], axis=1).astype(np.float32)
    face = Track(1, "face", np.arange(n_frames), boxes, np.ones(n_frames, dtype=np.float32), marks)
    return TracksRecord(
        source.name,
        fingerprint(source),
        _WIDTH,
        _HEIGHT,
        n_frames,
        25.0,
        np.arange(n_frames) / 25,
        (Person(1, (face,)),),
        (Decision(1, True, "test"),),
        searched=frozenset(range(n_frames)),
    )


# Small heads: doubles cover more.
MASKER = {"_target_": "pa_lib.people.HeadMasker", "growth": 0.6, "face_scale": 1.0}


def masker() -> HeadMasker:
    return HeadMasker(growth=0.6, face_scale=1.0)


class NoFinder(AbstractFinder):
    """Is not asked: there is a tracks file."""

    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        raise AssertionError("searched again")

    def release(self) -> None:
        pass


def written(folder: Path, doubles: AbstractAnonymizer) -> ClipPair:
    """What `pa-anonymize module=doubles` leaves of a clip, without a loss."""
    source = make_clip(
        folder / "clip.mkv", n_frames=_N, width=_WIDTH, height=_HEIGHT, codec="ffv1", pixel_format="yuv420p"
    )
    tracks = folder / "own.tracks.json"
    write_tracks(tracks, recorded(source))
    config = compose("anonymize", ["module=doubles", "input=clip.mkv", "seed=3"])
    kept = {"people": {"masker": MASKER}, "module": config["module"], "seed": 3}
    lossless = WriteSettings(codec="ffv1")
    pipeline = AnonymizationPipeline(NoFinder(), KalmanTracker(), HideAll(), masker(), doubles, write=lossless)
    files = pipeline.run(source, settings=RunSettings(tracks=tracks, seed=3, config=kept)).files
    return ClipPair(source, files["video"], files["tracks"], files["report"])


def test_a_file_is_measured_under_the_masks_that_its_run_extended(tmp_path: Path, doubles: AbstractAnonymizer) -> None:
    pair = written(tmp_path, doubles)
    (result,) = OpenedPair(pair).results()
    differs = (result.source != result.anonymized).any(2, keepdim=True)
    assert not bool((differs & (result.masks == 0)).any()), "a pixel that counts as kept was replaced"
    # The masker alone would have counted some of them as kept.
    (narrow,) = OpenedPair(replace(pair, report=None), maskers=Maskers(masker(), MASKER)).results()
    assert bool((differs & (narrow.masks == 0)).any())
    assert bool((narrow.masks <= result.masks).all())


def test_what_is_measured_before_encoding_is_what_is_written(tmp_path: Path, doubles: AbstractAnonymizer) -> None:
    pair = written(tmp_path, doubles)
    (encoded,) = OpenedPair(pair).results()
    again = tmp_path / "again.mkv"
    (composited,) = composited_results(
        pair.original,
        again,
        recorded(pair.original),
        masker(),
        doubles,
        seed=3,
        write=WriteSettings(codec="ffv1"),
    )
    assert torch.equal(composited.anonymized, encoded.anonymized)
    assert torch.equal(composited.masks, encoded.masks)


@pytest.mark.parametrize("module", [None, {"_target_": "pa_lib.modules.ConventionalAnonymizer"}])
def test_a_report_without_the_reference_is_refused(
    tmp_path: Path, doubles: AbstractAnonymizer, module: Mapping[str, Any] | None
) -> None:
    pair = written(tmp_path, doubles)
    assert pair.report is not None
    text = pair.report.read_text()
    report = json.loads(text)
    report["config"]["module"] = module
    pair.report.write_text(json.dumps(report))
    with pytest.raises(InputError, match="unknown which pixels were replaced"):
        OpenedPair(pair)


class TheMask(AbstractMasker):
    """Gives one mask, whatever is asked."""

    def __init__(self, alpha: torch.Tensor) -> None:
        self.alpha = alpha

    def mask(self, request: MaskRequest) -> FrameMasks:
        rows, columns = bounding_box(self.alpha) or (slice(0), slice(0))
        one = PersonMask(1, 0, rows.start, columns.start, self.alpha[rows, columns].clone(), "face")
        return FrameMasks((one,), ())


def portrait(folder: Path) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A picture in a file, its pixels, and a mask of the face in it."""
    source = folder / "photo.png"
    pixels = scene(3, _WIDTH, _HEIGHT)
    Images.fromarray(pixels).save(source)
    down, across = torch.meshgrid(torch.arange(_HEIGHT), torch.arange(_WIDTH), indexing="ij")
    alpha = (((across - 70) / 14) ** 2 + ((down - 60) / 18) ** 2 <= 1).float()
    return source, torch.from_numpy(pixels).permute(2, 0, 1), alpha


def test_photos_under_attack_are_anonymized_as_files_are(tmp_path: Path, doubles: AbstractAnonymizer) -> None:
    source, pixels, alpha = portrait(tmp_path)
    record = recorded(source, 1)
    (done,) = protect_frames(read_frames(probe(source)), probe(source), record, TheMask(alpha), doubles, 7)
    assert done.frame.picture is not None
    file = torch.from_numpy(done.frame.picture.rgb().copy()).permute(2, 0, 1)
    marks = record.people[0].tracks[0].landmarks
    assert marks is not None
    photos = Photos(pixels[None], alpha[None, None], torch.tensor([4]), torch.from_numpy(marks[:1]))
    (photo,) = anonymized_photos(doubles, photos, torch.tensor([0]), seed=7)
    assert int((photo.int() - file.int()).abs().max()) <= 1  # the pose of the photo is rounded
    changed = (photo != pixels).any(0)
    assert int(changed[alpha == 0].sum()) > 100  # the double's hair is in it


def test_clips_of_data_get_doubles_too_and_say_what_was_replaced(doubles: AbstractAnonymizer) -> None:
    frames = torch.from_numpy(np.stack([scene(at, _WIDTH, _HEIGHT) for at in range(3)])).permute(0, 3, 1, 2) / 255
    down, across = torch.meshgrid(torch.arange(_HEIGHT), torch.arange(_WIDTH), indexing="ij")
    alpha = (((across - 70) / 20) ** 2 + ((down - 60) / 28) ** 2 <= 1).float()
    batch = Batch(frames[None], alpha.expand(1, 3, 1, -1, -1).clone(), torch.tensor([5]))
    (result,) = module_results(doubles, [batch], kind="face", seed=2)
    differs = (result.source != result.anonymized).any(2, keepdim=True)
    assert not bool((differs & (result.masks == 0)).any())
    assert float(result.masks.sum()) > 1.1 * float(batch.masks.sum())
    inside = result.anonymized[0, 0, :, 45:75, 62:78].float()
    assert float(inside.std()) > 10  # a face, not a smooth fill
