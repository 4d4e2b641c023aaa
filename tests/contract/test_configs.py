"""Every shipped config composes, instantiates, and names only public targets."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from pa_lib.cli.build import build_module, build_pipeline
from pa_lib.cli.compose import ConfigError, build, compose, config_folder, option_groups
from pa_lib.pipeline import SearchSettings
from pa_lib.pretrained import asset_manifest
from pa_lib.video import Limits

GROUPS = option_groups(config_folder())
NEEDS_A_SETTING = {
    ("people/chooser", "keep_matching"): ["people.chooser.photos=[face.jpg]"],
    ("people/chooser", "keep_ids"): ["people.chooser.ids=[1]"],
    ("people/chooser", "hide_ids"): ["people.chooser.ids=[1]"],
    ("people/chooser", "keep_at"): ["people.chooser.points=[[0.0,10,10]]"],
    ("people/chooser", "hide_at"): ["people.chooser.points=[[0.0,10,10]]"],
}
OPTIONS = [(group, option) for group, options in GROUPS.items() for option in options]


def targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []


def test_every_group_has_an_option_and_the_default_exists() -> None:
    assert {"people/finder", "people/tracker", "people/chooser", "people/masker", "module", "identity"} <= set(GROUPS)


# What of a system is taken from the hub, where no test goes; the rest of such a system composes all the same.
FROM_THE_HUB = {
    ("bundle", "sd15"),
    ("bundle", "sd15_inpaint"),
    ("bundle", "sd2_inpaint"),
    ("bundle", "sdxl_inpaint"),
    ("module/backbone", "sd15"),
    ("module/backbone", "sd15_inpaint"),
    ("module/backbone", "sd2_inpaint"),
    ("module/backbone", "sdxl_inpaint"),
    ("module/autoencoder", "kl"),
    ("module/autoencoder", "tiny"),
    ("module/text", "clip"),
    ("features", "i3d"),
    ("features", "videomae"),
    ("metrics", "unmasked_lpips"),
    ("metrics", "all"),  # LPIPS among them
}
SETTINGS: dict[str, Any] = {"limits": Limits(), "people/search": SearchSettings()}
NOT_TRAINED = {
    ("module", "conventional"),
    ("module", "compact"),
    ("module", "doubles"),
}  # by pa-train: they are used as they are
TINY = ["module/backbone=tiny", "module.sampler.steps=2"]


def composed(group: str, option: str) -> Any:
    """A node of the verb that the group belongs to."""
    chosen = f"{group}={option}"
    if group.split("/")[0] in ("people", "identity", "limits") or (group, option) in NOT_TRAINED:
        node: Any = compose("anonymize", ["input=clip.mp4", chosen, *NEEDS_A_SETTING.get((group, option), [])])
    elif group in ("metrics", "features", "faces", "attack"):
        path = ["features.path=folder"] if option == "videomae" else []
        node = compose("evaluate", ["original=clip.mp4", chosen, *path])
    else:
        reads_files = (group, option) in (
            ("data", "faces"),
            ("data", "heads"),
            ("data", "tracklets"),
            ("data", "outlines"),
            ("experiment", "person_outline"),
        ) or option.startswith("compact_")
        path = ["data.path=folder"] if reads_files else []
        path += ["data.streams.faces.path=folder"] if option == "joint" else []
        tiny = [] if group in ("module/backbone", "bundle") or option == "person_outline" else TINY
        measured = ["metrics=fast"] if option == "evaluator" else []
        node = compose("train", [*tiny, "output=run", chosen, *path, *measured])
    return node


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_instantiates(group: str, option: str) -> None:
    node = composed(group, option)
    if group in SETTINGS:
        for name in group.split("/"):
            node = node[name]
        assert node == asdict(SETTINGS[group]), "the config and Python have different defaults"
        return
    if (group, option) in FROM_THE_HUB and group == "bundle":
        pytest.skip("its weights are a download; tests/integration/test_sweeps.py covers it with random ones")
    if group in ("bundle", "experiment", "sweep", "debug", "paths"):  # they change other nodes
        build(node["module"])
        return
    for name in group.split("/"):
        node = node[name]
    if (group, option) == ("identity", "facenet"):
        pytest.skip("its weights are a download; tests/unit/pretrained covers it with a file")
    if (group, option) in FROM_THE_HUB:
        pytest.skip("its weights are a download; tests/unit/modules covers it with random ones")
    if (group, option) == ("module", "compact") and "passersby_compact.safetensors" not in asset_manifest():
        pytest.skip("its weights do not ship yet; tests/integration/test_embedded.py covers it with others")
    if (group, option) == ("logger", "wandb"):
        pytest.skip("wandb is an extra of its own")
    if group in ("callbacks", "logger", "metrics") and "_target_" not in node:
        for part in node.values():
            build(part)
    elif group != "trainer":  # tests/integration/test_training.py runs them
        build(node)


@pytest.mark.parametrize("path", sorted(config_folder().rglob("*.yaml")), ids=lambda path: path.stem)
def test_targets_are_public_three_part_names(path: Path) -> None:
    for target in targets(yaml.safe_load(path.read_text(encoding="utf-8"))):
        package, _, name = target.rpartition(".")
        if target.startswith("pa_lib."):
            assert package.count(".") == 1, f"{target}: expected pa_lib.<package>.<name>"
        assert name in importlib.import_module(package).__all__, target


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["people/finder=nobody"], "no option 'nobody' for people/finder; there are: "),
        (["people/findr=mtcnn"], "people/findr"),
        (["on_failur=abort"], "did you mean on_failure?"),
        ([], "missing setting: input"),
        (["input=null"], "missing setting: input"),
        (["input=a", "+module.extra={_target_:os.system}"], "refused _target_ os.system"),
        (["input=a", "people.search.stride="], "stride"),
    ],
)
def test_wrong_settings_get_one_clear_line(overrides: list[str], message: str) -> None:
    if overrides and "input" not in overrides[0]:
        overrides = ["input=clip.mp4", *overrides]

    def run() -> None:
        config = compose("anonymize", overrides)
        build_pipeline(config, build_module(config, {}))

    with pytest.raises(ConfigError) as caught:
        run()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_config_folder_is_searched_first(tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "mine.yaml").write_text("_target_: pa_lib.modules.ConventionalAnonymizer\nmethod: fill\n")
    assert compose("anonymize", ["input=a", "module=mine"], tmp_path)["module"]["method"] == "fill"
