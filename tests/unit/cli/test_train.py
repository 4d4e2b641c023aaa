"""pa-train: what it composes, where it writes, what it says, and what it refuses."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import pa_lib
from _training import TINY, write_configs
from pa_lib.cli import trainer
from pa_lib.cli.build import build_callbacks
from pa_lib.cli.command import FAILED, OK, USAGE, process_rank
from pa_lib.cli.compose import build, compose, composition, config_folder, option_groups, parse
from pa_lib.cli.multirun import members
from pa_lib.cli.run_folder import TakenFolder, composed_run
from pa_lib.cli.train import main
from pa_lib.errors import PaLibError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder with the stand-in; the test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return write_configs(tmp_path / "conf")


def call(config: Path, *more: str) -> int:
    with_config = ["--config-dir", str(config), *TINY]
    multirun = [argument for argument in more if argument == "-m"]
    return main([*multirun, *with_config, *(argument for argument in more if argument != "-m")])


def test_a_run_leaves_a_checkpoint_its_config_and_previews(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(config, "output=out", "callbacks.average.decay=0.5", "logger=[csv,tensorboard]") == OK
    told = capsys.readouterr().out
    folder = Path("out")
    stored = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    entry = {"version": pa_lib.__version__, "config": written["module"], "trusted": ["_training"]}
    assert stored["pa_lib"] == entry
    assert stored["global_step"] == 4
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["steps"] == 4
    assert outcome["best"] == pytest.approx(float(torch.tensor(outcome["best"])))
    assert {path.name for path in folder.iterdir()} == {
        *("checkpoints", "config.yaml", "csv", "outcome.json", "previews", "tensorboard")
    }
    assert sorted(path.name for path in (folder / "previews").glob("*.png")) == [
        "step_0000002.png",
        "step_0000004.png",
    ]
    assert "go on       pa-train --config-dir" in told
    assert "ckpt=out/checkpoints/last.ckpt trainer.max_steps=8" in told
    (use,) = [line.split()[1:] for line in told.splitlines() if line.split()[:1] == ["use"]]
    assert use == ["pa-anonymize", "input=clip.mp4", "'trust=[_training]'", "weights=out/checkpoints/last.ckpt"]
    assert "Tip" not in told
    assert "litlogger" not in told
    module = pa_lib.load_module(folder / "checkpoints" / "last.ckpt", trusted=("_training",))
    assert torch.equal(module.adapter[1].weight, stored["state_dict"]["adapter.1.weight"])


def test_the_run_folder_is_named_by_what_the_run_is(config: Path) -> None:
    steps = ["trainer.max_steps=1", "trainer.limit_val_batches=0"]
    assert call(config, *steps) == OK
    (first,) = Path("runs/standin").iterdir()
    assert call(config, *steps, "seed=1") == OK
    assert len(list(Path("runs/standin").iterdir())) == 2
    assert call(config, *steps) == USAGE  # there already
    before = (first / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert call(config, *steps, "is_overwrite=true") == OK
    assert (first / "checkpoints" / "last.ckpt").stat().st_mtime_ns > before
    # Going on for longer is the same run, whether named by file or as the last one.
    assert (
        call(config, "trainer.limit_val_batches=0", "trainer.max_steps=2", f"ckpt={first}/checkpoints/last.ckpt") == OK
    )
    assert json.loads((first / "outcome.json").read_text())["steps"] == 2
    assert len(list(Path("runs/standin").iterdir())) == 2
    assert not Path("outputs").exists()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["data.batch_size=0"], USAGE),
        (["data.batch_size=400"], FAILED),  # found when the data are read
        (["trainer.max_steps=abc"], USAGE),
        (["trainer.precision=17"], USAGE),
        (["+module.is_manual=true", "trainer.gradient_clip_val=1"], USAGE),  # found when training begins
        (["+module.nan_at=0", "trainer.max_steps=6"], FAILED),  # the first step is not taken
        (["init_from=out/checkpoints/last.ckpt"], USAGE),
        (["init_from=nowhere.ckpt"], FAILED),
        (["logger=[csv,nope]"], USAGE),
    ],
)
@pytest.mark.parametrize("how", ["is_overwrite=true", "ckpt=last", "a new folder"])
def test_what_is_refused_leaves_the_folder_as_it_was(
    config: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, how: str
) -> None:
    if how == "a new folder":
        assert call(config, *more, "output=some/other") != OK
        assert not Path("some").exists()
        return
    if "init_from" in more[0] and how == "ckpt=last":
        pytest.skip("initial weights are not read where a run is resumed")
    if more[0] == "+module.nan_at=0" and how == "ckpt=last":
        more = ["+module.nan_at=1", "trainer.max_steps=6"]
    assert call(config, "output=out", "trainer.max_steps=1", "trainer.val_check_interval=1") == OK
    Path("out/notes.txt").write_text("mine")
    before = content(Path("out"))
    capsys.readouterr()
    assert call(config, "output=out", how, *more) == code
    assert "pa-train: error: " in capsys.readouterr().err
    after = content(Path("out"))
    assert {name: after[name] for name in before} == before
    assert {name.partition("/")[0] for name in after} == {name.partition("/")[0] for name in before}


def test_a_run_that_was_killed_before_its_first_step_leaves_what_it_was_to_replace(config: Path) -> None:
    assert call(config, "output=out", "trainer.max_steps=1", "trainer.val_check_interval=1") == OK
    before = content(Path("out"))
    settings = compose("train", ["module=standin", "trust=[_training]", "output=out", "is_overwrite=true"], config)
    TakenFolder(Path("out"), settings)  # and nothing after it
    assert not Path("out/checkpoints").exists()
    with pytest.raises(PaLibError, match="holds a run already"):
        TakenFolder(Path("out"), settings | {"is_overwrite": False})
    assert content(Path("out")) == before
    assert call(config, "output=out", "is_overwrite=true", "trainer.max_steps=2") == OK
    assert json.loads(Path("out/outcome.json").read_text())["steps"] == 2
    assert {path.name for path in Path("out").iterdir()} == {
        *("checkpoints", "config.yaml", "csv", "outcome.json", "previews")
    }


@pytest.mark.parametrize("steps", [2, 1])
def test_a_run_that_is_long_enough_keeps_its_outcome(
    config: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    assert call(config, "output=out", "trainer.max_steps=2") == OK
    before = content(Path("out"))
    assert json.loads(before["outcome.json"])["last"] is not None
    capsys.readouterr()
    assert call(config, "output=out", "ckpt=last", f"trainer.max_steps={steps}") == OK
    assert "nothing left to do: it is at step 2" in capsys.readouterr().out
    after = content(Path("out"))
    assert {name: after[name] for name in before} == before
    # One that was killed after its last step: what is known of it.
    Path("out/outcome.json").unlink()
    assert call(config, "output=out", "ckpt=last", "trainer.max_steps=2") == OK
    outcome = json.loads(Path("out/outcome.json").read_text())
    assert (outcome["steps"], outcome["best"]) == (2, json.loads(before["outcome.json"])["best"])


def test_an_experiment_goes_over_the_groups(config: Path) -> None:
    (config / "experiment").mkdir()
    (config / "experiment" / "mine_1.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /logger: none\n  - override /callbacks: none\n  - override /module: standin\n"
        "seed: 7\ntrainer:\n  max_steps: 3\nmodule:\n  width: 6\n"
    )
    chosen = ["module=standin", "trust=[_training]", "experiment=mine_1", "trainer.precision=bf16-mixed"]
    plain = compose("train", chosen, config)
    assert (plain["seed"], plain["trainer"]["max_steps"], plain["module"]["width"]) == (7, 3, 6)
    assert plain["trainer"]["precision"] == "bf16-mixed"
    assert not plain["logger"]
    assert not plain["callbacks"]
    arguments = ["--config-dir", str(config), *TINY[1:-2], "module=standin", "experiment=mine_1", "trainer.max_steps=1"]
    assert main(arguments) == OK
    (folder,) = Path("runs/mine_1").iterdir()
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "outcome.json"}  # nothing was asked to be kept


@pytest.mark.parametrize("group", ["trainer", "logger", "callbacks", "debug", "paths"])
def test_every_option_composes(config: Path, group: str) -> None:
    for option in option_groups(config_folder())[group]:
        plain = compose("train", ["module=standin", "trust=[_training]", f"{group}={option}"], config)
        assert plain["trainer"]["_target_"] == "lightning.pytorch.Trainer"


@pytest.mark.parametrize(
    ("option", "precision", "strategy"),
    [("gpu", "bf16-mixed", "auto"), ("ddp", "bf16-mixed", "ddp"), ("multinode", "bf16-mixed", "ddp")],
)
def test_trainers_build_on_one_another(config: Path, option: str, precision: str, strategy: str) -> None:
    trainer = compose("train", ["module=standin", "trust=[_training]", f"trainer={option}"], config)["trainer"]
    assert (trainer["accelerator"], trainer["precision"], trainer["strategy"]) == ("gpu", precision, strategy)
    assert trainer["num_nodes"] == (2 if option == "multinode" else 1)


@pytest.mark.parametrize("option", ["constant", "cosine"])
def test_optimizer_and_schedule_reach_the_module(config: Path, option: str) -> None:
    (config / "module" / "full.yaml").write_text(
        "defaults:\n  - optimizer: adamw\n  - lr_schedule: constant\n  - _self_\n_target_: torch.nn.Identity\n"
    )
    module = compose("train", ["module=full", f"module/lr_schedule={option}", "module.optimizer.lr=0.5"], config)[
        "module"
    ]
    optimizer = build(module["optimizer"])([torch.nn.Parameter(torch.zeros(1))])
    schedule = build(module["lr_schedule"])(optimizer)
    rates = []
    for _ in range(1001):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    if option == "constant":
        assert rates[0] == pytest.approx(0.005)
        assert rates[100:] == pytest.approx([0.5] * 901)
    else:  # 1000 steps in all
        assert (rates[0], rates[500], rates[1000]) == pytest.approx((0.5, 0.25, 0.0), abs=1e-6)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["ckpt=nowhere.ckpt"], FAILED, "ckpt=nowhere.ckpt: no such file"),
        (["init_from=nowhere.ckpt"], FAILED, "error: init_from=nowhere.ckpt: no such checkpoint"),
        (["trainer.max_steps=-5"], USAGE, "error: trainer: `max_steps` must be"),
        (["trainer.max_steps=many"], USAGE, "error: trainer.max_steps: got 'many', expected a valid integer"),
        (["data.batch_size=many"], USAGE, "batch_size: got 'many', expected a valid integer, e.g. 8"),
        (["data.batch_sice=3"], USAGE, "(did you mean data.batch_size?)"),
        (["trainer=cloud"], USAGE, "no option 'cloud' for trainer; there are: cpu, ddp"),
        (["trainer.max_stepz=3"], USAGE, "max_stepz"),
        (["+trainer.speed=3"], USAGE, "trainer: Trainer.__init__() got an unexpected keyword argument 'speed'"),
        (["trainer.precision=17"], USAGE, "trainer: Precision 17 is invalid"),
        (["trainer=gpu"], USAGE, "trainer: No supported gpu backend found!"),
        (["+module.depth=3"], USAGE, "_training.Standin"),
        (["+module.nan_at=1"], FAILED, "the loss is NaN at step 1; lower the learning rate"),
        (["+module.is_manual=true", "trainer.gradient_clip_val=1"], USAGE, "clipping is not supported for manual"),
        (["data.batch_size=400"], FAILED, "expected at least 400"),
        (["sweep=seeds"], USAGE, "a sweep is several runs: add -m"),
        (["output=a_file/x"], USAGE, "output=a_file: got a file, expected a folder"),
        (["nonsense"], USAGE, "expected setting=value"),
    ],
)
def test_mistakes_get_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, message: str
) -> None:
    if "trainer=gpu" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    Path("a_file").touch()
    assert call(config, *more) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    if more != ["nonsense"]:
        assert lines.pop(0) == "pa-train: note: code of your own may run: trust=[_training]"
    (error,) = lines
    assert error.startswith("pa-train: error: ")
    assert message in error


def test_a_checkpoint_of_another_shape_or_a_damaged_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(config, "output=out", "trainer.max_steps=1") == OK
    capsys.readouterr()
    assert call(config, "+module.width=5", "ckpt=out/checkpoints/last.ckpt") == FAILED
    error = capsys.readouterr().err
    assert "ckpt=out/checkpoints/last.ckpt: does not fit this module: " in error
    Path("out/checkpoints/last.ckpt").write_bytes(b"no weights")
    assert call(config, "ckpt=out/checkpoints/last.ckpt") == FAILED
    assert "ckpt=out/checkpoints/last.ckpt: damaged" in capsys.readouterr().err


def test_a_second_stage_begins_with_the_slots_of_the_first(config: Path) -> None:
    assert call(config, "output=one", "trainer.max_steps=2") == OK
    before = torch.load("one/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    second = ["init_from=one/checkpoints/last.ckpt", "init_slots=[adapter]", "+module.lr=0.0", "seed=5"]
    assert call(config, "output=two", *second, "trainer.max_steps=1") == OK
    after = torch.load("two/checkpoints/last.ckpt", weights_only=True)["training_weights"]
    # A rate of 0 and no decay but AdamW's, which the rate scales too: nothing moved.
    assert torch.equal(after["adapter.1.weight"], before["adapter.1.weight"])
    assert not torch.equal(after["temporal.weight"], before["temporal.weight"])


def test_sweeps_expand_as_hydra_does(config: Path) -> None:
    base = ["module=standin", "trust=[_training]", "logger=[csv,none]"]

    def labels(*more: str) -> list[str]:
        return [one.label for one in members([*base, *more], config)]

    assert labels("seed=0,1", "trainer.max_steps=range(1,3)") == [
        "seed=0 trainer.max_steps=1",
        "seed=0 trainer.max_steps=2",
        "seed=1 trainer.max_steps=1",
        "seed=1 trainer.max_steps=2",
    ]
    assert labels("sweep=seeds") == ["seed=0", "seed=1", "seed=2"]
    assert labels("sweep=seeds", "seed=4,5") == ["seed=4", "seed=5"]  # the command line narrows it
    (alone,) = members([*base, "sweep=seeds", "seed=4"], config)
    assert alone.composed.config["seed"] == 4
    components = composition("train", ["module=standin", "trust=[_training]", "sweep=components"], config).swept
    assert components["module/adapter"] == "sca,none"


def test_folders_of_a_sweep_say_what_they_hold(config: Path) -> None:
    two = members(["module=standin", "trust=[_training]", "seed=0,1", "trainer.precision='32-true'"], config)
    names = [one.folder.name for one in two]
    assert [name.rpartition("-")[0] for name in names] == ["seed-0", "seed-1"]
    assert all(re.fullmatch("[0-9a-f]{8}", name.rpartition("-")[2]) for name in names)
    # The same run keeps its folder in a larger sweep, and alone.
    for one in two:
        one.folder.mkdir(parents=True)
    settings = ["module=standin", "trust=[_training]", "trainer.precision='32-true'"]
    more = members([*settings, "seed=1,2", "+module.width=4,5"], config)
    assert {one.folder.name for one in more}.isdisjoint(names)
    assert next(one.folder.name for one in members([*settings, "seed=1,2"], config)) == names[1]
    assert Path(composed_run([*settings, "seed=1"], config).config["output"]).name == names[1]


ODD = "my runs (1), é 'x' [2] {y} #3"


def test_every_run_of_a_sweep_has_its_folder_in_the_one_that_is_given(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a name that Hydra would read as an expression, in the sweep and in each of its processes."""

    def instead(command: list[str], check: bool) -> Any:
        return subprocess.CompletedProcess(command, main(command[3:]))

    monkeypatch.setattr(subprocess, "run", instead)
    sweep = ["-m", "seed=0,1", f"output={ODD}", "trainer.max_steps=1", "trainer.limit_val_batches=0"]
    assert call(config, *sweep) == OK
    assert "finished earlier" not in capsys.readouterr().out
    outcomes = [json.loads(path.read_text()) for path in Path(ODD).glob("seed-*/outcome.json")]
    assert sorted(one["seed"] for one in outcomes) == [0, 1]
    assert [one.name for one in Path(ODD).glob("*/summary.md")] == ["summary.md"]
    assert call(config, *sweep) == OK
    assert capsys.readouterr().out.count("finished earlier") == 2
    assert len(list(Path(ODD).glob("seed-*"))) == 2


