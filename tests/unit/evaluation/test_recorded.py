"""Parts made again from what files say: public ones, whatever a file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pa_lib.errors import InputError
from pa_lib.evaluation.recorded import made_again
from pa_lib.modules import DoublesReference
from pa_lib.people import AbstractMasker, BoxMasker

FILE = Path("clip.report.json")


def test_parts_within_parts_are_made() -> None:
    made = made_again({"_target_": "pa_lib.people.BoxMasker", "dilation_px": 7, "feather_px": 2}, BoxMasker, FILE)
    assert isinstance(made, BoxMasker)
    assert made.edge.dilation_px == 7
    nested = made_again(
        {"_target_": "pa_lib.modules.DoublesReference", "light": {"_target_": "pa_lib.modules.NoLight"}},
        DoublesReference,
        FILE,
    )
    assert type(nested.light).__name__ == "NoLight"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "os.system", "command": "true"}, "os.system"),
        ({"_target_": "pa_lib.people.finders.cv2.imread"}, "pa_lib.people.finders.cv2.imread"),
        ({"_target_": "pa_lib.people.BoxMasker", "of": 3}, "BoxMasker.*of"),
        ({"_target_": "pa_lib.people.BoxMasker", "feather_px": 99}, "feather_px"),
    ],
)
def test_a_file_that_names_anything_else_is_refused(node: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        made_again(node, AbstractMasker, FILE)  # type: ignore[type-abstract]
    assert "clip.report.json" in str(caught.value)
