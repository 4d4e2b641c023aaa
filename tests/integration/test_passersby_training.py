"""Training the Passersby-Anonymizer itself: on two processes, divided, stopped and resumed, stage upon stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import _passersby
from _passersby import COMPACT, TINY, WITHOUT_TINY, pretrained
from pa_lib import load_module
from pa_lib.cli.command import FAILED, OK
from pa_lib.cli.compose import compose
from pa_lib.cli.train import main, train

LAST = Path("checkpoints/last.ckpt")
STAGE_1 = ["module/temporal=none", "module.trainable=[backbone,adapter]", "data.n_frames=1"]
STAGE_2 = ["module.trainable=[temporal]", "data.n_frames=3"]
# Plain gradient descent at a rate of 1: what differs in a gradient differs as much in the weights, while Adam would
# divide a gradient that is zero but for rounding by itself.
DESCENT = [
    "module.optimizer._target_=torch.optim.SGD",
    "~module.optimizer.betas",
    "module.optimizer.lr=1.0",
    "module.lr_schedule=null",
    "trainer.gradient_clip_val=1.0",
    "trainer.limit_val_batches=0",
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*more: str) -> int:
    return main([*TINY, *more])


def in_a_process(*more: str) -> subprocess.CompletedProcess[str]:
    """As from a shell: Lightning's own processes begin by running the same command again."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.run(
        [sys.executable, "-m", "pa_lib.cli.train", *TINY, *more],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )


