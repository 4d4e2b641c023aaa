"""Hydra builds and runs its own part of a config: nothing of it runs without permission."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from _training import TINY, write_configs
from pa_lib.cli.command import USAGE
from pa_lib.cli.compose import ConfigError, compose
from pa_lib.cli.multirun import members
from pa_lib.cli.sweep_plan import plan_sweep
from pa_lib.cli.train import main

TOUCH = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": ["ran"]}}
FACTORY = {"()": "pathlib.Path.touch", "self": "ran"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder with the stand-in; the test runs in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return write_configs(tmp_path / "conf")


def write(config: Path, name: str, node: dict[str, Any], package: str = "_global_") -> None:
    path = config / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package {package}\n{yaml.safe_dump(node)}")


@pytest.mark.parametrize("choice", ["experiment=evil", "experiment=good,evil"])
@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"x": TOUCH}},
        {"callbacks": {"x": "${hidden}"}},
        {"launcher": {"_target_": "os.getcwd"}},
        {"sweeper": {"_target_": "os.getcwd"}},
        {"job_logging": {"filters": {"x": FACTORY}}},
        {"hydra_logging": {"filters": {"x": FACTORY}}},
        {"job": {"env_set": {"PYTHONPATH": "/elsewhere"}}},
    ],
)
def test_an_experiment_runs_no_code(
    config: Path, capsys: pytest.CaptureFixture[str], node: dict[str, Any], choice: str
) -> None:
    write(config, "experiment/evil", {"hydra": node, "paths": {"runs": "runs"}, "data": {"hidden": 0}, "hidden": TOUCH})
    write(config, "experiment/good", {"seed": 3})
    assert main(["-m", "--config-dir", str(config), *TINY, choice, "seed=0,1"]) == USAGE
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error" in line]
    assert "refused _target_" in line or "leave it out" in line or "only the command line may give it" in line
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x={_target_:os.mkdir,path:ran}",
        "+hydra.launcher.x={_target_:os.mkdir,path:ran}",
        "+hydra.sweeper.x={_target_:os.mkdir,path:ran}",
        "hydra/launcher=evil",
        "hydra/sweeper=evil",
        "hydra/callbacks=evil",
        "sweep=evil",
        "sweep=selfish",
    ],
)
def test_neither_does_an_option_of_hydra(config: Path, capsys: pytest.CaptureFixture[str], override: str) -> None:
    for part in ("launcher", "sweeper"):
        node = {"_target_": f"hydra._internal.core_plugins.basic_{part}.Basic{part.title()}", "x": TOUCH}
        write(config, f"hydra/{part}/evil", node, f"hydra.{part}")
    write(config, "hydra/callbacks/evil", {"x": TOUCH}, "hydra.callbacks")
    write(config, "sweep/evil", {"+hydra.job.env_set.PYTHONPATH": "/a,/b"}, "hydra.sweeper.params")
    write(config, "sweep/selfish", {"trust": "[my_package]"}, "hydra.sweeper.params")
    assert main(["-m", "--config-dir", str(config), *TINY, override, "seed=0,1"]) == USAGE
    error = capsys.readouterr().err
    assert "refused _target_" in error or "only the command line may give" in error
    assert not list(Path().iterdir())


def test_callbacks_of_ones_own_run_with_permission(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = config.parent / "site" / "my_callbacks"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class Mine:\n    pass\n")
    monkeypatch.syspath_prepend(str(package.parent))
    write(config, "experiment/watched", {"hydra": {"callbacks": {"x": {"_target_": "my_callbacks.Mine"}}}})
    settings = ["module=standin", "experiment=watched", "seed=0,1"]
    with pytest.raises(ConfigError, match=r"refused _target_ my_callbacks\.Mine.*trust="):
        members([*settings, "trust=[_training]"], config)
    assert len(members([*settings, "trust=[_training,my_callbacks]"], config)) == 2
    with pytest.raises(ConfigError, match="the same for all runs"):
        members(["module=standin", "seed=0,1", "trust=[_training],[my_callbacks]"], config)


def test_permission_is_a_list_of_packages() -> None:
    with pytest.raises(ConfigError, match=r"got 'pip', expected a list of names of packages; write trust=\[pip\]"):
        compose("train", ["trust=pip"])


@pytest.fixture
def search(config: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The option of a sweeper whose runs are not known ahead."""
    outer, module = types.ModuleType("hydra_plugins"), types.ModuleType("hydra_plugins.searching")
    outer.__path__ = []  # type: ignore[attr-defined]
    sweeper = type("Searching", (), {"__module__": module.__name__})
    module.Searching = sweeper  # type: ignore[attr-defined]
    for one in (outer, module):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    write(
        config,
        "hydra/sweeper/searching",
        {"_target_": "hydra_plugins.searching.Searching", "params": None},
        "hydra.sweeper",
    )
    return "hydra/sweeper=searching"


