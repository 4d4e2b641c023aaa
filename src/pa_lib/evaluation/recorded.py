"""Parts that a run used, made again from the settings that its report or tracks file holds."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pa_lib.contracts import ClipMasks, PersonInfo
from pa_lib.errors import InputError, SettingError
from pa_lib.modules import AbstractReference
from pa_lib.pipeline.replaced import Extending
from pa_lib.reports.run_record import RunReport
from pa_lib.targets import check_targets

Part = TypeVar("Part")

_PACKAGES = ("pa_lib.modules", "pa_lib.people", "pa_lib.pretrained")


class RecordedReplacements:
    """How the system of a run extended the masks: by its reference, for the names that the report gives.

    Args:
        names: Person id -> name of what took the person's place.
        reference: Reference slot of the system.
    """

    def __init__(self, names: Mapping[int, str], reference: Extending) -> None:
        self.names, self.reference = names, reference

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """The recorded names."""
        return {person_id: self.names[person_id] for person_id in people if person_id in self.names}

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """The masks with what the reference needs."""
        return self.reference.extended(masks, seed=seed)


def recorded_replacements(
    report: RunReport, path: Path, trusted: Sequence[str] = ()
) -> tuple[RecordedReplacements | None, int]:
    """What extended the masks of a run, and the seed of the run; None where its system names no replacements.

    Args:
        report: Report of the run.
        path: File that an error names.
        trusted: Packages of your own whose classes the report may name.

    Raises:
        InputError: The report names replacements, and not what they come from.
    """
    names = {person.person_id: person.replacement for person in report.people if person.replacement is not None}
    seed = int(report.config.get("seed", 0))
    if not names:
        return None, seed
    module = report.config.get("module")
    node = module.get("reference") if isinstance(module, Mapping) else None
    if not isinstance(node, Mapping):
        raise InputError(
            f"{path}: the report names replacements and not the reference that they come from, so it is unknown which "
            "pixels were replaced; measure with module=NAME instead, which anonymizes again"
        )
    return RecordedReplacements(names, made_again(node, AbstractReference, path, trusted)), seed  # type: ignore[type-abstract]


def made_again(node: Mapping[str, Any], role: type[Part], path: Path, trusted: Sequence[str] = ()) -> Part:
    """The part that recorded settings describe.

    The file may come from anywhere: only public classes are made, and only where such a class is meant.

    Args:
        node: Recorded settings.
        role: Class of the part.
        path: File that an error names.
        trusted: Packages of your own whose classes may be named too.

    Raises:
        InputError: The settings name something else, or do not fit.
    """
    if "_target_" not in node:
        raise InputError(f"{path}: its {role.__name__} names no class; expected a _target_")
    try:
        check_targets(node, path, trusted, role=role, packages=_PACKAGES)
    except SettingError as error:  # of the file, not of the command
        raise InputError(str(error)) from error
    made: Part = _made(node, path)
    return made


def _made(node: Any, path: Path) -> Any:
    if isinstance(node, list):
        return [_made(item, path) for item in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {name: _made(value, path) for name, value in node.items() if name != "_target_"}
    if "_target_" not in node:
        return arguments
    package, _, name = str(node["_target_"]).rpartition(".")
    try:
        return getattr(importlib.import_module(package), name)(**arguments)
    except (TypeError, SettingError) as error:  # of the file, not of the command
        raise InputError(f"{path}: {node['_target_']}: {' '.join(str(error).split())}") from error
