"""pa-train -m: several runs by Hydra's sweepers and launchers, each in a process of its own, and a table of them all.

Hydra's sweeper makes the combinations (``hydra/sweeper=optuna`` chooses them by results) and its launcher starts the
runs: one after the other (``basic``), several at a time (``joblib``, ``submitit_local``), or as jobs of a cluster
(``submitit_slurm``).
Each run is a process ``pa-train ...``: processes of a distributed run inherit what an earlier run in the same process
has set, and then hang or share a folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pa_lib.cli.command import FAILED, INTERRUPTED, OK
from pa_lib.cli.compose import Composition, ConfigError, composition, config_folder, one_line, spread
from pa_lib.cli.path_settings import as_written, quoted
from pa_lib.cli.run_folder import file_name, outcome_line, read_outcome, title_of, with_folder
from pa_lib.cli.sweep_plan import SAME_FOLDER, SweepPlan, plan_sweep
from pa_lib.cli.sweep_table import SweepRow, write_tables
from pa_lib.errors import PaLibError, first_line

_SLOTS = ("adapter", "temporal")  # whose parts have no effect before they have learned


class _NoValueError(PaLibError):
    """A run of a search gave nothing to search by."""


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Args:
        overrides: Settings of its command line.
        label: Settings in which it differs from the others, e.g. ``module/adapter=none seed=1``; the recipe where none.
        composed: Composed config.
        is_one_of_many: Whether it has a folder of its own in that of ``output=``, which other runs name, too.
        same_as: The part that makes it the same as another run, as text. None for a run of its own.
    """

    overrides: tuple[str, ...]
    label: str
    composed: Composition
    is_one_of_many: bool = False
    same_as: str | None = None

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.composed.config["output"])


def train_many(overrides: Sequence[str], config_dir: Path | None) -> int:
    """Run every combination of the settings given with commas; what is finished is skipped, what was begun is resumed.

    Where Hydra's own sweeper makes the combinations, all configs are composed before the first run starts.

    Raises:
        ConfigError: A mistake in any of the command lines.
    """
    plan = plan_sweep(overrides, config_dir)
    is_known_ahead = plan.is_known_ahead
    planned = _composed(plan, overrides, config_dir) if is_known_ahead else None
    folder = _sweep_folder(overrides, config_dir, planned)
    total = len(planned) if planned else None
    known = {one.overrides: one for one in planned or ()}

    def run_member(config: Any) -> float:
        own = _own_overrides()
        if own in known and known[own].same_as:
            return float("nan")
        label = known[own].label if own in known else _label(own, _as_given(overrides))
        is_one_of_many = known[own].is_one_of_many if own in known else True
        composed = with_folder(
            composition("train", own, config_dir), own, config_dir, label, is_one_of_many=is_one_of_many
        )
        best = _run_process(own, composed, label, config_dir, folder, total)
        if best is None and not is_known_ahead:  # a sweeper that searches takes an exception for a failed run, not NaN
            raise _NoValueError(
                f"{label}: failed, or has no value of monitor= to search by; hydra.sweeper.max_failure_rate=1 goes on "
                "without it"
            )
        return float("nan") if best is None else best

    from pa_lib.video import MadeFolders

    with MadeFolders(folder):
        return _swept(plan, planned, run_member, folder)