def test_a_search_is_checked_with_every_option_that_it_may_take(config: Path, search: str) -> None:
    write(config, "experiment/evil", {"hydra": {"job_logging": {"filters": {"x": FACTORY}}}})
    for name in ("good", "better"):
        write(config, f"experiment/{name}", {"seed": 3})
    settings = ["module=standin", "trust=[_training]", search, "trainer.gradient_clip_val=interval(0,1)"]
    plan = plan_sweep([*settings, "seed=0,1", "experiment=good,better"], config)
    assert not plan.is_known_ahead
    assert [[one for one in run if "experiment" in one] for run in plan.runs] == [
        ["experiment=good"],
        ["experiment=better"],
    ]
    with pytest.raises(ConfigError, match="leave it out"):
        plan_sweep([*settings, "experiment=good,evil"], config)


def test_a_search_calls_no_function_without_permission(config: Path, search: str) -> None:
    settings = ["module=standin", "trust=[_training]", search, "seed=0,1"]
    with pytest.raises(ConfigError, match=r"refused _target_ os\.mkdir"):
        plan_sweep([*settings, "+hydra.sweeper.custom_search_space=os.mkdir"], config)


def test_runs_of_a_search_share_no_folder(config: Path, search: str) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").touch()
    Path("run/config.yaml").touch()
    settings = ["module=standin", "trust=[_training]", search, "seed=0,1"]
    resumed = "ckpt=run/checkpoints/last.ckpt"
    with pytest.raises(ConfigError, match=r"the runs of a search would share run, .* or give output=FOLDER"):
        plan_sweep([*settings, resumed], config)
    for given in (["output=out"], ["output=out", resumed]):  # each has a folder of its own in it
        assert not plan_sweep([*settings, *given], config).is_known_ahead


def test_runs_of_a_sweep_resume_no_run_together(config: Path) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").touch()
    Path("run/config.yaml").touch()
    settings = ["module=standin", "trust=[_training]", "ckpt=run/checkpoints/last.ckpt"]
    with pytest.raises(ConfigError, match=r"seed=0 and seed=1 would share run, .* or give output=FOLDER"):
        members([*settings, "seed=0,1"], config)
    assert len(members([*settings, "seed=1"], config)) == 1


@pytest.mark.parametrize("given", ["output=out", "experiment=fixed"])
def test_runs_of_a_sweep_have_folders_in_the_one_that_is_given(config: Path, given: str) -> None:
    write(config, "experiment/fixed", {"output": "out"})
    settings = ["module=standin", "trust=[_training]", given]
    found = [one.folder for one in members([*settings, "seed=0,1"], config)]
    assert [folder.parent for folder in found] == [Path("out")] * 2
    assert [folder.name.rpartition("-")[0] for folder in found] == ["seed-0", "seed-1"]
    again = members([*settings, "seed=1,2"], config)  # the folder of a run does not depend on the others
    assert again[0].folder == found[1]
    (alone,) = members([*settings, "seed=1"], config)
    assert alone.folder == Path("out")


def test_runs_of_a_sweep_may_have_folders_by_name(config: Path) -> None:
    write(config, "experiment/named", {"output": "runs/seed_${seed}"})
    settings = ["module=standin", "trust=[_training]", "seed=0,1", "experiment=named"]
    assert [str(one.folder) for one in members(settings, config)] == ["runs/seed_0", "runs/seed_1"]
