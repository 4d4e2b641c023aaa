"""From a command line to a checked, composed config, and from there to objects.

Hydra's compose API rather than ``@hydra.main``: relative paths stay the caller's, and no ``outputs/`` folder is made.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pa_lib import __version__
from pa_lib.cli.hydra_node import WITHOUT_LOGS, check_hydra_node
from pa_lib.cli.path_settings import as_hydra, is_path, literal, quoted
from pa_lib.errors import PaLibError, SettingError
from pa_lib.renamed import renamed_config, renamed_overrides
from pa_lib.roles import ANY
from pa_lib.setting_types import checked_seed, wrong_types
from pa_lib.targets import COMMAND_LINE, check_roles, check_targets

T = TypeVar("T")

METRICS = "metrics"  # the group whose options may be combined


_PLUGINS = {  # Hydra's own, by the first word of the option
    "joblib": "hydra-joblib-launcher",
    "submitit": "hydra-submitit-launcher",
    "optuna": "hydra-optuna-sweeper",
}

_UNKNOWN = re.compile(r"Could not override '([^']+)'")  # Hydra's words


_NOTED: set[str] = set()  # lines that this process has written


class ConfigError(SettingError):
    """The command line is wrong; the commands answer it with exit code 2."""


def config_folder() -> Path:
    """The shipped `conf` folder: inside the installed package, or at the root of the checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"


def option_groups(folder: Path, prefix: str = "") -> dict[str, list[str]]:
    """Every config group below `folder` with the names of its options, e.g. ``people/finder`` -> ``[mtcnn, ...]``."""
    groups: dict[str, list[str]] = {}
    for child in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = f"{prefix}{child.name}"
        if options := sorted(path.stem for path in child.glob("*.yaml")):
            groups[name] = options
        groups |= option_groups(child, f"{name}/")
    return groups


@dataclass(frozen=True)
class Composition:
    """A composed config, and how it came about.

    Args:
        config: Plain and resolved.
        choices: Config group -> the option taken, e.g. ``module`` -> ``passersby``; None where a group is empty.
        swept: Setting or group -> its values with commas between, as a ``sweep`` option lists them.
    """

    config: dict[str, Any]
    choices: dict[str, Any]
    swept: dict[str, str]


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def parse(
    command: str, description: str, arguments: Sequence[str], *, is_multirun: bool = False
) -> tuple[list[str], Path | None]:
    """Split a command line into Hydra overrides, with today's names, and the user's own config folder.

    Paths are taken as they are, see `pa_lib.cli.path_settings`; everything else is Hydra's language.

    Prints and leaves on ``--help`` and ``--version``; the help lists the config groups as they are on disk. Old names
    of settings and packages that are trusted are noted on stderr.

    Raises:
        ConfigError: For an option that does not exist.
    """
    groups = "\n".join(f"  {name}={'|'.join(options)}" for name, options in option_groups(config_folder()).items())
    parser = _OneLineParser(
        prog=command,
        usage=f"{command} [--config-dir FOLDER] setting=value ...",
        description=description,
        epilog=f"Groups of parts, each swapped by name:\n{groups}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config-dir", type=Path, help="a folder of your own configs, searched before the shipped ones"
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package of your own whose classes may be named, so that its code runs (also trust=[PACKAGE,...])",
    )
    parser.add_argument("--version", action="version", version=f"pa_lib {__version__}")
    parser.add_argument("overrides", nargs="*", metavar="setting=value", help="see the settings above")
    parsed = parser.parse_intermixed_args(arguments)
    for override in parsed.overrides:
        if "=" not in override and not override.startswith("~"):
            raise ConfigError(f"got '{override}', expected setting=value, e.g. {shlex.quote(f'input={override}')}")
    trust = [f"trust=[{','.join(parsed.trust)}]"] if parsed.trust else []
    overrides, notes = renamed_overrides([*parsed.overrides, *trust])
    notes += [f"code of your own may run: {override}" for override in overrides if override.startswith("trust=")]
    notes += [
        f"{override} names a file or folder; {override[:-4]} without a value is the null of config files"
        for override in overrides
        if override.endswith("=null") and is_path(override[:-5].lstrip("+")) and not Path("null").exists()
    ]
    if process_rank() == 0:
        for note in notes:
            print(f"{command}: note: {note}", file=sys.stderr)
    return [as_hydra(override, is_multirun=is_multirun) for override in overrides], parsed.config_dir


