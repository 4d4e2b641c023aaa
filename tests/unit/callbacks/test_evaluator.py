"""Metrics beside the validation loss, on numbers worked out by hand."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from _metrics import Brightness
from pa_lib.callbacks import Evaluator
from pa_lib.contracts import Result
from pa_lib.errors import PaLibError
from pa_lib.metrics import AbstractMetric, Measurement, MetricValue
from pa_lib.metrics.base import Field


class Given(LightningModule):
    """Gives every number of a batch back as a clip that is as bright."""

    def __init__(self, *, gives_results: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.gives_results = gives_results

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * 0

    def validation_step(self, batch: Tensor, batch_idx: int) -> Any:
        if not self.gives_results:
            return None
        frames = (batch / 100).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4)
        return Result(frames, frames, torch.zeros(len(batch), 2, 1, 4, 4), batch.long())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Refusing(AbstractMetric):
    name = "refusing"
    needs: frozenset[Field] = frozenset({"source"})

    def __init__(self) -> None:
        super().__init__()
        self.add_rows("rows", 2, n_keys=1)

    def update(self, source: Tensor, people: Any = None) -> None:
        self.add_to("rows", torch.zeros(1, 2, dtype=torch.float64))

    def protocol(self) -> dict[str, Any]:
        return {}

    def _measure(self) -> Measurement:
        raise PaLibError("refusing: 1 clip, expected 2 or more")


class NeedsPeople(Refusing):
    needs: frozenset[Field] = frozenset({"source", "people"})
    name = "needs_people"

    def update(self, source: Tensor, people: Any) -> None: ...  # type: ignore[override]

    def _measure(self) -> Measurement:
        return Measurement((MetricValue("needs_people", math.nan, 0, "people", ""),))


def trainer(callbacks: Sequence[Any], **more: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), max_epochs=1, **quiet, **more)


def loader() -> DataLoader[Tensor]:
    return DataLoader(torch.tensor([10.0, 20.0, 60.0]), batch_size=2)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*fewer than the logging interval")
class TestEvaluator:
    def test_logs_the_figures_of_a_whole_epoch_and_begins_anew(self) -> None:
        evaluator = Evaluator({"light": Brightness()})
        runner = trainer([evaluator])
        for _ in range(2):
            runner.validate(Given(), loader(), verbose=False)
            assert float(runner.callback_metrics["val/brightness"]) == pytest.approx(0.3)
        assert evaluator.metrics[0].measure().values[0].n == 3

    def test_two_figures_of_one_name_would_be_averaged_and_are_refused(self) -> None:
        with pytest.raises(PaLibError, match="two metrics give a value called brightness"):
            trainer([Evaluator([Brightness(), Brightness(2.0)])]).validate(Given(), loader(), verbose=False)

    def test_takes_one_or_several(self) -> None:
        assert len(Evaluator(Brightness()).metrics) == 1
        assert len(Evaluator([Brightness(), Brightness(2)]).metrics) == 2

    @pytest.mark.wrong_types
    def test_refuses_what_is_no_metric(self) -> None:
        with pytest.raises(PaLibError, match="got a int, expected metrics"):
            Evaluator([3])  # type: ignore[list-item]

    def test_a_metric_that_refuses_is_named_once_and_does_not_end_the_run(self) -> None:
        runner = trainer([Evaluator([Refusing(), Brightness()])])
        with pytest.warns(UserWarning, match="refusing is not logged: refusing: 1 clip"):
            runner.validate(Given(), loader(), verbose=False)
        assert set(runner.callback_metrics) == {"val/brightness"}
        runner.validate(Given(), loader(), verbose=False)  # warnings are errors here

    def test_what_metrics_lack_ends_the_run_in_one_line(self) -> None:
        with pytest.raises(PaLibError, match="needs_people needs people"):
            trainer([Evaluator(NeedsPeople())]).validate(Given(), loader(), verbose=False)
        with pytest.raises(PaLibError, match="metrics need a Result"):
            trainer([Evaluator(Brightness())]).validate(Given(gives_results=False), loader(), verbose=False)

    def test_the_sanity_check_logs_nothing(self) -> None:
        seen: list[set[str]] = []

        class Watch(Evaluator):
            def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
                super().on_validation_epoch_end(trainer, pl_module)
                seen.append(set(trainer.callback_metrics))

        trainer([Watch(Brightness())], limit_train_batches=1, num_sanity_val_steps=1).fit(Given(), loader(), loader())
        assert seen == [set(), {"val/brightness"}]

    @pytest.mark.filterwarnings("ignore:.*find_unused_parameters")
    def test_two_processes_log_what_one_does(self) -> None:
        from torch import multiprocessing

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        queue = multiprocessing.get_context("spawn").SimpleQueue()
        from _evaluator import validate_share

        multiprocessing.spawn(validate_share, (port, queue), nprocs=2)
        # 10 | 20 and 60: the mean of the three clips, not of the two processes' means
        assert [queue.get() for _ in range(2)] == [pytest.approx(0.3)] * 2
