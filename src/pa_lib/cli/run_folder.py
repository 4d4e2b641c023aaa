"""The folder of a training run: its name, its content, and the result of the run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pa_lib.cli.compose import Composition, ConfigError, composition, quoted
from pa_lib.errors import PaLibError, WeightsError

CONFIG, OUTCOME, LAST = "config.yaml", "outcome.json", Path("checkpoints/last.ckpt")
_MADE_HERE = ("checkpoints", "previews", "csv", "tensorboard", "wandb", CONFIG, OUTCOME)
_NOT_OF_THE_RUN = ("ckpt", "output", "is_overwrite", "paths", "trust")  # they do not change what a run is
_MOST = 80  # characters of a label


def composed_run(overrides: Sequence[str], config_dir: Path | None, label: str = "") -> Composition:
    """The config of a run with its folder and with the checkpoint to resume from, if any.

    Args:
        overrides: Settings of the command line.
        config_dir: Folder of the user's own configs.
        label: Settings in which the run differs from the others of a sweep; part of the folder's name.

    Raises:
        ConfigError: The command line is wrong.
        WeightsError: There is no such checkpoint.
    """
    composed = composition("train", overrides, config_dir)
    folder = composed.config["output"]
    if folder is None:
        folder = resumed_run(composed.config["ckpt"]) or _named_folder(composed, label)
        # Once more, so that whatever is written relative to the run folder finds it.
        composed = composition("train", [*overrides, f"output={quoted(str(folder))}"], config_dir)
    config = composed.config
    if config["ckpt"] == "last":
        last = Path(folder) / LAST
        config["ckpt"] = str(last) if last.is_file() else None
    elif config["ckpt"] is not None and not Path(config["ckpt"]).exists():
        raise WeightsError(f"ckpt={config['ckpt']}: no such file")
    return composed


def resumed_run(ckpt: str | None) -> Path | None:
    """Folder of the run that ``ckpt=`` resumes; None for ``last`` and for a file that is in no run folder."""
    folder = None if ckpt in (None, "last") else Path(ckpt).parent.parent
    return folder if folder is not None and (folder / CONFIG).is_file() else None


def title_of(composed: Composition) -> str:
    """Name of the recipe, else of the system."""
    return str(composed.choices.get("experiment") or composed.choices.get("module"))


def file_name(label: str) -> str:
    """A label as part of a file's name: ``module/adapter=none seed=1`` -> ``adapter-none_seed-1``."""
    words = [word.rpartition("/")[2] if "=" not in word else _short(word) for word in label.split()]
    return re.sub(r"[^\w.+-]+", "-", "_".join(words)).strip("-_")[:_MOST]


def _short(override: str) -> str:
    key, _, value = override.lstrip("+~").partition("=")
    return f"{re.split(r'[./]', key)[-1]}={value}"


def _named_folder(composed: Composition, label: str) -> Path:
    """``<runs>/<title>/[<label>-]<hash of the config>``; a folder with this hash keeps the label that it has."""
    settings = {name: value for name, value in composed.config.items() if name not in _NOT_OF_THE_RUN}
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    parent = Path(composed.config["paths"]["runs"]) / title_of(composed)
    there = sorted(path for path in parent.glob(f"*{mark}") if path.is_dir())
    return there[0] if there else parent / (f"{file_name(label)}-{mark}" if label else mark)


def prepare_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Make the run folder and write the config into it.

    Raises:
        ConfigError: It holds a run that this one neither resumes nor may overwrite.
        PaLibError: The folder cannot be written.
    """
    import yaml

    if config["ckpt"] is None and (folder / LAST).is_file():
        if not config["is_overwrite"]:
            raise ConfigError(
                f"{folder} holds a run already: resume it with ckpt=last, replace it with is_overwrite=true, "
                "or name another output=FOLDER"
            )
        for name in _MADE_HERE:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OUTCOME).unlink(missing_ok=True)
        (folder / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise PaLibError(f"output={folder}: {error.strerror}; name another folder") from error


def write_outcome(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Record the result of a run: the run is finished."""
    (folder / OUTCOME).write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """The result of a run; None for one that has not finished, or was killed while it wrote it."""
    path = folder / OUTCOME
    if not path.is_file():
        return None
    try:
        outcome: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return outcome


def outcome_line(outcome: Mapping[str, Any]) -> str:
    """``val/loss: best 0.12, last 0.13``; empty where nothing was validated."""
    values = [f"{name} {outcome[name]:.4g}" for name in ("best", "last") if outcome[name] is not None]
    return f"{outcome['monitor']}: {', '.join(values)}" if values else ""
