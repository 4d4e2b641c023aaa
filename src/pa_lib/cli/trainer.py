"""Lightning's trainer from a config: what it saves and shows, which precision fits the CPU, and errors of one line."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.compose import ConfigError, build, named
from pa_lib.errors import PaLibError, SettingError, WeightsError
from pa_lib.setting_types import checked_names, wrong_types

if TYPE_CHECKING:
    from lightning import Callback, LightningModule, Trainer
    from torch import nn

_CPU_INFO = Path("/proc/cpuinfo")
_FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one on ARM


def build_trainer(node: Mapping[str, Any], callbacks: Sequence[Callback], loggers: Sequence[Any]) -> Trainer:
    """The trainer. Only the callbacks save and show anything; Lightning's defaults are off.

    Raises:
        ConfigError: A setting that Lightning refuses, or half-precision weights.
    """
    from lightning import Trainer
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    if node.get("precision") in ("bf16-true", "16-true"):
        # The steps of a usual learning rate are below what half precision resolves; and for half weights Lightning
        # converts the batch, which it cannot do with a frozen dataclass.
        raise ConfigError(
            f"trainer.precision={node['precision']}: half weights cannot take small steps; take bf16-mixed"
        )
    most, every = node.get("max_steps"), node.get("log_every_n_steps")
    if isinstance(most, int) and isinstance(every, int) and 0 < most < every:
        node = {**node, "log_every_n_steps": most}  # else a short run logs nothing
    # A partial, since Hydra would copy the callbacks on their way in.
    make = build({**node, "_partial_": True}, Callable[..., Trainer], "trainer")
    try:
        with one_line_errors(None):
            trainer: Trainer = make(
                callbacks=list(callbacks),
                logger=list(loggers) or False,
                enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
                enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            )
    except PaLibError:
        raise
    except (TypeError, ValueError) as error:
        types = wrong_types(make.func, make.keywords) if isinstance(error, TypeError) else ()
        wrong = next((f".{name}: {text}" for name, text in types), "")
        raise ConfigError(f"trainer{wrong or ': ' + ' '.join(str(error).split())}") from error
    if str(trainer.precision).startswith("bf16") and trainer.strategy.root_device.type == "cpu" and is_bf16_slow():
        _warn(
            f"trainer.precision={trainer.precision} is many times slower than float32 here, as this CPU has no "
            "instructions for it (avx512_bf16, amx_bf16); take trainer.precision=32-true"
        )
    return trainer


def is_bf16_slow() -> bool:
    """Whether this CPU is known to compute bfloat16 in software. False where its features cannot be read."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    features = [set(line.partition(":")[2].split()) for line in lines if line.lower().startswith(("flags", "features"))]
    return bool(features) and not any(one & _FAST_BF16 for one in features)


def parameter_summary(module: LightningModule) -> str:
    """Number of weights of each slot, with those that learn marked: ``backbone 13.6 M*, adapter 0.3 M* (* learn)``."""
    parts = []
    for name, slot in module.named_children():
        n_all, n_learning = _counts(slot)
        if n_all:
            share = "" if n_learning in (0, n_all) else f" of which {_short(n_learning)}"
            parts.append(f"{name} {_short(n_all)}{share}{'*' if n_learning else ''}")
    n_all, n_learning = _counts(module)
    return f"weights: {', '.join(parts) or 'none'}; {_short(n_learning)} of {_short(n_all)} learn (*)"


def _counts(module: nn.Module) -> tuple[int, int]:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, is_learning in sizes if is_learning)


def _short(number: int) -> str:
    for size, unit in ((1_000_000_000, " G"), (1_000_000, " M"), (1_000, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


@contextmanager
def one_line_errors(ckpt: str | None) -> Iterator[None]:
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
        raise WeightsError(f"ckpt={ckpt}: damaged, or holds more than tensors and plain values") from error
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            first = " ".join(str(error).split())[:300]
            raise WeightsError(f"ckpt={ckpt}: does not fit this module: {first}") from error
        raise


def silence() -> None:
    """Hide advertisements, tips and banners of Lightning; warnings of mistakes stay."""
    from lightning.fabric.utilities.warnings import PossibleUserWarning

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for category in (PossibleUserWarning, DeprecationWarning, FutureWarning):  # tips, and notes to developers
        warnings.filterwarnings("ignore", category=category)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* a view")  # no code changes it in place
    warnings.filterwarnings("ignore", message=".*exists and is not empty")  # a run that is resumed, which it may be


def _warn(text: str) -> None:
    print(f"pa-train: warning: {text}", file=sys.stderr, flush=True)


def load_initial_slots(module: LightningModule, path: str, slots: Sequence[str]) -> None:
    """Take the weights of some slots from an earlier run; slots without weights (the ablations) take none.

    Raises:
        SettingError: A slot that the module lacks.
        WeightsError: The file is missing or does not fit.
    """
    from pa_lib.checkpoint import load_slots

    slots = checked_names(slots, "init_slots")
    children = dict(module.named_children())
    if unknown := [slot for slot in slots if slot not in children]:
        raise SettingError(f"init_slots names {', '.join(unknown)}; the slots are {', '.join(children)}")
    try:
        load_slots(module, path, [slot for slot in slots if children[slot].state_dict()])
    except WeightsError as error:
        raise WeightsError(named(error, "init_from", path)) from error
