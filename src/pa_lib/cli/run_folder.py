"""The folder of a training run: its name, its content, and the result of the run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pa_lib.cli.compose import Composition, ConfigError, composition
from pa_lib.cli.path_settings import quoted
from pa_lib.errors import PaLibError, WeightsError
from pa_lib.paths import path_of

CONFIG, OUTCOME, LAST = "config.yaml", "outcome.json", Path("checkpoints/last.ckpt")
_MADE_HERE = ("checkpoints", "previews", "csv", "tensorboard", "wandb", CONFIG, OUTCOME)
_ASIDE = ".replaced"  # what a run replaces, until it has taken its first step
_INPUTS = ("init_from", "module", "data", "metrics", "faces", "features", "identity")  # may name files
_NOT_OF_THE_RUN = ("ckpt", "output", "is_overwrite", "paths", "trust")  # they do not change what a run is
_MOST = 80  # characters of a label


def composed_run(overrides: Sequence[str], config_dir: Path | None) -> Composition:
    """The config of a run with its folder and with the checkpoint to resume from, if any.

    Args:
        overrides: Settings of the command line.
        config_dir: Folder of the user's own configs.

    Raises:
        ConfigError: The command line is wrong.
        WeightsError: There is no such checkpoint.
    """
    return with_folder(composition("train", overrides, config_dir), overrides, config_dir)


def with_folder(
    composed: Composition,
    overrides: Sequence[str],
    config_dir: Path | None,
    label: str = "",
    *,
    is_one_of_many: bool = False,
) -> Composition:
    """A composed run with its folder, see `composed_run`.

    Args:
        composed: The run as the command line composes it.
        overrides: See `composed_run`.
        config_dir: See `composed_run`.
        label: Settings in which the run differs from the others of a sweep; part of the folder's name.
        is_one_of_many: Whether ``output=`` is the folder of a sweep, in which the run has a folder of its own.

    Raises:
        ConfigError: The command line is wrong.
        WeightsError: There is no such checkpoint.
    """
    folder = composed.config["output"]
    if folder is None or is_one_of_many:
        parent = Path(composed.config["paths"]["runs"]) / title_of(composed) if folder is None else Path(folder)
        resumed = resumed_run(composed.config["ckpt"]) if folder is None else None
        folder = resumed or _named_folder(parent, composed, label)
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


def _named_folder(parent: Path, composed: Composition, label: str) -> Path:
    """``<parent>/[<label>-]<hash of the config>``; a folder with this hash keeps the label that it has."""
    settings = {name: value for name, value in composed.config.items() if name not in _NOT_OF_THE_RUN}
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    there = sorted(path for path in parent.glob(f"*{mark}") if path.is_dir())
    return there[0] if there else parent / (f"{file_name(label)}-{mark}" if label else mark)


class TakenFolder:
    """A run folder that a run takes over; what it replaces lies aside until `keep`, and `give_back` restores it.

    So a run that never takes a step (a wrong setting, data that are not there, nothing left to do) leaves the folder as
    it was: an earlier run is whole, and a folder that was not there is not made. A process that is killed in between
    leaves what it set aside, and the next run in this folder restores it first.

    Args:
        folder: The run folder.
        config: Composed config of the run, written into the folder.

    Raises:
        ConfigError: It holds a run that this one neither resumes nor may overwrite, or that it reads from.
        PaLibError: The folder cannot be written.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        from pa_lib.video.result_folders import make_folders  # not needed to answer --help

        self.folder = folder
        self.is_kept = False
        try:
            self._restore()
            is_new_run = config["ckpt"] is None and (folder / LAST).is_file()
            if is_new_run:
                _check_replaceable(folder, config)
            self._there = {name for name in _MADE_HERE if (folder / name).exists()}
            self._made = make_folders([folder])
            try:
                self._fill(config, _MADE_HERE if is_new_run else (CONFIG, OUTCOME))
            except BaseException:
                self.give_back()
                raise
        except OSError as error:
            raise PaLibError(f"output={folder}: {error.strerror}; name another folder") from error

    def _fill(self, config: Mapping[str, Any], replaced: Sequence[str]) -> None:
        import yaml

        for name in self._there.intersection(replaced):
            (self.folder / _ASIDE).mkdir(exist_ok=True)
            (self.folder / name).rename(self.folder / _ASIDE / name)
        (self.folder / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")

    def keep(self) -> None:
        """The run has begun: delete what it replaces."""
        if self.is_kept:
            return
        self.is_kept = True
        shutil.rmtree(self.folder / _ASIDE, ignore_errors=True)

    def give_back(self) -> None:
        """Restore the folder to what it was, unless the run is to be kept."""
        if self.is_kept:
            return
        from pa_lib.video.rollback import Plan, settle

        for name in set(_MADE_HERE) - self._there:
            _delete(self.folder / name)
        self._restore()
        settle(Plan(folders=self._made))

    def _restore(self) -> None:
        aside = self.folder / _ASIDE
        if aside.is_dir():
            for path in sorted(aside.iterdir()):
                _delete(self.folder / path.name)
                path.rename(self.folder / path.name)
            aside.rmdir()


def _check_replaceable(folder: Path, config: Mapping[str, Any]) -> None:
    if not config["is_overwrite"]:
        raise ConfigError(
            f"{folder} holds a run already: resume it with ckpt=last, replace it with is_overwrite=true, "
            "or name another output=FOLDER"
        )
    replaced = [(folder / name).resolve() for name in _MADE_HERE]
    for name, value in _texts({name: config.get(name) for name in _INPUTS}):
        path = path_of(value).resolve()
        if any(path.is_relative_to(one) for one in replaced) and path.exists():
            raise ConfigError(
                f"{name}={value} lies in the run that is_overwrite=true replaces; name another output=FOLDER"
            )


def _texts(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a config with their dotted names."""
    if isinstance(node, str):
        yield name, node
    parts = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in parts:
        yield from _texts(value, f"{name}.{key}" if name else str(key))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
