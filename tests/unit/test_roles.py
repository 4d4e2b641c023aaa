"""What may stand at a place of a config: what the annotation there means, and nothing else, whoever names it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Optional, Protocol

import pytest
import torch
from lightning import LightningModule

from pa_lib.checkpoint import load_module
from pa_lib.cli.build import build_callbacks, build_metrics, build_part
from pa_lib.cli.compose import ConfigError, build
from pa_lib.contracts import Silhouettes
from pa_lib.errors import PaLibError, SettingError
from pa_lib.evaluation.recorded import made_again
from pa_lib.modules import AbstractAnonymizer, AbstractReference
from pa_lib.people import AbstractMasker, BoxMasker, HideAll
from pa_lib.pretrained import SelfieSegmentation
from pa_lib.roles import role_of
from pa_lib.stored import write_safetensors
from pa_lib.targets import COMMAND_LINE, check_roles

MASKERS = {"BoxMasker", "EllipseMasker", "HeadMasker", "SilhouetteMasker"}
EXPORTS = [(package, name) for package in COMMAND_LINE for name in sorted(import_module(package).__all__)]


class Speaks(Protocol):
    """Something with one method."""

    def speak(self) -> str: ...


class Dog:
    """It has the method."""

    def speak(self) -> str:
        return "wow"


@pytest.mark.parametrize(
    ("annotation", "part", "is_partial", "is_meant"),
    [
        (AbstractMasker, BoxMasker, False, True),
        (AbstractMasker, HideAll, False, False),
        (AbstractMasker, BoxMasker, True, False),
        (AbstractMasker | None, BoxMasker, False, True),
        (Optional[AbstractMasker], BoxMasker, False, True),  # noqa: UP045  # as other libraries write it
        (Sequence[AbstractMasker], BoxMasker, False, True),
        (Mapping[str, AbstractMasker] | None, BoxMasker, False, True),
        (tuple[AbstractMasker, ...], HideAll, False, False),
        (Callable[..., torch.optim.Optimizer], torch.optim.AdamW, True, True),
        (Callable[..., torch.optim.Optimizer], torch.optim.AdamW, False, False),
        (Callable[..., torch.optim.Optimizer], BoxMasker, True, False),
        (Callable[[torch.Tensor], torch.Tensor], torch.nn.Linear, False, True),
        (Callable[[torch.Tensor], torch.Tensor], BoxMasker, False, False),
        (Silhouettes, SelfieSegmentation, False, True),
        (Silhouettes | None, BoxMasker, False, False),
        (Speaks, Dog, False, True),
        (Speaks, BoxMasker, False, False),
        (Any, BoxMasker, False, True),
        (str | int | Path | Mapping[str, float] | None, BoxMasker, False, False),
        (Mapping[str, Any], BoxMasker, False, False),
    ],
)
def test_roles_of_annotations(annotation: Any, part: type, is_partial: bool, is_meant: bool) -> None:
    assert role_of(annotation).allows(part, is_partial=is_partial) is is_meant


def hostile_nodes() -> Iterator[Any]:
    """Everything that has a public name and is no masker, at the top and inside of one that is."""
    for package, name in EXPORTS:
        if package != "pa_lib.people" or name not in MASKERS:
            node = {"_target_": f"{package}.{name}"}
            yield node
            yield {"_target_": "pa_lib.people.BoxMasker", "dilation_px": node}
            if not hasattr(getattr(import_module(package), name), "silhouette"):
                yield {"_target_": "pa_lib.people.SilhouetteMasker", "network": node}


def test_a_tracks_file_or_a_report_can_name_maskers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has a public name: nothing is called but maskers, and what they are made of."""
    nodes = list(hostile_nodes())
    assert len(nodes) > 400
    for node in nodes:
        with pytest.raises(PaLibError, match="refused _target_"):
            made_again(node, AbstractMasker, Path("clip.tracks.json"))  # type: ignore[type-abstract]


def test_the_attack_by_a_tracks_file_writes_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    read = {"_target_": "pa_lib.people.read_tracks", "path": str(tmp_path / "inner.json")}
    write = {"_target_": "pa_lib.people.write_tracks", "path": str(victim), "record": read}
    for role in (AbstractMasker, AbstractReference):
        for node in (write, {"_target_": "pa_lib.people.HeadMasker", "silhouettes": write}):
            with pytest.raises(PaLibError, match="refused _target_"):
                made_again(node, role, tmp_path / "clip.report.json")
    assert victim.read_text() == "mine"


