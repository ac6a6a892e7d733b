"""Whether answers are what the description of the platform says, by its own schemas."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from pipeline.platform.server import DESCRIPTION


@functools.cache
def description() -> dict[str, Any]:
    """What ``/openapi.json`` serves."""
    described: dict[str, Any] = json.loads(DESCRIPTION.read_bytes())
    return described


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """The value itself, or that which it refers to."""
    if "$ref" not in value:
        return value
    found = description()
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


@functools.cache
def _path_pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)))


def response_of(method: str, path: str, status: int) -> dict[str, Any]:
    """The response that is described. ``path`` is without version; of two templates that fit, the plainer counts."""
    paths = description()["paths"]
    fitting = [template for template in paths if _path_pattern(template).fullmatch(path)]
    operation = paths[min(fitting, key=lambda template: template.count("{"))][method.lower()]
    return resolved(operation["responses"][str(status)])


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(
        json.loads(schema) | {"components": description()["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def check_answer(described: dict[str, Any], headers: Mapping[str, str], body: bytes) -> None:
    """Raise ``AssertionError``, or what jsonschema raises, where an answer is not what is described of it."""
    for name, header in described.get("headers", {}).items():
        assert name in headers or not resolved(header).get("required"), f"{name} is missing"
    content = described.get("content")
    if content is None:
        assert body == b""
        return
    ((media_type, holder),) = content.items()
    assert headers["Content-Type"].split(";")[0] == media_type
    if media_type == "application/json":
        _validator(json.dumps(holder["schema"])).validate(json.loads(body))
