"""pa-tracklets: videos in, training clips of the people in them out.

Exit codes: 0 all videos are cut, now or earlier; 1 a video could not be cut, and no file of it is left; 2 the command
line is wrong; 130 interrupted. An interrupted video is begun again the next time; finished videos are skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.build import build_part
from pa_lib.cli.command import FAILED, OK, command, entry_point
from pa_lib.cli.compose import checked, compose, parse
from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.paths import path_of

if TYPE_CHECKING:  # torch and the codecs are not needed to answer --help or to refuse a wrong setting
    from pa_lib.pipeline.cut_tracklets import CutOutcome, TrackletCutter

DESCRIPTION = """\
Cut square clips of single people, with masks, out of videos: training data for data=tracklets.

  pa-tracklets input=videos output=tracklets             whole bodies, out of every video of a folder
  pa-tracklets input=clip.mp4 output=faces kind=face     faces
  pa-tracklets input=videos output=tracklets             once more: finished videos are skipped

settings (all of them, with their meaning: conf/tracklets.yaml):
  input=PATH  output=FOLDER  side=N  kind=body|face|all  expansion=X  min_px=N  min_frames=N  max_frames=N
  people.search.stride=N  limits.max_pixels=N  ...
"""


@command("pa-tracklets", interrupted="finished videos stay and are skipped next time", is_ended_by_sigterm=True)
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    overrides, config_dir = parse("pa-tracklets", DESCRIPTION, arguments)
    return _cut(compose("tracklets", overrides, config_dir))


def _cut(config: dict[str, Any]) -> int:
    from pa_lib.cli.inputs import note_passed_over
    from pa_lib.video import find_inputs

    output = path_of(config["output"])
    if output.exists() and not output.is_dir():
        raise SettingError(f"output={output}: got a file, expected a folder")
    note_passed_over("pa-tracklets", config["input"], output)
    sources = find_inputs(config["input"], has_images=False, besides=output)
    if not sources:
        raise InputError(f"input={config['input']}: no video there; give a video, a folder of them, or a glob")
    cutter = _build_cutter(config)

    outcomes: list[CutOutcome] = []
    n_failed = 0
    for number, source in enumerate(sources, 1):
        title = source.name if len(sources) == 1 else f"[{number}/{len(sources)}] {source.name}"
        try:
            outcome = _cut_one(cutter, source, output, title)
        except PaLibError as error:
            if len(sources) == 1:
                raise
            print(f"pa-tracklets: error: {source}: {error}", file=sys.stderr)
            n_failed += 1
            continue
        outcomes.append(outcome)
        print(f"{source.name}: {_result(outcome)}")
    print(f"{output}: {_counts(outcomes)} of {len(outcomes)} videos" + (f", {n_failed} failed" if n_failed else ""))
    return FAILED if n_failed else OK


def _build_cutter(config: dict[str, Any]) -> TrackletCutter:
    from pa_lib.pipeline import SearchSettings
    from pa_lib.pipeline.cut_tracklets import CutSettings, TrackletCutter
    from pa_lib.video import Limits

    people = config["people"]
    return TrackletCutter(
        **{name: build_part(people, name) for name in ("finder", "tracker", "masker")},
        settings=checked(CutSettings, {field.name: config[field.name] for field in fields(CutSettings)}, ""),
        search=checked(SearchSettings, people["search"], "people.search"),
        limits=checked(Limits, config["limits"], "limits"),
    )


def _cut_one(cutter: TrackletCutter, source: Path, output: Path, title: str) -> CutOutcome:
    from pa_lib.cli.terminal import ProgressBars

    with ProgressBars() as bars:
        return cutter.run(source, output, partial(bars.report, title))


def _result(outcome: CutOutcome) -> str:
    """What was cut out of one video, and what was not."""
    state = "there already" if outcome.is_old else "cut"
    dropped = f", {outcome.n_dropped} given up (a frame could not be masked)" if outcome.n_dropped else ""
    # A finder of faces under the default kind=body would otherwise cut nothing without a reason.
    other = f"; {outcome.n_other_kind} tracks of another kind skipped" if outcome.n_other_kind else ""
    hint = " (kind=all takes them)" if other and not outcome.n_tracklets else ""
    return f"{_counts([outcome])} {state}{dropped}{other}{hint}"


def _counts(outcomes: Sequence[CutOutcome]) -> str:
    n_tracklets, n_frames = sum(o.n_tracklets for o in outcomes), sum(o.n_frames for o in outcomes)
    return f"{n_tracklets} tracklets ({n_frames} frames)"


run = entry_point(main)


if __name__ == "__main__":
    run()
