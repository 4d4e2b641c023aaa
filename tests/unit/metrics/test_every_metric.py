"""What holds for every metric that pa_lib exports. A metric without a case in `_metric_cases.py` fails here."""

from __future__ import annotations

import concurrent.futures
import inspect
import math
import pickle
import socket
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
import torch.multiprocessing as processes
from torch import Tensor, distributed
from torchmetrics import MetricCollection

import pa_lib.metrics
from _metric_cases import CASES, Case, Update, parts, unnumbered
from _metrics import assert_close, assert_plain_protocol, measured
from pa_lib.contracts import Result
from pa_lib.errors import SettingError
from pa_lib.metrics import AbstractMetric, Measurement
from pa_lib.metrics.base import Field
from pa_lib.metrics.feed import feed, missing

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def _concrete() -> list[type[AbstractMetric]]:
    exported = [getattr(pa_lib.metrics, name) for name in pa_lib.metrics.__all__]
    return [
        one
        for one in exported
        if inspect.isclass(one) and issubclass(one, AbstractMetric) and not inspect.isabstract(one)
    ]


@pytest.mark.parametrize("exported", _concrete(), ids=lambda one: one.__name__)
def test_has_a_case(exported: type[AbstractMetric]) -> None:
    assert any(type(case.make()) is exported for case in CASES.values())


def _joined(updates: list[Update]) -> Update:
    """All updates as one batch."""
    whole: Update = {}
    for name in updates[0]:
        if name == "people":
            first = 0
            whole[name] = ()
            for update in updates:
                moved = (type(one)(**{**vars(one), "clip": one.clip + first}) for one in update[name])
                whole[name] = (*whole[name], *moved)
                first += len(update["source"])
        else:
            whole[name] = torch.cat([update[name] for update in updates])
    return whole


def _measurement(metric: AbstractMetric, *updates: Update) -> Measurement:
    for update in updates:
        metric.update(**update)
    return metric.measure()


def assert_same_values(one: Measurement, other: Measurement) -> None:
    """As `assert_close`, of clips that have other numbers."""
    assert_close(Measurement(one.values), Measurement(other.values))
    rows = [sorted((row.person_id, *sorted(row.values.items())) for row in each.tracks) for each in (one, other)]
    for mine, theirs in zip(*rows, strict=True):
        assert mine[0] == theirs[0]
        for (name, value), (its_name, its) in zip(mine[1:], theirs[1:], strict=True):
            assert name == its_name
            assert value == pytest.approx(its, abs=1e-9)


def test_the_case_tells_something(case: Case) -> None:
    whole, twin = measured(case.make, case.updates()), measured(case.twin, case.updates())
    assert math.isfinite(whole.values[0].value)
    assert whole != twin
    assert case.make().protocol_hash() != case.twin().protocol_hash()


def test_batches_and_their_order_change_nothing(case: Case) -> None:
    updates = case.updates()
    whole = measured(case.make, [_joined(updates)])
    assert_close(whole, measured(case.make, updates))
    assert_close(whole, measured(case.make, updates[::-1]))


@pytest.mark.parametrize("has_ids", [True, False])
def test_forward_accumulates_as_update(case: Case, has_ids: bool) -> None:
    updates = case.updates() if has_ids else unnumbered(case.updates())
    metric = case.make()
    for update in updates:
        of_batch = metric(**update)
        expected = case.make()
        expected.update(**update)
        for name, value in expected.compute().items():
            torch.testing.assert_close(of_batch[name], value, equal_nan=True, rtol=0, atol=1e-9)
    # Every row has an id of its own, so that the metric with ids counts on the ids alone.
    assert_same_values(metric.measure(), measured(case.make, case.updates()))
    # Forward and update may take turns.
    mixed = case.make()
    for at, update in enumerate(updates):
        (mixed if at % 2 else mixed.update)(**update)
    assert_same_values(mixed.measure(), measured(case.make, case.updates()))


def test_forward_joins_windows_of_a_clip(case: Case) -> None:
    if not case.has_clips:
        pytest.skip("knows no clips")
    updates = [update | {"clip_ids": torch.zeros_like(update["clip_ids"])} for update in case.updates()]
    metric = case.make()
    for update in updates:
        metric(**update)
    assert_close(metric.measure(), measured(case.make, updates))


