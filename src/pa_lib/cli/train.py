"""pa-train: data and a module in, a checkpoint out.

Exit codes: 0 trained; 1 training failed; 2 the command line is wrong; 130 interrupted. With several processes Lightning
calls this command again for each of them; only the main one writes and prints.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.build import build_callbacks
from pa_lib.cli.command import OK, command, entry_point
from pa_lib.cli.compose import ConfigError, build, parse, process_rank
from pa_lib.cli.path_settings import as_written
from pa_lib.cli.run_folder import LAST, TakenFolder, composed_run, outcome_line, read_outcome, title_of, write_outcome

if TYPE_CHECKING:  # torch and Lightning are not needed to answer --help or to refuse a wrong setting
    from lightning import LightningModule, Trainer

DESCRIPTION = """\
Train an anonymization system, or some of its parts.

  pa-train experiment=passersby_1_spatial                  a recipe, by name
  pa-train experiment=passersby_1_spatial bundle=sd15_inpaint trainer=gpu        with pretrained networks
  pa-train module/adapter=none trainer.max_steps=100       parts and settings, one by one
  pa-train experiment=passersby_2_temporal init_from=runs/.../checkpoints/last.ckpt      stage 2 from stage 1
  pa-train experiment=passersby_1_spatial ckpt=runs/.../checkpoints/last.ckpt            resume, exactly
  pa-train experiment=passersby_1_spatial trainer=ddp trainer.devices=4 'logger=[csv,tensorboard]'
  pa-train -m experiment=passersby_1_spatial seed=0,1,2    several runs (also sweep=components, sweep=backbones);
                                                           finished ones are skipped, begun ones are resumed

settings (all of them, with their meaning: conf/train.yaml, and the groups below):
  seed=N  ckpt=FILE|last  init_from=FILE  init_slots=[NAME,...]  output=FOLDER  is_overwrite=true  monitor=NAME
  trainer.max_steps=N  trainer.precision=bf16-mixed  trainer.accumulate_grad_batches=N  trainer.gradient_clip_val=X  ...
  with -m: hydra/launcher=basic|joblib|submitit_local|submitit_slurm  hydra/sweeper=basic|optuna
