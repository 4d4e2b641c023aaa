"""Settings that are paths: a command line names a file as it is, though Hydra reads values as expressions.

``input=clip (1), take=2.mp4`` is what a user writes, and what a shell completes; `as_hydra` makes Hydra's language of
it, and `as_written` the command line of it again, for lines that are printed and for processes that are started. All
between the two is Hydra's language.

In lists, ``[a.jpg,b (1).jpg]``, and in sweeps of ``pa-train -m`` commas separate; a name that holds one, or that begins
or ends with a space, stands in quotes there. Nothing behind the equals sign, ``weights=``, is the null of config files,
since ``null`` may be a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pa_lib.errors import SettingError
from pa_lib.paths import path_of

PATHS = (
    *("input", "output", "original", "anonymized", "tracks", "weights", "ckpt", "init_from", "paths.*"),
    "*.path",  # of data, of pretrained networks, of checkpoints that are written
    *("module.weights", "identity.weights", "*.identity.weights", "*.network.weights", "module.reference.bank"),
    *("*.folder", "*.dirpath", "*.filename", "*.dir", "*.save_dir", "*.sub_dir", "*.default_root_dir"),
)
"""Names of the settings that are one path each; ``*`` stands for any part of a name."""

LISTS = ("people.chooser.photos", "people.recognizer.photos.*")
"""Names of the settings that are lists of paths."""

NAMED_LISTS = ("people.recognizer.photos",)
"""Names of the settings that are lists of paths by name: ``{P005: [anna.jpg], P012: [ben (1).jpg]}``."""

_RESULTS = ("output", "paths.runs")  # where results go: the runs of a sweep share them
_WORDS = ("null", "true", "false", "nan", "inf")  # that Hydra takes for values of other types
_QUOTED = r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\""""
_VALUE = rf"\s*(?:{_QUOTED}|([^,]*?))\s*"
_ELEMENT = re.compile(rf"{_VALUE}(?:,|\Z)", re.DOTALL)
_NAME = r"\s*([\w./-]+)\s*:\s*\["  # of a list, with the bracket that opens it
_LISTED = re.compile(rf"{_VALUE}(?:,|(\])\s*(?:,(?={_NAME})|\Z))", re.DOTALL)


def is_path(setting: str) -> bool:
    """Whether a setting, by its dotted name, is a path or holds paths; Hydra's own settings are left to Hydra.

    >>> is_path("data.path"), is_path("data.batch_size"), is_path("people.chooser.photos")
    (True, False, True)
    """
    return not setting.startswith("hydra.") and _is_any(setting, (*PATHS, *LISTS, *NAMED_LISTS))


def as_hydra(override: str, *, is_multirun: bool = False) -> str:
    """An override of a command line in Hydra's language; only those of paths change.

    Args:
        override: Override as it is written: ``input=clip (1).mp4``.
        is_multirun: Whether commas separate the values of a sweep.

    Raises:
        SettingError: Lists by name that are none.

    >>> as_hydra("input=clip (1).mp4"), as_hydra("+data.path=a,b", is_multirun=True), as_hydra("seed=1,2")
    ("input='clip (1).mp4'", '+data.path=a,b', 'seed=1,2')
    >>> as_hydra("people.chooser.photos=[me (1).jpg, 'a, b.jpg']"), as_hydra("weights=")
    ("people.chooser.photos=['me (1).jpg','a, b.jpg']", 'weights=null')
    """
    key, has_value, value = override.partition("=")
    name = key.lstrip("+")
    if not has_value or not is_path(name):
        return override
    if not value:
        return f"{key}=null"
    if value.startswith("~/"):
        value = str(path_of(value))
    if _is_any(name, NAMED_LISTS):
        return f"++{name}={_named_lists(override, value)}"  # Hydra adds no names without it
    if _is_any(name, LISTS):
        return f"{key}={_list(value)}"
    if is_multirun and name not in _RESULTS and not _is_there(value):
        given = found[1] if (found := re.fullmatch(r"choice\((.*)\)", value, re.DOTALL)) else value
        return f"{key}={','.join(quoted(one) if one else 'null' for one in _elements(given))}"
    return f"{key}={quoted(value)}"


