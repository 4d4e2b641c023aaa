"""Several streams under a real trainer: each goes its own way, and a resumed run gets the batches of a whole one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

from _joint import NumberedData, TwoStreams, fit, fit_share, joint
from _metrics import Brightness
from pa_lib.callbacks import Evaluator, Preview
from pa_lib.contracts import stream_name
from pa_lib.data import JointDataModule
from pa_lib.errors import PaLibError, SettingError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
]


def alone(name: str, n: int) -> list[tuple[list[int], list[int]]]:
    """The first `n` batches of a stream by itself."""
    data = joint().streams[name]
    batches: list[Any] = []
    while len(batches) < n:
        batches += list(data.train_dataloader())
    return [(batch.clip_ids.tolist(), batch.identities.tolist()) for batch in batches[:n]]


def test_every_stream_goes_through_its_own_epochs() -> None:
    seen = fit(16).lightning_module.seen
    for name in ("long", "short", "tiny"):
        assert [step[name] for step in seen] == alone(name, 16)
    assert [step["long"][1][0] for step in seen] == [0] * 7 + [1] * 7 + [2] * 2
    assert [step["tiny"][1][0] for step in seen] == [epoch for epoch in range(8) for _ in range(2)]


def test_shortest_stream_can_end_an_epoch_and_the_others_go_on() -> None:
    trainer = fit(5, data=joint("min_size"))
    assert trainer.current_epoch == 3
    assert [step["long"] for step in trainer.lightning_module.seen] == alone("long", 5)


@pytest.mark.parametrize("n_steps", [1, 3, 7, 9])  # an epoch is 7
@pytest.mark.parametrize("mode", ["max_size_cycle", "min_size"])
def test_resumed_run_gets_the_batches_of_an_uninterrupted_one(n_steps: int, mode: str, tmp_path: Path) -> None:
    whole = fit(n_steps + 8, data=joint(mode)).lightning_module
    half = fit(n_steps, data=joint(mode))
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest = fit(n_steps + 8, tmp_path / "half.ckpt", joint(mode)).lightning_module
    assert half.lightning_module.seen + rest.seen == whole.seen
    assert all(torch.equal(a, b) for a, b in zip(rest.parameters(), whole.parameters(), strict=True))


@pytest.mark.slow
def test_two_processes_share_every_batch_and_resume(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=fit_share, args=(rank, port, tmp_path, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    seen = dict(queue.get(timeout=240) for _ in processes)
    for process in processes:
        process.join()
    together = [
        {name: tuple(one[name][i] + two[name][i] for i in range(2)) for name in one}
        for one, two in zip(seen[0], seen[1], strict=True)
    ]
    assert together == fit(9).lightning_module.seen


def test_validation_goes_through_the_streams_that_hold_something_out() -> None:
    trainer = fit(7)
    assert list(trainer.val_dataloaders) == ["long", "tiny"]
    assert [stream_name(trainer.val_dataloaders, index) for index in (0, 1)] == ["long", "tiny"]
    assert stream_name([], 0) is None
    assert trainer.lightning_module.validated == [(0, [0, 1]), (0, [2]), (1, [0, 1]), (1, [2])]


def test_callbacks_take_their_stream_and_pass_over_the_others(tmp_path: Path) -> None:
    trainer = fit(7, callbacks=[Evaluator(Brightness(), stream="long"), Preview(tmp_path, stream="long")])
    # Of the source of clips 0, 1 and 2, whose light is their number / 100.
    assert float(trainer.callback_metrics["val/brightness"]) == pytest.approx(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000007.png"]
    with pytest.raises(PaLibError, match="validation_step gives a NoneType"):
        fit(7, callbacks=[Evaluator(Brightness(), stream="tiny")])
    assert not (tmp_path / "none").exists()
    fit(7, callbacks=[Preview(tmp_path / "none", stream="tiny")])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("callback", [Evaluator, Preview])
def test_unknown_stream_is_refused(callback: Any, tmp_path: Path) -> None:
    made = callback(Brightness() if callback is Evaluator else tmp_path, stream="faces")
    with pytest.raises(SettingError, match="stream faces: the validation data has the streams long, tiny"):
        fit(7, callbacks=[made])


def test_checkpoint_of_other_streams_is_refused() -> None:
    state = joint().state_dict()
    assert set(state) == {"long", "short", "tiny"}
    with pytest.raises(SettingError, match="holds the data streams long, short, tiny, this run has long: resume"):
        JointDataModule({"long": NumberedData(4)}).load_state_dict(state)


@pytest.mark.parametrize(
    "arguments", [({},), pytest.param(({"one": NumberedData(4)}, "sequential"), marks=pytest.mark.wrong_types)]
)
def test_wrong_settings_get_one_clear_line(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(SettingError, match="expected at least one, and max_size_cycle, min_size"):
        JointDataModule(*arguments)


def test_streams_work_without_a_trainer() -> None:
    batches, _, _ = next(iter(joint().train_dataloader()))
    assert {name: len(batch.frames) for name, batch in batches.items()} == {"long": 2, "short": 4, "tiny": 2}
    assert TwoStreams().training_step(batches, 0).shape == ()
