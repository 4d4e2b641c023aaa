"""pa-compare: evaluations side by side.

Exit codes: 0 all that the runs have in common was ranked; 1 an evaluation cannot be read; 2 the command line is wrong;
3 shown side by side, but not ranked where protocols or clips differ (the output says what differs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pa_lib.cli.command import OK, PARTIAL, command, entry_point
from pa_lib.cli.compose import ConfigError, compose, parse, split_files
from pa_lib.paths import path_of

DESCRIPTION = """\
Evaluations side by side, ranked only where they were measured in the same way on the same clips.

  pa-compare blur.evaluation mosaic.evaluation               a table
  pa-compare runs output=comparison                          all evaluations below a folder: a page, csv, LaTeX, JSON
  pa-compare runs 'values=[unmasked_psnr_db,identity_distance]'     these values only

Give two or more output folders of pa-evaluate, their metrics.json, or folders with evaluations further down. Runs that
differ in nothing but seeds become one column: mean and standard deviation.

settings (with their meaning: conf/compare.yaml):
  output=FOLDER  values=[NAME,...]  is_grouped_by_seed=true  is_overwrite=false
"""

NOT_RANKED = PARTIAL  # exit code: shown side by side, but not ranked


@command("pa-compare")
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    runs, rest = split_files(arguments)
    overrides, config_dir = parse("pa-compare", DESCRIPTION, rest)
    config = compose("compare", overrides, config_dir)
    if not runs:
        raise ConfigError("got no evaluations, expected two or more; see pa-compare --help")
    return _compare([path_of(run) for run in runs], config)


def _compare(runs: Sequence[Path], config: Mapping[str, Any]) -> int:
    folder = None if config["output"] is None else path_of(config["output"])
    if folder is not None and (folder / "compare.json").exists() and not config["is_overwrite"]:
        raise ConfigError(f"output={folder} holds a comparison; name another folder or set is_overwrite=true")
    from pa_lib.reports.found import evaluations_in

    files = evaluations_in(runs)
    if len(files) < 2:
        raise ConfigError("got one evaluation, expected two or more; see pa-compare --help")
    from pa_lib.cli.terminal import comparison_table, show_line, wide_console
    from pa_lib.reports import compare, write_comparison

    comparison = compare(files, values=config["values"], is_grouped_by_seed=config["is_grouped_by_seed"])
    written = {} if folder is None else write_comparison(comparison, folder)
    console = wide_console()
    console.print(comparison_table(comparison))
    for column in comparison.columns:
        if column.seeds:
            show_line(console, f"{column.name}: mean ± standard deviation over {'; '.join(column.seeds)}")
    for metric, lines in comparison.differing.items():
        show_line(console, f"{metric} was not measured in the same way:")
        for line in lines:
            show_line(console, f"  {line}")
    for note in comparison.notes:
        show_line(console, f"note: {note}")
    for name, path in written.items():
        print(f"  {name:<8} {path}")
    return NOT_RANKED if comparison.is_refused else OK


run = entry_point(main)


if __name__ == "__main__":
    run()