@pytest.mark.parametrize("has_ids", [True, False])
def test_merged_states_hold_all_updates(case: Case, has_ids: bool) -> None:
    updates = case.updates() if has_ids else unnumbered(case.updates())
    # With ids their order is that of the ids; without, the incoming state comes first.
    expected = measured(case.make, updates if has_ids else updates[1:] + updates[:1])
    one, other = case.make(), case.make()
    _measurement(one, *updates[:1])  # measured before: nothing stale may stay
    of_other = _measurement(other, *updates[1:])
    one.merge_state(other)
    assert_same_values(one.measure(), expected)
    assert other.measure() == of_other
    fresh = case.make()
    fresh.merge_state(one.metric_state)
    assert_same_values(fresh.measure(), expected)


def test_clones_that_go_their_own_ways_merge(case: Case) -> None:
    updates = unnumbered(case.updates())
    one = case.make()
    other = one.clone()
    _measurement(one, *updates[:2])
    _measurement(other, *updates[2:])
    one.merge_state(other)
    assert_same_values(one.measure(), measured(case.make, updates[2:] + updates[:2]))
    if case.has_clips:
        assert len(case.updates()[0]["clip_ids"]) == 2  # several rows, which are numbered apart


def test_another_setting_is_not_merged(case: Case) -> None:
    one, other = case.make(), case.twin()
    before = _measurement(one, *case.updates())
    if type(one) is type(other):
        _measurement(other, *case.updates())
        with pytest.raises(SettingError, match="expected the same protocol"):
            one.merge_state(other)
        assert_close(_measurement(one), before)


def test_reset_forgets_all(case: Case) -> None:
    metric = case.make()
    _measurement(metric, *unnumbered(case.updates()))
    metric.reset()
    nothing = measured(case.make, [])
    assert_close(metric.measure(), nothing)
    assert_close(_measurement(metric, *case.updates()), measured(case.make, case.updates()))


def test_pickles_and_clones_go_on_where_it_was(case: Case) -> None:
    updates = unnumbered(case.updates())
    metric = case.make()
    _measurement(metric, *updates[:1])
    expected = measured(case.make, updates)
    copied = pickle.loads(pickle.dumps(metric)), metric.clone()
    for copy in copied:
        assert_close(_measurement(copy, *updates[1:]), expected)
    assert_close(_measurement(metric, *updates[1:]), expected)


def test_without_anything_to_measure_all_is_nan_and_counted(case: Case) -> None:
    for updates in ([], [case.blank()]):
        found = measured(case.make, updates)
        for entry in found.values:
            assert math.isnan(entry.value), entry
            assert entry.interval is None
            assert entry.n == 0
        assert not found.tracks
        assert set(case.make().compute()) == {entry.name for entry in found.values}


def test_blank_updates_change_no_value(case: Case) -> None:
    whole, more = measured(case.make, case.updates()), measured(case.make, [case.blank(), *case.updates()])
    for entry, its in zip(whole.values, more.values, strict=True):
        assert (entry.value, entry.n, entry.interval) == (its.value, its.n, its.interval)


def test_protocol_is_plain(case: Case) -> None:
    assert_plain_protocol(case.make())


@pytest.mark.parametrize("is_forward", [False, True])
def test_a_collection_keeps_differently_set_metrics_apart(case: Case, is_forward: bool) -> None:
    # torchmetrics compares states after the first batch, which here says nothing of the difference.
    updates = [case.blank(), *case.updates()]
    collection = MetricCollection({"one": case.make(), "twin": case.twin(), "same": case.make()})
    for update in updates:
        (collection if is_forward else collection.update)(**update)
    collection.compute()
    assert_close(collection["one"].measure(), measured(case.make, updates))
    assert_close(collection["same"].measure(), measured(case.make, updates))
    assert_close(collection["twin"].measure(), measured(case.twin, updates))


def test_values_and_states_are_float64_whatever_comes(case: Case) -> None:
    metric = case.make().half().float()
    metric.to(torch.float16)
    updates = case.updates()
    _measurement(metric, *updates)
    assert {value.dtype for value in metric.compute().values()} == {torch.float64}
    assert {state.dtype for state in metric.metric_state.values()} == {torch.float64}
    if not _is_of_pa_lib(case) or "source" not in updates[0]:
        return
    eight_bit = [_with_videos(update, _bytes) for update in updates]
    floats = [_with_videos(update, lambda video: video.float() / 255) for update in eight_bit]
    doubles = [_with_videos(update, lambda video: video.double()) for update in floats]
    expected = measured(case.make, floats)
    assert_close(expected, measured(case.make, eight_bit), 1e-6)
    assert_close(expected, measured(case.make, doubles), 1e-6)


