"""Checkpoints come back as they were, and refuse what is not theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from safetensors.torch import save_file

import pa_lib
from _training import TARGET, Standin
from pa_lib import checkpoint
from pa_lib.callbacks import ConfigInCheckpoint
from pa_lib.checkpoint import load_config, load_module, load_slots, save_module
from pa_lib.errors import PaLibError, SettingError
from pa_lib.modules import DiffusersUNet

TRUSTED = ("_training",)
CONFIG: dict[str, Any] = {"_target_": TARGET, "width": 3}


def lightning_file(path: Path, module: Standin, **changes: Any) -> Path:
    entry = {"version": pa_lib.__version__, "config": CONFIG} | changes
    torch.save({"state_dict": module.state_dict(), "pa_lib": entry}, path)
    return path


def test_safetensors_comes_back_equal(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = Standin(width=3)
    save_module(module, CONFIG, tmp_path / "new" / "m.safetensors")
    torch.manual_seed(2)
    loaded = pa_lib.load_module(tmp_path / "new" / "m.safetensors", trusted=TRUSTED)
    frames = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded(frames), module.eval()(frames))
    assert not loaded.training
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.safetensors"]  # nothing staged is left
    (tmp_path / "other").write_text("")
    assert (tmp_path / "new" / "m.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_lightning_file_comes_back_equal_with_and_without_a_slot(tmp_path: Path) -> None:
    module = Standin(width=3)
    path = lightning_file(tmp_path / "m.ckpt", module)
    loaded = load_module(path, trusted=TRUSTED)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in loaded.state_dict().items())
    part = load_module(path, slots=["adapter"], trusted=TRUSTED)
    assert torch.equal(part.adapter[1].weight, module.adapter[1].weight)
    assert not torch.equal(part.temporal.weight, module.temporal.weight)


def test_external_slot_is_neither_stored_nor_missed(tmp_path: Path) -> None:
    config = CONFIG | {"is_backbone_external": True}
    module = Standin(width=3, is_backbone_external=True)
    save_module(module, config, tmp_path / "m.safetensors")
    with checkpoint_names(tmp_path / "m.safetensors") as names:
        assert names
        assert not any(name.startswith("backbone.") for name in names)
    loaded = load_module(tmp_path / "m.safetensors", trusted=TRUSTED)
    assert torch.equal(loaded.backbone.weight, module.backbone.weight)  # the stand-in makes it anew, always the same


def checkpoint_names(path: Path) -> Any:
    from contextlib import nullcontext

    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return nullcontext(list(file.keys()))


def test_tied_weights_can_be_stored(tmp_path: Path) -> None:
    class Tied(Standin):
        def __init__(self) -> None:
            super().__init__(width=3)
            self.again = self.temporal

    save_module(Tied(), CONFIG, tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").is_file()


class Touch:
    """What unpickling without care would run."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "pa_lib": {"version": "0.1.0", "config": {}}, "more": Touch()}, "bad.ckpt")
    with pytest.raises(PaLibError, match=r"bad\.ckpt: damaged, or holds more than tensors"):
        load_module("bad.ckpt")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "torch.hub.load",
        "pa_lib.video.staging.subprocess.run",  # begins right, ends elsewhere
        "pa_lib.modules.systems.conventional.system.ConventionalAnonymizer",  # not the public name
        "pa_lib.video.VideoWriter",
        "torch.nn.modules.os.system",
        "torch.nn.functional",
        "torch.optim.lr_scheduler.math.sqrt",
        "_training.Standin",
    ],
)
def test_targets_outside_the_public_parts_are_refused(tmp_path: Path, target: str) -> None:
    config = {"_target_": "torch.nn.Identity", "deep": [{"part": {"_target_": target}}]}
    path = lightning_file(tmp_path / "m.ckpt", Standin(width=3), config=config)
    with pytest.raises(PaLibError, match="refused _target_") as caught:
        load_module(path)
    assert target in str(caught.value)