def as_written(override: str, config: Mapping[str, Any]) -> str:
    """An override in Hydra's language as the command line of one run writes it.

    Args:
        override: Override in Hydra's language, of a path or of anything else.
        config: Composed config of the run: paths are as it has them.

    >>> as_written("input='clip (1).mp4'", {"input": "clip (1).mp4"}), as_written("seed='1'", {"seed": "1"})
    ('input=clip (1).mp4', "seed='1'")
    """
    key, has_value, _ = override.partition("=")
    name = key.lstrip("+")
    if not has_value or not is_path(name):
        return override
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return override  # another override deletes it
        value = value[part]
    if isinstance(value, Mapping):
        return f"{key}={{{', '.join(f'{one}: {_written_list(own)}' for one, own in value.items())}}}"
    return f"{key}={_written_list(value)}" if isinstance(value, list) else f"{key}={'' if value is None else value}"


def quoted(text: str) -> str:
    """Text as a value of a Hydra override, whatever is in it; without quotes where Hydra reads it as it is.

    >>> quoted("runs/a-1"), quoted("clip (1).mp4"), quoted("null")
    ('runs/a-1', "'clip (1).mp4'", "'null'")
    """
    if re.fullmatch(r"(?:[A-Za-z]|/)[\w./+-]*", text, re.ASCII) and text.lower() not in _WORDS:
        return text
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(literal(text), Quote.single).with_quotes()


def literal(text: str) -> str:
    r"""Text of which OmegaConf makes `text` when it resolves it: nothing in it is interpolated.

    >>> print(literal("a/${b}.mp4"))
    a/\${b}.mp4
    """
    return re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", text)


def _is_any(setting: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(setting, pattern) for pattern in patterns)


def _named_lists(override: str, value: str) -> str:
    """``{A: [a (1).jpg], B: [b.jpg]}`` in Hydra's language."""
    inside, at, lists = value[1:-1].strip(), 0, list[str]()
    if (value[:1], value[-1:]) != ("{", "}"):
        raise _no_named_lists(override)
    while at < len(inside):
        paths, is_closed = list[str](), False
        if (name := re.compile(_NAME).match(inside, at)) is None:
            raise _no_named_lists(override)
        at = name.end()
        while not is_closed:
            if (found := _LISTED.match(inside, at)) is None:
                raise _no_named_lists(override)
            at, is_closed = found.end(), found[4] is not None
            paths.append(_element(found))
        lists.append(f"{name[1]}:[{','.join(quoted(path) for path in paths if path)}]")
    return f"{{{','.join(lists)}}}"


def _no_named_lists(override: str) -> SettingError:
    return SettingError(f"got {override}, expected {{NAME: [FILE, ...], ...}}")


def _list(value: str) -> str:
    """Paths between brackets, or a single one without them, in Hydra's language."""
    is_list = (value[:1], value[-1:]) == ("[", "]")
    return f"[{','.join(map(quoted, _elements(value[1:-1]) if is_list else [value]))}]"


def _elements(text: str) -> list[str]:
    """What commas separate, without the quotes around an element."""
    found, at = [], 0
    while at < len(text):
        match = _ELEMENT.match(text, at)
        assert match is not None  # the last branch takes everything up to the next comma
        found.append(_element(match))
        at = match.end()
    return found


def _element(match: re.Match[str]) -> str:
    in_quotes = match[1] if match[1] is not None else match[2]
    return match[3] if in_quotes is None else re.sub(r"\\(['\"\\])", r"\1", in_quotes)


def _written_list(paths: Sequence[str]) -> str:
    return f"[{','.join(map(_written_element, paths))}]"


def _written_element(path: str) -> str:
    if _elements(path) == [path] and "]" not in path:
        return path
    escaped = re.sub(r"(['\\])", r"\\\1", path)
    return f"'{escaped}'"


def _is_there(value: str) -> bool:
    """Whether a value with commas is one path: it is there, or its folder, with a comma in its name, is."""
    folder = os.path.dirname(value)
    return os.path.lexists(value) or ("," in folder and os.path.isdir(folder))
