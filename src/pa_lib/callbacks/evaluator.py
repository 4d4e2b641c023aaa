"""Metrics during training: fed with the results of validation, logged beside the loss."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, distributed

from pa_lib.callbacks.stream import AbstractStreamCallback
from pa_lib.contracts import Result
from pa_lib.errors import PaLibError, SettingError
from pa_lib.metrics import AbstractMetric
from pa_lib.metrics.feed import feed


class Evaluator(AbstractStreamCallback):
    """Feeds metrics with the `Result` of every validation batch, and logs ``val/<value>`` after the last one.

    With several processes each feeds its own batches; the metrics are joined before they are computed, so every process
    logs the same values. Metrics work on the CPU, as their sums do. Values that are NaN are logged as such; a metric
    that cannot be computed (of too few clips, for one) is named in a warning, once.

    Args:
        metrics: One metric, several, or several by name.
        stream: Name of the data stream whose results are measured, where the data has several (see
            `data.JointDataModule`); results of other streams are passed over. None = all.

    Raises:
        SettingError: No metrics, or a stream that the data does not have.
        SettingError: Validation gives something else than a `Result`, or a metric needs what the data does not have, or
            two metrics give a value of the same name.
    """

    def __init__(
        self,
        metrics: AbstractMetric | Sequence[AbstractMetric] | Mapping[str, AbstractMetric] | None,
        stream: str | None = None,
    ) -> None:
        super().__init__(stream)
        if not isinstance(metrics, AbstractMetric) and not metrics:
            raise SettingError("Evaluator: there is nothing to measure; choose metrics, e.g. metrics=fast")
        if isinstance(metrics, AbstractMetric):
            metrics = [metrics]
        assert metrics is not None
        self.metrics = list(metrics.values() if isinstance(metrics, Mapping) else metrics)
        for metric in self.metrics:
            if not isinstance(metric, AbstractMetric):
                raise SettingError(f"Evaluator: got a {type(metric).__name__}, expected metrics of pa_lib.metrics")
        self._refused: set[str] = set()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the metrics."""
        self.require_stream(trainer)
        for metric in self.metrics:
            metric.reset()

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Feed one batch."""
        if not isinstance(outputs, Result):
            raise SettingError(
                f"{type(pl_module).__name__}.validation_step gives a {type(outputs).__name__}; metrics need a Result: "
                "train without callbacks=evaluator"
            )
        with torch.no_grad():
            feed(self.metrics, _on_cpu(outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log their values."""
        if trainer.sanity_checking:
            return
        logged: set[str] = set()
        for metric in self.metrics:
            for name, value in self._values(metric, pl_module.device).items():
                if name in logged:
                    raise SettingError(f"two metrics give a value called {name}; leave one of them")
                logged.add(name)
                # Every process has the joined value already: nothing is left to be averaged.
                pl_module.log(f"val/{name}", value, sync_dist=False, rank_zero_only=False)

    def _values(self, metric: AbstractMetric, device: torch.device) -> dict[str, float]:
        # NCCL joins only what lies on the accelerator.
        must_move = distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "nccl"
        try:
            if must_move:
                metric.to(device)
            return {value.name: float(value.value) for value in metric.measure().values}
        except (PaLibError, ValueError) as error:
            if metric.name not in self._refused:
                self._refused.add(metric.name)
                warnings.warn(f"{metric.name} is not logged: {error}", stacklevel=2)
            return {}
        finally:
            if must_move:
                metric.to("cpu")


def _on_cpu(result: Result) -> Result:
    def moved(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu()

    return replace(
        result,
        source=moved(result.source),
        anonymized=moved(result.anonymized),
        masks=moved(result.masks),
        clip_ids=moved(result.clip_ids),
        identities=None if result.identities is None else moved(result.identities),
    )
