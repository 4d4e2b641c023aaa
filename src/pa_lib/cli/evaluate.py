"""pa-evaluate: numbers about anonymized videos, or about a module, with all that it takes to believe them.

Exit codes: 0 all that was asked for was measured; 1 nothing was measured, and nothing was written; 2 the command line
is wrong; 3 measured, but some metrics or files were left out (the output says which and why); 130 interrupted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.command import OK, PARTIAL, command, entry_point
from pa_lib.cli.compose import Composition, ConfigError, composition, parse
from pa_lib.errors import PaLibError

if TYPE_CHECKING:  # torch and the codecs are not needed to answer --help or to refuse a wrong setting
    from pa_lib.reports.evaluation_record import Evaluation

DESCRIPTION = """\
Measure how well people are hidden, and what became of everything else.

  pa-evaluate original=clip.mp4                        beside its clip.anonymized.mp4 and clip.anonymized.tracks.json
  pa-evaluate original=clip.mp4 anonymized=other.mp4 tracks=other.tracks.json
  pa-evaluate original=videos anonymized=results processes=4         folders, paired by name
  pa-evaluate original=clip.mp4 module=conventional    anonymize it, and measure before and after encoding
  pa-evaluate module=passersby weights=last.ckpt data=tracklets data.path=people    a system on held-out clips
  pa-evaluate attack=parrot module=conventional data=faces data.path=photos         an attacker who learns
  pa-evaluate original=clip.mp4 metrics=[unmasked_psnr,warping_error]               these metrics only

settings (all of them, with their meaning: conf/evaluate.yaml):
  original=PATH  anonymized=PATH  tracks=FILE  module=NAME  weights=FILE  data=NAME  metrics=NAME|[NAME,...]
  output=FOLDER  processes=N  seed=N  ...
"""

_OFF: dict[str, Any] = {"module": None, "data": None, "attack": None, "metrics": {}}  # groups without an option


@command("pa-evaluate", interrupted="nothing was written")
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    overrides, config_dir = parse("pa-evaluate", DESCRIPTION, arguments)
    composed = composition("evaluate", overrides, config_dir)
    return _evaluate(composed, overrides)


def _evaluate(composed: Composition, overrides: Sequence[str]) -> int:
    config: dict[str, Any] = {**_OFF, **composed.config}
    mode = _mode(config)
    folder = _output_folder(composed, mode)
    if (folder / "metrics.json").exists() and not config["is_overwrite"]:
        raise ConfigError(f"output={folder} holds an evaluation; name another folder or set is_overwrite=true")
    _check_writable(folder)
    started = time.monotonic()
    from pa_lib.cli.measure import measure

    told = dict(config)
    told["_changed_"] = _changed_settings(config, overrides)
    evaluation = measure(told, mode, folder)
    if evaluation is None:  # another process writes and tells
        return OK
    from dataclasses import replace

    evaluation = replace(evaluation, elapsed_s=round(time.monotonic() - started, 2), config=_recorded(config))
    files = write(evaluation, folder)
    _tell(evaluation, files)
    return PARTIAL if evaluation.left_out or evaluation.is_partial else OK


def _mode(config: dict[str, Any]) -> str:
    """``files``, ``videos`` (anonymized here), ``clips`` (of a data module) or ``attack``.

    Raises:
        ConfigError: The settings ask for none of them, or for several.
    """
    has_module = config["module"] is not None or config["weights"] is not None
    if config["attack"] is not None:
        if config["data"] is None or not has_module or config["original"] is not None:
            raise ConfigError("attack= needs photos of known people and a system: data=faces data.path=… module=NAME")
        return "attack"
    if config["metrics"] == {}:
        raise ConfigError("metrics=none measures nothing; choose some, see --help")
    if config["processes"] < 1:
        raise ConfigError(f"processes={config['processes']}: expected at least 1")
    if config["data"] is not None:
        if config["original"] is not None:
            raise ConfigError("original= and data= are two things to measure on; give one of them")
        if not has_module:
            raise ConfigError("data= needs a system to be measured: module=NAME, and weights=FILE where it learned")
        return "clips"
    if config["original"] is None:
        raise ConfigError("give original=VIDEO (or a folder), or module=NAME data=NAME; see --help")
    if has_module and config["anonymized"] is not None:
        raise ConfigError("anonymized= is measured as it is, module= anonymizes anew; give one of them")
    return "videos" if has_module else "files"


def _output_folder(composed: Composition, mode: str) -> Path:
    config = composed.config
    if config["output"] is not None:
        return Path(config["output"]).expanduser()
    system = str(composed.choices.get("module") or "module")
    if mode == "attack":
        return Path(f"{composed.choices.get('attack')}_on_{system}.evaluation")
    if mode == "clips":
        return Path(f"{system}_on_{composed.choices.get('data')}.evaluation")
    original = Path(config["original"]).expanduser()
    stem = original.stem if original.suffix and not original.is_dir() else original.name
    if mode == "videos":
        return original.with_name(f"{stem}.{system}.evaluation")
    if config["anonymized"] is None:
        return original.with_name(f"{stem}.anonymized.evaluation")
    anonymized = Path(config["anonymized"]).expanduser()
    stem = anonymized.stem if anonymized.suffix and not anonymized.is_dir() else anonymized.name
    return anonymized.with_name(f"{stem}.evaluation")


def _check_writable(folder: Path) -> None:
    """Before an hour of work, not after."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written to" if there.is_dir() else "is a file"
        raise PaLibError(f"output={folder}: {there} {why}; name another folder")


def _changed_settings(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    from pa_lib.cli.build import module_settings

    return {} if config["weights"] is None else module_settings(overrides, config["module"] or {})


def _recorded(config: dict[str, Any]) -> dict[str, Any]:
    """The settings without paths: folders may name people, and file names are told elsewhere."""
    paths = ("original", "anonymized", "tracks", "weights", "output")
    return {name: value for name, value in config.items() if name not in paths}


def write(evaluation: Evaluation, folder: Path) -> dict[str, Path]:
    """The page and the record; each appears whole or not at all, the record last.

    Raises:
        PaLibError: The folder cannot be written.
    """
    from pa_lib.reports.evaluation_page import render_evaluation, write_page
    from pa_lib.reports.evaluation_record import FILE_NAME

    files = {"page": folder / "metrics.html", "record": folder / FILE_NAME}
    write_page(files["page"], render_evaluation(evaluation))
    evaluation.write_json(files["record"])
    return files


def _tell(evaluation: Evaluation, files: dict[str, Path]) -> None:
    """The closing table, what was left out, and where the rest is."""
    from pa_lib.cli.tables import counted, evaluation_tables, wide_console

    console = wide_console()
    for table in evaluation_tables(evaluation):
        console.print(table)
    for line in counted(evaluation):
        console.print(f"counted apart: {line}", markup=False, highlight=False, soft_wrap=True)
    for name, why in evaluation.left_out.items():
        console.print(f"left out: {name}: {why}", markup=False, highlight=False, soft_wrap=True)
    for note in evaluation.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for name, path in files.items():
        print(f"  {name:<7} {path}")


run = entry_point(main)


if __name__ == "__main__":
    run()
