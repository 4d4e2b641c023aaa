"""The masker that a run used, made again from the settings that its report or tracks file holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pa_lib.errors import InputError
from pa_lib.evaluation.recorded import made_again
from pa_lib.evaluation.shard import described
from pa_lib.people import AbstractMasker, SilhouetteMasker, TracksRecord
from pa_lib.pretrained import SelfieSegmentation
from pa_lib.reports.run_record import RunReport


class Maskers:
    """Finds the masker for a video: the recorded one, else a default.

    Maskers with the same settings are made once.

    Args:
        default: Masker where no settings were recorded; None: a `SilhouetteMasker` with its defaults.
        settings: Settings of the default for the record; None: its class and plain attributes.
        is_recorded_preferred: Whether recorded settings take precedence over the default.
        trusted: Packages of your own whose classes recorded settings may name.

    >>> from pa_lib.people import BoxMasker
    >>> Maskers(BoxMasker(), {"_target_": "pa_lib.people.BoxMasker"}).of(None, None, Path("clip.tracks.json"))[1:]
    ({'_target_': 'pa_lib.people.BoxMasker'}, 'settings')
    """

    def __init__(
        self,
        default: AbstractMasker | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        is_recorded_preferred: bool = True,
        trusted: Sequence[str] = (),
    ) -> None:
        self._default = default
        self._settings = settings
        self._is_recorded_preferred = is_recorded_preferred
        self.trusted = tuple(trusted)
        self._made: dict[str, AbstractMasker] = {}

    def of(
        self, report: RunReport | None, record: TracksRecord | None, path: Path
    ) -> tuple[AbstractMasker, Mapping[str, Any], str]:
        """The masker of a video, its settings, and where these come from: ``report``, ``tracks file``, ``settings``.

        Args:
            report: Report of the run; None without.
            record: The tracks file; None without.
            path: File that an error names.

        Raises:
            PaLibError: The recorded settings name something other than a public part, or do not make a masker.
        """
        found = recorded_masker(report, record) if self._is_recorded_preferred else None
        if found is not None:
            return self._recorded(found[0], path), *found
        if self._default is None:
            self._default = SilhouetteMasker(SelfieSegmentation())
        if self._settings is None:
            self._settings = described(self._default)
        return self._default, self._settings, "settings"

    def _recorded(self, node: Mapping[str, Any], path: Path) -> AbstractMasker:
        key = json.dumps(node, sort_keys=True, default=str)
        if key not in self._made:
            try:
                self._made[key] = made_again(node, AbstractMasker, path, self.trusted)  # type: ignore[type-abstract]
            except InputError as error:
                raise InputError(f"{error}; is_masker_recorded=false takes people/masker instead") from error
        return self._made[key]


def recorded_masker(report: RunReport | None, record: TracksRecord | None) -> tuple[Mapping[str, Any], str] | None:
    """Settings of a masker and where they were found: the run's report first, since tracks may be used again."""
    for settings, place in (
        (report.config if report is not None else {}, "report"),
        (record.settings if record is not None else {}, "tracks file"),
    ):
        people = settings.get("people")
        node = people.get("masker") if isinstance(people, Mapping) else None
        if isinstance(node, Mapping):
            return node, place
    return None
