"""pa-sheet: contact sheets, on which people can see what became of their videos.

Exit codes: 0 all sheets are there; 1 a clip could not be anonymized or shown; 2 the command line is wrong; 3 done, but
some frames had to be redacted whole; 130 interrupted.
"""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.anonymize import REDACTED, FileRun, attempt, run_files, run_settings
from pa_lib.cli.build import build_module, build_pipeline, module_settings
from pa_lib.cli.command import FAILED, OK, command, entry_point
from pa_lib.cli.compose import ConfigError, checked, compose, parse, split_files
from pa_lib.errors import InputError, PaLibError
from pa_lib.paths import path_of

if TYPE_CHECKING:  # torch and the codecs are not needed to answer --help or to refuse a wrong setting
    from pa_lib.reports import SheetClip

DESCRIPTION = """\
Contact sheets of clips: frames above what was made of them, and zooms of the heads that were replaced.

  pa-sheet clip.mp4 other.gif folder_of_images      anonymize them into contact_sheet/ and draw their sheets
  pa-sheet clips output=sheet module=conventional   every video of a folder, with any setting of pa-anonymize
  pa-sheet clip.mp4 sheet.n_frames=null             every frame, eight on a page
  pa-sheet clip.mp4 anonymized=clip.anonymized.mp4  draw what exists
  pa-sheet clips output=new tracks=sheet            anonymize again, without a new search for people

The sheets show people as they are: delete them afterwards.

settings (with their meaning: conf/sheet.yaml, conf/anonymize.yaml):
  output=FOLDER  anonymized=FOLDER|FILE  tracks=FOLDER|FILE  sheet.n_frames=N|null  sheet.n_people=N  ...
"""

Made = tuple["SheetClip", bool]
"""A clip with its result, and whether some of its frames were redacted whole."""


@command("pa-sheet", interrupted="sheets that were finished are there", is_ended_by_sigterm=True)
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    files, rest = split_files(arguments)
    overrides, config_dir = parse("pa-sheet", DESCRIPTION, rest)
    if not files:
        raise ConfigError("got no clips, expected their names without a setting, e.g. pa-sheet clip.mp4")
    config = compose("sheet", overrides, config_dir)
    if config["input"] is not None:
        raise ConfigError(f"input={config['input']}: clips are named without a setting, e.g. pa-sheet clip.mp4")
    if config["stage"] != "all":
        raise ConfigError(f"stage={config['stage']}: a sheet shows results; pa-anonymize stage=find draws people")
    return _draw(_clips(files, path_of(config["output"])), config, overrides)


def _draw(clips: dict[str, Path], config: dict[str, Any], overrides: Sequence[str]) -> int:
    from pa_lib.reports import ContactSheets, SheetSettings, contact_sheet
    from pa_lib.video import Limits, MadeFolders

    settings = checked(SheetSettings, config["sheet"], "sheet")
    limits = checked(Limits, config["limits"], "limits")
    folder = path_of(config["output"])
    for name in ("anonymized", "tracks"):
        if config[name] is not None and len(clips) > 1 and not path_of(config[name]).is_dir():
            raise ConfigError(f"{name}={config[name]} belongs to one clip, but {len(clips)} are given; name a folder")
    made = _found(config) if config["anonymized"] is not None else _anonymized(clips, folder, config, overrides)
    n_failed, has_redacted = 0, False
    with MadeFolders(folder):
        sheets = ContactSheets(folder)
        for name, original in clips.items():
            try:
                clip, is_redacted = made(name, original)
                for file in sheets.add(name, contact_sheet(clip, settings, limits)):
                    print(f"  sheet     {file}")
            except PaLibError as error:
                print(f"pa-sheet: error: {original}: {error}", file=sys.stderr)
                n_failed += 1
                continue
            has_redacted |= is_redacted
        print(f"{len(clips) - n_failed} of {len(clips)} clips shown")
        if n_failed < len(clips):
            print(f"  page      {sheets.write()}")
    return FAILED if n_failed else REDACTED if has_redacted else OK