@pytest.mark.parametrize("target", ["pa_lib.modules.ConventionalAnonymizer", "torch.optim.AdamW", "torch.nn.SiLU"])
def test_public_targets_pass(target: str) -> None:
    checkpoint.check_targets({"a": {"_target_": target}}, Path("x"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "9.0.0"}, "written by pa_lib 9.0.0, newer than this"),
        ({"version": "0.99.1"}, "newer than this"),
        ({"version": "new"}, "got version 'new'"),
        ({"config": None}, "no checkpoint of pa_lib"),
        ({"config": {"_target_": TARGET, "width": "${oc.env:HOME}"}}, "unresolved"),
        ({"config": {"_target_": TARGET, "size": 3}}, "does not build"),
        ({"config": {"_target_": TARGET, "width": 5}}, r"backbone\.weight has shape \(3, 3, 3, 3\), expected \(5, 3"),
        ({"config": {"_target_": "torch.optim.AdamW", "_partial_": True}}, "refused _target_ torch.optim.AdamW"),
        ({"config": {**CONFIG, "width": {"_target_": "pa_lib.people.write_tracks"}}}, "refused _target_ pa_lib.people"),
        ({"config": {"_target_": "pa_lib.modules.interference"}}, "it is a function, expected a kind of Module"),
    ],
)
def test_a_foreign_newer_or_unfitting_file_gets_one_line(tmp_path: Path, changes: Any, message: str) -> None:
    path = lightning_file(tmp_path / "m.ckpt", Standin(width=3), **changes)
    with pytest.raises(PaLibError, match=message) as caught:
        load_module(path, trusted=TRUSTED)
    assert "\n" not in str(caught.value)
    assert "m.ckpt" in str(caught.value)


def test_an_older_patch_of_the_same_version_is_fine(tmp_path: Path) -> None:
    major, minor = pa_lib.__version__.split(".")[:2]
    path = lightning_file(tmp_path / "m.ckpt", Standin(width=3), version=f"{major}.{minor}.999")
    load_module(path, trusted=TRUSTED)


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    weights = Standin(width=3).state_dict()
    weights["novel.bias"] = weights.pop("temporal.bias")
    metadata = {"pa_lib": json.dumps({"version": "0.1.0", "config": CONFIG})}
    save_file(weights, tmp_path / "m.safetensors", metadata=metadata)
    with pytest.raises(PaLibError, match=r"lacks temporal\.bias and has novel\.bias"):
        load_module(tmp_path / "m.safetensors", trusted=TRUSTED)