def split_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and everything else of a command line.

    What exists is a file, also where its name holds an equals sign; so is all behind ``--``, whatever it begins with.
    """
    files: list[str] = []
    rest: list[str] = []
    is_value = False
    for at, argument in enumerate(arguments):
        if argument == "--":
            return [*files, *arguments[at + 1 :]], rest
        is_setting = argument.startswith("-") or ("=" in argument and not Path(argument).exists())
        (rest if is_value or is_setting else files).append(argument)
        is_value = argument == "--config-dir"
    return files, rest


def compose(name: str, overrides: Sequence[str], config_dir: Path | None = None) -> dict[str, Any]:
    """Compose ``conf/<name>.yaml`` with `overrides` into a plain, resolved dictionary; see `composition`."""
    return composition(name, overrides, config_dir).config


def composition(name: str, overrides: Sequence[str], config_dir: Path | None = None) -> Composition:
    """Compose ``conf/<name>.yaml`` with `overrides`; the result names the option that each group took.

    Raises:
        ConfigError: One line that names the unknown option or setting and the ones there are, a missing value, or a
            ``_target_`` that is neither public nor in a package that the command line trusts (``trust=[my_package]``).
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    settings = [*searched(config_dir), *WITHOUT_LOGS, *spread(overrides, config_dir)]
    try:
        with own_hydra(), hydra.initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            composed = hydra.compose(name, settings, return_hydra_config=True)
        check_hydra_node(composed, settings)
        with open_dict(composed):
            own = composed.pop("hydra")
        choices = OmegaConf.to_container(own.runtime.choices)
        swept = OmegaConf.to_container(own.sweeper.params or OmegaConf.create())
        stored: Any = OmegaConf.to_container(composed)
        if notes := renamed_config(stored, overrides):  # old names in the user's own config files
            composed = OmegaConf.create(stored)
            _note_once(name, notes)
        needed = OmegaConf.missing_keys(OmegaConf.load(config_folder() / f"{name}.yaml"))
        emptied = {key for key in needed if OmegaConf.select(composed, key, throw_on_missing=False) is None}
        if missing := sorted(OmegaConf.missing_keys(composed) | emptied):
            raise ConfigError(f"missing setting: {', '.join(missing)}; give it as {missing[0]}=...")
        # in one step: a value that was resolved may look like an interpolation, as the path a/${b}.mp4 does
        config = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error, name, _settings_beside(error, name, overrides, config_dir))) from error
    except SettingError as error:
        raise ConfigError(as_trust(error)) from error
    assert isinstance(config, dict)
    assert isinstance(choices, dict)
    assert isinstance(swept, dict)
    if "seed" in config:
        checked_seed(config["seed"])
    try:
        trusted = config.get("trust") or ()
        check_targets(config, "settings", trusted, packages=COMMAND_LINE, is_literal=True)
        check_targets(config.get("module"), "module", trusted, packages=COMMAND_LINE)  # as checkpoints will hold it
    except SettingError as error:
        raise ConfigError(as_trust(error)) from error
    plain = {str(key): value for key, value in config.items()}
    own_choices = {str(group): option for group, option in choices.items() if not str(group).startswith("hydra/")}
    return Composition(plain, own_choices, {str(key): str(value) for key, value in swept.items()})


def _note_once(name: str, notes: Sequence[str]) -> None:
    """Notes on stderr; a command composes its config several times."""
    for note in notes:
        if note not in _NOTED and process_rank() == 0:
            print(f"pa-{name}: note: {note}", file=sys.stderr)
            _NOTED.add(note)


def searched(config_dir: Path | None) -> list[str]:
    """The override by which Hydra reads the user's own config folder too.

    Raises:
        ConfigError: It is no folder.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError(f"--config-dir: got {config_dir}, which is no folder")
    return [] if config_dir is None else [f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]"]


@contextmanager
def own_hydra() -> Iterator[None]:
    """Room for a composition within an application of Hydra, such as a sweep: Hydra has one global instance."""
    from hydra.core.global_hydra import GlobalHydra

    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def as_trust(error: PaLibError) -> str:
    """The text of a refused ``_target_``, with the permission as it is written on the command line."""
    return re.sub(r"trusted=\('([^']+)',\)", r"trust=[\1]", str(error))


def named(error: PaLibError, setting: str, path: str | Path) -> str:
    """The text of an error about a file, with the setting that gave the file before its name."""
    return f"{setting}={error}" if str(error).startswith(str(Path(path))) else str(error)


def process_rank() -> int:
    """Number of this process among those that work together, as Lightning and the cluster launchers set it."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit() and (name != "LOCAL_RANK" or os.environ[name] != "0"):
            return int(os.environ[name])
    return int(os.environ.get("NODE_RANK") or 0)  # machines started by hand: the first process of another machine


def spread(overrides: Sequence[str], config_dir: Path | None = None) -> list[str]:
    """Overrides of Hydra that put each metric of ``metrics=[a,b]`` or ``metrics=a`` at ``metrics.<name>``.

    Hydra merges several options of a group into one node, so that the settings of one metric would replace those of
    another, unless each file names its place (``# @package metrics.<name>``), as the shipped ones do. Options that are
    sets of metrics (``metrics=fast``) are kept, in a list too.
    """
    result: list[str] = []
    for override in overrides:
        group, _, value = override.partition("=")
        names = [name.strip(" '\"") for name in value.strip().removeprefix("[").removesuffix("]").split(",")]
        is_list = value.strip().startswith("[")
        is_single = {name: _is_single_metric(name, config_dir) for name in names}
        is_sweep = len(names) > 1 and not is_list
        if group != METRICS or is_sweep or not all(names) or not (is_list or is_single[names[0]]):
            result.append(override)
            continue
        sets = [name for name in names if not is_single[name]]
        result.append(f"{METRICS}=[{','.join(sets)}]" if sets else f"{METRICS}=none")
        result += [f"+{METRICS}@{METRICS}.{name}={name}" for name in names if name not in sets]
    return result