def _swept(plan: SweepPlan, planned: Sequence[Member] | None, run_member: Callable[[Any], float], folder: Path) -> int:
    """Run the members and write the summary into the folder of the sweep; returns the exit code."""
    for old in folder.glob("member_*.json"):
        old.unlink()
    for one in planned or ():
        if one.same_as:
            print(f"left out: {one.label}: {one.same_as}")
    is_ended_early = False
    try:
        _call_hydra(run_member, plan.settings, folder)
    except _NoValueError as error:  # what has run is listed all the same
        print(f"pa-train: error: {error}", file=sys.stderr)
        is_ended_early = True
    except ValueError as error:
        if plan.is_known_ahead or isinstance(error, PaLibError):
            raise
        print(f"pa-train: error: the search has no result: {first_line(error)}", file=sys.stderr)  # optuna: all failed
        is_ended_early = True
    rows = [SweepRow.read(path) for path in sorted(folder.glob("member_*.json"))]
    print()
    for row in rows:
        print(f"  {row.label}: {row.result}  {row.folder}")
    files = write_tables(rows, folder)
    for name, path in files.items():
        print(f"  {name:<8} {path}")
    return FAILED if is_ended_early or any(row.exit_code for row in rows) or not rows else OK


def members(overrides: Sequence[str], config_dir: Path | None = None) -> list[Member]:
    """The runs of a sweep, composed and not run, in Hydra's order: ``a,b``, ``range(1,4)``, ``sweep=NAME``.

    Raises:
        ConfigError: A mistake in any of the command lines.
    """
    return _composed(plan_sweep(overrides, config_dir), overrides, config_dir)


def _composed(plan: SweepPlan, overrides: Sequence[str], config_dir: Path | None) -> list[Member]:
    """The runs of a plan, each with its config, label and folder."""
    found = plan.runs
    shared = set.intersection(*map(set, found)) if len(found) > 1 else _as_given(overrides)
    labels = [_label(own, shared) for own in found]
    bare = [composition("train", own, config_dir) for own in found]
    n_sharing = Counter(one.config["output"] for one in bare if one.config["output"] is not None)
    is_of_many = [n_sharing[one.config["output"]] > 1 for one in bare]
    made = [
        with_folder(one, own, config_dir, label, is_one_of_many=is_one)
        for one, own, label, is_one in zip(bare, found, labels, is_of_many, strict=True)
    ]
    runs = [
        Member(own, label or title_of(composed), composed, is_one, _without_effect(composed, made))
        for own, label, composed, is_one in zip(found, labels, made, is_of_many, strict=True)
    ]
    first: dict[Path, Member] = {}
    for run in runs:  # the outcome of one would be taken for that of the other
        other = first.setdefault(run.folder, run)
        if other.composed.config != run.composed.config and not (other.same_as or run.same_as):
            both = f"{other.label} and {run.label}"
            raise ConfigError(SAME_FOLDER.format(runs=both, folder=run.folder))
    return runs


def _without_effect(composed: Composition, all_runs: Sequence[Composition]) -> str | None:
    """Why a run is the same as another one of the sweep: a swept part is there, but frozen as it begins, as nothing."""
    config = composed.config
    for slot in _SLOTS:
        options = {str(other.choices.get(f"module/{slot}")) for other in all_runs}
        option = str(composed.choices.get(f"module/{slot}"))
        learns = slot in (config["module"].get("trainable") or ())
        is_given = config["init_from"] is not None and slot in config["init_slots"]
        has_own_weights = (config["module"].get(slot) or {}).get("path") is not None
        if len(options) > 1 and "none" in options and option != "none" and not (learns or is_given or has_own_weights):
            return (
                f"{slot} is frozen here and has no weights, so it is the same run as with module/{slot}=none; train it "
                f"(module.trainable) or give its weights (init_from, init_slots)"
            )
    return None


