"""The JSON Schemas that ship with the package say what the rows are, no more and no less."""

from __future__ import annotations

import json
import types
from importlib.resources import files
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from jsonschema import Draft202012Validator

from pipeline.models import ClassScore, Clip, DetailedScores, Result
from pipeline.rows import ClipRow, FailureRow, Origin, RowStyle, ScoreRow, VideoRow, encode, lines_of

ROWS: dict[str, type[msgspec.Struct]] = {
    "scores": ScoreRow,
    "clips": ClipRow,
    "videos": VideoRow,
    "failures": FailureRow,
}
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("pipeline").joinpath(f"schemas/{name}.schema.json").read_bytes())
    return loaded


def json_types(annotation: object) -> set[str]:
    return {JSON_TYPES[one] for one in get_args(annotation) or (annotation,)}


@pytest.mark.parametrize("name", ROWS)
def test_a_schema_has_the_keys_of_its_row_in_their_order(name: str) -> None:
    keys = list(ROWS[name].__struct_fields__)
    told = schema(name)
    assert list(told["properties"]) == told["required"] == keys
    assert told["additionalProperties"] is False
    assert all(one["description"] for one in told["properties"].values())


@pytest.mark.parametrize("name", ROWS)
def test_a_schema_has_the_types_of_its_row(name: str) -> None:
    for key, annotation in get_type_hints(ROWS[name]).items():
        told = schema(name)["properties"][key]
        if get_origin(annotation) is Literal:
            assert told["enum"] == list(get_args(annotation))
        else:
            assert isinstance(annotation, type | types.UnionType)
            some = told["type"]
            assert set([some] if isinstance(some, str) else some) == json_types(annotation), key


def test_written_rows_fit_their_schemas() -> None:
    clip = Clip(153.9375, 169.63541666666669, 39, "visual", "Dance group", "https://example.com/1.jpeg?signature=1")
    scored = ClassScore("DanceTok", 96.77, 1, (clip,), DetailedScores(39, 39.0, 100.0))
    origin = Origin(RowStyle("run", include_clips=True, show_detailed_score=True), 1, "2026-01-01T00:00:00.000Z")
    blocks = lines_of([Result("a", (scored,)), Result("b", ())], origin)
    failure = FailureRow("c", "video_refused", "HTTP 404", 404, True, 1, 2, "run", "2026-01-01T00:00:00.000Z")
    for name, block, count in zip(ROWS, [*blocks, encode(failure)], [1, 1, 2, 1], strict=True):
        rows = [json.loads(line) for line in block.splitlines()]
        assert len(rows) == count
        for row in rows:
            Draft202012Validator(schema(name), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(row)
