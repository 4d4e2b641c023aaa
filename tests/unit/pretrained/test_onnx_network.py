from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from pa_lib.errors import PaLibError
from pa_lib.pretrained.onnx_network import OnnxNetwork

BLOB = np.zeros((1, 3, 64, 96), np.float32)


def test_loads_at_first_use_and_after_release() -> None:
    network = OnnxNetwork("centerface.onnx", n_threads=1)
    assert network._session is None
    first = network.run(BLOB)
    assert {name: value.shape for name, value in first.items()} == {
        "heatmap": (1, 1, 16, 24),
        "scale": (1, 2, 16, 24),
        "offset": (1, 2, 16, 24),
        "landmarks": (1, 10, 16, 24),
    }
    network.release()
    assert network._session is None
    assert all(np.array_equal(first[name], value) for name, value in network.run(BLOB).items())


def test_any_size_and_batch_of_nanodet() -> None:
    outputs = OnnxNetwork("nanodet_g.onnx").run(np.zeros((2, 3, 64, 96), np.float32))
    assert outputs["scores_8"].shape == (2, 8 * 12, 1)
    assert outputs["distances_32"].shape == (2, 2 * 3, 44)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_error(wrong: float) -> None:
    blob = BLOB.copy()
    blob[0, 0, 5, 5] = wrong
    with pytest.raises(RuntimeError, match=r"centerface\.onnx gave numbers that are not finite in 'heatmap'"):
        OnnxNetwork("centerface.onnx").run(blob)


def test_copies_travel_without_their_session() -> None:
    network = OnnxNetwork("centerface.onnx")
    network.run(BLOB)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin._session is None
        assert twin.asset == "centerface.onnx"


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="n_threads is -1"):
        OnnxNetwork("centerface.onnx", -1)
    with pytest.raises(PaLibError, match="no weights named"):
        OnnxNetwork("nothing.onnx").run(BLOB)
