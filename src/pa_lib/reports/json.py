"""JSON records of pa_lib: how numbers are encoded, how files are written, read and checked, and their JSON Schemas."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pa_lib.errors import DamagedInputError, InputError
from pa_lib.paths import AS_ESCAPES
from pa_lib.video import write_whole

T = TypeVar("T")

NUMBERS = "null: there was nothing to measure, `counted` says why; 'inf' and '-inf' are written as words"
_NUMBER = {"anyOf": [{"type": "number"}, {"type": "null"}, {"enum": ["inf", "-inf"]}]}


def plain(value: Any) -> Any:
    """A value in what JSON knows: NaN as null, infinities as the words 'inf' and '-inf', unknown objects as text.

    >>> plain({"a": (1, math.nan, -math.inf), 2: Path("x")})
    {'a': [1, None, '-inf'], '2': 'x'}
    """
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return str(value)


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings; lists are values.

    >>> dict(flat({"a": {"b": 1, "c": [2]}}))
    {'a.b': 1, 'a.c': [2]}
    """
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


def number(value: Any) -> Any:
    """A number as it stands in a file; what is none is left for the check of types."""
    if value is None:
        return math.nan
    return {"inf": math.inf, "-inf": -math.inf}.get(value, value) if isinstance(value, str) else value


def numbers_in(*names: str, optional: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """A step before the check of types, for `pydantic.BeforeValidator`: numbers of records as they stand in a file.

    Args:
        names: Fields of the records that hold a number, a list of numbers, or a mapping to numbers; null is NaN.
        optional: Fields in which null is None.
    """

    def decoded(name: str, value: Any) -> Any:
        return _numbers(value) if name in names or (name in optional and value is not None) else value

    def decode(records: Any) -> Any:
        if not isinstance(records, list):
            return records
        return [
            {name: decoded(name, value) for name, value in record.items()} if isinstance(record, Mapping) else record
            for record in records
        ]

    return decode


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: number(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(number(item) for item in value)
    return number(value)


def write_record(path: Path, schema: str, version: int, content: Mapping[str, Any]) -> None:
    """Write a record with its schema; the file appears complete or not at all.

    Raises:
        PaLibError: It cannot be written.
    """
    whole = {"schema": schema, "schema_version": version, **plain(content)}
    write_whole(
        path, (json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(errors=AS_ESCAPES)
    )


def read_content(path: Path, schema: str, version: int, advice: str) -> dict[str, Any]:
    """The content of a record, of the schema that is expected; its fields are not checked.

    Args:
        path: The file.
        schema: Name of the schema.
        version: Version of the schema.
        advice: Advice on another file, for errors.

    Raises:
        InputError: The file is missing, or of another schema.
        DamagedInputError: It is no JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:
        raise DamagedInputError(f"{path} is damaged: {error}; {advice}") from error
    found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else None
    if found != (schema, version):
        raise InputError(f"{path} has the schema {found}, expected {schema} version {version}")
    assert isinstance(content, dict)
    return content


def record_of(record: type[T], content: Mapping[str, Any], path: Path, advice: str) -> T:
    """A dataclass from the fields of a file, each checked against its type; other fields are ignored.

    Raises:
        DamagedInputError: Names the field that is missing or wrong.
    """
    from pydantic import TypeAdapter, ValidationError  # 0.1 s, and only readers need it

    known = {name: content[name] for name in getattr(record, "__dataclass_fields__", ()) if name in content}
    try:
        return TypeAdapter(record).validate_python(known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedInputError(f"{path} is damaged: {where}: {first['msg']}; {advice}") from error


def json_schema(record: type[Any], schema: str, version: int) -> dict[str, Any]:
    """The JSON Schema of a record, with the words for numbers that JSON lacks.

    Args:
        record: Dataclass of the fields.
        schema: Name of the schema.
        version: Version of the schema.
    """
    from pydantic import TypeAdapter

    made: dict[str, Any] = _with_words(TypeAdapter(record).json_schema())
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["$id"] = f"{schema}.v{version}"
    made["properties"] = {"schema": {"const": schema}, "schema_version": {"const": version}, **made["properties"]}
    made["required"] = ["schema", "schema_version", *made.get("required", ())]
    return made


def _with_words(node: Any) -> Any:
    if isinstance(node, Mapping):
        if node.get("type") == "number":
            return {**{key: value for key, value in node.items() if key != "type"}, **_NUMBER}
        return {key: _with_words(item) for key, item in node.items()}
    return [_with_words(item) for item in node] if isinstance(node, list) else node