def stored(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(Path(folder) / LAST, weights_only=True)
    return content


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, all the way down."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[key].double() - b[key].double()).abs().max()) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["ddp", "fsdp"])
@pytest.mark.parametrize("stage", [STAGE_1, STAGE_2], ids=["stage_1", "stage_2"])
def test_a_step_on_two_processes_is_the_same_step_on_one(option: str, stage: list[str]) -> None:
    two = [f"trainer={option}", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    descent = [setting for setting in DESCENT if option == "ddp" or "clip" not in setting]
    rest = [*stage, *descent, "trainer.max_steps=2"]
    ran = in_a_process(*two, *rest, "output=two")
    assert ran.returncode == OK, ran.stderr
    assert call(*rest, "output=one") == OK
    one, other = stored("one")["training_weights"], stored("two")["training_weights"]
    assert call(*rest, "output=begun", "module.optimizer.lr=0.0") == OK
    assert largest_difference(one, stored("begun")["training_weights"]) > 1e-2  # they did learn
    assert largest_difference(one, other) < 1e-5
    # One process rebuilds and uses what two have saved.
    results = [
        load_module(Path(folder) / LAST).anonymize(_passersby.clip(), _passersby.masks(), seed=1).frames.int()
        for folder in ("one", "two")
    ]
    assert int((results[0] - results[1]).abs().max()) <= 1


@pytest.mark.slow
def test_divided_in_the_precision_that_the_option_has() -> None:
    divided = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.gradient_clip_val=1.0"]
    ran = in_a_process(*divided, *STAGE_2, "output=out", "trainer.max_steps=2", "trainer.val_check_interval=2")
    assert ran.returncode == OK, ran.stderr
    assert "Warning" not in ran.stderr
    assert "val/loss" in ran.stdout
    assert {weight.dtype for weight in load_module(Path("out") / LAST).parameters()} == {torch.float32}


# The checks look at one item of a list, drawn from Python's own generator, whose state is compared here.
@pytest.mark.wrong_types
@pytest.mark.parametrize("stage", [STAGE_1, STAGE_2], ids=["stage_1", "stage_2"])
@pytest.mark.parametrize(
    ("n", "more"),
    [
        (2, []),  # of 5 steps an epoch
        (7, ["trainer.val_check_interval=3"]),
        (2, ["trainer.accumulate_grad_batches=2", "trainer.precision=bf16-mixed"]),
    ],
    ids=["mid_epoch", "later_epoch", "accumulated"],
)
def test_stopped_and_resumed_is_as_never_stopped(stage: list[str], n: int, more: list[str]) -> None:
    assert call(*stage, *more, "output=whole", f"trainer.max_steps={2 * n}") == OK
    assert call(*stage, *more, "output=part", f"trainer.max_steps={n}") == OK
    half = stored("part")["training_weights"]
    assert call(*stage, *more, "output=part", f"trainer.max_steps={2 * n}", "ckpt=last") == OK
    whole, part = stored("whole"), stored("part")
    assert whole["global_step"] == part["global_step"] == 2 * n
    names = ("state_dict", "training_weights", "optimizer_states", "lr_schedulers", "random_states")
    for name in (*names, "SyntheticDataModule"):
        assert same(whole[name], part[name]), name
    assert not same(half, part["training_weights"])


def test_gradient_checkpointing_changes_no_step() -> None:
    rest = [*DESCENT, "trainer.max_steps=2", "module.trainable=[backbone,adapter,temporal]"]
    assert call(*rest, "output=kept") == OK
    assert call(*rest, "output=again", "module.has_gradient_checkpointing=true") == OK
    kept, again = stored("kept")["training_weights"], stored("again")["training_weights"]
    assert largest_difference(kept, again) < 1e-6


def test_the_recipes_one_after_the_other() -> None:
    """As documented: stage 2 takes what stage 1 has learned, and changes the temporal layers alone."""
    tiny = [*WITHOUT_TINY, *COMPACT]
    tiny = [item for item in tiny if not item.startswith(("module.trainable", "data=", "data.n_frames"))]
    tiny += ["trainer.max_steps=3", "module.optimizer.lr=0.01", "module.lr_schedule=null"]
    assert main([*tiny, "experiment=passersby_1_spatial", "output=one"]) == OK
    taken = [f"init_from={Path('one') / LAST}", "trainer.max_steps=3", "seed=5"]
    assert main([*tiny, "experiment=passersby_2_temporal", *taken, "output=two"]) == OK
    one, two = stored("one")["state_dict"], stored("two")["state_dict"]
    assert one.keys() == {name for name in two if not name.startswith("temporal.")}
    assert same(one, {name: two[name] for name in one})
    assert main([*tiny, "experiment=passersby_2_temporal", *taken, "output=still", "module.optimizer.lr=0.0"]) == OK
    temporal = {name: value for name, value in two.items() if name.startswith("temporal.")}
    assert temporal
    assert largest_difference(temporal, {name: stored("still")["state_dict"][name] for name in temporal}) > 1e-3


@pytest.mark.filterwarnings("ignore:Found .* eval mode")  # Lightning's; frozen slots are meant to be
def test_what_has_a_path_of_its_own_and_is_frozen_is_not_saved() -> None:
    folder = _passersby.save_pipeline(Path("weights").resolve())
    arguments = [*WITHOUT_TINY, *pretrained("sd15_inpaint", folder), "output=out", "trainer.max_steps=2"]
    arguments += ["module.optimizer.lr=0.01", "module.lr_schedule=null"]
    _, trained = train(compose("train", arguments))
    slots = {name.partition(".")[0] for name in stored("out")["state_dict"]}
    assert slots == {"adapter", "temporal"}
    loaded: Any = load_module(Path("out") / LAST)
    assert loaded.external_slots() == {"backbone", "autoencoder", "text"}
    assert same(dict(loaded.state_dict()), dict(trained.state_dict()))
    results = [
        system.eval().anonymize(_passersby.clip(), _passersby.masks(), seed=1).frames for system in (trained, loaded)
    ]
    assert torch.equal(*results)
    # It goes on, too.
    more = [setting for setting in arguments if not setting.startswith("trainer.max_steps")]
    assert main([*more, "trainer.max_steps=3", "ckpt=last"]) == OK
    assert stored("out")["global_step"] == 3
    # Trained, the same slot is saved.
    assert main([*arguments, "module.trainable=[backbone]", "output=all"]) == OK
    assert {name.partition(".")[0] for name in stored("all")["state_dict"]} == {"backbone", "adapter", "temporal"}


def test_stage_2_of_a_backbone_that_is_not_saved() -> None:
    """The recipe's init_slots name the backbone; one that lies in a folder of its own comes from there again."""
    folder = _passersby.save_pipeline(Path("weights").resolve())
    tiny = [*WITHOUT_TINY, *pretrained("sd15_inpaint", folder), "trainer.max_steps=1"]
    tiny = [item for item in tiny if not item.startswith(("data=", "data.n_frames", "module.trainable"))]
    assert main([*tiny, "experiment=passersby_1_spatial", "module.trainable=[adapter]", "output=one"]) == OK
    second = [*tiny, "experiment=passersby_2_temporal", f"init_from={Path('one') / LAST}"]
    assert main([*second, "output=two"]) == OK
    one, two = stored("one")["state_dict"], stored("two")["state_dict"]
    assert {name.partition(".")[0] for name in one} == {"adapter"}
    assert same(one, {name: value for name, value in two.items() if name.startswith("adapter.")})


def test_stage_2_refuses_another_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = (_passersby.save_pipeline(Path(name).resolve()) for name in ("weights", "other"))
    tiny = [*WITHOUT_TINY, "trainer.max_steps=1"]
    tiny = [item for item in tiny if not item.startswith(("data=", "data.n_frames", "module.trainable"))]
    first = [*tiny, *pretrained("sd15_inpaint", folder), "experiment=passersby_1_spatial", "module.trainable=[adapter]"]
    assert main([*first, "output=one"]) == OK
    capsys.readouterr()
    second = [*tiny, *pretrained("sd15_inpaint", other), "experiment=passersby_2_temporal"]
    assert main([*second, f"init_from={Path('one') / LAST}", "output=two"]) == FAILED
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("pa-train: error: ")
    assert "holds no weights of slot backbone" in line


@pytest.mark.parametrize("stage", [STAGE_1, STAGE_2], ids=["stage_1", "stage_2"])
def test_a_loss_that_is_no_number_ends_the_run(stage: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["module.optimizer.lr=1e30", "module.lr_schedule=null", "trainer.limit_val_batches=0"]
    assert call(*stage, *wild, "output=out", "trainer.max_steps=9") == FAILED
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("pa-train: error: the loss is ")
    assert "lower the learning rate" in line
    assert not (Path("out") / LAST).exists()