@pytest.mark.parametrize("name", ["m.ckpt", "m.safetensors"])
def test_damaged_or_absent_files_get_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(PaLibError, match="no such checkpoint"):
        load_module(tmp_path / name)
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(PaLibError, match=f"{name}: damaged") as caught:
        load_module(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_saving_refuses_what_it_could_not_read_back(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match=r"ends in \.safetensors"):
        save_module(Standin(), CONFIG, tmp_path / "m.pt")
    with pytest.raises(PaLibError, match="plain values only"):
        save_module(Standin(), {"_target_": TARGET, "optimizer": torch.optim.AdamW}, tmp_path / "m.safetensors")


def test_slots_of_an_earlier_stage(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = Standin(width=3)
    path = lightning_file(tmp_path / "m.ckpt", first)
    second = Standin(width=3)
    before = second.temporal.weight.clone()
    load_slots(second, path, ["adapter"])
    assert torch.equal(second.adapter[1].weight, first.adapter[1].weight)
    assert torch.equal(second.temporal.weight, before)
    with pytest.raises(PaLibError, match="the module has no slot adaptr; it has: adapter, backbone, temporal"):
        load_slots(second, path, ["adaptr"])
    with pytest.raises(PaLibError, match=r"adapter\.1\.weight has shape \(3, 3, 1, 1\), expected \(4, 4, 1, 1\)"):
        load_slots(Standin(width=4), path, ["adapter"])
    second.extra = torch.nn.Linear(1, 1)
    with pytest.raises(PaLibError, match="holds no weights of slot extra; it holds: adapter, backbone, temporal"):
        load_slots(second, path, ["extra"])


def test_resuming_without_the_external_slot_still_asks_for_the_rest() -> None:
    module, callback = Standin(is_backbone_external=True), ConfigInCheckpoint(CONFIG)
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    callback.setup(trainer, module, "fit")
    assert not module.strict_loading
    stored: dict[str, Any] = {"state_dict": dict(module.state_dict())}
    callback.on_save_checkpoint(trainer, module, stored)
    assert set(stored["state_dict"]) == {name for name in module.state_dict() if not name.startswith("backbone.")}
    assert stored["pa_lib"] == {"version": pa_lib.__version__, "config": CONFIG, "trusted": ["_training"]}
    callback.on_load_checkpoint(trainer, module, stored)
    del stored["state_dict"]["temporal.bias"]
    with pytest.raises(PaLibError, match=r"lacks temporal\.bias"):
        callback.on_load_checkpoint(trainer, module, stored)


def test_half_precision_comes_back_as_the_type_of_the_module(tmp_path: Path) -> None:
    module = Standin(width=3)
    module.register_buffer("count", torch.tensor([70_000, 3]))
    save_module(module, CONFIG, tmp_path / "m.safetensors", dtype=torch.float16)
    from safetensors.torch import load_file

    stored = load_file(tmp_path / "m.safetensors")
    assert stored.pop("count").tolist() == [70_000, 3]  # whole numbers stay what they are
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    save_module(Standin(width=3), CONFIG, tmp_path / "m.safetensors", dtype=torch.float16)
    stored = load_file(tmp_path / "m.safetensors")
    loaded = load_module(tmp_path / "m.safetensors", trusted=TRUSTED)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].float())


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    module = Standin(width=3)
    with torch.no_grad():
        module.temporal.bias[0] = 70_000.0  # float16 ends at 65,504
    with pytest.raises(PaLibError, match=r"temporal\.bias holds 7e\+04, which torch\.float16 cannot"):
        save_module(module, CONFIG, tmp_path / "m.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_the_stored_config_can_be_read_alone(tmp_path: Path) -> None:
    save_module(Standin(width=3), CONFIG, tmp_path / "m.safetensors")
    assert load_config(tmp_path / "m.safetensors") == CONFIG
    assert load_config(lightning_file(tmp_path / "m.ckpt", Standin(width=3))) == CONFIG
    with pytest.raises(PaLibError, match="no such checkpoint"):
        load_config(tmp_path / "nowhere.ckpt")
    with pytest.raises(PaLibError, match="newer than this"):
        load_config(lightning_file(tmp_path / "n.ckpt", Standin(width=3), version="9.0.0"))


def test_a_setting_newer_than_the_file_may_be_changed_and_no_other(tmp_path: Path) -> None:
    path = lightning_file(tmp_path / "m.ckpt", Standin(width=3))
    loaded: Any = load_module(path, trusted=TRUSTED, changed={"is_backbone_external": True})
    assert loaded.external_slots() == {"backbone"}
    with pytest.raises(PaLibError, match="has no setting speed to change"):
        load_module(path, trusted=TRUSTED, changed={"speed": 1})


def test_permission_is_asked_for_once_and_for_the_outer_package(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    config = {"_target_": "my_package.parts.Mine", "other": {"_target_": "my_package.more.parts.Other"}}
    save_module(Standin(), config, path)
    with pytest.raises(SettingError) as refused:
        load_module(path)
    assert str(refused.value) == (
        f"{path}: refused _target_ my_package.parts.Mine: it was made with my_package: where their code may run, pass "
        "trusted=('my_package',)"
    )


def test_a_file_causes_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name on the hub that stands in a file is not asked for, one that the user gives is."""
    asked: list[str] = []

    def model_info(self: object, path: str, **settings: object) -> None:
        asked.append(path)
        raise ConnectionError("no connection")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    entry = {"version": "0.1.0", "config": {"_target_": "pa_lib.modules.DiffusersUNet", "path": "other/model"}}
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"pa_lib": json.dumps(entry)})
    with pytest.raises(PaLibError, match="the hub was not asked, as it is a checkpoint that names it"):
        load_module(tmp_path / "m.safetensors")
    assert asked == []
    with pytest.raises(PaLibError, match="no connection"):
        load_module(tmp_path / "m.safetensors", changed={"path": "mine/model"})
    assert set(asked) == {"mine/model"}
    with pytest.raises(PaLibError, match="no connection"):
        DiffusersUNet("mine/other")
