"""pa-evaluate: measure anonymized videos, or a module, and record what it takes to reproduce the values.

Exit codes: 0 all that was asked for was measured; 1 nothing was measured, and nothing was written; 2 the command line
is wrong; 3 measured, but some metrics or files were left out (the output says which and why); 130 interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.command import OK, PARTIAL, command, entry_point
from pa_lib.cli.compose import Composition, ConfigError, composition, parse
from pa_lib.paths import path_of

if TYPE_CHECKING:  # torch and the codecs are not needed to answer --help or to refuse a wrong setting
    from pa_lib.reports.evaluation_record import Evaluation

DESCRIPTION = """\
Measure how well people are hidden, and how much of everything else is kept.

  pa-evaluate original=clip.mp4                        beside its clip.anonymized.mp4 and clip.anonymized.tracks.json
  pa-evaluate original=clip.mp4 anonymized=other.mp4 tracks=other.tracks.json
  pa-evaluate original=videos anonymized=results processes=4         folders, paired by name
  pa-evaluate original=clip.mp4 module=conventional    anonymize it, and measure before and after encoding
  pa-evaluate module=passersby weights=last.ckpt data=tracklets data.path=people    a system on held-out clips
  pa-evaluate attack=parrot module=conventional data=faces data.path=photos         an attacker who learns
  pa-evaluate attack=memorization weights=last.ckpt data=faces data.path=photos     are training faces reproduced?
  pa-evaluate original=clip.mp4 metrics=[unmasked_psnr,warping_error]               these metrics only

settings (all of them, with their meaning: conf/evaluate.yaml):
  original=PATH  anonymized=PATH  tracks=FILE  module=NAME  weights=FILE  data=NAME  metrics=NAME|[NAME,...]
  output=FOLDER  processes=N  seed=N  ...
