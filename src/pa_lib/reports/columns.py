"""Columns of a comparison: which runs belong together, and what they are called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pa_lib.reports.evaluation_record import Evaluation
from pa_lib.reports.json import flat, plain

_NOT_OF_THE_SYSTEM = frozenset({"processes", "device", "is_overwrite", "output", "limits"})  # what moves no value
_MOST_SETTINGS = 4  # in the name of a column: with more, folders are shorter


@dataclass(frozen=True)
class Column:
    """One run, or several that differ in nothing but seeds.

    Args:
        name: Name of the column, unique within the comparison: what sets it apart from the other columns, else its
            folder.
        title: Description of what was measured.
        runs: Positions of the evaluations.
        members: Folders of the evaluations, each by the shortest end of its path that is unique.
        seeds: Seeds of the evaluations, ``setting=value`` with commas between; empty for a single run.
    """

    name: str
    title: str
    runs: tuple[int, ...]
    members: tuple[str, ...]
    seeds: tuple[str, ...] = ()


def columns_of(
    files: Sequence[Path], runs: Sequence[Evaluation], *, is_grouped_by_seed: bool = True
) -> tuple[Column, ...]:
    """Group runs by what they are but for their seeds, and name the groups.

    Runs of a group have the same settings, material and masks, and each has seeds of its own; where two runs have the
    same seeds, something that was not recorded sets them apart, and every run stays a column of its own.

    Args:
        files: Files that the evaluations were read from.
        runs: The evaluations.
        is_grouped_by_seed: Whether runs that differ in nothing but seeds become one column.
    """
    settings = [_settings(run) for run in runs]
    folders = _folders(files)
    groups: dict[str, list[int]] = {}
    for at, run in enumerate(runs):
        seedless = {name: value for name, value in settings[at].items() if not _is_seed(name)}
        protocols = [(r.measured_on, r.name, without_seeds(r.protocol)) for r in run.metrics]
        key = [run.title, run.material, run.masks, seedless, plain(protocols)]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(at)
    seeds = [{name: value for name, value in one.items() if _is_seed(name)} for one in settings]
    together: list[list[int]] = []
    for members in groups.values():
        several = [json.dumps(seeds[at], sort_keys=True) for at in members]
        is_group = is_grouped_by_seed and len(members) > 1 and len(set(several)) == len(several)
        together += [members] if is_group else [[at] for at in members]
    together.sort()
    names = _names([settings[members[0]] for members in together], [folders[members[0]] for members in together])
    return tuple(
        Column(
            name,
            runs[members[0]].title,
            tuple(members),
            tuple(folders[at] for at in members),
            _moving([seeds[at] for at in members]),
        )
        for name, members in zip(names, together, strict=True)
    )


def _settings(run: Evaluation) -> dict[str, Any]:
    """Settings that can move a value, by dotted name."""
    config = {name: value for name, value in run.config.items() if name not in _NOT_OF_THE_SYSTEM}
    return dict(flat(plain(config)))


def _names(settings: Sequence[Mapping[str, Any]], folders: Sequence[str]) -> Sequence[str]:
    """Columns by the settings that all of them have and that differ, else by their folders."""
    shared = [name for name in settings[0] if all(name in other for other in settings)]
    differing = [name for name in shared if len({json.dumps(one[name]) for one in settings}) > 1 and not _is_seed(name)]
    if not 0 < len(differing) <= _MOST_SETTINGS:
        return folders
    short = _shortened(differing)
    names = [", ".join(f"{short[name]}={_shown(one[name])}" for name in differing) for one in settings]
    return names if len(set(names)) == len(names) else folders


def _shortened(names: Sequence[str]) -> dict[str, str]:
    """``module.sampler.steps`` -> ``steps``, or as many parts of it as make it unique."""
    parts = {name: name.removesuffix("._target_").split(".") for name in names}
    short = {}
    for name, mine in parts.items():
        for length in range(1, len(mine) + 1):
            ends = Counter(".".join(other[-length:]) for other in parts.values())
            short[name] = ".".join(mine[-length:])
            if ends[short[name]] == 1:
                break
    return short


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition(".")[2] if value.startswith("pa_lib.") else value
    return json.dumps(value)


def _moving(seeds: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The seeds of a group that differ within it; empty for a single run."""
    if len(seeds) < 2:
        return ()
    names = [name for name in seeds[0] if len({json.dumps(one.get(name)) for one in seeds}) > 1]
    return tuple(", ".join(f"{name}={one[name]}" for name in names) for one in seeds)


def _is_seed(name: str) -> bool:
    return name.rpartition(".")[2] == "seed"


def without_seeds(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a protocol by dotted name, but for its seeds."""
    return {name: value for name, value in flat(protocol) if not _is_seed(name)}


def _folders(files: Sequence[Path]) -> tuple[str, ...]:
    """The shortest ends of the folders' paths that are unique, without the usual suffix."""
    parts = [file.parent.resolve().parts for file in files]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]).removesuffix(".evaluation") for part in parts]
        if len(set(names)) == len(names):
            return tuple(names)
    return tuple(str(file) for file in files)  # several records in one folder
