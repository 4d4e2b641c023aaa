"""Every option of every part of a system, and of the data, from the command line: trained, saved, rebuilt, used."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import _passersby
from _passersby import COMPACT, TINY, WITHOUT_TINY, pretrained
from _portraits import DrawnSilhouettes, write_portraits
from pa_lib import load_module
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.cli.compose import compose, config_folder, option_groups
from pa_lib.cli.train import main
from pa_lib.modules import interference

GROUPS = option_groups(config_folder())
OPTIONS = [(group, option) for group, options in GROUPS.items() if group.startswith("module/") for option in options]


# They learn from portraits, and widen what the backbone takes.
DOUBLES = [
    *(setting for setting in WITHOUT_TINY if not setting.startswith("data")),
    *COMPACT,
    "module.backbone.condition_channels=98",
    "data=heads",
    "data.path=heads",
    "data.side=16",
    "data.n_frames=2",
    "data.batch_size=4",
]


@dataclass(frozen=True)
class Weights:
    """Folders of tiny networks, as diffusers saves them."""

    inpaint: str
    plain: str
    sdxl: str
    taesd: str


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    root = tmp_path_factory.mktemp("weights")
    return Weights(
        _passersby.save_pipeline(root / "inpaint"),
        _passersby.save_pipeline(root / "plain", in_channels=4),
        _passersby.save_pipeline(root / "sdxl", is_sdxl=True),
        _passersby.save_tiny_autoencoder(root / "taesd"),
    )


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _portraits(monkeypatch: pytest.MonkeyPatch) -> None:
    write_portraits(Path("heads"))
    monkeypatch.setattr("pa_lib.data.views.SelfieSegmentation", DrawnSilhouettes)


def settings(group: str, option: str, weights: Weights) -> list[str]:
    """A command line with this option in it; what is left to choose is tiny."""
    small_latents = [*COMPACT, "module.backbone.channels=4", "module.backbone.condition_channels=5"]
    small_latents += ["module.crops.side=32", "data.side=32"]
    special = {
        ("module/backbone", "compact"): COMPACT,
        ("module/backbone", "sd15"): pretrained("sd15", weights.plain),
        ("module/backbone", "sd15_inpaint"): pretrained("sd15_inpaint", weights.inpaint),
        ("module/backbone", "sd2_inpaint"): pretrained("sd2_inpaint", weights.inpaint),
        ("module/backbone", "sdxl_inpaint"): pretrained("sdxl_inpaint", weights.sdxl),
        ("module/autoencoder", "kl"): [*small_latents, f"module.autoencoder.path={weights.inpaint}"],
        ("module/autoencoder", "tiny"): [*small_latents, f"module.autoencoder.path={weights.taesd}"],
    }
    if group == "module/lr_schedule":
        return [
            *TINY,
            f"{group}={option}",
            *(["module.lr_schedule.warmup_steps=0"] if option == "warmup_cosine" else []),
        ]
    if group == "module/reference" and option != "none":
        return [*DOUBLES, f"{group}={option}"]
    flow = ["module/diffusion=flow", "module/sampler=flow_euler", "module.sampler.steps=2"]
    if option in ("flow", "flow_euler"):  # they belong together
        return [*TINY, *flow]
    if (group, option) in special:
        return [*WITHOUT_TINY, f"{group}={option}", *special[group, option]]
    text = [f"module.text.path={weights.inpaint}"] if (group, option) == ("module/text", "clip") else []
    return [*TINY, f"{group}={option}", *text]


@pytest.mark.usefixtures("_portraits")
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_part_is_swapped_by_name(group: str, option: str, weights: Weights) -> None:
    arguments = [*settings(group, option, weights), "output=out", "trainer.max_steps=1", "trainer.val_check_interval=1"]
    node = compose("train", arguments)["module"]
    assert main(arguments) == OK
    outcome = json.loads(Path("out/outcome.json").read_text())
    assert outcome["steps"] == 1
    assert math.isfinite(outcome["last"])  # it was validated

    module: Any = load_module("out/checkpoints/last.ckpt")
    slot = group.removeprefix("module/")
    if slot == "guidance":
        assert set(module.guidance) == set(node[slot])
    elif slot not in ("optimizer", "lr_schedule"):  # of these the system holds what makes them
        assert f"pa_lib.modules.{type(getattr(module, slot)).__name__}" == node[slot]["_target_"]
    stored = torch.load("out/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert stored
    for name, value in module.state_dict().items():
        assert name.partition(".")[0] in module.external_slots() or torch.equal(value, stored[name]), name

    source, masks = _passersby.clip(), _passersby.masks()
    result = module.anonymize(source, masks, seed=3)
    hidden = torch.stack([masks.union(at) > 0 for at in range(_passersby.N_FRAMES)])[:, None].expand_as(source.frames)
    assert torch.equal(result.frames[~hidden], source.frames[~hidden])
    assert float((result.frames[hidden] != source.frames[hidden]).float().mean()) > 0.9
    assert module.is_non_interfering
    assert interference(module, source, masks, seed=3) == 0


def portraits(folder: Path) -> list[str]:
    folder.mkdir()
    lines = ["file\tbox_x\tbox_y\tbox_w\tbox_h"]
    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        lines.append(f"{number}.png\t8\t6\t8\t10")
    (folder / "index.tsv").write_text("\n".join(lines) + "\n")
    return [f"data.path={folder}"]


def tracklets(folder: Path) -> list[str]:
    box = [0, 0, 16, 16]
    for video in ("a", "b"):
        (folder / video).mkdir(parents=True)
        for at in range(12):
            picture = np.random.default_rng(at).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / video / f"1-{at:06d}.jpg")
            Image.fromarray(np.pad(np.full((8, 6), 255, np.uint8), ((4, 4), (5, 5)))).save(
                folder / video / f"1-{at:06d}.png"
            )
        entry = {"id": "1", "files": "1-", "person": "1", "kind": "body", "first_frame": 0, "fps": 25.0}
        index = {"version": 1, "video": video, "tracklets": [entry | {"boxes": [box] * 12}]}
        (folder / video / "tracklets.json").write_text(json.dumps(index))
    return [f"data.path={folder}"]


def synthetic(folder: Path) -> list[str]:
    return ["data.n_clips=12", "data.n_identities=4"]


# Two streams at once are for systems that learn from both, and no system that ships does;
# tests/unit/data/test_joint.py trains one. Outlines are for the network of outlines alone.
@pytest.mark.parametrize("option", [option for option in GROUPS["data"] if option not in ("joint", "outlines")])
@pytest.mark.parametrize("n_frames", [1, 2])
def test_every_data_module_is_swapped_by_name(option: str, n_frames: int, tmp_path: Path) -> None:
    make = {"faces": portraits, "heads": portraits, "tracklets": tracklets, "synthetic": synthetic}[option]
    own = [setting for setting in TINY if not setting.startswith("data")]
    arguments = [*own, f"data={option}", "data.side=16", f"data.n_frames={n_frames}", "data.batch_size=2"]
    arguments += [*make(tmp_path / "data"), "output=out", "trainer.max_steps=2", "trainer.val_check_interval=2"]
    assert main(arguments) == OK
    assert math.isfinite(json.loads(Path("out/outcome.json").read_text())["last"])


@pytest.mark.parametrize("option", GROUPS["debug"])
def test_debugging_runs(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["trainer.max_steps=4"] if option == "overfit" else []
    assert main([*TINY, f"debug={option}", "output=out", *more]) == OK
    assert f"{4 if option == 'overfit' else 2} steps in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["module/backbone=huge"], USAGE, "no option 'huge' for module/backbone; there are: compact, sd15"),
        (["module/sampler=euler"], USAGE, "no option 'euler' for module/sampler; there are: ddim, dpm"),
        (["module.adapter.ranks=4"], USAGE, "module.adapter.ranks"),
        (["module/adapter=none", "module.adapter.rank=4"], USAGE, "module.adapter.rank"),
        (["module.adapter.rank=0"], USAGE, "rank 0 of an adapter is no whole number of at least 1"),
        (["module/autoencoder=kl", "module.autoencoder.path={inpaint}"], USAGE, "denoises 48 channels"),
        (["module.backbone.condition_channels=5"], USAGE, "takes 5 channels of condition, expected 49"),
        (["module.backbone.config.norm_num_groups=5"], FAILED, "config makes no UNet2DConditionModel"),
        (["module/text=clip", "module.text.path=nowhere/"], FAILED, "nowhere"),
        (["module.trainable=[head]"], USAGE, "trainable names head, which PassersbyAnonymizer does not have"),
        (["module.trainable=[]"], USAGE, "nothing to train: the slots (none)"),
        (["module.trainable=[temporal]", "module/temporal=none"], USAGE, "nothing to train: the slots temporal"),
        (["module.crops.side=18"], USAGE, "crops of 18 px cannot be encoded"),
        (["data.side=18"], USAGE, "18"),
        (["module.sampler.steps=0"], USAGE, "steps"),
        (["module.windows.overlap=16"], USAGE, "windows of 16 frames cannot overlap by 16"),
        (["module/diffusion=sd", "module.diffusion.is_zero_terminal_snr=true"], USAGE, "epsilon"),
        (["module.loss.background_weight=-1"], USAGE, "background_weight"),
        (["module.temporal.heads=0"], USAGE, "0 heads"),
        (["module.optimizer.lr=-1"], USAGE, "module.optimizer: Invalid learning rate: -1"),
        (["+module.optimizer.speed=1"], USAGE, "module.optimizer: "),
        (["+module.lr_schedule.speed=1"], USAGE, "module.lr_schedule: "),
        (["+module.speed=1"], USAGE, "speed"),
        (["trainer.precision=bf16-true"], USAGE, "trainer.precision=bf16-true: half weights cannot take small steps"),
        (["data.batch_size=100"], FAILED, "expected at least 100"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(
    more: list[str], code: int, message: str, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, "output=out", *(setting.format(inpaint=weights.inpaint) for setting in more)]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("pa-train: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["module/text=none"], "wants text of width 32 and got none; choose module/text=clip"),
        (["module.backbone.path={taesd}"], "cannot load a UNet2DConditionModel from"),
        (["module.text.path={sdxl}"], "takes text of width 32, the text encoder gives 56"),
        (["module.backbone.condition_channels=2"], "widened"),
        (["module.backbone.path=nobody/nothing", "module.text.path={inpaint}"], "nobody/nothing"),
        (["module/autoencoder=patchify"], "denoises 4 channels, the autoencoder's latents have 48"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*local_dir_use_symlinks")  # diffusers' own, on its way to the hub
def test_mistakes_with_weights_get_one_line(
    more: list[str], message: str, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [setting.format(**vars(weights)) for setting in more]
    assert main([*WITHOUT_TINY, *pretrained("sd15_inpaint", weights.inpaint), "output=out", *changed]) in (
        FAILED,
        USAGE,
    )
    *others, line = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("pa-train: error: ")
    assert message in line
    assert all("Loading weights" in other for other in others)  # transformers shows how far it is


def test_what_does_not_learn_is_not_trained(capsys: pytest.CaptureFixture[str]) -> None:
    others = [setting for setting in TINY if not setting.startswith("module")]
    assert main([*others, "module=conventional", "output=out"]) == USAGE
    message = "ConventionalAnonymizer cannot be trained; choose module=passersby or another that learns"
    assert capsys.readouterr().err == f"pa-train: error: {message}\n"


def test_a_compact_backbone_takes_no_text(weights: Weights, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["module/text=clip", f"module.text.path={weights.inpaint}"]
    assert main([*WITHOUT_TINY, *COMPACT, *text, "output=out"]) == USAGE
    assert "the backbone reads no text; choose module/text=none" in capsys.readouterr().err
