"""pa-train: data and a module in, a checkpoint out.

Exit codes: 0 trained; 1 training failed; 2 the command line is wrong; 130 interrupted. With several processes Lightning
calls this command again for each of them; only the main one writes and tells.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.build import build_callbacks
from pa_lib.cli.command import FAILED, INTERRUPTED, OK, command, entry_point, process_rank
from pa_lib.cli.compose import Composition, ConfigError, build, composition, parse
from pa_lib.errors import PaLibError

if TYPE_CHECKING:  # torch and Lightning are not needed to answer --help or to refuse a wrong setting
    from lightning import Callback, LightningDataModule, LightningModule, Trainer

DESCRIPTION = """\
Train an anonymization system, or some of its parts.

  pa-train experiment=passersby_1_spatial                  a recipe, by name
  pa-train module/adapter=none trainer.max_steps=100       parts and settings, one by one
  pa-train experiment=passersby_2_temporal init_from=runs/.../checkpoints/last.ckpt init_slots=[adapter]
  pa-train experiment=passersby_1_spatial ckpt=runs/.../checkpoints/last.ckpt      go on, exactly
  pa-train experiment=passersby_1_spatial trainer=ddp trainer.devices=4 'logger=[csv,tensorboard]'
  pa-train -m experiment=passersby_1_spatial seed=0,1,2    several runs, one after the other (also sweep=components);
                                                           what is finished is left, what was begun goes on

settings (all of them, with their meaning: conf/train.yaml, and the groups below):
  seed=N  ckpt=FILE|last  init_from=FILE  init_slots=[NAME,...]  output=FOLDER  is_overwrite=true  monitor=NAME
  trainer.max_steps=N  trainer.precision=bf16-mixed  trainer.accumulate_grad_batches=N  trainer.gradient_clip_val=X  ...
