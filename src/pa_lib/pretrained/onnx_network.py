"""A shipped ONNX graph on the CPU: loaded at first use, bounded memory, outputs checked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pa_lib.errors import SettingError
from pa_lib.pretrained.assets import asset_path

if TYPE_CHECKING:
    import onnxruntime

MAX_THREADS = 8  # beyond that these small networks gain nothing, and containers often see more cores than they may use


class OnnxNetwork:
    """One network behind onnxruntime.

    The session keeps its memory arena: without it every large activation is mapped and unmapped again, and CenterFace
    at 1080p takes 351 instead of 165 ms. It plans no memory pattern, which is one block for all activations of a run:
    a process with torch would peak at 1,220 instead of 931 MB, and be no faster.

    Args:
        asset: Name of the shipped file.
        n_threads: Number of threads inside an operator; 0 takes the cores this process may use, 8 at most.
    """

    def __init__(self, asset: str, n_threads: int = 0) -> None:
        if n_threads < 0:
            raise SettingError(f"n_threads is {n_threads}, expected 0 (automatic) or more")
        self.asset = asset
        self.n_threads = n_threads or min(
            MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        self._session: onnxruntime.InferenceSession | None = None

    def _load(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.n_threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        # Threads that spin while they wait take the cores from the decoder: 518 against 349 ms of processor time
        # for CenterFace at 1080p on two busy cores, and no gain on idle ones.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(asset_path(self.asset)), options, providers=["CPUExecutionProvider"])

    def run(self, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The outputs by name.

        Args:
            image: Input of the graph, which has one.

        Raises:
            WeightsError: The shipped file is missing or damaged.
            RuntimeError: An output holds a number that is not finite.
        """
        if self._session is None:
            self._session = self._load()
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(names, {"image": image}), strict=True))
        for name, value in outputs.items():
            # A sum is NaN or infinite as soon as one number is; ten times faster than looking at each.
            if not np.isfinite(np.sum(value, dtype=np.float64)):
                raise RuntimeError(f"{self.asset} gave numbers that are not finite in {name!r}")
        return outputs

    def release(self) -> None:
        """Give the memory of the session back; the next `run` loads it again."""
        self._session = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_session": None}  # a session cannot be pickled or copied, and need not be
