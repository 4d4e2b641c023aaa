"""Paths on command lines: taken as they are, whatever is in them, and printed so that they can be pasted back."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pa_lib.cli.compose import ConfigError, compose, config_folder, parse, split_files
from pa_lib.cli.multirun import members
from pa_lib.cli.path_settings import as_hydra, as_written, is_path
from pa_lib.errors import PaLibError

SPECIAL = "()=,[]{}'\"#&;!~$\\ *?<>|`%@:^+\t\n\r"
NAMES = st.text(
    st.one_of(st.sampled_from(SPECIAL), st.sampled_from("aé😀名\u0301"), st.characters(exclude_characters="/\0")),
    min_size=1,
    max_size=20,
)
"""Names of files, as file systems have them: any bytes but / and 0; those that are no UTF-8 become surrogates."""

ODD = [
    "clip (1), take=2 [a] {b} 'c' \"d\" #1 & e; f! ~é 😀.mp4",
    "null",
    "true",
    "1e5",
    "~",
    "-x",
    "${seed}",
    "\\${a}\\",
    "'",
]

TAKEN = {  # command -> groups that bring settings with them, and settings that are paths
    "anonymize": (["identity=facenet"], ["input", "output", "tracks", "weights", "identity.weights"]),
    "evaluate": (["data=faces"], ["original", "anonymized", "tracks", "weights", "output", "data.path"]),
    "train": (["data=faces"], ["ckpt", "init_from", "output", "paths.runs", "paths.sd15", "data.path"]),
    "sheet": ([], ["output", "anonymized", "tracks", "weights"]),
    "tracklets": ([], ["input", "output"]),
    "compare": ([], ["output"]),
}


def composed(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    overrides, config_dir = parse(f"pa-{command}", "", arguments)
    return compose(command, overrides, config_dir)


def value(config: dict[str, Any], name: str) -> Any:
    return functools.reduce(lambda node, part: node[part], name.split("."), config)


def pasted(arguments: Sequence[str]) -> list[str]:
    """What a shell makes of a line that was printed."""
    line = f"printf '%s\\0' {shlex.join(arguments)}"
    told = subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout
    return told.decode("utf-8", "surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize("command", TAKEN)
@pytest.mark.parametrize("first", [0, 3, 6])
def test_a_path_is_taken_as_it_is(command: str, first: int) -> None:
    groups, paths = TAKEN[command]
    names = dict(zip(paths, ODD[first:] + ODD, strict=False))
    config = composed(command, [*groups, *(f"{path}={name}" for path, name in names.items())])
    assert {path: value(config, path) for path in paths} == names


@settings(max_examples=25, deadline=None)
@given(NAMES, NAMES)
def test_names_go_through_the_shell_and_through_hydra(source: str, target: str) -> None:
    config = composed("tracklets", pasted([f"input={source}", f"output={target}"]))
    assert (config["input"], config["output"]) == (source, target)


@settings(deadline=None)
@given(NAMES)
def test_hydra_reads_what_was_written(name: str) -> None:
    """Hydra's own parser, and OmegaConf where a setting is made of others (``${output}/checkpoints/last.ckpt``)."""
    read = OverridesParser.create().parse_override(as_hydra(f"output={name}")).value()
    node = OmegaConf.create({"output": getattr(read, "text", read), "last": "${output}/last.ckpt", "again": "${last}"})
    wanted = {"output": name, "last": f"{name}/last.ckpt", "again": f"{name}/last.ckpt"}
    assert OmegaConf.to_container(node, resolve=True) == wanted


@pytest.mark.parametrize("name", [ODD[0], "${seed}"])
def test_what_is_made_of_a_path_has_it_as_it_is(name: str) -> None:
    config = composed("train", ["data=faces", "data.path=a", f"output={name}"])
    assert config["callbacks"]["last"]["path"] == f"{name}/checkpoints/last.ckpt"