"""


@command("pa-train")
def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    single = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    is_multirun = single != arguments
    overrides, config_dir = parse("pa-train", DESCRIPTION, single, is_multirun=is_multirun)
    if is_multirun:
        from pa_lib.cli.multirun import train_many

        return train_many(overrides, config_dir)
    return _train_one(overrides, config_dir)


def train(config: Mapping[str, Any], on_begun: Callable[[], None] | None = None) -> tuple[Trainer, LightningModule]:
    """One training run, from a composed and resolved config to a trained module.

    Args:
        config: Composed config of ``conf/train.yaml``.
        on_begun: Function that is called once the first step is taken, or once what cannot be trained is evaluated:
            all settings have proved right by then. Not called where nothing is left to do.

    Raises:
        ConfigError: Parts that do not go together.
        PaLibError: An error of a part, unusable data, or a loss that is NaN or infinite.
    """
    import lightning
    from lightning.pytorch.callbacks import LambdaCallback
    from lightning.pytorch.loggers import Logger

    from pa_lib.callbacks import ConfigInCheckpoint
    from pa_lib.cli.trainer import build_trainer, load_initial_slots, one_line_errors, parameter_summary
    from pa_lib.modules import AbstractAnonymizer

    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    datamodule: lightning.LightningDataModule = build(config["data"], lightning.LightningDataModule, "data")
    module: LightningModule = build(config["module"], lightning.LightningModule | AbstractAnonymizer, "module")
    if not isinstance(module, lightning.LightningModule):
        raise ConfigError(f"{type(module).__name__} cannot be trained; choose module=passersby or another that learns")
    if config["init_from"] is not None and config["ckpt"] is None:
        load_initial_slots(module, config["init_from"], config["init_slots"])
    callbacks = [*build_callbacks(config), ConfigInCheckpoint(config["module"])]
    if on_begun is not None:
        callbacks.append(LambdaCallback(on_train_batch_end=lambda trainer, *_: trainer.fast_dev_run or on_begun()))
    loggers = [build(node, Logger, f"logger.{name}") for name, node in (config["logger"] or {}).items() if node]
    trainer = build_trainer(config["trainer"], callbacks, loggers)
    if process_rank() == 0:
        print(f"  {parameter_summary(module)}", flush=True)
    with one_line_errors(config["ckpt"]):
        if config["on_nothing_to_train"] == "evaluate" and not any(one.requires_grad for one in module.parameters()):
            trainer.validate(module, datamodule=datamodule, verbose=False)
            trainer.save_checkpoint(Path(config["output"]) / LAST)
            if on_begun is not None:
                on_begun()
        else:
            trainer.fit(module, datamodule=datamodule, ckpt_path=config["ckpt"], weights_only=True)
    return trainer, module


def _train_one(overrides: list[str], config_dir: Path | None) -> int:
    composed = composed_run(overrides, config_dir)
    if composed.swept:
        raise ConfigError("a sweep is several runs: add -m")
    config = composed.config
    if config["on_nothing_to_train"] not in ("error", "evaluate"):
        raise ConfigError(f"on_nothing_to_train={config['on_nothing_to_train']}: expected error or evaluate")
    folder = Path(config["output"])
    is_main = process_rank() == 0
    taken = None
    if is_main:
        taken = TakenFolder(folder, config)
        print(f"pa-train: {title_of(composed)} -> {folder}", flush=True)
    from pa_lib.cli.trainer import silence

    silence()
    started = time.monotonic()
    try:
        trainer, module = train(config, on_begun=None if taken is None else taken.keep)
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt(_how_to_resume(folder, has_begun=taken is None or taken.is_kept)) from error
    finally:
        if taken is not None:
            taken.give_back()
    if taken is None:
        return OK
    outcome = _outcome(trainer, config["monitor"], time.monotonic() - started)
    outcome |= {"title": title_of(composed), "overrides": overrides, "seed": config["seed"]}
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        print(f"{outcome['steps']} steps in {outcome['took_s']:.0f} s, of which nothing is kept")
    elif not taken.is_kept:
        print(f"nothing left to do: it is at step {outcome['steps']}; go on with a larger trainer.max_steps")
        if (folder / LAST).is_file() and read_outcome(folder) is None:  # killed after its last step
            write_outcome(folder, outcome)
    else:
        values = outcome_line(outcome)
        print(f"{outcome['steps']} steps in {outcome['took_s']:.0f} s" + (f"; {values}" if values else ""))
        write_outcome(folder, outcome)
        shared = [] if config_dir is None else ["--config-dir", str(config_dir)]
        _print_files(folder, [*shared, *(as_written(one, config) for one in overrides)], trainer)
        if (folder / LAST).is_file() and not _is_for_masks(module):
            print(f"  {'use':<11} {_how_to_use(folder / LAST, overrides)}")
    return OK


def _outcome(trainer: Trainer, monitor: str, took_s: float) -> dict[str, Any]:
    """The result of a run: steps, time, the monitored value at its best and at last, and all values of validation."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
    watching = (one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint))
    best = next((one.best_model_score for one in watching if one.monitor == monitor), None)
    if trainer.global_step == 0:  # evaluated, not trained
        best = trainer.callback_metrics.get(monitor)
    return {
        "steps": trainer.global_step,
        "took_s": round(took_s, 1),
        "monitor": monitor,
        "best": None if best is None else float(best),
        "last": values.get(monitor),
        "metrics": {name: value for name, value in values.items() if name.startswith("val/")},
    }


def _print_files(folder: Path, arguments: Sequence[str], trainer: Trainer) -> None:
    """Where everything lies, and the command that goes on."""
    checkpoint = folder / LAST
    lines = {"run": folder}
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
        if trainer.global_step:
            print(f"  {'go on':<11} {shlex.join(['pa-train', *more, *longer])}{_rate_after(trainer)}")


def _is_for_masks(module: LightningModule) -> bool:
    """Whether it is a network that masks need, with which alone no video can be anonymized."""
    from pa_lib.modules import OutlineTraining

    return isinstance(module, OutlineTraining)


def _how_to_use(checkpoint: Path, overrides: Sequence[str]) -> str:
    """The command that uses what was trained. The checkpoint brings the system, but no permission to run its code."""
    trust = [override for override in overrides if override.startswith("trust=")]
    return shlex.join(["pa-anonymize", "input=clip.mp4", *trust, f"weights={checkpoint}"])


def _rate_after(trainer: Trainer) -> str:
    """A comment for the line that goes on: the learning rate there, where the schedule follows the run's length."""
    from pa_lib.modules import CosineSchedule

    for config in trainer.lr_scheduler_configs:
        if isinstance(schedule := config.scheduler, CosineSchedule):
            rates = schedule.rates_at(trainer.global_step, 2 * trainer.global_step)
            return f"   # on the longer cosine: the learning rate continues at {max(rates):.3g}"
    return ""


def _how_to_resume(folder: Path, *, has_begun: bool) -> str:
    if not has_begun:
        return "nothing was changed"
    last = folder / LAST
    return (
        f"go on with the same command and {shlex.quote(f'ckpt={last}')}" if last.is_file() else "nothing was saved yet"
    )


run = entry_point(main)


if __name__ == "__main__":
    run()
