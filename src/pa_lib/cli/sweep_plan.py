"""The runs of a sweep, found and checked without starting Hydra's sweeper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pa_lib.cli.compose import (
    ConfigError,
    as_trust,
    composition,
    config_folder,
    one_line,
    own_hydra,
    searched,
    spread,
)
from pa_lib.cli.hydra_node import WITHOUT_LOGS, check_hydra_node
from pa_lib.cli.run_folder import resumed_run
from pa_lib.errors import SettingError


@dataclass(frozen=True)
class SweepPlan:
    """What Hydra is started with.

    Args:
        settings: Hydra's command line, without its folders.
        runs: Settings of each run, in Hydra's order. Of a search: one run for each choice of options of groups, which
            are all the config files that it may read.
        is_known_ahead: Whether `runs` are the runs; False for a sweeper that searches.
    """

    settings: list[str]
    runs: list[tuple[str, ...]]
    is_known_ahead: bool


def plan_sweep(overrides: Sequence[str], config_dir: Path | None) -> SweepPlan:
    """Find the runs of a sweep: ``a,b``, ``range(1,4)``, ``sweep=NAME``; and refuse what Hydra may not run.

    Raises:
        ConfigError: A mistake in the command line, code in the ``hydra`` node of a config that is not permitted, or a
            search whose runs would share one folder.
    """
    import hydra
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    settings = [*searched(config_dir), *WITHOUT_LOGS, *spread(overrides, config_dir)]
    try:
        with own_hydra(), hydra.initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            app = GlobalHydra.instance().hydra
            assert app is not None
            composed = app.compose_config("train", settings, RunMode.MULTIRUN)
            check_hydra_node(composed, settings)
            parser = OverridesParser.create(config_loader=app.config_loader)
            sweeper = OmegaConf.to_container(composed.hydra.sweeper, resolve=True)
            assert isinstance(sweeper, dict)
            stored = parser.parse_overrides([f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()])
            given = parser.parse_overrides(OmegaConf.to_container(composed.hydra.overrides.task))  # type: ignore[arg-type]
            _check_swept(stored, given)
            is_known_ahead = sweeper["_target_"] == f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
            swept = [*stored, *given]
            if not is_known_ahead:
                swept = [one for one in swept if not one.is_sweep_override() or one.is_discrete_sweep()]
            combined = BasicSweeper.split_arguments(swept, None)[0]
            if not is_known_ahead:
                groups = {
                    one.get_key_element()
                    for one in swept
                    if app.config_loader.get_group_options(one.key_or_group, config_name="train", overrides=settings)
                }
                combined = _one_for_each_choice(combined, groups)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error, "train")) from error
    except SettingError as error:
        raise ConfigError(as_trust(error)) from error
    runs = [tuple(one for one in run if not one.startswith("sweep=")) for run in combined]
    if not is_known_ahead:
        is_swept = any(one.is_sweep_override() and one.key_or_group == "ckpt" for one in [*stored, *given])
        for config in (composition("train", run, config_dir).config for run in combined):
            resumed = resumed_run(config["ckpt"])
            if config["output"] is None and (is_swept or resumed is not None):
                raise ConfigError(SAME_FOLDER.format(runs="the runs of a search", folder=resumed or "a folder"))
    return SweepPlan(settings, runs, is_known_ahead)


SAME_FOLDER = (
    "{runs} would share {folder}, whose run ckpt= resumes; leave it out, or give output=FOLDER, in which each run has "
    "a folder of its own"
)


def _check_swept(stored: Sequence[Any], given: Sequence[Any]) -> None:
    """Permission is given once, for all runs; and no file gives it, or a setting of Hydra, by way of a sweep."""
    for one in stored:
        name = one.key_or_group.replace("/", ".").partition(".")[0]
        if name in ("hydra", "trust"):
            raise SettingError(f"hydra.sweeper.params: got {one.input_line}; only the command line may give {name}")
    for one in given:
        if one.key_or_group == "trust" and one.is_sweep_override():
            raise SettingError(f"got {one.input_line}: trust is the same for all runs; write trust=[...]")


def _one_for_each_choice(runs: Sequence[list[str]], groups: set[str]) -> list[list[str]]:
    """Of runs that have the same options of groups the first."""
    first: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        first.setdefault(tuple(one for one in run if one.partition("=")[0] in groups), run)
    return list(first.values())
