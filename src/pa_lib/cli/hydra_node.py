"""The ``hydra`` node of a config: what Hydra would build and run itself, checked before Hydra starts.

Hydra builds its callbacks, launcher and sweeper, sets up its logs and the environment of its jobs before any code of
pa_lib runs, so a config file could run code through them. The compose API builds nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pa_lib.errors import SettingError
from pa_lib.targets import COMMAND_LINE, check_targets

if TYPE_CHECKING:  # --help goes without
    from omegaconf import DictConfig

WITHOUT_LOGS = ("hydra/hydra_logging=none", "hydra/job_logging=none")
"""Overrides that every composition begins with."""

_NO_LOGS = {"version": 1, "root": None, "disable_existing_loggers": False}  # what these overrides give
_LIBRARIES = ("hydra._internal.core_plugins", "hydra_plugins", "optuna.samplers")  # launchers, sweepers, their samplers
_COMMAND_LINE_ONLY = ("job.env_set", "launcher.setup", "launcher.python", "launcher.srun_args")


def check_hydra_node(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse a composed config through whose ``hydra`` node code would run that the command line does not permit.

    Args:
        composed: Config with its ``hydra`` node.
        overrides: Settings of the command line.

    Raises:
        SettingError: Names the target or the setting that is refused.
    """
    trusted = given_trust(_plain(composed, "trust"), overrides)
    for name in ("callbacks", "launcher", "sweeper"):
        node = _plain(composed, f"hydra.{name}")
        check_targets(node, f"hydra.{name}", trusted, packages=COMMAND_LINE, libraries=_LIBRARIES)
        if isinstance(node, Mapping) and (function := node.get("custom_search_space")):  # optuna calls it by its name
            check_targets({"_target_": function}, f"hydra.{name}", trusted, packages=(), libraries=())
    for name in ("hydra_logging", "job_logging"):
        if _plain(composed, f"hydra.{name}") != _NO_LOGS:
            raise SettingError(f"hydra.{name}: got settings, but Hydra keeps no logs here; leave it out")
    for name in _COMMAND_LINE_ONLY:
        node = _plain(composed, f"hydra.{name}")
        parts = [f"{name}.{key}" for key in node] if isinstance(node, Mapping) else [name] if node else []
        for part in parts:
            if not any(one.lstrip("+").startswith((f"hydra.{part}=", f"hydra.{name}=")) for one in overrides):
                raise SettingError(f"hydra.{part} comes from a config file; only the command line may give it")


def given_trust(trusted: Any, overrides: Sequence[str]) -> Sequence[str]:
    """The packages of ``trust=`` if it is the command line that gives them.

    Raises:
        SettingError: A config file gives them, or they are no list.
    """
    check_targets({}, "trust", trusted or ())
    if trusted and not any(override.startswith("trust=") for override in overrides):
        raise SettingError(f"trust={trusted} comes from a config file; only the command line may give it")
    return trusted or ()


def _plain(composed: DictConfig, name: str) -> Any:
    from omegaconf import OmegaConf

    value = OmegaConf.select(composed, name)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
