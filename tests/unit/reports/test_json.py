"""JSON of all records: numbers that JSON lacks, files of before, and schemas."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _evaluation import evaluation
from pa_lib.errors import DamagedInputError, InputError
from pa_lib.metrics import TrackRow
from pa_lib.reports import Evaluation, json_schemas
from pa_lib.reports.json import number, numbers_in, plain, read_content


@given(st.floats())
def test_every_number_survives_plain_json(value: float) -> None:
    found = number(json.loads(json.dumps(plain(value), allow_nan=False)))
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_numbers_of_records_are_read_and_other_fields_left_alone() -> None:
    decode = numbers_in("value", optional=("interval",))
    (one,) = decode([{"value": None, "interval": ["-inf", None], "name": None}])
    assert math.isnan(one["value"])
    assert one["interval"][0] == -math.inf
    assert math.isnan(one["interval"][1])
    assert one["name"] is None
    assert decode([{"interval": None}]) == [{"interval": None}]
    assert decode("no list") == "no list"


def test_files_from_before_fields_were_renamed_are_read(tmp_path: Path) -> None:
    one = evaluation({"toy": 1.5, "toy_b": math.inf}, tracks=[TrackRow(0, 1, {"toy": math.nan})])
    one.write_json(tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    for record in content["metrics"]:
        record["figures"], record["stage"] = record.pop("values"), record.pop("measured_on")
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    again = Evaluation.read_json(tmp_path)
    assert again.metrics[0].values == one.metrics[0].values
    assert again.metrics[0].measured_on == "encoded"
    assert math.isnan(again.metrics[0].tracks[0].values["toy"])


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, InputError, "cannot be read"),
        ("{", DamagedInputError, "is damaged"),
        ("[1]", InputError, "has the schema None"),
        ('{"schema": "x", "schema_version": 2}', InputError, r"has the schema \('x', 2\), expected x version 1"),
    ],
)
def test_other_files_are_refused(content: str | None, kind: type[Exception], message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file.json").write_text(content)
    with pytest.raises(kind, match=message):
        read_content(tmp_path / "file.json", "x", 1, "do this")


def test_a_damaged_field_is_named(tmp_path: Path) -> None:
    evaluation({"toy": 1.0}).write_json(tmp_path / "metrics.json")
    text = (tmp_path / "metrics.json").read_text()
    (tmp_path / "metrics.json").write_text(text.replace('"n": 3', '"n": "many"'))
    with pytest.raises(DamagedInputError, match=r"is damaged: metrics\.0\.values\.0\.n: "):
        Evaluation.read_json(tmp_path)


def test_schemas_know_what_is_written(tmp_path: Path) -> None:
    schemas = json_schemas()
    for name, schema in schemas.items():
        assert json.loads(json.dumps(schema)) == schema
        assert schema["properties"]["schema"] == {"const": name}
    schema = schemas["pa_lib.metrics"]
    one = evaluation({"toy": 1.5})
    one.write_json(tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert set(schema["required"]) <= set(content)
    assert {"number", "null"} == {
        kind["type"] for kind in schema["$defs"]["MetricValue"]["properties"]["value"]["anyOf"] if "type" in kind
    }
    for name in ("MetricRecord", "MetricValue", "MeasuredClip"):
        written = {
            "MetricRecord": content["metrics"][0],
            "MetricValue": content["metrics"][0]["values"][0],
            "MeasuredClip": content["clips"][0],
        }[name]
        assert set(written) == set(schema["$defs"][name]["properties"])
