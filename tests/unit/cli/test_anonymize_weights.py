"""pa-anonymize with a learned system: its weights from a file, settings changed beside them, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import _passersby
from _clips import make_clip
from _passersby import COMPACT, TINY, pretrained
from pa_lib.checkpoint import save_module
from pa_lib.cli.anonymize import main
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.cli.compose import build, compose
from pa_lib.contracts import Detection
from pa_lib.modules import ConventionalAnonymizer, Patchify
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.video import probe, read_frames

BOX = (20.0, 8.0, 36.0, 30.0)
INSIDE = (slice(12, 26), slice(24, 32))
N_FRAMES = 4


class StillFinder(AbstractFinder):
    """Always sees one person in the same place."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [[Detection("body", BOX, 0.9)] for _ in images]

    def release(self) -> None:
        pass


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip without loss, so that results can be compared pixel by pixel, and its tracks file beside it."""
    folder = tmp_path_factory.mktemp("clip")
    path = make_clip(folder / "clip.mkv", codec="ffv1", pixel_format="yuv444p", n_frames=N_FRAMES)
    pipeline = AnonymizationPipeline(
        StillFinder(), KalmanTracker(growth_per_s=0), HideAll(), BoxMasker(), ConventionalAnonymizer()
    )
    pipeline.run(path, folder / "found.mkv", RunSettings(stage="find"))
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def node(*more: str) -> dict[str, Any]:
    settings = [setting for setting in TINY if setting.startswith("module")]
    config: dict[str, Any] = compose("train", ["output=out", *settings, *more])["module"]
    return config


def saved(name: str, *more: str) -> str:
    """A system whose guests do something, as a file; the same weights whatever its sampler is."""
    config = node(*more)
    torch.manual_seed(0)
    module = build(config)
    with torch.no_grad():
        for weight in module.parameters():
            if not weight.any():
                weight.copy_(0.1 * torch.randn(weight.shape))
    save_module(module, config, name)
    return name


def call(source: Path, output: str, *more: str) -> int:
    tracks = source.with_name("found.tracks.json")
    fixed = ["people/finder=centerface", "people/masker=box", "write.codec=ffv1"]
    return main([f"input={source}", f"tracks={tracks}", f"output={output}", *fixed, *more])


def pictures(path: str | Path) -> list[NDArray[np.uint8]]:
    frames = [frame.picture for frame in read_frames(probe(path))]
    assert len(frames) == N_FRAMES
    return [picture.rgb() for picture in frames if picture is not None]


def equal(a: str, b: str) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(pictures(a), pictures(b), strict=True))


def test_a_trained_system_hides_a_person(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = saved("system.safetensors")
    assert call(source, "out.mkv", "module=passersby", f"weights={weights}") == OK
    told = capsys.readouterr()
    assert "out.mkv" in told.out
    assert "error" not in told.err
    for before, after in zip(pictures(source), pictures("out.mkv"), strict=True):
        assert float((before[INSIDE] != after[INSIDE]).any(axis=-1).mean()) > 0.9
        changed = (before != after).any(axis=-1)
        rows, columns = np.nonzero(changed)
        # The box grown by 1.1 and dilated by 4 px.
        assert rows.min() >= 8 - 6
        assert rows.max() <= 30 + 6
        assert columns.min() >= 20 - 6
        assert columns.max() <= 36 + 6
    # The weights bring their own config: the module need not be named, and the seed decides who it is.
    assert call(source, "again.mkv", f"weights={weights}") == OK
    assert equal("out.mkv", "again.mkv")
    assert call(source, "other.mkv", f"weights={weights}", "seed=1") == OK
    assert not equal("out.mkv", "other.mkv")


@pytest.mark.parametrize(
    "changed",
    [
        ["module.sampler.steps=1"],
        ["module/sampler=dpm", "module.sampler.steps=2"],
        ["module.guidance.text.scale=1.0", "module.noise_sharing=0.0"],
        ["module.adapter.scale=0.0"],
    ],
)
def test_settings_beside_the_weights_take_effect(source: Path, changed: list[str]) -> None:
    """As if the system had been saved with them."""
    named = ["module=passersby", *changed]
    assert call(source, "as_saved.mkv", "module=passersby", f"weights={saved('a.safetensors')}") == OK
    assert call(source, "changed.mkv", "weights=a.safetensors", *named) == OK
    assert call(source, "saved_so.mkv", f"weights={saved('b.safetensors', *changed)}") == OK
    assert equal("changed.mkv", "saved_so.mkv")
    assert not equal("changed.mkv", "as_saved.mkv")


def test_weights_of_a_pipeline_that_has_moved(source: Path) -> None:
    folder = _passersby.save_pipeline(Path("here").resolve())
    settings = [item for item in pretrained("sd15_inpaint", folder) if item.startswith("module")]
    config = compose("train", ["output=out", *settings, "module.sampler.steps=2"])["module"]
    save_module(build(config), config, "a.safetensors")
    assert call(source, "here.mkv", "weights=a.safetensors") == OK
    Path("here").rename("there")
    moved = [item.replace(folder, str(Path("there").resolve())) for item in settings if "diffusion" not in item]
    assert call(source, "there.mkv", "module=passersby", "weights=a.safetensors", *moved) == OK
    assert equal("here.mkv", "there.mkv")


def test_a_checkpoint_that_does_not_anonymize(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_module(Patchify(patch=2), {"_target_": "pa_lib.modules.Patchify", "patch": 2}, "part.safetensors")
    assert call(source, "out.mkv", "weights=part.safetensors") == USAGE
    assert "holds a Patchify, which does not anonymize" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["module=passersby"], USAGE, "would generate noise: backbone has random weights; give weights=FILE"),
        (["module=passersby", "weights=nowhere.ckpt"], FAILED, "error: weights=nowhere.ckpt: no such checkpoint"),
        (["weights=text.ckpt"], FAILED, "text.ckpt: damaged"),
        (["weights=text.safetensors"], FAILED, "text.safetensors: damaged"),
        (["weights=bare.ckpt"], FAILED, "bare.ckpt: no checkpoint of pa_lib"),
        (["weights=folder"], FAILED, "error: weights=folder: no such checkpoint"),
        (["weights=network.pth"], FAILED, "give a .ckpt of a training or a .safetensors"),
        (["people.finder.min_scor=0.3"], USAGE, "(did you mean people.finder.min_score?)"),
        (["people.findr=mtcnn"], USAGE, "did you mean people/finder?"),
        (["people/findr=mtcnn"], USAGE, "did you mean people/finder?"),
        (["weights=a.safetensors", "device=nonsense"], USAGE, "device=nonsense: "),
        (["weights=a.safetensors", "device=cuda:77"], USAGE, "device=cuda:77: "),
        (["weights=a.safetensors", "module=passersby", "module.sampler.steps=0"], USAGE, "steps"),
        (["weights=a.safetensors", "module=passersby", "module.sampler.stepz=1"], USAGE, "module.sampler.stepz"),
        (["weights=a.safetensors", "module=compact", "module.sampler.steps=1"], USAGE, "module.sampler.steps"),
        (["weights=a.safetensors", "module=passersby", "+module.speed=1"], USAGE, "no setting speed"),
        (["weights=a.safetensors", "module=passersby", "~module.text_dropout"], USAGE, "~module.text_dropout"),
        (["weights=a.safetensors", "module=passersby", "module/backbone=huge"], USAGE, "no option 'huge'"),
        (
            ["weights=a.safetensors", "module=passersby", *COMPACT],
            FAILED,
            "weights=a.safetensors: the weights do not fit: made with backbone DiffusersUNet, asked for CompactUNet; "
            "leave out what changes module.backbone, or train weights for it (the file lacks",
        ),
        (
            ["weights=a.safetensors", "module=passersby", "module/temporal=none"],
            FAILED,
            "made with temporal TemporalContentStabilizer, asked for NoTemporal; leave out",
        ),
        (
            ["weights=a.safetensors", "module=passersby", "module.adapter.rank=3"],
            FAILED,
            "has shape (16, 16), expected (3, 16); was another backbone or size used?",
        ),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(
    source: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, message: str
) -> None:
    if "device=cuda:77" in more and torch.cuda.device_count() > 77:
        pytest.skip("there is such a GPU here")
    saved("a.safetensors")
    for name in ("text.ckpt", "text.safetensors"):
        Path(name).write_text("no weights")
    torch.save({"state_dict": {}}, "bare.ckpt")
    torch.save({"0.weight": torch.zeros(1)}, "network.pth")
    Path("folder").mkdir()
    assert call(source, "out.mkv", *more) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("pa-anonymize: error: ")
    assert message in lines[0]
    assert not list(Path().glob("out*"))


def test_a_file_of_another_architecture(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file whose config and weights do not belong together, as after an edit by hand."""
    config = node()
    other = copy.deepcopy(config)
    other["backbone"]["config"]["block_out_channels"] = [32, 32]
    save_module(build(config), other, "mixed.safetensors")
    assert call(source, "out.mkv", "weights=mixed.safetensors") == FAILED
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("pa-anonymize: error: weights=mixed.safetensors: ")
    assert "the weights do not fit" in line
    assert not list(Path().glob("out*"))
