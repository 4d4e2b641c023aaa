"""The system that ships: its config, its settings, a file of one's own, and, where it is there, the shipped file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from _clips import make_clip
from _heads import clip, config, painter, people
from pa_lib.checkpoint import load_module, save_module
from pa_lib.cli.anonymize import main
from pa_lib.cli.build import build_module
from pa_lib.cli.command import FAILED, OK
from pa_lib.cli.compose import build, compose
from pa_lib.contracts import Detection
from pa_lib.errors import PaLibError
from pa_lib.modules import ConventionalAnonymizer, PassersbyAnonymizer, Patchify, embedded_passersby, interference
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.pretrained import asset_manifest, assets
from pa_lib.video import probe, read_frames

ASSET = "passersby_compact.safetensors"
needs_the_asset = pytest.mark.skipif(
    ASSET not in asset_manifest(), reason=f"{ASSET} does not ship yet: the manifest has no such entry"
)


class StillFinder(AbstractFinder):
    """Always sees one person, and their face, in the same place."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        seen = [Detection("body", (18.0, 8.0, 38.0, 40.0), 0.9), Detection("face", (23.0, 10.0, 33.0, 20.0), 0.9)]
        return [seen for _ in images]

    def release(self) -> None:
        pass


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of one's own, from before there was a setting for bodies."""
    path = tmp_path / "own.safetensors"
    older = {name: value for name, value in config(trainable=[]).items() if name != "body"}
    save_module(painter(), older, path, dtype=torch.float16)
    return path


@pytest.fixture
def shipped(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of assets in which that file is the shipped one."""
    folder = tmp_path / "assets"
    folder.mkdir()
    content = own.read_bytes()
    (folder / ASSET).write_bytes(content)
    entry = {"what": "w", "licence": "MIT", "origin": "o", "source_sha256": [], "n_bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps({ASSET: entry | {"sha256": sha256(content).hexdigest()}}))
    monkeypatch.setattr(assets, "FOLDER", folder)
    return folder


def test_it_is_the_stored_system_with_the_settings_named(own: Path) -> None:
    made = embedded_passersby(steps=3, body="fill", weights=str(own))
    assert isinstance(made, PassersbyAnonymizer)
    assert not made.training
    assert (made.sampler.steps, made.body) == (3, "fill")
    expected = load_module(own, changed={"sampler.steps": 3, "body": "fill"})
    assert torch.equal(
        made.anonymize(clip(), people(), seed=5).frames,
        expected.anonymize(clip(), people(), seed=5).frames,  # type: ignore[operator]
    )
    assert made.is_non_interfering
    assert interference(made, clip(), people()) == 0


def test_without_a_file_of_ones_own_it_is_the_shipped_one(shipped: Path, own: Path) -> None:
    made = embedded_passersby(steps=2, body="mosaic")
    assert made.body == "mosaic"
    other = embedded_passersby(steps=2, body="mosaic", weights=str(own))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in made.state_dict().items())


def test_a_damaged_asset_is_refused(shipped: Path) -> None:
    content = bytearray((shipped / ASSET).read_bytes())
    content[-1] ^= 1
    (shipped / ASSET).write_bytes(content)
    with pytest.raises(PaLibError, match=r"damaged: sha256"):
        embedded_passersby(steps=2, body="fill")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 0}, "steps of the sampler is 0"),
        pytest.param({"body": "blur"}, "unknown body 'blur'", marks=pytest.mark.wrong_types),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors: no such checkpoint"),
    ],
)
def test_wrong_settings_get_one_line(own: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PaLibError, match=message) as caught:
        embedded_passersby(**({"steps": 2, "body": "fill", "weights": str(own)} | changed))
    assert "\n" not in str(caught.value)


def test_a_file_of_another_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    save_module(Patchify(patch=2), {"_target_": "pa_lib.modules.Patchify", "patch": 2}, path)
    with pytest.raises(PaLibError, match=r"its module has no setting sampler\.steps|holds a Patchify"):
        embedded_passersby(steps=2, body="fill", weights=str(path))


def test_training_that_begins_with_it_stores_only_what_it_changes(own: Path, tmp_path: Path) -> None:
    node = {"_target_": "pa_lib.modules.embedded_passersby", "steps": 2, "body": "fill", "weights": str(own)}
    made = build(node)
    assert made.untrained_slots() == set()
    made.set_trainable(["adapter"])
    with torch.no_grad():
        for weight in made.adapter.parameters():
            weight.add_(0.1)
    assert made.external_slots() >= {"backbone", "temporal"}
    assert "adapter" not in made.external_slots()
    save_module(made, node, tmp_path / "begun.safetensors")
    again = load_module(tmp_path / "begun.safetensors")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in made.state_dict().items())


def test_the_main_job_takes_it_by_name(shipped: Path) -> None:
    composed = compose("anonymize", ["input=clip.mp4", "module=compact", "module.body=mosaic", "module.steps=4"])
    made: Any = build_module(composed, {})
    assert composed["module"]["_target_"] == "pa_lib.modules.embedded_passersby"
    assert isinstance(made, PassersbyAnonymizer)
    assert (made.sampler.steps, made.body) == (4, "mosaic")


def test_a_video_without_any_setting_of_weights(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = make_clip(tmp_path / "clip.mkv", codec="ffv1", pixel_format="yuv444p", n_frames=3)
    pipeline = AnonymizationPipeline(
        StillFinder(), KalmanTracker(growth_per_s=0), HideAll(), BoxMasker(), ConventionalAnonymizer()
    )
    pipeline.run(source, tmp_path / "found.mkv", RunSettings(stage="find"))
    fixed = ["module=compact", "people/finder=centerface", "people/masker=box", "write.codec=ffv1"]
    fixed.append("tracks=found.tracks.json")
    assert main(["input=clip.mkv", "output=out.mkv", "module.steps=2", "module.body=fill", *fixed]) == OK
    (shipped / ASSET).unlink()
    assets._verified.cache_clear()
    assert main(["input=clip.mkv", "output=no.mkv", *fixed]) == FAILED
    assert "shipped weights cannot be read" in capsys.readouterr().err
    assert not Path("no.mkv").exists()
    before, after = (
        [frame.picture.rgb() for frame in read_frames(probe(name)) if frame.picture is not None]
        for name in ("clip.mkv", "out.mkv")
    )
    assert len(after) == len(before) == 3
    for was, now in zip(before, after, strict=True):
        body = now[29:38, 20:36].reshape(-1, 3)
        assert (body == body[0]).all()  # a fill
        head = (slice(10, 20), slice(23, 33))
        assert float((now[head] != was[head]).any(axis=-1).mean()) > 0.9
        assert len(np.unique(now[head].reshape(-1, 3), axis=0)) > 10  # painted


@needs_the_asset
def test_the_shipped_file_anonymizes() -> None:
    made = embedded_passersby(steps=2, body="fill")
    assert made.is_non_interfering
    source, masks = clip(n_frames=2), people(n_frames=2)
    assert interference(made, source, masks, trials=0) == 0
    assert (assets.FOLDER / ASSET).stat().st_size <= 40_000_000