def _clips(files: Sequence[str], folder: Path) -> dict[str, Path]:
    """The clips by names of their own: that of the file, with folders before it where two have the same."""
    from pa_lib.cli.inputs import note_passed_over
    from pa_lib.video import find_inputs, result_stem
    from pa_lib.video.files import name_key

    for file in files:
        note_passed_over("pa-sheet", file, folder)
    found = (path for file in files for path in find_inputs(file, besides=folder))
    paths = list({path.resolve(): path for path in found}.values())
    if not paths:
        raise InputError(f"{', '.join(files)}: no video or image there")
    names = {path: result_stem(path) for path in paths}
    above = {path: list(path.absolute().parents) for path in paths}
    while doubled := {key for key, count in Counter(map(name_key, names.values())).items() if count > 1}:
        for number, (path, name) in enumerate(names.items(), 1):
            if name_key(name) in doubled:
                names[path] = f"{above[path].pop(0).name}_{name}" if above[path] else f"{name}.{number}"
    return {name: path for path, name in names.items()}


def _found(config: dict[str, Any]) -> Callable[[str, Path], Made]:
    """Finds the results of clips where they are."""
    from pa_lib.evaluation.pairs import pair_clips
    from pa_lib.reports import RunReport, SheetClip
    from pa_lib.video import is_supported

    place = path_of(config["anonymized"])

    def found(name: str, original: Path) -> Made:
        named = sorted(place.glob(f"{glob.escape(name)}.anonymized*"))
        results = [path for path in named if is_supported(path) or path.is_dir()]
        (pair,), _ = pair_clips(original, results[0] if results else place)
        is_redacted = pair.report is not None and bool(RunReport.read_json(pair.report).counts["redacted"])
        return SheetClip(name, original, pair.anonymized, pair.tracks, pair.report), is_redacted

    return found


def _anonymized(
    clips: Mapping[str, Path], folder: Path, config: dict[str, Any], overrides: Sequence[str]
) -> Callable[[str, Path], Made]:
    """Anonymizes clips into a folder, in their order."""
    from dataclasses import replace

    from pa_lib.reports import SheetClip
    from pa_lib.video import default_output, probe, stem_of

    changed = {} if config["weights"] is None else module_settings(overrides, config["module"])
    is_chosen = any(override.startswith(("people/chooser=", "people.chooser.")) for override in overrides)
    pipeline = build_pipeline(config, build_module(config, changed))
    given = None if config["tracks"] is None else path_of(config["tracks"])
    recorded = {key: value for key, value in config.items() if key not in ("anonymized", "sheet")}
    settings = run_settings(recorded | {"tracks": None})

    def planned(name: str, original: Path) -> FileRun:
        usual = default_output(probe(original, pipeline.limits), folder, pipeline.write).name
        output = folder / f"{name}{usual[usual.rindex('.anonymized') :]}"
        tracks = given
        if given is not None and given.is_dir():  # a clip without one there is searched
            tracks = next(given.glob(f"{glob.escape(stem_of(output))}.tracks.json"), None)
        own = replace(settings, tracks=tracks, is_chosen_again=is_chosen and tracks is not None)
        return FileRun(original, output, own, name)

    plans = {name: attempt(partial(planned, name, original)) for name, original in clips.items()}
    outcomes = run_files(pipeline, [plan for plan in plans.values() if isinstance(plan, FileRun)])

    def anonymized(name: str, original: Path) -> Made:
        plan = plans[name]
        outcome = next(outcomes) if isinstance(plan, FileRun) else plan
        if isinstance(outcome, PaLibError):
            raise outcome
        print(outcome.summary)
        files = outcome.files
        return SheetClip(name, original, files["video"], files["tracks"], files["report"]), bool(outcome.n_redacted)

    return anonymized


run = entry_point(main)


if __name__ == "__main__":
    run()
