"""What a config may name, on a command line and in a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

import _toys
from _toys import ToyGan
from pa_lib import targets
from pa_lib.cli.compose import config_folder
from pa_lib.errors import SettingError
from pa_lib.targets import COMMAND_LINE, check_targets, own_packages, public_name, targets_in


def node(target: str) -> dict[str, object]:
    return {"deep": [{"_target_": "torch.nn.Identity", "part": {"_target_": target}}]}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's own, with what it imports from elsewhere in reach."""
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("import os\nfrom subprocess import run\n\n\nclass Root:\n    pass\n")
    (folder / "parts.py").write_text(
        "import os\nfrom torch import nn\n\n\nclass MyAdapter(nn.Module):\n    value = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)  # of another test
    return "my_package"


@pytest.mark.parametrize("target", ["my_package.Root", "my_package.parts.MyAdapter"])
def test_classes_of_ones_own_need_permission(package: str, target: str) -> None:
    for packages in (targets.STORED, COMMAND_LINE):
        with pytest.raises(SettingError, match=r"refused _target_ my_package.*permit it: trusted=\('my_package',\)"):
            check_targets(node(target), "x", packages=packages)
        assert check_targets(node(target), "x", (package, "another"), packages=packages) == (package,)


def test_permission_for_a_module_is_for_that_module(package: str) -> None:
    check_targets(node("my_package.parts.MyAdapter"), "x", ("my_package.parts",))
    with pytest.raises(SettingError, match="refused _target_"):
        check_targets(node("my_package.Root"), "x", ("my_package.parts",))
    with pytest.raises(SettingError, match="refused _target_"):
        check_targets(node("my_package.parts.MyAdapter"), "x", ("my_pack",))


@pytest.mark.parametrize(
    "target",
    [
        "my_package.os.system",  # Hydra would walk there
        "my_package.run",  # imported from subprocess
        "my_package.parts.os.system",
        "my_package.parts.nn.Linear",
        "my_package.parts.MyAdapter.v",
        "my_package.parts.MyAdapter.__init__",
        "my_package.missing.Thing",
        "my_package.parts.Missing",
        "my_package",
        "os.system",
    ],
)
def test_permission_reaches_only_what_the_package_defines(package: str, target: str) -> None:
    with pytest.raises(SettingError, match="refused _target_"):
        check_targets(node(target), "x", (package,), packages=COMMAND_LINE)


@pytest.mark.parametrize("root", ["os", "subprocess", "builtins"])
def test_python_itself_is_never_trusted(root: str) -> None:
    with pytest.raises(SettingError, match="a part of Python itself"):
        check_targets({}, "x", (root,))


@pytest.mark.parametrize("root", ["hydra", "hydra.utils", "omegaconf", "pip", "setuptools", "importlib_metadata"])
def test_libraries_that_run_what_they_are_given_are_never_trusted(root: str) -> None:
    with pytest.raises(SettingError, match=f"trusted names {root}, a library that calls any function"):
        check_targets({"_target_": "hydra.utils.get_method", "path": "os.system"}, "x", (root,))


def test_trusted_packages_are_a_list() -> None:
    with pytest.raises(SettingError, match=r"got 'pip', expected a list.*trusted=\('pip',\)"):
        check_targets({}, "x", "pip")


@pytest.mark.parametrize(
    "target", ["torch.optim.lr_scheduler.partial", "torch.optim.lr_scheduler.Counter", "lightning.pytorch.plugins.Any"]
)
def test_what_a_package_imports_from_elsewhere_is_refused(target: str) -> None:
    with pytest.raises(SettingError, match="refused _target_"):
        check_targets(node(target), "x", packages=COMMAND_LINE)


@pytest.mark.parametrize(
    "target",
    [
        "pa_lib.callbacks.NanGuard",
        "pa_lib.data.SyntheticDataModule",
        "pa_lib.metrics.UnmaskedPSNR",
        "pa_lib.people.BoxMasker",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.Trainer",
        "torchmetrics.MeanMetric",
    ],
)
def test_a_command_line_may_name_more_than_a_checkpoint(target: str) -> None:
    if target == "torchmetrics.MeanMetric":
        target = "torchmetrics.aggregation.MeanMetric"
    check_targets(node(target), "x", packages=COMMAND_LINE)
    with pytest.raises(SettingError, match="refused _target_"):
        check_targets(node(target), "x")


@pytest.mark.parametrize(
    "target",
    [
        "pa_lib.cli.train.run",
        "pa_lib.video.staging.subprocess.run",
        "pa_lib.callbacks.checkpoints.LastCheckpoint",
        "lightning.pytorch.callbacks.model_checkpoint.os.remove",
        "lightning.pytorch.utilities.rank_zero.rank_zero_warn",
        "lightning.pytorch.seed_everything",
        "torch.load",
        "torchmetrics.metric.os.system",
    ],
)
def test_a_command_line_has_the_same_fence(target: str) -> None:
    with pytest.raises(SettingError, match="refused _target_") as caught:
        check_targets(node(target), "x", packages=COMMAND_LINE)
    assert "permit it" not in str(caught.value)


def test_everything_that_ships_may_be_named() -> None:
    for path in config_folder().rglob("*.yaml"):
        config = OmegaConf.to_container(OmegaConf.load(path))
        for target in targets_in(config):
            check_targets({"_target_": target}, path, packages=COMMAND_LINE)


@pytest.mark.parametrize(
    ("member", "name"),
    [
        (torch.optim.AdamW, "torch.optim.AdamW"),
        (torch.optim.lr_scheduler.LinearLR, "torch.optim.lr_scheduler.LinearLR"),
        (torch.nn.SiLU, "torch.nn.SiLU"),
        (ToyGan, "_toys.ToyGan"),
        (lambda: 0, None),
        (SimpleNamespace(), None),
    ],
)
def test_public_names(member: object, name: str | None) -> None:
    assert public_name(member) == name


def test_public_names_of_our_own_are_those_of_configs() -> None:
    from pa_lib.modules import PassersbyAnonymizer, Sampler

    assert public_name(PassersbyAnonymizer) == "pa_lib.modules.PassersbyAnonymizer"
    assert public_name(Sampler) == "pa_lib.modules.Sampler"


def test_what_a_config_needs_permission_for() -> None:
    assert own_packages(node("my.parts.A") | {"b": {"_target_": "torch.nn.SiLU"}}) == ("my.parts",)
    assert sys.modules["_toys"] is _toys
