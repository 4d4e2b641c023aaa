"""The commands for training and for cutting data that the documents show: each composes, as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pa_lib.cli.compose import ConfigError, build, composition, parse
from pa_lib.cli.multirun import members

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(name: str) -> list[tuple[str, list[str]]]:
    """Every call of a command: the document, and the arguments."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(rf"^(?:srun |\.venv/bin/)?{name} (.+)$", text, re.MULTILINE):
            found.append((document.name, shlex.split(line, comments=True)))
        if name == "pa-train":
            found += [
                (document.name, shlex.split(line))
                for line in re.findall(r"^torchrun .*? -m pa_lib\.cli\.train (.+)$", text, re.MULTILINE)
            ]
    return found


def own_folder(folder: Path) -> Path:
    """The recipe that the document shows, where it says that it is."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    ((path, recipe),) = re.findall(r"```yaml\n# my_conf/(\S+)\n(.+?)```", text, re.DOTALL)
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_text(recipe, encoding="utf-8")
    return folder


EXPECTED = {"person_outline.md": "pa_lib.modules.OutlineTraining"}
OF_PA_LIB = [one for one in commands("pa-train") if "--trust" not in one[1]]  # the others: test_own_system.py


@pytest.mark.parametrize(("document", "arguments"), OF_PA_LIB, ids=lambda value: " ".join(value)[:60])
def test_training_commands_compose(document: str, arguments: list[str], tmp_path: Path) -> None:
    is_many = "-m" in arguments
    overrides, config_dir = parse("pa-train", "", [word for word in arguments if word != "-m"])
    if config_dir is not None:
        config_dir = own_folder(tmp_path / "conf")
    overrides = [word for word in overrides if not word.startswith("hydra/")]  # of plugins that are not installed here
    runs = [one.overrides for one in members(overrides, config_dir)] if is_many else [overrides]
    assert len(runs) > 1 or not is_many
    for run in runs:
        made = composition("train", [*run, "output=out"], config_dir)
        module = made.config["module"]
        assert module["_target_"] == EXPECTED.get(document, "pa_lib.modules.PassersbyAnonymizer")
        if "crops" in module:
            assert made.config["data"]["side"] == module["crops"]["side"]  # trained on what will be seen


@pytest.mark.parametrize(("document", "arguments"), commands("pa-tracklets"), ids=lambda value: " ".join(value)[:60])
def test_commands_that_cut_data_compose(document: str, arguments: list[str]) -> None:
    assert composition("tracklets", arguments).config["output"]


def test_there_are_commands_to_check() -> None:
    assert len(commands("pa-train")) > 10
    assert {document for document, _ in commands("pa-tracklets")} >= {"data.md"}


def test_the_own_recipe_changes_what_it_says(tmp_path: Path) -> None:
    config = composition("train", ["experiment=mine", "output=out"], own_folder(tmp_path)).config
    assert (config["module"]["sampler"]["method"], config["trainer"]["max_steps"]) == ("dpm++", 20000)
    assert build(config["module"]).trainable == ("backbone", "adapter")


def test_exit_codes_of_the_document() -> None:
    from pa_lib.cli import command

    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert told == [command.OK, command.FAILED, command.USAGE, command.INTERRUPTED]
    with pytest.raises(ConfigError):
        parse("pa-train", "", ["nonsense"])