@settings(max_examples=15, deadline=None)
@given(NAMES, st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
@example("a", ["x, y.jpg", " z "], ["'q'", '"r', "s]", "P1: [t]", "\\'"])
def test_what_is_printed_means_the_same_again(name: str, photos: list[str], others: list[str]) -> None:
    """Also of lists, and of lists by name; whoever reads Hydra's language is Hydra itself."""
    lists = {"people.chooser.photos": photos, "people.recognizer.photos": {"P005": photos, "P012": others}}
    before = {
        "input": name,
        "people": {"chooser": {"photos": photos}, "recognizer": {"photos": lists["people.recognizer.photos"]}},
    }
    written = [as_written(f"{path}=", before) for path in ("input", *lists)]
    groups = ["people/chooser=keep_matching", "people/recognizer=faces"]
    config = composed("anonymize", pasted([*groups, *written]))
    assert config["input"] == name
    for path, wanted in lists.items():
        assert value(config, path) == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("[me (1).jpg]", ["me (1).jpg"]),
        ("[me.jpg, you [2].jpg ,c=d.jpg]", ["me.jpg", "you [2].jpg", "c=d.jpg"]),
        ("['a, b.jpg',\"c, d.jpg\"]", ["a, b.jpg", "c, d.jpg"]),
        ("['tis.jpg,it's.jpg]", ["'tis.jpg", "it's.jpg"]),
        ("me (1).jpg", ["me (1).jpg"]),
        ("a, b.jpg", ["a, b.jpg"]),
        ("[]", []),
        ("[null,true,1e5]", ["null", "true", "1e5"]),
    ],
)
def test_a_list_of_paths(written: str, wanted: list[str]) -> None:
    settings = ["input=a", "people/chooser=keep_matching", f"people.chooser.photos={written}"]
    assert composed("anonymize", settings)["people"]["chooser"]["photos"] == wanted


def test_lists_of_paths_by_name() -> None:
    groups = ["input=a", "people/recognizer=faces"]
    written = "people.recognizer.photos={P005: [anna (1).jpg, a: b.jpg], P012: [c.jpg]}"
    wanted = {"P005": ["anna (1).jpg", "a: b.jpg"], "P012": ["c.jpg"]}
    assert composed("anonymize", [*groups, written])["people"]["recognizer"]["photos"] == wanted
    one = composed("anonymize", [*groups, "+people.recognizer.photos.P005=[anna (1).jpg]"])
    assert one["people"]["recognizer"]["photos"] == {"P005": ["anna (1).jpg"]}
    for wrong in ("{P005: anna.jpg}", "[anna.jpg]", "{P005: [a.jpg}", "{P005: [a.jpg]]"):
        with pytest.raises(PaLibError, match=r"expected \{NAME: \[FILE, \.\.\.\], \.\.\.\}"):
            composed("anonymize", [*groups, f"people.recognizer.photos={wrong}"])


def test_nothing_behind_the_equals_sign_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert composed("anonymize", ["input=a", "output="])["output"] is None
    assert capsys.readouterr().err == ""
    assert composed("anonymize", ["input=a", "output=null"])["output"] == "null"
    assert "output= without a value is the null of config files" in capsys.readouterr().err


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert composed("anonymize", ["input=~/clip (1).mp4"])["input"] == "/home/me/clip (1).mp4"
    assert composed("anonymize", ["input=~me/clip.mp4"])["input"] == "~me/clip.mp4"
    (tmp_path / "~").mkdir()
    assert composed("anonymize", ["input=~/clip.mp4"])["input"] == "~/clip.mp4"


def test_other_settings_are_hydras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = composed(
        "anonymize",
        [
            "input=a",
            "write.crf=null",
            "+mine={a: [1,2]}",
            "~report",
            "write.keep_metadata=[title]",
            "device='${input}'",
        ],
    )
    assert (config["write"]["crf"], config["mine"], config["write"]["keep_metadata"]) == (
        None,
        {"a": [1, 2]},
        ["title"],
    )
    assert (config["device"], "report" in config) == ("a", False)


def test_files_without_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `pa-sheet` and `pa-compare`: what is there is a file, and so is all behind ``--``."""
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.mp4", "~c (1).mp4"):
        (tmp_path / name).touch()
    given = ["a=b.mp4", "~c (1).mp4", "output=x=y", "--", "-d.mp4", "e=f.mp4", "--help"]
    assert split_files(given) == (["a=b.mp4", "~c (1).mp4", "-d.mp4", "e=f.mp4", "--help"], ["output=x=y"])


def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[dict[str, Any]]:
    monkeypatch.chdir(tmp_path)
    overrides, _ = parse("pa-train", "", ["data=faces", *more], is_multirun=True)
    return [one.composed.config for one in members(overrides)]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("a (1).zip,b=2.zip", ["a (1).zip", "b=2.zip"]),
        ("'a, b.zip',c.zip", ["a, b.zip", "c.zip"]),
        ("choice(a.zip,b.zip)", ["a.zip", "b.zip"]),
        ("here, now.zip", ["here, now.zip"]),
        ("here, now/x.zip", ["here, now/x.zip"]),
    ],
)
def test_commas_separate_in_sweeps(
    written: str, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the file is there, or its folder with a comma in its name."""
    (tmp_path / "here, now.zip").touch()
    (tmp_path / "here, now").mkdir()
    found = runs(tmp_path, monkeypatch, f"data.path={written}")
    assert [one["data"]["path"] for one in found] == wanted


