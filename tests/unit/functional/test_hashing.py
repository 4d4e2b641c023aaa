from __future__ import annotations

import hashlib

import torch

from pa_lib.functional import weights_sha256

STATE = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor([3, 4])}


def _sha(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_is_of_names_types_shapes_and_bytes_in_order_of_names() -> None:
    numbers = STATE["a"].numpy().tobytes(), STATE["b"].numpy().tobytes()
    header = b"a torch.int64 (2,)\n", b"b torch.float32 (1, 2)\n"
    assert weights_sha256(STATE) == _sha(header[0], numbers[0], header[1], numbers[1])
    assert weights_sha256(STATE, has_header=False) == _sha(b"a", numbers[0], b"b", numbers[1])


def test_copies_in_another_type_have_the_same_hash_on_request() -> None:
    double = {name: tensor.double() for name, tensor in STATE.items()}
    assert weights_sha256(double) != weights_sha256(STATE)
    plain = {"has_header": False, "dtype": torch.float32}
    assert weights_sha256(double, **plain) == weights_sha256(STATE, **plain)


def test_takes_bfloat16_and_views() -> None:
    tensor = torch.arange(6.0).bfloat16().view(2, 3)
    assert weights_sha256({"x": tensor.T}) == weights_sha256({"x": tensor.T.contiguous()})
