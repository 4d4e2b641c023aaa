"""Exit codes of every command, and one line: 2 for what the command line says, 1 for what a file holds."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import pa_lib
from _clips import make_clip
from _evaluation import anonymized_pair, evaluation
from pa_lib.cli.command import FAILED, USAGE
from pa_lib.errors import SettingError, WeightsError


def stored(path: Path, config: dict[str, Any]) -> None:
    """A file of the right kind, with a config that was edited by hand, for a module without weights."""
    metadata = {"pa_lib": json.dumps({"version": pa_lib.__version__, "config": config})}
    save_file({}, path, metadata=metadata)


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, and one damaged file of every kind that a command reads."""
    here = tmp_path_factory.mktemp("files")
    make_clip(here / "clip.mkv", n_frames=4)
    for name in ("broken.mkv", "broken.ckpt", "broken.safetensors", "broken.tracks.json", "broken.zip"):
        (here / name).write_bytes(b"not what the name says")
    (here / "a_file").write_text("")
    target = "pa_lib.modules.Patchify"
    stored(here / "out_of_range.safetensors", {"_target_": target, "patch": 0})
    stored(here / "not_public.safetensors", {"_target_": "os.system", "command": "true"})
    stored(here / "no_system.safetensors", {"_target_": target, "patch": 2})

    pair = anonymized_pair(here / "pair", n_frames=4)
    assert pair.report is not None
    changed(pair.report, lambda record: record["config"]["people"]["masker"].update(face_scale=99.0))
    other = anonymized_pair(here / "tracked", n_frames=4)
    assert other.tracks is not None
    changed(other.tracks, lambda record: record["tracks"][0]["boxes"][0].__setitem__(1, 999))

    (here / "measured").mkdir()
    evaluation({"toy": 1.0}).write_json(here / "measured" / "metrics.json")
    (here / "damaged").mkdir()
    evaluation({"toy": 1.0}).write_json(here / "damaged" / "metrics.json")
    changed(here / "damaged" / "metrics.json", lambda record: record.update(clips="none"))
    return here


ANONYMIZE = ["input=clip.mkv", "output=out.mkv", "people/finder=centerface", "people/masker=ellipse"]
EVALUATE = ["metrics=fast", "output=out"]
TRAIN = ["module=passersby", "data=synthetic", "output=out", "logger=none"]
TRACKLETS = ["input=clip.mkv", "output=out", "people/finder=centerface", "people/masker=ellipse"]
WEIGHTS = [
    ("broken.ckpt", "damaged"),
    ("broken.safetensors", "damaged"),
    ("nowhere.ckpt", "no such"),
    ("out_of_range.safetensors", "patch 0"),
    ("not_public.safetensors", "refused _target_ os.system"),
]
CASES: list[tuple[str, list[str], int, str]] = [
    ("anonymize", [*ANONYMIZE, "people.search.stride=0"], USAGE, "stride"),
    ("anonymize", [*ANONYMIZE, "people.masker.dilation_px=-1"], USAGE, "dilation_px"),
    ("anonymize", [*ANONYMIZE, "module=conventional", "module.method=blot"], USAGE, "blot"),
    ("anonymize", [*ANONYMIZE, "people/chooser=keep_ids", "people.chooser.ids=[9]"], USAGE, "no person 9"),
    ("anonymize", [*ANONYMIZE, "device=nonsense"], USAGE, "device=nonsense"),
    ("anonymize", [*ANONYMIZE, "output=clip.mkv"], USAGE, "is the input"),
    ("anonymize", [*ANONYMIZE, "weights=no_system.safetensors"], USAGE, "does not anonymize"),
    ("anonymize", [*ANONYMIZE, "input=broken.mkv"], FAILED, "broken.mkv"),
    ("anonymize", [*ANONYMIZE, "input=nowhere.mkv"], FAILED, "nowhere.mkv"),
    ("anonymize", [*ANONYMIZE, "tracks=broken.tracks.json"], FAILED, "broken.tracks.json"),
    *(("anonymize", [*ANONYMIZE, f"weights={name}"], FAILED, message) for name, message in WEIGHTS),
    ("evaluate", [*EVALUATE, "original=clip.mkv", "processes=0"], USAGE, "processes=0"),
    ("evaluate", [*EVALUATE, "original=clip.mkv", "module=conventional", "module.method=blot"], USAGE, "blot"),
    ("evaluate", [*EVALUATE, "original=nowhere.mkv"], FAILED, "nowhere.mkv"),
    ("evaluate", [*EVALUATE, "original=broken.mkv", "module=conventional"], FAILED, "broken.mkv"),
    ("evaluate", [*EVALUATE, "original=pair/clip.mkv"], FAILED, "face_scale"),
    ("evaluate", [*EVALUATE, "original=tracked/clip.mkv"], FAILED, "tracks.json"),
    *(("evaluate", [*EVALUATE, "data=synthetic", f"weights={n}", "module=passersby"], FAILED, m) for n, m in WEIGHTS),
    ("compare", ["measured", "measured"], USAGE, "given twice"),
    ("compare", ["measured", "damaged"], FAILED, "damaged"),
    ("compare", ["measured", "nowhere"], FAILED, "nowhere"),
    ("sheet", ["clip.mkv", "output=out", "device=nonsense"], USAGE, "device=nonsense"),
    ("sheet", ["nowhere", "output=out", "module=conventional"], FAILED, "nowhere"),
    ("tracklets", [*TRACKLETS, "people.search.stride=0"], USAGE, "stride"),
    ("tracklets", [*TRACKLETS, "output=a_file"], USAGE, "expected a folder"),
    ("tracklets", [*TRACKLETS, "input=broken.mkv"], FAILED, "broken.mkv"),
    ("train", [*TRAIN, "data.batch_size=0"], USAGE, "batch_size 0"),
    ("train", [*TRAIN, "data.val_share=2"], USAGE, "val_share 2"),
    ("train", [*TRAIN, "init_from=broken.ckpt", "init_slots=[adapter]"], FAILED, "broken.ckpt"),
    ("train", [*TRAIN, "ckpt=nowhere.ckpt"], FAILED, "nowhere.ckpt"),
    ("train", [*TRAIN, "data=faces", "data.path=broken.zip"], FAILED, "broken.zip"),
]


@pytest.mark.parametrize(("command", "arguments", "code", "message"), CASES)
def test_exit_code(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    elsewhere = [one.replace("output=out", f"output={tmp_path}/out") for one in arguments]
    given = dict(reversed([one.split("=", 1) for one in reversed(elsewhere) if "=" in one]))  # the last one counts
    words = [one for one in elsewhere if "=" not in one]
    returned = importlib.import_module(f"pa_lib.cli.{command}").main(
        [*words, *(f"{name}={value}" for name, value in given.items())]
    )
    told = [line for line in capsys.readouterr().err.splitlines() if line]
    assert returned == code, told
    assert told[-1].startswith(f"pa-{command}: error: "), told
    assert message in told[-1]


@pytest.mark.parametrize("patch", [0, 2])
def test_a_change_is_a_setting_and_a_stored_value_is_not(tmp_path: Path, patch: int) -> None:
    """The same value out of range, said by the caller or by the file."""
    path = tmp_path / "m.safetensors"
    stored(path, {"_target_": "pa_lib.modules.Patchify", "patch": patch})
    expected = SettingError if patch else WeightsError
    with pytest.raises(expected, match="patch -1"):
        pa_lib.load_module(path, changed={"patch": -1})
