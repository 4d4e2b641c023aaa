"""Values of a wrong type are found by annotations; what only looks unusual passes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import pytest
import torch
from torch.optim import lr_scheduler

from _metrics import Brightness
from _toys import ToyGan
from pa_lib.checkpoint import load_slots, save_module
from pa_lib.cli.anonymize import main as anonymize
from pa_lib.cli.command import USAGE
from pa_lib.cli.compose import compose
from pa_lib.cli.evaluate import main as evaluate
from pa_lib.cli.train import main as train
from pa_lib.data import SyntheticDataModule
from pa_lib.data.base import Loading
from pa_lib.data.sampling import GlobalBatchSampler
from pa_lib.errors import SettingError
from pa_lib.modules import CosineSchedule, ParrotAttack, Slot
from pa_lib.modules.inpainting.settings import Windows
from pa_lib.pipeline import RunSettings
from pa_lib.setting_types import check_partial


def save_all(module: ToyGan, path: Path, slots: Any) -> None:
    save_module(module, None, path, slots=slots)


def load_some(module: ToyGan, path: Path, slots: Any) -> None:
    save_module(module, None, path)
    load_slots(module, path, slots)


def learn_some(module: ToyGan, path: Path, slots: Any) -> None:
    module.set_trainable(slots)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (torch.optim.AdamW, {"lr": 1, "betas": [0.9, 0.999], "weight_decay": 0, "fused": None, "amsgrad": True}),
        (torch.optim.AdamW, {"lr": torch.tensor(0.1)}),
        (torch.optim.SGD, {"lr": float("inf"), "nesterov": False}),
        (lr_scheduler.LinearLR, {"start_factor": 1, "total_iters": 100.0}),
        (lr_scheduler.MultiStepLR, {"milestones": [1, 2]}),
        (lr_scheduler.ReduceLROnPlateau, {"mode": "min", "min_lr": [0.1, 0.2]}),
        (CosineSchedule, {"total_steps": 5, "unknown": "x"}),
        (CosineSchedule, {"total_steps": {"_target_": "torch.nn.SiLU"}}),
        (lambda x: x, {"x": "anything"}),
    ],
)
def test_what_fits_passes(make: Any, settings: dict[str, Any]) -> None:
    check_partial(partial(make, **settings), "here")


@pytest.mark.parametrize(
    ("make", "settings", "named"),
    [
        (torch.optim.AdamW, {"lr": "1e-4"}, "lr"),  # as YAML 1.1 reads it
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": None}, "weight_decay"),
        (torch.optim.AdamW, {"betas": [0.9]}, "betas"),
        (lr_scheduler.ReduceLROnPlateau, {"mode": "up"}, "mode"),
        (CosineSchedule, {"total_steps": "100"}, "total_steps"),
    ],
)
def test_what_does_not_fit_is_named(make: Any, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"^here\.{named}: got .+, expected "):
        check_partial(partial(make, **settings), "here")


class Sized(Slot, torch.nn.Linear):
    """A part whose constructor hands settings on."""

    def __init__(self, names: Sequence[str] = (), **more: Unpack[Loading]) -> None:
        super().__init__(1, 1)


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        (("adapter",), {}, "names: got 'adapter', expected a list"),  # by its place
        ((), {"batch_size": 1.5}, "batch_size: got 1.5, expected a valid integer"),  # handed on
        ((), {"batch_size": True}, "batch_size: got True, expected a valid integer"),
        ((), {"n_instances": "2"}, "n_instances: got '2', expected a valid integer"),
    ],
)
def test_every_part_names_an_argument_of_a_wrong_type(
    arguments: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=rf"^Sized\.{re.escape(message)}"):
        Sized(*arguments, **named)
    Sized(("adapter",), batch_size=2, n_instances=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1.5}, "SyntheticDataModule.batch_size: got 1.5, expected a valid integer"),
        ({"n_clips": "9"}, "SyntheticDataModule.n_clips: got '9', expected a valid integer"),
    ],
)
def test_data_modules_do_so_too(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        SyntheticDataModule(**settings)


@pytest.mark.wrong_types
@pytest.mark.parametrize("seed", [-1, None, "abc", 1.5, 2**32, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda seed: SyntheticDataModule(seed=seed),
        lambda seed: SyntheticDataModule(split_seed=seed),
        lambda seed: ToyGan(seed=seed),
        lambda seed: RunSettings(seed=seed),
        lambda seed: ParrotAttack(None, seed=seed),  # type: ignore[arg-type]
        lambda seed: GlobalBatchSampler(8, 2, seed=seed),
    ],
)
def test_one_rule_for_seeds(make: Any, seed: Any) -> None:
    with pytest.raises(SettingError, match=rf"seed: got {seed!r}, expected a"):
        make(seed)
    make(2**32 - 1)


@pytest.mark.parametrize("command", [train, anonymize, evaluate])
@pytest.mark.parametrize("seed", ["-1", "null", "abc", "1.5", "4294967296", "true"])
def test_commands_refuse_a_wrong_seed_before_anything_is_made(
    command: Any, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {train: ["output=out"], anonymize: ["input=clip.mp4"], evaluate: ["original=clip.mp4", "output=out"]}
    assert command([*given[command], f"seed={seed}"]) == USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: seed: got" in line
    assert "expected a whole number from 0 to 4294967295" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "windows.frames is 0, expected at least 1"),
        ({"chunk": 0}, "windows.chunk is 0, expected at least 1"),
        ({"frames": 1.5}, "windows.frames: got 1.5, expected a valid integer"),
        ({"overlap": "1"}, "windows.overlap: got '1', expected a valid integer"),
    ],
)
def test_windows(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        Windows(**settings)


@pytest.mark.parametrize("take", [save_all, load_some, learn_some])
def test_names_are_a_list_wherever_slots_are_named(take: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"got 'critic', expected a list of names, e.g. \[critic\]"):
        take(ToyGan(), tmp_path / "a.safetensors", "critic")


def test_a_metric_says_what_it_lacks() -> None:
    class Nameless(Brightness):
        name = None  # type: ignore[assignment]

    class Tensors(Brightness):
        def protocol(self) -> dict[str, Any]:
            return {"scale": torch.ones(1)}

    with pytest.raises(SettingError, match="Nameless has no name: expected name"):
        Nameless()
    with pytest.raises(SettingError, match=r"protocol of brightness: .*Tensor.*; expected plain JSON values"):
        Tensors()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("metrics=[nope]", "no option 'nope' for metrics; there are: all, default"),
        ("logger=[csv,nope]", "no option 'nope' for logger; there are: csv, none"),
        ("callbacks=[default,nope]", "no option 'nope' for callbacks; there are: default, evaluator"),
    ],
)
def test_an_unknown_option_in_a_list_is_named_with_those_there_are(override: str, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        compose("train", [override, "output=out"])
