"""pa-compare: evaluations side by side.

Exit codes: 0 all that the runs have in common was ranked; 1 an evaluation cannot be read; 2 the command line is wrong;
3 shown side by side, but not ranked where protocols or clips differ (the output says what differs).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pa_lib.cli.command import OK, PARTIAL, command, entry_point
from pa_lib.cli.compose import ConfigError, compose, parse

DESCRIPTION = """\
Evaluations side by side, ranked only where they were measured in the same way on the same clips.

  pa-compare blur.evaluation mosaic.evaluation               a table
  pa-compare runs/*/metrics.json output=comparison           and a page with plots, and all of it as JSON

Give two or more output folders of pa-evaluate, or their metrics.json.

settings (with their meaning: conf/compare.yaml):
  output=FOLDER  is_overwrite=false
"""

NOT_RANKED = PARTIAL  # exit code: shown side by side, but not ranked


@command("pa-compare")
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    runs, rest = _split(arguments)
    overrides, config_dir = parse("pa-compare", DESCRIPTION, rest)
    config = compose("compare", overrides, config_dir)
    if len(runs) < 2:
        raise ConfigError(f"got {len(runs)} evaluations, expected two or more; see pa-compare --help")
    return _compare([Path(run).expanduser() for run in runs], config["output"], is_overwrite=config["is_overwrite"])


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Evaluations and everything else; what exists is an evaluation, also where its name holds an equals sign."""
    runs: list[str] = []
    rest: list[str] = []
    is_value = False
    for argument in arguments:
        is_setting = argument.startswith("-") or ("=" in argument and not Path(argument).exists())
        (rest if is_value or is_setting else runs).append(argument)
        is_value = argument == "--config-dir"
    return runs, rest


def _compare(runs: Sequence[Path], output: str | None, *, is_overwrite: bool) -> int:
    folder = None if output is None else Path(output).expanduser()
    if folder is not None and (folder / "compare.json").exists() and not is_overwrite:
        raise ConfigError(f"output={folder} holds a comparison; name another folder or set is_overwrite=true")
    from pa_lib.cli.tables import comparison_table, wide_console
    from pa_lib.reports.comparison import compare

    comparison = compare(runs)
    if folder is not None:
        from pa_lib.reports.evaluation_page import render_comparison, write_page

        write_page(folder / "compare.html", render_comparison(comparison))
        comparison.write_json(folder / "compare.json")
    console = wide_console()
    console.print(comparison_table(comparison))
    for metric, lines in comparison.differing.items():
        console.print(f"{metric} was not measured in the same way:", markup=False, highlight=False)
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    for note in comparison.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if folder is not None:
        print(f"  page    {folder / 'compare.html'}\n  record  {folder / 'compare.json'}")
    return NOT_RANKED if comparison.is_refused else OK


run = entry_point(main)


if __name__ == "__main__":
    run()
