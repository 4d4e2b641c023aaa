"""Runs that must come out the same: stopped and resumed, on one process and on two, whole and divided."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import _training
from _training import TINY, write_configs
from pa_lib.cli.command import FAILED, INTERRUPTED, OK
from pa_lib.cli.train import main

LAST = Path("checkpoints/last.ckpt")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_configs(tmp_path / "conf")


def call(config: Path, *more: str) -> int:
    return main(["--config-dir", str(config), *TINY, *more])


def in_a_process(config: Path, *more: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """As from a shell: Lightning's own processes begin by running the same script again."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, _training.__file__, "--config-dir", str(config), *TINY, *more]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=environment | {"OMP_NUM_THREADS": "1"}
    )


def stored(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(Path(folder) / LAST, weights_only=True)
    return content


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, all the way down."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


# The checks look at one item of a list, drawn from Python's own generator, whose state is compared here.
@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("n", "more"),
    [
        (3, []),  # in the midst of an epoch of eight steps
        (8, []),  # at its end
        (10, ["trainer.val_check_interval=3"]),
        (3, ["trainer.accumulate_grad_batches=3"]),
        (3, ["+module.dropout=0.5"]),  # draws from the global random numbers
        (4, ["+module.is_manual=true"]),
        (3, ["+module.is_backbone_external=true", "trainer.precision=bf16-mixed"]),
    ],
)
def test_stopped_and_resumed_is_as_never_stopped(config: Path, n: int, more: list[str]) -> None:
    assert call(config, *more, "output=whole", f"trainer.max_steps={2 * n}") == OK
    assert call(config, *more, "output=part", f"trainer.max_steps={n}") == OK
    assert call(config, *more, "output=part", f"trainer.max_steps={2 * n}", "ckpt=last") == OK
    whole, part = stored("whole"), stored("part")
    assert whole["global_step"] == part["global_step"] == 2 * n
    names = ("state_dict", "training_weights", "optimizer_states", "lr_schedulers", "random_states")
    for name in (*names, "SyntheticDataModule"):
        assert same(whole[name], part[name]), name
    assert not same(whole["training_weights"], stored("whole")["state_dict"])  # the average is another thing


def test_going_on_after_a_crash(config: Path) -> None:
    assert call(config, "output=whole", "trainer.max_steps=7") == OK
    part = ["output=part", "trainer.max_steps=7", "callbacks.last.every_n_steps=2"]
    assert call(config, *part, "+module.nan_at=5") == FAILED
    assert stored("part")["global_step"] == 4  # the last that was saved
    assert call(config, *part, "ckpt=last") == OK
    assert same(stored("whole")["training_weights"], stored("part")["training_weights"])


@pytest.mark.slow
@pytest.mark.parametrize("option", ["ddp", "fsdp"])
def test_two_processes_are_as_one(config: Path, option: str) -> None:
    two = [f"trainer={option}", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    ran = in_a_process(config, *two, "output=two", "trainer.max_steps=3")
    assert ran.returncode == OK, ran.stderr
    assert ran.stdout.count("pa-train: standin -> two") == 1  # one of them tells
    assert call(config, "output=one", "trainer.max_steps=3") == OK
    one, other = stored("one"), stored("two")
    for name in ("training_weights", "state_dict"):
        for key, value in one[name].items():
            torch.testing.assert_close(other[name][key], value, rtol=0, atol=1e-6, msg=f"{name}: {key}")
    assert len(other["random_states"]) == 2
    # Go on from there with two; and what two have saved, one can use.
    ran = in_a_process(config, *two, "output=two", "trainer.max_steps=5", "ckpt=last")
    assert ran.returncode == OK, ran.stderr
    assert call(config, "output=one", "trainer.max_steps=5", "ckpt=last") == OK
    for key, value in stored("one")["training_weights"].items():
        torch.testing.assert_close(stored("two")["training_weights"][key], value, rtol=0, atol=1e-6)
    assert call(config, "output=two", "trainer.max_steps=6", "ckpt=last", "~callbacks.random_state") == OK


@pytest.mark.slow
def test_a_nan_on_two_processes_ends_both(config: Path) -> None:
    two = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    ran = in_a_process(config, *two, "output=two", "+module.nan_at=1")
    assert ran.returncode != OK
    assert "the loss is NaN at step 1" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_interrupted_from_the_keyboard(config: Path) -> None:
    command = [sys.executable, _training.__file__, "--config-dir", str(config), *TINY, "output=out"]
    command += ["trainer.max_steps=1000000", "callbacks.last.every_n_steps=5"]
    # Where the suite runs in the background, children ignore the keyboard unless told otherwise.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL, preexec_fn=listen)
    deadline = time.monotonic() + 120
    while not (Path("out") / LAST).is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == INTERRUPTED
    assert told.strip().splitlines()[-1] == (
        "pa-train: interrupted; go on with the same command and ckpt=out/checkpoints/last.ckpt"
    )