def _is_single_metric(name: str, config_dir: Path | None) -> bool:
    for folder in ([] if config_dir is None else [config_dir]) + [config_folder()]:
        path = folder / METRICS / f"{name}.yaml"
        if path.is_file():
            return any(line.startswith("_target_:") for line in path.read_text(encoding="utf-8").splitlines())
    return False


def build(node: dict[str, Any], role: Any = ANY, place: str = "settings") -> Any:
    """Make the object that a config node's ``_target_`` names.

    Args:
        node: Node of a config of `composition`, whose names are permitted.
        role: Annotation of what it is to make, e.g. ``AbstractMasker``, see `pa_lib.targets.check_roles`.
        place: Place of the node in the config for errors.

    Raises:
        ConfigError: A part is not of the kind that is meant at its place, or an argument is unknown or of a wrong type.
        PaLibError: What the part itself refuses, unchanged.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    try:
        check_roles(node, role, place)
    except SettingError as error:
        raise ConfigError(str(error)) from error
    if not node.get("_partial_") and (text := _wrong_type(node)):  # of a function, who calls it checks the settings
        raise ConfigError(f"{node.get('_target_')}: {text}")
    try:
        return instantiate(_literal(node), _convert_="all")
    except HydraException as error:
        if isinstance(error.__cause__, PaLibError):
            raise error.__cause__ from error
        cause = error.__cause__ or error
        text = _wrong_type(node) if isinstance(cause, TypeError | ValueError) else ""
        raise ConfigError(f"{node.get('_target_')}: {text or ' '.join(str(cause).split())}") from error


def _literal(node: Any) -> Any:
    """A resolved node in which Hydra interpolates nothing again."""
    if isinstance(node, str):
        return literal(node)
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    return [_literal(value) for value in node] if isinstance(node, list) else node


def _wrong_type(node: Any, path: str = "") -> str:
    """The first setting of a config node, to any depth, that is of a wrong type, and what is wrong; empty: none."""
    if isinstance(node, list):
        return next(filter(None, (_wrong_type(item, path) for item in node)), "")
    if not isinstance(node, Mapping):
        return ""
    if target := node.get("_target_"):
        from hydra.utils import get_object

        for name, text in wrong_types(get_object(target), {k: v for k, v in node.items() if not k.startswith("_")}):
            return f"{path}{name}: {text}"
    return next(filter(None, (_wrong_type(value, f"{path}{key}.") for key, value in node.items())), "")


def checked(settings: type[T], node: dict[str, Any], name: str) -> T:
    """Make a dataclass of settings from a config node, with its types checked; `name` is where the node lies, or empty.

    Raises:
        ConfigError: Names the setting that is unknown or of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(settings).validate_python(node)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(part for part in (name, *map(str, first["loc"])) if part)
        raise ConfigError(f"{where}: got {first['input']!r}: {first['msg']}") from error


def _settings_beside(error: Exception, name: str, overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """Dotted names of all settings that a command line would have without the one that `error` calls unknown."""
    match = _UNKNOWN.search(str(error))
    others = [one for one in overrides if match and one.partition("=")[0].lstrip("+~") != match[1]]
    if match is None or len(others) == len(overrides):
        return []
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with own_hydra(), hydra.initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            composed = hydra.compose(name, [*searched(config_dir), *spread(others, config_dir)])
        return list(_dotted(OmegaConf.to_container(composed)))
    except (HydraException, OmegaConfBaseException):  # another mistake
        return []


def _dotted(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{path}{key}"
            yield from _dotted(value, f"{path}{key}.")


def one_line(error: Exception, name: str, settings: Sequence[str] = ()) -> str:
    """Hydra's message as one line, with a suggestion among `settings` where a name is nearly right."""
    from hydra.errors import OverrideParseException

    text = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return f"{error.override}: the value cannot be read; as a text it is {shlex.quote(f'{key}={quoted(value)}')}"
    if match := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, option = match[1].rpartition("/")
        options = option_groups(config_folder()).get(group)
        if options:
            return f"no option '{option}' for {group}; there are: {', '.join(options)}"
        if package := _PLUGINS.get(option.partition("_")[0]):
            return f"{group}={option} is not installed; pip install {package}"
        return f"no config '{match[1]}'; see --help for the groups and their options"
    if match := _UNKNOWN.search(text):
        return f"no setting '{match[1]}'{_nearest(match[1], name, settings)}; see --help or conf/{name}.yaml"
    return text


def _nearest(setting: str, name: str, settings: Sequence[str]) -> str:
    import yaml

    top = yaml.safe_load((config_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = option_groups(config_folder())
    known = [*settings, *top, *(group.replace("/", ".") for group in groups)]
    for near in difflib.get_close_matches(setting.replace("/", "."), known, n=1):
        as_group = near.replace(".", "/")
        return f" (did you mean {as_group if as_group in groups else near}?)"
    return ""