def test_the_printed_lines_can_be_pasted(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(config, f"output={ODD}", "trainer.max_steps=1", "trainer.limit_val_batches=0") == OK
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    go_on = shlex.split(told["go"], comments=True)[2:]
    assert go_on[0] == "pa-train"
    assert main(go_on[1:]) == OK
    assert json.loads((Path(ODD) / "outcome.json").read_text())["steps"] == 2
    use = shlex.split(told["use"])[1:]
    overrides, _ = parse(use[0], "", use[1:])
    assert compose("anonymize", overrides)["weights"] == f"{ODD}/checkpoints/last.ckpt"


def test_many_runs_each_in_its_own_process(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []

    def instead(command: list[str], check: bool) -> Any:
        begun.append(command[1:])
        argv = sys.argv
        code = main(command[3:])
        assert sys.argv is argv
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", instead)
    short = ["trainer.max_steps=1", "trainer.limit_val_batches=0"]
    assert call(config, "-m", "seed=0,1", *short) == OK
    assert len(begun) == 2
    assert begun[0][:2] == ["-m", "pa_lib.cli.train"]
    assert len(list(Path("runs/standin").glob("seed-*"))) == 2
    capsys.readouterr()
    assert call(config, "-m", "seed=0,1,2", "+module.nan_at=null,0", *short) == FAILED
    told = capsys.readouterr()
    assert told.out.count("failed (exit code 1)") == 3
    assert told.err.count("the loss is NaN at step 0") == 3
    assert len(begun) == 8
    assert call(config, "-m", "seed=0,1,2", *short) == OK
    assert len(begun) == 9  # two of these were finished earlier
    assert call(config, "-m", "seed=0,1", "trainer.max_stepz=1") == USAGE  # before anything runs
    assert len(begun) == 9


def test_a_sweep_leaves_a_table_over_its_seeds(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {("4", "0"): 1.0, ("4", "1"): 3.0, ("5", "0"): 7.0}

    def instead(command: list[str], check: bool) -> Any:
        settings = dict(word.split("=", 1) for word in command if "=" in word)
        value = best.get((settings["+module.width"], settings["seed"]))
        if value is not None:
            folder = Path(settings["output"].strip("'"))
            folder.mkdir(parents=True)
            outcome = {"steps": 1, "monitor": "val/loss", "best": value, "last": value, "metrics": {"val/x": 2 * value}}
            (folder / "outcome.json").write_text(json.dumps(outcome))
        return subprocess.CompletedProcess(command, FAILED if value is None else OK)

    monkeypatch.setattr(subprocess, "run", instead)
    assert call(config, "-m", "+module.width=4,5", "seed=0,1") == FAILED
    (folder,) = Path("runs/standin").glob("sweep-width-4-5_seed-0-1-*")
    with (folder / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["setting"], row["runs"], row["failed"]) for row in rows] == [
        ("+module.width=4", "2", "0"),
        ("+module.width=5", "1", "1"),
    ]
    assert float(rows[0]["best val/loss mean"]) == 2.0
    assert float(rows[0]["best val/loss sd"]) == pytest.approx(2**0.5)  # of 1 and 3
    assert (float(rows[0]["val/x mean"]), rows[1]["val/x sd"]) == (4.0, "")
    table = (folder / "summary.md").read_text().splitlines()
    assert table[0] == "| setting | runs | best val/loss | val/x |"
    assert table[2] == "| +module.width=4 | 2 | 2 ± 1.4 | 4 ± 2.8 |"
    assert table[3] == "| +module.width=5 | 1 (1 failed) | 7 | 14 |"


@pytest.mark.parametrize(
    ("override", "package"),
    [
        ("hydra/launcher=joblib", "hydra-joblib-launcher"),
        ("hydra/launcher=submitit_slurm", "hydra-submitit-launcher"),
        ("hydra/sweeper=optuna", "hydra-optuna-sweeper"),
    ],
)
def test_plugins_of_hydra_that_are_not_installed(
    config: Path, capsys: pytest.CaptureFixture[str], override: str, package: str
) -> None:
    if package in {distribution.name for distribution in importlib.metadata.distributions()}:
        pytest.skip("it is installed here")
    assert call(config, "-m", "seed=0,1", override) == USAGE
    assert f"{override} is not installed; pip install {package}" in capsys.readouterr().err


def sweep(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A real sweep of tiny runs, each a process, as launchers start them."""
    short = ["trainer.max_steps=1", "trainer.val_check_interval=1"]
    command = [sys.executable, "-m", "pa_lib.cli.train", "-m", "--config-dir", str(config), *TINY, *short, *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "settings"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    ],
)
def test_launchers_leave_what_runs_one_by_one_leave(config: Path, plugin: str, settings: list[str]) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    done = sweep(config, "seed=0,1", *settings)
    assert done.returncode == OK, done.stderr
    values = {path.parent.name: json.loads(path.read_text())["last"] for path in Path("runs").rglob("outcome.json")}
    assert len(values) == 2
    (folder,) = Path("runs/standin").glob("sweep-*")
    (row,) = csv.DictReader((folder / "summary.csv").read_text().splitlines())
    assert (row["runs"], row["failed"]) == ("2", "0")
    done = sweep(config, "seed=0,1", "is_overwrite=true")
    assert done.returncode == OK, done.stderr
    assert values == {
        path.parent.name: json.loads(path.read_text())["last"] for path in Path("runs").rglob("outcome.json")
    }


@pytest.mark.slow
def test_a_search_ends_with_a_failed_run_or_goes_on_without_it(config: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "+module.nan_at=0"]
    search.append("+module.lr=interval(0.01,0.1)")
    hint = "hydra.sweeper.max_failure_rate=1 goes on"
    for more, n_runs in ([], 1), (["hydra.sweeper.max_failure_rate=1"], 2):
        done = sweep(config, *search, f"paths.runs=runs_{n_runs}", *more)
        assert done.returncode == FAILED  # as a sweep with a failed run does
        assert "a bug" not in done.stderr
        assert (hint in done.stderr.splitlines()[-1]) == (n_runs == 1)
        assert done.stdout.count("failed (exit code 1)") == n_runs
        assert len(list(Path(f"runs_{n_runs}").rglob("summary.md"))) == 1


@pytest.mark.parametrize(
    ("features", "is_slow"),
    [
        ("flags\t\t: fpu avx2 avx512f", True),
        ("flags\t\t: fpu avx512f avx512_bf16", False),
        ("flags\t\t: fpu amx_bf16 amx_tile", False),
        ("Features\t: fp asimd bf16", False),
        ("processor : 0", False),  # nothing is known
    ],
)
def test_bfloat16_in_software_is_warned_of(
    config: Path, features: str, is_slow: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cpuinfo").write_text(f"{features}\n")
    monkeypatch.setattr(trainer, "_CPU_INFO", Path("cpuinfo"))
    assert trainer.is_bf16_slow() == is_slow
    for precision, is_warned in (("bf16-mixed", is_slow), ("32-true", False)):
        assert call(config, "debug=fast", f"trainer.precision={precision}", f"output={precision}") == OK
        told = capsys.readouterr().err
        assert (f"warning: trainer.precision={precision} is many times slower" in told) == is_warned
    monkeypatch.setattr(trainer, "_CPU_INFO", Path("missing"))
    assert not trainer.is_bf16_slow()


def test_no_recipe_asks_for_bfloat16_on_a_cpu() -> None:
    for option in option_groups(config_folder())["experiment"]:
        path = ["data.path=folder"] if option.startswith(("compact_", "person_outline")) else []
        composed = compose("train", [f"experiment={option}", *path, "output=out"])
        assert (composed["trainer"]["accelerator"], composed["trainer"]["precision"]) == ("cpu", "32-true")


def logged(folder: str) -> dict[str, float]:
    """The metrics of the last validation."""
    with open(f"{folder}/csv/version_0/metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    values: dict[str, float] = {}
    for row in rows:
        values |= {name: float(value) for name, value in row.items() if value and name.startswith("val/")}
    del values["val/loss"]
    return values


@pytest.mark.parametrize("option", ["faces", "synthetic", "tracklets"])
def test_the_seed_reaches_the_data_and_leaves_the_split(option: str) -> None:
    path = [] if option == "synthetic" else ["data.path=folder"]
    nodes = [compose("train", [f"data={option}", *path, "output=out", f"seed={seed}"]) for seed in (0, 3)]
    assert [node["data"]["seed"] for node in nodes] == [node["module"]["seed"] for node in nodes] == [0, 3]
    assert [node["data"]["split_seed"] for node in nodes] == [0, 0]


def test_another_seed_gives_another_order_of_the_same_clips() -> None:
    runs = []
    for seed in (0, 0, 1):
        settings = ["output=out", f"seed={seed}", "data.n_clips=24", "data.side=16", "data.n_frames=1"]
        data = build(compose("train", [*settings, "data.batch_size=1"])["data"])
        data.setup("fit")
        loaders = (data.train_dataloader(), data.val_dataloader())
        runs.append([[int(batch.clip_ids[0]) for batch in loader] for loader in loaders])
    (trained, held_out), again, (otherwise, held_out_otherwise) = runs
    assert again == [trained, held_out]
    assert otherwise != trained
    assert sorted(otherwise) == sorted(trained)
    assert held_out_otherwise == held_out


def test_every_metric_of_a_list_is_logged_as_alone(config: Path) -> None:
    alone: dict[str, float] = {}
    for name in ("unmasked_psnr", "warping_error"):
        assert call(config, "callbacks=[default,evaluator]", f"metrics={name}", f"output={name}") == OK
        values = logged(name)
        assert not set(values) & set(alone)
        alone |= values
    several = ["callbacks=[default,evaluator]", "metrics=[unmasked_psnr,warping_error]"]
    assert call(config, *several, "metrics.unmasked_psnr.halo_px=8", "output=both") == OK
    assert logged("both") == alone
    assert {name.split("_")[0] for name in alone} == {"val/unmasked", "val/warping"}


def test_metrics_of_the_evaluator_share_their_parts(config: Path) -> None:
    composed = compose("train", ["callbacks=evaluator", "metrics=[detection_rate,reidentification]", "output=out"])
    (evaluator,) = build_callbacks(composed)
    first, second = evaluator.metrics
    assert [metric.name for metric in (first, second)] == ["detection_rate", "reidentification"]
    assert first.compare is second.compare


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 1),
        ({"LOCAL_RANK": "0", "RANK": "4"}, 4),
        ({"SLURM_PROCID": "3"}, 3),
        ({"NODE_RANK": "1"}, 1),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, 1),
    ],
)
def test_only_one_process_of_all_writes(
    environment: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == rank


def test_help_is_quick_and_lists_the_groups() -> None:
    probe = (
        "import sys\nfrom pa_lib.cli.train import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    print([name for name in ('torch', 'lightning', 'hydra') if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert told.strip().endswith("[]")
    assert "trainer=cpu|ddp|fsdp|gpu|multinode" in told
    assert "pa-train -m experiment=" in told