"""

USE = "pa-anonymize input=clip.mp4 module=passersby weights={checkpoint}"

_CONFIG, _OUTCOME, _LAST = "config.yaml", "outcome.json", Path("checkpoints/last.ckpt")
_MADE_HERE = ("checkpoints", "previews", "csv", "tensorboard", "wandb", _CONFIG, _OUTCOME)
_NOT_OF_THE_RUN = ("ckpt", "output", "is_overwrite")  # settings that do not change what a run is


@command("pa-train")
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    rest = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    overrides, config_dir = parse("pa-train", DESCRIPTION, rest)
    return _train_one(overrides, config_dir) if rest == arguments else _train_many(overrides, config_dir)


def train(config: Mapping[str, Any]) -> tuple[Trainer, LightningModule]:
    """One training run, from a config that is composed and resolved to a trained module.

    The order is the whole of it: seed, data, module, callbacks, loggers, trainer, fit.

    Raises:
        ConfigError: Parts that do not go together.
        PaLibError: What a part refuses, bad data, or a loss that is no number.
    """
    import lightning

    from pa_lib.callbacks import ConfigInCheckpoint

    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    datamodule: LightningDataModule = build(config["data"])
    module: LightningModule = build(config["module"])
    if not isinstance(module, lightning.LightningModule):
        raise ConfigError(
            f"{type(module).__name__} has nothing to train; choose module=passersby or another that learns"
        )
    if config["init_from"] is not None and config["ckpt"] is None:
        from pa_lib.checkpoint import load_slots

        load_slots(module, config["init_from"], config["init_slots"])
    callbacks = [*build_callbacks(config), ConfigInCheckpoint(config["module"])]
    loggers = [build(node) for node in (config["logger"] or {}).values() if node]
    trainer = _build_trainer(config["trainer"], callbacks, loggers)
    with _one_line_errors(config["ckpt"]):
        trainer.fit(module, datamodule=datamodule, ckpt_path=config["ckpt"], weights_only=True)
    return trainer, module


def _build_trainer(node: dict[str, Any], callbacks: list[Callback], loggers: list[Any]) -> Trainer:
    """The trainer; what it saves and shows is what the callbacks save and show, nothing of its own."""
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    if node.get("precision") in ("bf16-true", "16-true"):
        # The steps of a usual learning rate are below what half precision resolves; and for half weights Lightning
        # converts the batch, which it cannot do with a frozen dataclass.
        raise ConfigError(
            f"trainer.precision={node['precision']}: half weights cannot take small steps; take bf16-mixed"
        )
    has_checkpoints = any(isinstance(callback, Checkpoint) for callback in callbacks)
    has_progress = any(isinstance(callback, ProgressBar) for callback in callbacks)
    make = build({**node, "_partial_": True})  # Hydra would copy the callbacks on their way in
    try:
        with _one_line_errors(None):
            trainer: Trainer = make(
                callbacks=callbacks,
                logger=loggers or False,
                enable_checkpointing=has_checkpoints,
                enable_progress_bar=has_progress,
            )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
    return trainer


def _train_one(overrides: list[str], config_dir: Path | None) -> int:
    composed = _composed(overrides, config_dir)
    if composed.swept:
        raise ConfigError("a sweep is several runs: add -m")
    config = composed.config
    folder = Path(config["output"])
    is_main = process_rank() == 0
    if is_main:
        _prepare_folder(folder, config)
        print(f"pa-train: {_title(composed)} -> {folder}", flush=True)
    _silence()
    started = time.monotonic()
    try:
        trainer, _ = train(config)
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt(_how_to_go_on(folder)) from error
    if is_main:
        shared = [] if config_dir is None else ["--config-dir", str(config_dir)]
        _tell(trainer, config, folder, [*shared, *overrides], time.monotonic() - started)
    return OK


def _composed(overrides: Sequence[str], config_dir: Path | None) -> Composition:
    """The config with its run folder and with the checkpoint to go on from, if any."""
    composed = composition("train", overrides, config_dir)
    config = composed.config
    folder = config["output"]
    if folder is None:
        resumed = None if config["ckpt"] in (None, "last") else Path(config["ckpt"]).parent.parent
        is_of_a_run = resumed is not None and (resumed / _CONFIG).is_file()
        folder = resumed if is_of_a_run else _named_folder(composed)
        # Once more, so that whatever is written relative to the run folder finds it.
        composed = composition("train", [*overrides, f"output={_quoted(str(folder))}"], config_dir)
        config = composed.config
    if config["ckpt"] == "last":
        last = Path(folder) / _LAST
        config["ckpt"] = str(last) if last.is_file() else None
    elif config["ckpt"] is not None and not Path(config["ckpt"]).exists():
        raise PaLibError(f"ckpt={config['ckpt']}: no such file")
    return composed


def _title(composed: Composition) -> str:
    return str(composed.choices.get("experiment") or composed.choices.get("module"))


def _named_folder(composed: Composition) -> Path:
    told = {name: value for name, value in composed.config.items() if name not in _NOT_OF_THE_RUN}
    mark = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return Path(composed.config["paths"]["runs"]) / _title(composed) / mark


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def _prepare_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Make the run folder and put the config in it.

    Raises:
        ConfigError: A run is there already, and this one neither resumes it nor may overwrite it.
    """
    import yaml

    if config["ckpt"] is None and (folder / _LAST).is_file():
        if not config["is_overwrite"]:
            raise ConfigError(
                f"{folder} holds a run already: go on with ckpt=last, begin anew with is_overwrite=true, "
                "or name another output=FOLDER"
            )
        for name in _MADE_HERE:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _OUTCOME).unlink(missing_ok=True)
        (folder / _CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise PaLibError(f"output={folder}: {error.strerror}") from error


def _tell(trainer: Trainer, config: Mapping[str, Any], folder: Path, arguments: Sequence[str], took_s: float) -> None:
    """The closing summary, on the terminal and as a file."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    monitor = config["monitor"]
    last = trainer.callback_metrics.get(monitor)
    best = next(
        (
            callback.best_model_score
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint) and callback.monitor == monitor
        ),
        None,
    )
    outcome: dict[str, Any] = {"steps": trainer.global_step, "took_s": round(took_s, 1), "monitor": monitor}
    outcome |= {"best": None if best is None else float(best), "last": None if last is None else float(last)}
    figures = ", ".join(f"{name} {outcome[name]:.4g}" for name in ("best", "last") if outcome[name] is not None)
    print(f"{trainer.global_step} steps in {took_s:.0f} s" + (f"; {monitor}: {figures}" if figures else ""))
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    (folder / _OUTCOME).write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    lines = {"run": folder}
    checkpoint = folder / _LAST
    if checkpoint.is_file():
        lines["checkpoint"] = checkpoint
    if (folder / "previews").is_dir():
        lines["previews"] = folder / "previews"
    for name, path in lines.items():
        print(f"  {name:<11} {path}")
    if checkpoint.is_file():
        left_out = ("ckpt=", "is_overwrite=", "trainer.max_steps=")
        more = [argument for argument in arguments if not argument.startswith(left_out)]
        longer = [f"ckpt={checkpoint}", f"trainer.max_steps={2 * trainer.global_step}"]
        print(f"  {'go on':<11} {shlex.join(['pa-train', *more, *longer])}")
        print(f"  {'use':<11} {USE.format(checkpoint=shlex.quote(str(checkpoint)))}")


def _how_to_go_on(folder: Path) -> str:
    last = folder / _LAST
    return f"go on with the same command and ckpt={last}" if last.is_file() else "nothing was saved yet"


def _train_many(overrides: list[str], config_dir: Path | None) -> int:
    """Every combination of the settings given with commas, each in a process of its own.

    A process of its own, for Lightning's processes of one run inherit what an earlier one in the same process has set,
    and hang or share a folder. All configs are composed before the first run starts, so a mistake costs no hours.
    """
    import subprocess

    runs = [(run, _composed(run, config_dir)) for run in _expanded(overrides, config_dir)]
    shared_by_all = set[str].intersection(*(set(run) for run, _ in runs))
    titles = [" ".join(item for item in run if item not in shared_by_all) or _title(made) for run, made in runs]
    shared = [] if config_dir is None else ["--config-dir", str(config_dir)]
    codes = []
    for number, (run, composed) in enumerate(runs, 1):
        folder = Path(composed.config["output"])
        print(f"[{number}/{len(runs)}] {titles[number - 1]}", flush=True)
        if (folder / _OUTCOME).is_file() and not composed.config["is_overwrite"]:
            print(f"  finished earlier: {folder}")
            codes.append(OK)
            continue
        resumed = [] if composed.config["ckpt"] or composed.config["is_overwrite"] else ["ckpt=last"]
        command = [sys.executable, "-m", "pa_lib.cli.train", *shared, *run, *resumed]
        codes.append(subprocess.run(command, check=False).returncode)
        if codes[-1] == INTERRUPTED:
            raise KeyboardInterrupt
    print()
    for (_, composed), title, code in zip(runs, titles, codes, strict=True):
        print(f"  {title}: {_told(Path(composed.config['output']), code)}  {composed.config['output']}")
    return FAILED if any(codes) else OK


def _told(folder: Path, code: int) -> str:
    if code != OK or not (folder / _OUTCOME).is_file():
        return f"failed (exit code {code})" if code else "done"
    outcome = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    figures = [f"{name} {outcome[name]:.4g}" for name in ("best", "last") if outcome[name] is not None]
    return f"{outcome['monitor']} {', '.join(figures)}" if figures else f"{outcome['steps']} steps"


def _expanded(overrides: list[str], config_dir: Path | None) -> list[list[str]]:
    """The command lines of a multirun, by Hydra's own grammar: ``a,b``, ``range(1,4)``, ``choice(a,b)``."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    try:
        parsed = parser.parse_overrides(overrides)
        single = [text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()]
        swept = composition("train", single, config_dir).swept
        # What a sweep option lists comes first, so that the command line may narrow it.
        wide = parser.parse_overrides([f"{key}={values}" for key, values in swept.items()])
        kept = [override for override in parsed if override.key_or_group != "sweep"]
        (runs,) = BasicSweeper.split_arguments([*wide, *kept], max_batch_size=None)
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    return [list(run) for run in runs]


@contextmanager
def _one_line_errors(ckpt: str | None) -> Iterator[None]:
    """Lightning's and torch's own refusals as one line each; everything else is a bug and passes."""
    import pickle

    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
    except torch.OutOfMemoryError as error:
        raise PaLibError(
            "out of memory on the device: lower data.batch_size (and raise trainer.accumulate_grad_batches), "
            "or take trainer.precision=bf16-mixed"
        ) from error
    except pickle.UnpicklingError as error:
        raise PaLibError(f"ckpt={ckpt}: damaged, or holds more than tensors and plain values") from error
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            first = " ".join(str(error).split())[:300]
            raise PaLibError(f"ckpt={ckpt}: does not fit this module: {first}") from error
        raise


def _silence() -> None:
    """No advertisements, tips and banners; warnings that tell of mistakes stay."""
    from lightning.fabric.utilities.warnings import PossibleUserWarning

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for category in (PossibleUserWarning, DeprecationWarning, FutureWarning):  # tips, and notes to developers
        warnings.filterwarnings("ignore", category=category)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* a view")  # nobody changes it in place
    warnings.filterwarnings("ignore", message=".*exists and is not empty")  # a run that is resumed, which it may be


run = entry_point(main)


if __name__ == "__main__":
    run()
