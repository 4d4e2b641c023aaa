"""Parts that a run used, made again from the settings that its report or tracks file holds."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pa_lib.contracts import ClipMasks, PersonInfo
from pa_lib.errors import InputError, SettingError
from pa_lib.pipeline.replaced import Extending
from pa_lib.reports.run_record import RunReport
from pa_lib.targets import check_targets


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


def recorded_replacements(report: RunReport, path: Path) -> tuple[RecordedReplacements | None, int]:
    """What extended the masks of a run, and the seed of the run; None where its system names no replacements.

    Args:
        report: Report of the run.
        path: File that an error names.

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
    reference = made_again(node, path)
    if not isinstance(reference, Extending):
        raise InputError(f"{path}: its reference is a {type(reference).__name__}; expected one of pa_lib.modules")
    return RecordedReplacements(names, reference), seed


def made_again(node: Mapping[str, Any], path: Path) -> Any:
    """The part that recorded settings describe.

    The file may come from anywhere: only public parts of pa_lib and torch are made, whatever it names.

    Raises:
        InputError: The settings name something else, or do not fit.
    """
    try:
        check_targets({"recorded": node}, path, trusted=("pa_lib.people",))
    except SettingError as error:  # of the file, not of the command
        raise InputError(str(error)) from error
    return _made(node, path)


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
