"""Where a run can be taken up again, and what a checkpoint needs in order to be rebuilt elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from pa_lib.checkpoint import external_prefixes, new_entry
from pa_lib.errors import SettingError, WeightsError, listed
from pa_lib.modules import AbstractAnonymizer
from pa_lib.private_slots import next_path, private_path, private_slots, settle, write_private
from pa_lib.renamed import current_names


class LastCheckpoint(Checkpoint):
    """Keeps one file up to date: every few training steps and at the very last one.

    It saves right after a training step, never between two batches that are summed into one, so that a resumed run
    takes the same steps as one that was not interrupted. Where a validation follows, it saves once more after it, for
    other callbacks (the best checkpoint, early stopping) remember its values, and a resumed run does not repeat it.
    What a callback does at the end of an epoch comes later and is not saved then. Lightning's `ModelCheckpoint` does
    not save the step at which ``max_steps`` ends a run.

    What belongs to private slots of the system (see `pa_lib.modules.Slot`) goes to a file of its own,
    ``last.private.ckpt`` beside ``last.ckpt``, which its owner alone can read. A resumed run needs both, saved
    together: they share a mark of their own. After a crash between the two, ``last.private.next.ckpt`` is found.

    Args:
        path: File of the checkpoint, ``.ckpt``. It is written aside and moved, so that a crash leaves the earlier one.
        every_n_steps: Training steps between two saves, >= 1.
    """

    def __init__(self, path: str | Path, every_n_steps: int = 500) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise SettingError(f"every_n_steps {every_n_steps}: expected at least 1")
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self._saved_at = self._seen_at = 0
        self._is_within_step = False  # some of the batches that are summed into one have been seen

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come last, so that what all other callbacks remember of a validation is saved.

        Lightning calls the hooks of `Checkpoint` callbacks in their order in the list.

        Raises:
            SettingError: The module has private slots, and is no system that keeps them apart.
        """
        _check_keeps_private(pl_module)
        trainer.callbacks = [*(one for one in trainer.callbacks if one is not self), self]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count where the run begins."""
        self._saved_at = self._seen_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time."""
        step = trainer.global_step
        # A foreign module with several optimizers counts more than one step to a batch: ask what was passed, not hit.
        has_passed = step // self.every_n_steps > self._seen_at // self.every_n_steps
        is_last = 0 <= trainer.max_steps <= step
        self._is_within_step = step == self._seen_at
        if not self._is_within_step and (has_passed or is_last or trainer.should_stop):
            self._save(trainer, pl_module)
        self._seen_at = step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save once more where the step that was just saved has been validated, or where that ends the run."""
        is_training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if is_training and not self._is_within_step and (self._saved_at == trainer.global_step or trainer.should_stop):
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the last epoch's end, where epochs and not steps end the run."""
        is_last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
        if is_last and trainer.global_step > self._saved_at:
            self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if slots := private_slots(module):
            self._save_both(trainer, module, sorted(slots))
        else:
            trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_at = trainer.global_step

    def _save_both(self, trainer: Trainer, module: LightningModule, slots: list[str]) -> None:
        """Save so that at every moment one of the private files belongs to the public one; a reader looks at both."""
        private = private_path(self.path)

        def write(parts: dict[str, Any], pair: str) -> None:
            if trainer.is_global_zero:
                settle(self.path)
                write_private(next_path(private), parts, slots, trainer.global_step, pair)

        assert isinstance(module, AbstractAnonymizer)  # see setup
        with module.private_part_to(write):
            trainer.save_checkpoint(self.path, weights_only=False)
        if trainer.is_global_zero and next_path(private).is_file():  # a strategy may save nothing
            os.replace(next_path(private), private)
        trainer.strategy.barrier("private checkpoint")


class ConfigInCheckpoint(Callback):
    """Adds ``checkpoint["pa_lib"] = {"version", "config"}``, from which `pa_lib.load_module` rebuilds the module.

    Systems of pa_lib add it by themselves, from the arguments that they were constructed with. The callback is for
    other Lightning modules, and for the config that a command line was composed to.

    Weights of slots that the module names in ``external_slots()`` (pretrained, frozen, rebuilt from their own files)
    are left out of the checkpoint, and are not asked for when it is resumed.

    Args:
        config: The plain, resolved ``module`` config: ``_target_`` and arguments.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let Lightning load a state that lacks the external slots; `on_load_checkpoint` asks for all the others.

        Raises:
            SettingError: The module has private slots, and is no system that keeps them apart.
        """
        _check_keeps_private(pl_module)
        if external_prefixes(pl_module):
            pl_module.strict_loading = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the entry, leave out what lies elsewhere."""
        checkpoint["pa_lib"] = new_entry(self.config)
        if outside := external_prefixes(pl_module):
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith(outside)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check what Lightning no longer checks after `setup`.

        Raises:
            WeightsError: The checkpoint lacks weights of the module, or has others.
        """
        outside, given = external_prefixes(pl_module), checkpoint.get("state_dict")
        if not outside or given is None:
            return
        given = current_names(given)
        own = {name for name in pl_module.state_dict() if not name.startswith(outside)}
        if odd := sorted(own ^ {name for name in given if not name.startswith(outside)}):
            side = "lacks" if odd[0] in own else "has, and the module has not,"
            raise WeightsError(f"the checkpoint does not fit the module: it {side} {listed(odd, 1)}")


def _check_keeps_private(module: LightningModule) -> None:
    if not isinstance(module, AbstractAnonymizer) and (slots := private_slots(module)):
        raise SettingError(
            f"{type(module).__name__} has the private slots {', '.join(sorted(slots))}, which Lightning would write to "
            "every checkpoint; derive it from pa_lib.modules.AbstractAnonymizer, which keeps them apart"
        )