"""

_OFF: dict[str, Any] = {"module": None, "data": None, "attack": None, "metrics": {}}  # groups without an option
_PATHS = ("original", "anonymized", "tracks", "weights", "output")  # not recorded: folders may name people
_UNITS = {"anonymize": "photos", "learn": "steps"}


@command("pa-evaluate", interrupted="nothing was written")
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    overrides, config_dir = parse("pa-evaluate", DESCRIPTION, arguments)
    return _evaluate(composition("evaluate", overrides, config_dir), overrides)


def _evaluate(composed: Composition, overrides: Sequence[str]) -> int:
    config: dict[str, Any] = {**_OFF, **composed.config}
    _check(config)
    folder = _output_folder(config, {group: str(option) for group, option in composed.choices.items() if option})
    _check_replaced(config, folder)
    from pa_lib.video import StagedResults

    with StagedResults(folder) as staged:
        evaluation, files = _measured(config, overrides, staged.path)
        staged.commit(last="metrics.json")
    if evaluation is None:  # the first process of the launcher writes
        return OK
    _print_summary(evaluation, {name: folder / path.name for name, path in files.items()})
    return PARTIAL if evaluation.left_out or evaluation.is_partial else OK


def _measured(
    config: dict[str, Any], overrides: Sequence[str], folder: Path
) -> tuple[Evaluation | None, dict[str, Path]]:
    """Measure, and write all results into a folder; the record of the evaluation and where it stands."""
    from pa_lib import evaluate
    from pa_lib.cli.build import module_settings
    from pa_lib.cli.sources import MetricsOfConfig, source_of
    from pa_lib.cli.terminal import ProgressBars
    from pa_lib.reports import write_evaluation

    changed = {} if config["weights"] is None else module_settings(overrides, config["module"] or {})
    with ProgressBars(is_shown=os.environ.get("RANK", "0") == "0", units=_UNITS) as bars:
        evaluation = evaluate(
            partial(source_of, config, changed, folder),
            MetricsOfConfig(config["metrics"]) if config["attack"] is None else (),
            processes=config["processes"],
            on_progress=bars.report,
            config=_recorded(config),
        )
    return evaluation, {} if evaluation is None else write_evaluation(evaluation, folder)


def _check(config: dict[str, Any]) -> None:
    """Refuse settings that ask for nothing, or for several things, before anything heavy is imported.

    Raises:
        ConfigError: Names the settings.
    """
    has_module = config["module"] is not None or config["weights"] is not None
    if config["attack"] is not None:
        if config["data"] is None or not has_module or config["original"] is not None:
            raise ConfigError("attack= needs photos of known people and a system: data=faces data.path=… module=NAME")
        return
    if config["metrics"] == {}:
        raise ConfigError("metrics=none measures nothing; choose some, see --help")
    if config["processes"] < 1:
        raise ConfigError(f"processes={config['processes']}: expected at least 1")
    if config["data"] is not None:
        if config["original"] is not None:
            raise ConfigError("original= and data= are two things to measure on; give one of them")
        if not has_module:
            raise ConfigError("data= needs a system to be measured: module=NAME, and weights=FILE where it was trained")
    elif config["original"] is None:
        raise ConfigError("give original=VIDEO (or a folder), or module=NAME data=NAME; see --help")
    elif has_module and config["anonymized"] is not None:
        raise ConfigError("anonymized= is measured as it is, module= anonymizes again; give one of them")


def _output_folder(config: dict[str, Any], choices: dict[str, str]) -> Path:
    """The folder of the results: the one that is given, else beside what is measured."""
    from pa_lib.video import result_stem, stem_of

    if config["output"] is not None:
        return path_of(config["output"])
    system = choices.get("module", "module")
    if config["original"] is None:
        measured = choices["data"] if config["attack"] is None else system
        return Path(f"{choices['attack'] if config['attack'] is not None else system}_on_{measured}.evaluation")
    original = path_of(config["original"])
    if config["module"] is not None or config["weights"] is not None:
        return original.with_name(f"{result_stem(original)}.{system}.evaluation")
    if config["anonymized"] is None:
        return original.with_name(f"{result_stem(original)}.anonymized.evaluation")
    anonymized = path_of(config["anonymized"])
    return anonymized.with_name(f"{stem_of(anonymized)}.evaluation")


def _recorded(config: dict[str, Any]) -> dict[str, Any]:
    """The settings without paths, and the config that weights were trained with: it may be all that runs differ in."""
    recorded = {name: value for name, value in config.items() if name not in _PATHS}
    if config["weights"] is not None:
        from pa_lib.checkpoint import load_config

        recorded["trained"] = _without_paths(load_config(config["weights"]))
    return recorded


def _without_paths(node: Any) -> Any:
    """Settings without those named ``path``: folders may name people."""
    if isinstance(node, dict):
        return {name: _without_paths(value) for name, value in node.items() if name != "path"}
    return [_without_paths(item) for item in node] if isinstance(node, list) else node


def _check_replaced(config: dict[str, Any], folder: Path) -> None:
    """Refuse, before an hour of work, a folder whose files are not to be replaced, or cannot be.

    Raises:
        ConfigError: Names one of them.
    """
    old = [folder / "metrics.json"]
    if config["original"] is not None and (config["module"] is not None or config["weights"] is not None):
        old += sorted(folder.rglob("*.anonymized*"))  # the videos that the module makes
    for path in old:
        if path.is_dir() and any(path.iterdir()):
            raise ConfigError(f"output={folder} holds {path.name}, a folder with images; name another folder")
        if path.is_file() and not config["is_overwrite"]:
            raise ConfigError(f"output={folder} holds {path.name}; name another folder or set is_overwrite=true")


def _print_summary(evaluation: Evaluation, files: dict[str, Path]) -> None:
    """The values, what was left out, and where the files are."""
    from pa_lib.cli.terminal import counted, evaluation_tables, show_line, wide_console

    console = wide_console()
    for table in evaluation_tables(evaluation):
        console.print(table)
    for line in (
        *(f"counted apart: {line}" for line in counted(evaluation)),
        *(f"left out: {name}: {why}" for name, why in evaluation.left_out.items()),
        *(f"note: {note}" for note in evaluation.notes),
    ):
        show_line(console, line)
    for name, path in files.items():
        print(f"  {name:<7} {path}")


run = entry_point(main)


if __name__ == "__main__":
    run()