def _is_of_pa_lib(case: Case) -> bool:
    return type(case.make()).__module__.startswith("pa_lib.")


def _with_videos(update: Update, change: Callable[[Tensor], Tensor]) -> Update:
    return update | {name: change(update[name]) for name in ("source", "anonymized")}


def _bytes(video: Tensor) -> Tensor:
    return video if video.dtype == torch.uint8 else (video * 255).round().byte()


@pytest.mark.parametrize("name", ["source", "anonymized", "masks", "clip_ids", "identities"])
def test_shapes_that_do_not_fit_are_refused_in_one_line(case: Case, name: str) -> None:
    update = case.updates()[0]
    metric = case.make()
    if name not in update or not _is_of_pa_lib(case):
        pytest.skip("takes none")
    value = update[name]
    wrong = [value[:, 0] if value.ndim > 1 else value[:1]]
    if value.ndim == 5:
        wrong += [value[:, :, 0], value[..., :-1], value[:, :1]]
    for one in wrong:
        with pytest.raises(ValueError, match="expected") as error:
            metric.update(**update | {name: one})
        assert "\n" not in str(error.value)
    metric.reset()
    assert_close(_measurement(metric, update), measured(case.make, [update]))


def test_context_beyond_the_frames_is_refused(case: Case) -> None:
    update = case.updates()[0]
    if "context" not in case.make().uses:
        pytest.skip("takes none")
    with pytest.raises(ValueError, match="context is 99, expected 0 to"):
        case.make().update(**update, context=99)


def test_fields_that_it_declares_are_those_of_update(case: Case) -> None:
    metric = case.make()
    taken = metric.needs | metric.needs_one_of | metric.uses
    parameters = inspect.signature(type(metric).update).parameters
    if not metric.needs:
        assert not taken
        assert not set(parameters) & set(get_args(Field))
        with pytest.raises(SettingError, match="is not measured on videos"):
            missing(metric, [])
        return
    assert set(parameters) - {"self"} == taken <= set(get_args(Field))
    assert {name for name, one in parameters.items() if one.default is inspect.Parameter.empty} - {
        "self"
    } <= metric.needs


def test_fed_with_results_it_says_the_same(case: Case) -> None:
    metric, updates = case.make(), case.updates()
    if not metric.needs:
        pytest.skip("is not measured on videos")
    for update in updates:
        empty = torch.zeros(update["source"].shape[0], update["source"].shape[1], 1, *update["source"].shape[3:])
        fields = {"anonymized": update["source"], "masks": empty} | update
        feed([metric], Result(**fields), has_masks="masks" in update)
    assert_close(metric.measure(), measured(case.make, updates))


@pytest.fixture(scope="module")
def of_two_processes() -> Iterator[list[dict[str, Measurement]]]:
    """What either of two processes measures of every case: one spawn for all, for it takes seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = processes.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        yield [part.result() for part in [pool.submit(_measure_part, rank, port) for rank in (0, 1)]]


def _measure_part(rank: int, port: int) -> dict[str, Measurement]:
    import warnings

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        return {name: _measurement(metric, *updates) for name, metric, updates in parts(rank)}
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(name: str, of_two_processes: list[dict[str, Measurement]]) -> None:
    updates = CASES[name].updates()
    expected = measured(CASES[name].make, updates)
    by_rank = measured(CASES[name].make, unnumbered(updates[::2] + updates[1::2]))
    for of_one in of_two_processes:
        assert_close(expected, of_one[name])
        assert_close(expected, of_one[f"{name}, one process idle"])
        assert_same_values(by_rank, of_one[f"{name}, without ids"])


def test_differently_set_processes_are_refused() -> None:
    one, other = (case.metric_state["settings"] for case in (CASES["psnr"].make(), CASES["psnr"].twin()))
    metric: Any = CASES["psnr"].make()
    with pytest.raises(SettingError, match="differently set"):
        metric._reductions["settings"](torch.stack([one, other]))
