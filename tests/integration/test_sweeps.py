"""The shipped sweeps, run to the end on tiny networks: every arm is another network."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import _passersby
from _passersby import TINY, WITHOUT_TINY
from pa_lib import load_module
from pa_lib.cli.command import OK
from pa_lib.cli.multirun import members
from pa_lib.cli.train import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def short(settings: list[str], *left_out: str) -> list[str]:
    """Two steps of training and one validation, without what a recipe says itself."""
    kept = [one for one in settings if not one.startswith(("data=", "data.n_frames", "module.trainable", *left_out))]
    return [*kept, "trainer.max_steps=2", "trainer.val_check_interval=2", "~callbacks.preview"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return stored


def is_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def finished(runs: list[Any]) -> dict[str, Path]:
    return {one.label: one.folder for one in runs if one.same_as is None}


@pytest.mark.slow
def test_components_in_both_stages(capsys: pytest.CaptureFixture[str]) -> None:
    first = [*short(TINY), "experiment=passersby_1_spatial", "sweep=components"]
    arms = finished(members(first))
    # Stage 1 trains on images: temporal layers would be frozen there, and the same run as none.
    assert list(arms) == [f"module/adapter={part} module/temporal=none" for part in ("sca", "none")]
    assert main(["-m", *first]) == OK
    assert capsys.readouterr().out.count("left out: ") == 2
    with_sca, without = (weights(folder) for folder in arms.values())
    assert any(name.startswith("adapter.") for name in with_sca)
    shared = [name for name in without if name.startswith("backbone.")]
    assert not all(torch.equal(with_sca[name], without[name]) for name in shared)

    begin = f"init_from={next(iter(arms.values()))}/checkpoints/last.ckpt"
    second = [*short(TINY), "experiment=passersby_2_temporal", "sweep=components", begin]
    arms = finished(members(second))
    assert len(arms) == 4
    assert main(["-m", *second]) == OK
    outcomes = {label: json.loads((folder / "outcome.json").read_text()) for label, folder in arms.items()}
    for label, outcome in outcomes.items():
        assert outcome["steps"] == (0 if "temporal=none" in label else 2), label  # evaluated, not trained
        assert outcome["last"] is not None
    assert len({outcome["last"] for outcome in outcomes.values()}) == 4
    for one, other in itertools.combinations(arms.values(), 2):
        assert not is_same(weights(one), weights(other))
    for folder in arms.values():
        load_module(folder / "checkpoints/last.ckpt")
    (table,) = Path("runs/passersby_2_temporal").glob("sweep-components-*/summary.md")
    assert sum(line.startswith("| module/adapter=") for line in table.read_text().splitlines()) == 4


def test_stage_2_without_stage_1_has_no_arm_twice() -> None:
    arms = members([*short(TINY), "experiment=passersby_2_temporal", "sweep=components"])
    # A fresh adapter has no effect and does not learn here.
    assert [one.label for one in arms if one.same_as is None] == [
        "module/adapter=none module/temporal=tcs",
        "module/adapter=none module/temporal=none",
    ]


@pytest.mark.slow
def test_backbones_are_swapped_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    folders = {
        "sd15": _passersby.save_pipeline(tmp_path / "sd15", in_channels=4),
        "sd15_inpaint": _passersby.save_pipeline(tmp_path / "sd15_inpaint"),
        "sd2_inpaint": _passersby.save_pipeline(tmp_path / "sd2_inpaint"),
        "sdxl_inpaint": _passersby.save_pipeline(tmp_path / "sdxl_inpaint", is_sdxl=True),
    }
    other = next(Path(folders["sd2_inpaint"], "unet").glob("*.safetensors"))  # or it were the network of sd15_inpaint
    save_file({name: 1.5 * tensor for name, tensor in load_file(other).items()}, other, metadata={"format": "pt"})
    settings = [*short(WITHOUT_TINY, "module.crops.side", "data.side"), "experiment=passersby_1_spatial"]
    settings += [f"paths.{name}={folder}" for name, folder in folders.items()]
    sweep = [*settings, "sweep=backbones", "module.crops.side=32"]
    arms = finished(members(sweep))
    assert list(arms) == [f"bundle={name}" for name in ("compact", *folders)]
    assert main(["-m", *sweep]) == OK
    modules = {}
    for label, folder in arms.items():
        module: Any = load_module(folder / "checkpoints/last.ckpt")
        modules[label.removeprefix("bundle=")] = module
        assert json.loads((folder / "outcome.json").read_text())["steps"] == 2
        learned = ("adapter",) if "inpaint" in label else ("backbone", "adapter")
        assert module.trainable == learned, label
    for name, folder in folders.items():
        for slot in ("backbone", "autoencoder", "text"):
            assert str(getattr(modules[name], slot).origin.path) == folder
    assert modules["compact"].autoencoder.downscale == 4
    assert {name: module.diffusion.prediction for name, module in modules.items()}["sd15"] == "epsilon"
    for one, other in itertools.combinations(arms.values(), 2):
        assert not is_same(weights(one), weights(other))