def test_results_of_a_sweep_go_to_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = runs(tmp_path, monkeypatch, "data.path=a", "seed=0,1", "output=mine, new (1)")
    assert {Path(one["output"]).parent for one in found} == {Path("mine, new (1)")}
    assert len({one["output"] for one in found}) == 2


def test_a_run_of_a_sweep_is_written_with_its_own_paths() -> None:
    """As its process gets it: an interpolation of a config file has its value in that run."""
    config = {"data": {"path": "pictures/a (1).zip"}, "output": None, "seed": 3}
    assert as_written("data.path=${paths.x}/a.zip", config) == "data.path=pictures/a (1).zip"
    assert as_written("++data.path='b'", config) == "++data.path=pictures/a (1).zip"
    assert as_written("output=null", config) == "output="
    assert as_written("seed=3", config) == "seed=3"
    assert as_hydra("~data.path") == "~data.path"


# -- no setting is forgotten -------------------------------------------------------------------------------------------

_WORDS = re.compile(r"\b(file|folder|path|glob|pictures with|pictures|\.ckpt)\b")
_NO_PATHS = {"stage", "monitor", "logger.csv.name", "module.temporal.levels"}  # though the words are beside them


def config_files() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Place in a config, content and text of every file."""
    root = config_folder()
    for file in sorted(root.rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        package = re.search(r"# @package (\S+)", text)
        place = package[1] if package else ".".join(file.relative_to(root).parent.parts)
        yield "" if place == "_global_" or not place else f"{place}.", yaml.safe_load(text) or {}, text


def leaves(node: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for key, one in node.items():
        if isinstance(one, dict) and one:
            yield from leaves(one, f"{place}{key}.")
        elif not key.startswith("_") and key != "defaults":
            yield f"{place}{key}", one


def targets(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node["_target_"]
        for key, one in node.items():
            yield from targets(one, f"{place}{key}.")


def test_every_setting_that_says_so_is_a_path() -> None:
    """By its comment in conf, or by its default: whatever speaks of a file and may hold a text."""
    n_paths = 0
    for place, node, text in config_files():
        lines = re.findall(r"^\s*(\w+):[^#\n]*#(.*)$", text, re.MULTILINE)
        spoken_of = {key for key, comment in lines if _WORDS.search(comment)}
        for name, one in leaves(node, place):
            is_text = one is None or isinstance(one, str | list | dict)
            has_slash = isinstance(one, str) and "/" in one and not one.startswith("pa_lib.")
            if is_text and (name.rpartition(".")[2] in spoken_of or has_slash) and name not in _NO_PATHS:
                assert is_path(name), f"{name} is no path in pa_lib.cli.path_settings; is it one?"
            n_paths += is_path(name)
    assert n_paths > 40


def test_every_argument_that_takes_a_path_is_one() -> None:
    """Of each class in conf, also those arguments that no file there gives."""
    found = set()
    for place, node, _ in config_files():
        for where, target in targets(node, place):
            module, _, name = target.rpartition(".")
            for argument in inspect.signature(getattr(importlib.import_module(module), name)).parameters.values():
                if re.search(r"\bPath\b", str(argument.annotation)):
                    assert is_path(f"{where}{argument.name}"), f"{where}{argument.name}: {argument.annotation}"
                    found.add(argument.name)
    assert found >= {"path", "photos", "bank", "save_dir"}


def test_what_is_no_path_keeps_its_type() -> None:
    """No pattern catches a setting with a number, a choice or a list of names."""
    for place, node, _ in config_files():
        for name, one in leaves(node, place):
            if is_path(name):
                assert one is None or isinstance(one, str | dict), name


def test_a_setting_that_cannot_be_read_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"^seed=a \(1\): the value cannot be read"):
        composed("anonymize", ["input=a", "seed=a (1)"])