def test_a_mapping_without_a_class_makes_nothing() -> None:
    with pytest.raises(PaLibError, match=r"c\.json: its AbstractMasker names no class"):
        made_again({"a": {"_target_": "pa_lib.people.BoxMasker"}}, AbstractMasker, Path("c.json"))  # type: ignore[type-abstract]


@pytest.mark.parametrize("name", ["finder", "tracker", "chooser", "masker"])
def test_a_command_line_gets_the_part_that_is_meant(name: str) -> None:
    for target in ("pa_lib.people.read_tracks", "pa_lib.data.SyntheticDataModule", "lightning.pytorch.Trainer"):
        with pytest.raises(ConfigError, match=rf"people\.{name}: refused _target_ {target}: .*expected a kind of"):
            build_part({name: {"_target_": target, "path": "x"}}, name)


def test_callbacks_and_metrics_are_what_they_are_called() -> None:
    node = {"_target_": "pa_lib.people.write_tracks", "path": "x", "record": None}
    for callbacks in ({"a": node}, {"a": {**node, "metrics": {}}}):
        with pytest.raises(ConfigError, match=r"callbacks\.a: refused"):
            build_callbacks({"callbacks": callbacks})
    with pytest.raises(ConfigError, match=r"metrics\.a\.b: refused"):
        build_metrics({"a": {"b": node}})
    inside = {"_target_": "pa_lib.metrics.TemporalWarpingError", "flow": node}
    with pytest.raises(ConfigError, match=r"metrics\.a: refused .*pa_lib\.pretrained\.DISFlow"):
        build_metrics({"a": inside})


def test_optimizers_are_functions_that_make_one() -> None:
    system = {"_target_": "pa_lib.modules.PassersbyAnonymizer"}
    check_roles(
        {**system, "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}}, LightningModule, "x"
    )
    for wrong in (
        {"_target_": "torch.optim.SGD", "lr": 0.1},
        {"_target_": "torch.optim.lr_scheduler.LinearLR", "_partial_": True},
        {"_target_": "torch.nn.Linear", "_partial_": True},
    ):
        with pytest.raises(SettingError, match="refused _target_ torch"):
            check_roles({**system, "optimizer": wrong}, LightningModule, "x")


def test_positional_arguments_are_looked_at() -> None:
    part = {"_target_": "pa_lib.people.SilhouetteMasker", "_args_": [{"_target_": "pa_lib.people.HideAll"}]}
    with pytest.raises(SettingError, match="HideAll: expected a kind of Silhouettes"):
        check_roles(part, AbstractMasker, "x")
    check_roles({**part, "_args_": [{"_target_": "pa_lib.pretrained.SelfieSegmentation"}]}, AbstractMasker, "x")


def test_checkpoints_hold_modules(tmp_path: Path) -> None:
    """No function, and no class that is no module, of all that a checkpoint could name by a public name."""
    path = tmp_path / "m.safetensors"
    for package, name in EXPORTS:
        found = getattr(import_module(package), name)
        is_module = inspect.isclass(found) and issubclass(found, torch.nn.Module)
        if is_module or name == "embedded_passersby":
            continue
        entry = {"version": "0.1.0", "config": {"_target_": f"{package}.{name}"}}
        write_safetensors(path, {"a": torch.zeros(1)}, json.dumps(entry))
        with pytest.raises(PaLibError, match="refused _target_"):
            load_module(path)


def test_a_system_of_ones_own_takes_what_it_likes() -> None:
    """Its code may run already: it says itself what its arguments are."""
    check_roles({"_target_": "_toys.Bare", "x": {"_target_": "torch.nn.SiLU"}}, LightningModule, "x")
    with pytest.raises(SettingError, match="it is a function"):
        check_roles({"_target_": "_toys.Bare", "x": {"_target_": "pa_lib.people.write_tracks"}}, LightningModule, "x")
    with pytest.raises(SettingError, match=r"_toys\.Bare: expected a kind of AbstractMasker"):
        check_roles({"_target_": "_toys.Bare"}, AbstractMasker, "x")


def test_a_function_may_stand_for_the_system_that_it_makes() -> None:
    node = {"_target_": "pa_lib.modules.embedded_passersby", "steps": 2, "body": "fill"}
    check_roles(node, AbstractAnonymizer, "module")
    with pytest.raises(ConfigError, match="masker: refused"):
        build(node, AbstractMasker, "masker")
