"""pa-anonymize: a video in, an anonymized video out.

Exit codes: 0 every frame is as it should be; 1 a file could not be anonymized, and no output file was written for it;
2 the command line is wrong; 3 done, but some frames had to be redacted whole (the report says which); 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pa_lib.cli.build import build_module, build_pipeline, module_settings
from pa_lib.cli.command import FAILED, OK, PARTIAL, command, entry_point
from pa_lib.cli.compose import ConfigError, checked, compose, parse
from pa_lib.errors import PaLibError
from pa_lib.paths import path_of

if TYPE_CHECKING:  # torch and the codecs are not needed to answer --help or to refuse a wrong setting
    from pa_lib.cli.inputs import Pair
    from pa_lib.pipeline import AnonymizationPipeline, RunOutcome, RunSettings, SearchedVideo

T = TypeVar("T")

DESCRIPTION = """\
Hide the people in a video who did not agree to be in it.

  pa-anonymize input=clip.mp4                      the subject stays, passersby are hidden
  pa-anonymize input=clip.mp4 people/chooser=all   everybody is hidden
  pa-anonymize input=clip.mp4 stage=find           only find: a numbered sheet of people to choose from, then
  pa-anonymize input=clip.mp4 tracks=clip.anonymized.tracks.json people/chooser=hide_ids people.chooser.ids=[2,3]
  pa-anonymize input=folder output=other_folder    every video of a folder
  pa-anonymize input=folder people/recognizer=faces   the same double for a person in all of them
  pa-anonymize input=clip.mp4 module=conventional  a blur in the place of new heads: faster, and weaker
  pa-anonymize input=clip.mp4 module=passersby weights=runs/.../checkpoints/last.ckpt    a system you trained

settings (all of them, with their meaning: conf/anonymize.yaml):
  input=PATH  output=PATH  stage=all|find  tracks=FILE  weights=FILE  on_failure=redact|abort  seed=N
  people.search.stride=N  write.codec=NAME  write.crf=N  write.audio=copy|convert|drop  limits.max_pixels=N  ...
"""

REDACTED = PARTIAL  # exit code: done, some frames redacted whole


@command("pa-anonymize", interrupted="no unfinished file was left", is_ended_by_sigterm=True)
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    overrides, config_dir = parse("pa-anonymize", DESCRIPTION, arguments)
    config = compose("anonymize", overrides, config_dir)
    changed = {} if config["weights"] is None else module_settings(overrides, config["module"])
    is_chosen = any(override.startswith(("people/chooser=", "people.chooser.")) for override in overrides)
    return _anonymize(config, changed, is_chosen=is_chosen)


def _anonymize(config: dict[str, Any], changed: dict[str, Any], *, is_chosen: bool) -> int:
    from pa_lib.cli.inputs import note_passed_over, paired_files

    note_passed_over("pa-anonymize", config["input"], config["output"])
    with paired_files(config["input"], config["output"]) as pairs:
        return _anonymize_pairs(pairs, config, changed, is_chosen=is_chosen)


def _anonymize_pairs(pairs: Sequence[Pair], config: dict[str, Any], changed: dict[str, Any], *, is_chosen: bool) -> int:
    if config["tracks"] is not None and len(pairs) > 1:
        raise ConfigError(f"tracks={config['tracks']} belongs to one video, but the input names {len(pairs)} files")
    # A tracks file brings its own decisions; only a chooser named beside it decides again.
    settings = run_settings(config, is_chosen_again=is_chosen and config["tracks"] is not None)
    pipeline = build_pipeline(config, build_module(config, changed))
    files = [
        FileRun(source, output, settings, source.name if len(pairs) == 1 else f"[{number}/{len(pairs)}] {source.name}")
        for number, (source, output) in enumerate(pairs, 1)
    ]
    n_failed, has_redacted = 0, False
    for file, outcome in zip(files, run_files(pipeline, files), strict=True):
        if isinstance(outcome, PaLibError):
            if len(pairs) == 1:
                raise outcome
            print(f"pa-anonymize: error: {file.source}: {outcome}", file=sys.stderr)
            n_failed += 1
            continue
        has_redacted |= bool(outcome.n_redacted)
        _print_summary(outcome)
    if len(pairs) > 1:
        print(f"{len(pairs) - n_failed} of {len(pairs)} files done, {n_failed} failed")
    return FAILED if n_failed else REDACTED if has_redacted else OK


def run_settings(config: dict[str, Any], *, is_chosen_again: bool = False) -> RunSettings:
    """The settings of a run, without the input and the output, from a config of ``conf/anonymize.yaml``."""
    from pa_lib.pipeline import RunSettings

    names = ("stage", "on_failure", "seed", "is_overwrite", "is_damaged_accepted", "is_deinterlaced", "other_sizes")
    node = {name: config[name] for name in names} | config["report"]
    # Folders may name people, and file names are recorded elsewhere: paths stay out of the record.
    recorded = {name: value for name, value in config.items() if name not in ("input", "output", "tracks", "weights")}
    tracks = None if config["tracks"] is None else path_of(config["tracks"])
    return replace(checked(RunSettings, node, ""), tracks=tracks, is_chosen_again=is_chosen_again, config=recorded)


@dataclass(frozen=True)
class FileRun:
    """One file of a run.

    Args:
        source, output, settings: See `AnonymizationPipeline.run`.
        title: Name of the file beside its progress bars.
    """

    source: Path
    output: Path | None
    settings: RunSettings
    title: str


def run_files(pipeline: AnonymizationPipeline, files: Sequence[FileRun]) -> Iterator[RunOutcome | PaLibError]:
    """Anonymize files one after the other, with progress bars; the outcome of each, or why there is none.

    Where people are recognized in several files, all are searched before the first is written.
    """
    if len(files) > 1:
        pipeline.check_recognizer()
    found = (attempt(partial(_find, pipeline, file, is_alone=len(files) == 1)) for file in files)
    if pipeline.recognizer is not None:
        searched = list(found)
        videos = iter(pipeline.recognized([video for video in searched if not isinstance(video, PaLibError)]))
        found = (video if isinstance(video, PaLibError) else next(videos) for video in searched)
    for file, video in zip(files, found, strict=True):
        yield video if isinstance(video, PaLibError) else attempt(partial(_finish, pipeline, file, video))


def _find(pipeline: AnonymizationPipeline, file: FileRun, *, is_alone: bool) -> SearchedVideo:
    from pa_lib.cli.terminal import ProgressBars

    with ProgressBars() as bars:
        on_progress = partial(bars.report, file.title)
        return pipeline.find(file.source, file.output, file.settings, on_progress, is_alone=is_alone)


def _finish(pipeline: AnonymizationPipeline, file: FileRun, video: SearchedVideo) -> RunOutcome:
    from pa_lib.cli.terminal import ProgressBars

    with ProgressBars() as bars:
        return pipeline.finish(video, partial(bars.report, file.title))


def attempt(work: Callable[[], T]) -> T | PaLibError:
    """What `work` returns, or the error that it raises: one file that fails leaves the others."""
    try:
        return work()
    except PaLibError as error:
        return error


def _print_summary(outcome: RunOutcome) -> None:
    """Print what was written, who was hidden, and what to look at."""
    print(outcome.summary)
    for name, path in outcome.files.items():
        print(f"  {name:<9} {path}")


run = entry_point(main)


if __name__ == "__main__":
    run()
