"""What `pa-evaluate` measures, made from a config in every process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from pa_lib.cli.build import build_metrics, build_module, build_part, build_pipeline
from pa_lib.cli.compose import build, checked
from pa_lib.contracts import Kind, stored_kind
from pa_lib.data import AbstractDataModule
from pa_lib.evaluation import AttackOnFaces, FilePairs, ModuleOnClips, ModuleOnVideos
from pa_lib.evaluation.shard import AbstractSource
from pa_lib.metrics import AbstractMetric
from pa_lib.modules import AbstractAttack
from pa_lib.setting_types import check_partial
from pa_lib.video import Limits

Config = Mapping[str, Any]


@dataclass
class MetricsOfConfig:
    """Makes the metrics of a config; those made by one object share parts with the same settings.

    Args:
        node: Config of a metric, or names with such configs below them; see `build_metrics`.
    """

    node: Config
    shared: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Sequence[AbstractMetric]:
        """New metrics."""
        return build_metrics(self.node, self.shared)


def source_of(config: Config, changed: Config, folder: Path) -> AbstractSource:
    """What the settings ask for; `cli.evaluate` has refused those that contradict each other.

    Args:
        config: Config of ``conf/evaluate.yaml``, resolved.
        changed: Settings of a trained module that are changed, by dotted name.
        folder: Folder of the videos that are anonymized here.
    """
    if config["attack"] is not None:
        return attack_on_faces(config, changed)
    if config["data"] is not None:
        return module_on_clips(config, changed)
    if config["module"] is not None or config["weights"] is not None:
        return module_on_videos(config, changed, folder)
    return file_pairs(config)


def file_pairs(config: Config) -> AbstractSource:
    """Originals beside their anonymized videos."""
    return FilePairs(
        config["original"],
        config["anonymized"],
        config["tracks"],
        masker=build_part(config["people"], "masker"),
        masker_settings=config["people"]["masker"],
        is_masker_recorded=config["is_masker_recorded"],
        limits=checked(Limits, config["limits"], "limits"),
        trusted=config["trust"] or (),
    )


def module_on_videos(config: Config, changed: Config, folder: Path) -> AbstractSource:
    """A module on videos that it anonymizes here."""
    return ModuleOnVideos(
        config["original"],
        build_pipeline(dict(config), build_module(dict(config), dict(changed))),
        folder,
        tracks=config["tracks"],
        masker_settings=config["people"]["masker"],
        is_masker_recorded=config["is_masker_recorded"],
        seed=config["seed"],
        config={"people": config["people"]},
        trusted=config["trust"] or (),
    )


def module_on_clips(config: Config, changed: Config) -> AbstractSource:
    """A module on the held-out clips of a data module."""
    return ModuleOnClips(
        build_module(dict(config), dict(changed)),
        build(config["data"], AbstractDataModule, "data"),
        split=config["split"],
        kind=cast("Kind | None", config["kind"] and stored_kind(config["kind"])),
        seed=config["seed"],
        data_settings=_without_path(config["data"]),
    )


def attack_on_faces(config: Config, changed: Config) -> AbstractSource:
    """An attack, or another source that takes a system and photos, by a partial in its group."""
    attack = build(config["attack"], AbstractAttack | Callable[..., AbstractSource], "attack")
    make = attack if isinstance(attack, partial) else partial(AttackOnFaces, attack)
    check_partial(make, "attack")
    system, data = build_module(dict(config), dict(changed)), build(config["data"], AbstractDataModule, "data")
    source: AbstractSource = make(system, data, seed=config["seed"], data_settings=_without_path(config["data"]))
    return source


def _without_path(settings: Config) -> dict[str, Any]:
    """Settings without the folder, which may name people."""
    return {name: value for name, value in settings.items() if name != "path"}
