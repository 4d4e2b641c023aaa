"""Several data modules at once: every training step gets a batch of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from lightning import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader

from pa_lib.data.base import AbstractDataModule
from pa_lib.data.sampling import ClipLoader
from pa_lib.errors import SettingError, listed

Mode = Literal["max_size_cycle", "min_size"]


class JointDataModule(LightningDataModule):
    """Streams of batches, each of a data module of its own, with a name: for systems that learn from several at once.

    A training step gets a mapping from the stream's name to its batch. Validation goes through the streams one after
    the other, in their order, without those that hold nothing out: a validation step gets a batch of one of them and
    its ``dataloader_idx``, whose name is ``contracts.stream_name(trainer.val_dataloaders, dataloader_idx)``.

    Every stream has its own order and its own place in it: a stream that is shorter goes on with its own next epoch
    while a longer one is in its first, in another order each time. Checkpoints hold the places of all streams, so that
    a run that is resumed, in mid-epoch as well, gets the batches of an uninterrupted one, on any number of processes.

    Args:
        streams: Data modules by name, at least one. Each has its own batch size, seed and split.
        mode: End of an epoch. ``max_size_cycle``: with the longest stream; shorter ones begin again. ``min_size``: with
            the shortest stream; longer ones go on in the next epoch where they were.

    Raises:
        SettingError: No streams, or an unknown mode.

    >>> from pa_lib.data import SyntheticDataModule
    >>> sizes = {"near": 16, "far": 40}
    >>> streams = {name: SyntheticDataModule(n_clips=n, side=16, val_share=0) for name, n in sizes.items()}
    >>> batches, _, _ = next(iter(JointDataModule(streams).train_dataloader()))
    >>> {name: tuple(batch.frames.shape) for name, batch in batches.items()}
    {'near': (8, 8, 3, 16, 16), 'far': (8, 8, 3, 16, 16)}
    """

    def __init__(self, streams: Mapping[str, AbstractDataModule], mode: Mode = "max_size_cycle") -> None:
        super().__init__()
        if not streams or mode not in get_args(Mode):
            raise SettingError(
                f"joint data: {len(streams)} streams, mode {mode}: expected at least one, and {listed(get_args(Mode))}"
            )
        self.streams = dict(streams)
        self.mode = mode

    def prepare_data(self) -> None:
        """Prepare every stream."""
        for stream in self.streams.values():
            stream.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Set up every stream."""
        for stream in self._attached().values():
            stream.setup(stage)

    def teardown(self, stage: str) -> None:
        """Tear down every stream."""
        for stream in self.streams.values():
            stream.teardown(stage)

    def train_dataloader(self) -> CombinedLoader:
        """Loaders of all streams; each batch is a mapping by their names.

        Raises:
            SettingError, InputError: See `AbstractDataModule.train_dataloader`.
        """
        return CombinedLoader({name: stream.train_dataloader() for name, stream in self._attached().items()}, self.mode)

    def val_dataloader(self) -> dict[str, ClipLoader]:
        """The loaders of the streams that hold something out, by name."""
        loaders = {name: stream.val_dataloader() for name, stream in self._attached().items()}
        return {name: loader for name, loader in loaders.items() if isinstance(loader, ClipLoader)}

    def state_dict(self) -> dict[str, Any]:
        """The places of all streams, by name."""
        return {name: stream.state_dict() for name, stream in self.streams.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let every stream go on where it was.

        Raises:
            SettingError: The checkpoint is of other streams.
        """
        if set(state_dict) != set(self.streams):
            raise SettingError(
                f"the checkpoint holds the data streams {listed(sorted(state_dict))}, this run has "
                f"{listed(sorted(self.streams))}: resume with the same, or begin a new run from its weights"
            )
        for name, stream in self.streams.items():
            stream.load_state_dict(state_dict[name])

    def _attached(self) -> dict[str, AbstractDataModule]:
        for stream in self.streams.values():
            stream.trainer = self.trainer  # it knows the number of processes
        return self.streams