def _run_process(
    overrides: Sequence[str],
    composed: Composition,
    label: str,
    config_dir: Path | None,
    sweep: Path,
    total: int | None,
) -> float | None:
    """One run as a process of its own; returns the best value of its monitor, or None for a run without."""
    from hydra.core.hydra_config import HydraConfig

    number = int(HydraConfig.get().job.num)
    folder = Path(composed.config["output"])
    print(f"[{number + 1}{f'/{total}' if total else ''}] {label}", flush=True)
    code = OK
    with _alone_in(folder, sweep):
        if read_outcome(folder) is not None and not composed.config["is_overwrite"]:
            print(f"  finished earlier: {folder}", flush=True)
        else:
            shared = [] if config_dir is None else ["--config-dir", str(config_dir)]
            resumed = [] if composed.config["ckpt"] or composed.config["is_overwrite"] else ["ckpt=last"]
            own = [as_written(one, composed.config) for one in overrides if one.partition("=")[0] != "output"]
            named = [*own, *resumed, f"output={folder}"]
            code = subprocess.run([sys.executable, "-m", "pa_lib.cli.train", *shared, *named], check=False).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    outcome = read_outcome(folder) if code == OK else None
    result = f"failed (exit code {code})" if code else (outcome_line(outcome) if outcome else "") or "done"
    row = SweepRow(label, str(folder), code, result, outcome or {})
    row.write(sweep / f"member_{number:04d}.json")
    best = row.outcome.get("best")
    return None if best is None else float(best)


@contextmanager
def _alone_in(folder: Path, sweep: Path) -> Iterator[None]:
    """Waits for another run in the same folder: a search may try the same settings twice at the same time."""
    with (sweep / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own_overrides() -> tuple[str, ...]:
    """The command line of the run that Hydra is about to start."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    own = OmegaConf.to_container(HydraConfig.get().overrides.task)  # as given: ${seed} has its value in the run
    assert isinstance(own, list)
    return tuple(str(one) for one in own if not str(one).startswith("sweep="))


def _label(own: Sequence[str], shared: Collection[str]) -> str:
    """The overrides of a run that it does not share with the others."""
    return " ".join(override for override in own if override not in shared)


def _as_given(overrides: Sequence[str]) -> set[str]:
    """The overrides that are no sweeps, as Hydra writes them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(spread(overrides)))
    single = [override for override in parsed if not override.is_sweep_override()]
    return {f"{one.get_key_element()}={one.get_value_element_as_str()}" for one in single}


def _sweep_folder(overrides: Sequence[str], config_dir: Path | None, planned: Sequence[Member] | None) -> Path:
    """``<runs>/<recipe>/sweep-<what>-<hash>``, or in the folder that is given: the same for the same command line."""
    single = [override for override in overrides if not _is_sweep(override)]
    if planned:
        composed, output = planned[0].composed, planned[0].folder.parent if planned[0].is_one_of_many else None
    else:
        composed = composition("train", single, config_dir)
        output = composed.config["output"]
    varied = [override for override in overrides if override.startswith("sweep=") or _is_sweep(override)]
    name = "_".join(file_name(override.removeprefix("sweep=").replace(",", "-")) for override in varied)[:60]
    mark = hashlib.sha256("\n".join([*sorted(overrides), str(config_dir or "")]).encode()).hexdigest()[:8]
    parent = Path(composed.config["paths"]["runs"]) / title_of(composed) if output is None else Path(output)
    return parent / "-".join(filter(None, ("sweep", name, mark)))


def _is_sweep(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return bool(OverridesParser.create().parse_override(override).is_sweep_override())
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _call_hydra(task: Callable[[Any], Any], settings: Sequence[str], sweep_folder: Path) -> None:
    """Hydra's multirun, as ``@hydra.main`` starts it: a public interface that reads the process's command line.

    Args:
        task: Function of each run's config.
        settings: Command line of Hydra that `plan_sweep` has checked.
        sweep_folder: Folder of the sweep.

    Raises:
        ConfigError: What Hydra refuses, as one line.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # No folder for each run: pa-train makes its own.
    folders = [f"hydra.sweep.dir={quoted(str(sweep_folder))}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]

    def started(config: Any) -> Any:
        return task(config)

    with _command_line(["pa-train", "--multirun", *folders, *settings]):
        try:
            hydra.main(config_path=str(config_folder().resolve()), config_name="train", version_base="1.3")(started)()
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error, "train")) from error


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """The process's arguments, and Hydra's errors as exceptions, for as long as it lasts."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full
