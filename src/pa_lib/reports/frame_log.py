"""Status of every frame of one run, in about 21 bytes a frame, so that the record stays far smaller than the video."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from pa_lib.errors import PaLibError
from pa_lib.reports.json import number

T = TypeVar("T")
Status = Literal["untouched", "anonymized", "redacted"]
STATUSES: tuple[Status, ...] = get_args(Status)
MAX_TEXTS = 1000
"""Different fault texts kept apart. A broken file can word every fault differently; beyond this they share one text."""
MAX_TEXT_LENGTH = 300
"""Characters of a fault or fallback that are kept."""
COLUMNS = {
    "index": "position in the video, from 0",
    "time_s": "presentation time in seconds; null where the file does not say",
    "status": f"one of {', '.join(STATUSES)}",
    "mask_area": "share of the frame that was replaced, 0..1",
    "n_hidden": "number of people hidden in the frame",
    "searched": "1 where the finder looked at this very frame, 0 where boxes come from the tracker",
    "fallbacks": "what was done in place of the first choice",
    "fault": "what went wrong; null where nothing did",
}
"""Columns of the table that a log becomes in a file."""
OVERFLOW_TEXT = f"another fault (only the first {MAX_TEXTS} different ones are kept)"


@dataclass(frozen=True)
class FrameRecord:
    """Status of one frame.

    Args:
        index: Position of the frame in the video, from 0.
        time_s: Presentation time in seconds; NaN where the file does not state it.
        status: Status of the frame: ``untouched`` (no person to hide), ``anonymized``, or ``redacted`` (the whole frame
            was blanked).
        mask_area: Share of the frame that was replaced, in [0, 1].
        n_hidden: Number of people hidden in the frame.
        searched: Whether the finder searched this very frame (else its boxes come from the tracker).
        fallbacks: Substitutes for the first choice, e.g. ``box instead of silhouette``.
        fault: Description of what failed; None where nothing did.
    """

    index: int
    time_s: float
    status: Status
    mask_area: float = 0.0
    n_hidden: int = 0
    searched: bool = False
    fallbacks: tuple[str, ...] = ()
    fault: str | None = None


class _Texts(Generic[T]):
    """Numbers for values that repeat, and a bound on how many different ones are kept."""

    def __init__(self, first: T, overflow: T) -> None:
        self._codes: dict[T, int] = {first: 0, overflow: 1}
        self._values: list[T] = [first, overflow]

    def code(self, value: T) -> int:
        code = self._codes.get(value)
        if code is None:
            if len(self._values) > MAX_TEXTS + 1:
                return 1
            code = self._codes[value] = len(self._values)
            self._values.append(value)
        return code

    def value(self, code: int) -> T:
        return self._values[code]


class FrameLog:
    """A list of `FrameRecord`, appended to in the order of the video and stored in columns.

    >>> log = FrameLog()
    >>> log.append(FrameRecord(0, 0.0, "anonymized", mask_area=0.25, n_hidden=2, searched=True))
    >>> log.append(FrameRecord(1, 0.04, "redacted", mask_area=1.0, fault="could not be decoded"))
    >>> log.counts
    {'untouched': 0, 'anonymized': 1, 'redacted': 1}
    >>> log[-1].fault
    'could not be decoded'
    """

    def __init__(self) -> None:
        self._times_s = array("d")
        self._statuses = array("B")
        self._mask_areas = array("f")
        self._n_hidden = array("H")
        self._searched = array("B")
        self._fallbacks = array("H")
        self._faults = array("H")
        self._fallback_texts: _Texts[tuple[str, ...]] = _Texts((), (OVERFLOW_TEXT,))
        self._fault_texts: _Texts[str | None] = _Texts(None, OVERFLOW_TEXT)

    def append(self, record: FrameRecord) -> None:
        """Adds the next frame of the video.

        Args:
            record: Row of the frame. Its index must be the number of frames recorded so far.

        Raises:
            PaLibError: A frame was skipped or recorded twice, the mask area is not in 0..1, the status is unknown, or a
                frame that had something to hide is called untouched.
        """
        here = f"the record of frame {record.index}"
        if record.index != len(self):
            raise PaLibError(f"{here} came when frame {len(self)} was due: every frame is recorded once and in order")
        if record.status not in STATUSES:
            raise PaLibError(f"{here} has the status {record.status!r}: expected one of {', '.join(STATUSES)}")
        if not 0 <= record.mask_area <= 1:  # also refuses NaN
            raise PaLibError(f"{here} has the mask area {record.mask_area}: expected a share of the frame in 0..1")
        if record.status == "untouched" and (record.mask_area > 0 or record.n_hidden > 0):
            raise PaLibError(f"{here} calls it untouched although {record.n_hidden} people were to be hidden in it")
        self._times_s.append(record.time_s)
        self._statuses.append(STATUSES.index(record.status))
        self._mask_areas.append(record.mask_area)
        self._n_hidden.append(min(record.n_hidden, 65_535))
        self._searched.append(record.searched)
        self._fallbacks.append(self._fallback_texts.code(tuple(_one_line(text) for text in record.fallbacks)))
        self._faults.append(self._fault_texts.code(None if record.fault is None else _one_line(record.fault)))

    @classmethod
    def of_table(cls, table: Any) -> FrameLog:
        """The log from the table that `json_parts` writes.

        Raises:
            ValueError: It is no such table, or a cell has the wrong type.
            PaLibError: A record is refused; see `append`.
        """
        from pydantic import TypeAdapter  # 0.1 s, and only readers need it

        try:
            columns, rows = table["columns"], table["rows"]
            cells = [dict(zip(columns, row, strict=True)) for row in rows]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no table of frames: {error!r}") from error
        record_type = TypeAdapter(FrameRecord)
        log = cls()
        for row in cells:
            log.append(record_type.validate_python({**row, "time_s": number(row.get("time_s"))}))
        return log

    def json_parts(self) -> Iterator[str]:
        """The log as JSON, one row for every frame: a list of all rows would take 50 MB for 100,000 frames."""
        yield '{\n    "about": "one row for every frame of the source, in its order",\n'
        yield f'    "columns": {json.dumps(list(COLUMNS))},\n    "meaning": {json.dumps(COLUMNS)},\n'
        yield '    "rows": ['
        for record in self:
            row = [
                record.index,
                round(record.time_s, 6) if math.isfinite(record.time_s) else None,
                record.status,
                round(record.mask_area, 7),
                record.n_hidden,
                int(record.searched),
                record.fallbacks,
                record.fault,
            ]
            yield ("," if record.index else "") + "\n      " + json.dumps(row, ensure_ascii=False)
        yield "\n    ]\n  }"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """For records that hold a log: read by `of_table`."""
        from pydantic_core import core_schema

        table = core_schema.typed_dict_schema(
            {
                "columns": core_schema.typed_dict_field(core_schema.list_schema(core_schema.str_schema())),
                "rows": core_schema.typed_dict_field(core_schema.list_schema(core_schema.list_schema())),
            },
            extra_behavior="ignore",
        )
        return core_schema.no_info_after_validator_function(cls.of_table, table)

    def __len__(self) -> int:
        return len(self._statuses)

    def __getitem__(self, index: int) -> FrameRecord:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        at = index % len(self)
        return FrameRecord(
            index=at,
            time_s=self._times_s[at],
            status=STATUSES[self._statuses[at]],
            mask_area=self._mask_areas[at],
            n_hidden=self._n_hidden[at],
            searched=bool(self._searched[at]),
            fallbacks=self._fallback_texts.value(self._fallbacks[at]),
            fault=self._fault_texts.value(self._faults[at]),
        )

    def __iter__(self) -> Iterator[FrameRecord]:
        return (self[index] for index in range(len(self)))

    @property
    def counts(self) -> dict[Status, int]:
        """Number of frames of each status."""
        return {status: self._statuses.count(code) for code, status in enumerate(STATUSES)}

    @property
    def n_searched(self) -> int:
        """Number of frames that the finder looked at."""
        return self._searched.count(1)

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Shape n, seconds."""
        return np.array(self._times_s, dtype=np.float64)

    @property
    def mask_areas(self) -> NDArray[np.float32]:
        """Shape n, share of the frame in 0..1."""
        return np.array(self._mask_areas, dtype=np.float32)

    @property
    def is_redacted(self) -> NDArray[np.bool_]:
        """Shape n."""
        redacted: NDArray[np.bool_] = np.array(self._statuses) == STATUSES.index("redacted")
        return redacted

    @property
    def is_touched(self) -> NDArray[np.bool_]:
        """Shape n: anonymized or redacted."""
        touched: NDArray[np.bool_] = np.array(self._statuses) != STATUSES.index("untouched")
        return touched

    @property
    def is_noteworthy(self) -> NDArray[np.bool_]:
        """Shape n: frames that are redacted, had a fault, or took a fallback."""
        odd: NDArray[np.bool_] = (np.array(self._faults) > 0) | (np.array(self._fallbacks) > 0) | self.is_redacted
        return odd

    @property
    def n_hidden(self) -> NDArray[np.int64]:
        """Shape n: people hidden in each frame."""
        return np.array(self._n_hidden, dtype=np.int64)


def _one_line(text: str) -> str:
    """Faults come from other libraries, which like to write several lines."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT_LENGTH else line[: MAX_TEXT_LENGTH - 3] + "..."
