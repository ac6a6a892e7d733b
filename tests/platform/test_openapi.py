"""The description at ``/openapi.json``: every route, every status and code of a refusal, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from pipeline.platform.server import DESCRIPTION, Settings, create_app, serving
from pipeline.platform.store import Store
from pipeline.platform.videos import OPTIONS
from tests.fidelity.described import check_answer, description, resolved, response_of
from tests.pages import DOCS, section
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video

INDEX_ID = "64428d88456b2dab381e7000"
KEY = "sesame"
METHODS = {"get", "post", "put", "patch", "delete"}
ROOT = [{"url": "/"}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "index.sqlite", INDEX_ID, "Test") as opened:
        for option in OPTIONS:
            opened.calibrate({option: CURVE})
        yield opened


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in description()["paths"].items():
        for method in METHODS & set(item):
            root = item.get("servers") == ROOT
            yield method.upper(), path if root else f"/v1.2{path}", item[method]


def references(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


def described_codes() -> dict[int, set[str]]:
    """The codes of each status that stands somewhere in the description."""
    found: dict[int, set[str]] = {405: codes_of(description()["components"]["responses"]["MethodNotAllowed"])}
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                found.setdefault(int(status), set()).update(codes_of(resolved(response)))
    return found


def codes_of(response: dict[str, Any]) -> set[str]:
    if "content" not in response:
        return set()
    _, narrowed = response["content"]["application/json"]["schema"]["allOf"]
    return set(narrowed["properties"]["code"]["enum"])


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for schema in description()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    leading = [resolved(one) for one in references(description())]
    assert len(leading) > 50


def test_every_component_is_used() -> None:
    used = {one["$ref"] for one in references(description())} | {"#/components/responses/MethodNotAllowed"}
    components = description()["components"]
    kinds = set(components) - {"securitySchemes"}
    assert {f"#/components/{kind}/{name}" for kind in kinds for name in components[kind]} == used


def test_every_route_is_described_and_no_other(store: Store) -> None:
    def anonymous(path: str) -> str:
        return re.sub(r"\{\w+\}", "{}", path.replace("{version}", "v1.2"))

    app = create_app(store, Settings(), embedder=AxisEmbedder())
    routes = {(route.method, anonymous(route.resource.canonical)) for route in app.router.routes() if route.resource}
    assert {(method, anonymous(path)) for method, path, _ in operations()} == routes
    identifiers = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(identifiers)) == len(identifiers) == 9


def test_every_code_is_in_the_document_with_its_status() -> None:
    table = section(DOCS / "codes.md", "### A platform's")
    statuses = dict(re.findall(r"^\| `(\w+)` \| ([\d, ]+|any) \|", table, re.MULTILINE))
    described = {(code, str(status)) for status, codes in described_codes().items() for code in codes}
    assert described == {(code, status) for code, status in described if status in statuses[code].split(", ")}


async def test_it_is_served_without_a_key_but_not_to_foreign_pages(store: Store) -> None:
    async with serving(store, Settings(key=KEY)) as url, aiohttp.ClientSession() as session:
        site = url.removesuffix("/v1.2")
        async with session.get(f"{site}/openapi.json") as answer:
            assert (answer.status, await answer.read()) == (200, DESCRIPTION.read_bytes())
        async with session.get(f"{site}/openapi.json", headers={"Host": "evil.example"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "unauthorized")


QUESTION: dict[str, Any] = {"options": ["visual"], "classes": [{"name": "A", "prompts": ["alpha"]}]}
CLASSIFY = "/classify"


async def told(url: str, method: str, path: str, **options: Any) -> tuple[int, str]:
    """Status and code of an answer that is as it is described."""
    headers = {"x-api-key": KEY, **options.pop("headers", {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=headers, **options) as answer,
    ):
        body = await answer.read()
        check_answer(response_of(method, path.partition("?")[0], answer.status), dict(answer.headers), body)
        return answer.status, json.loads(body).get("code", "") if body else ""


@pytest.mark.parametrize(
    ("method", "path", "options", "refusal"),
    [
        ("POST", CLASSIFY, {"json": QUESTION | {"video_ids": ["v0"], "page_limit": 0}}, (400, "parameter_invalid")),
        ("POST", CLASSIFY, {"json": QUESTION | {"video_ids": ["v0", "v1"]}}, (400, "parameter_invalid")),
        ("POST", CLASSIFY, {"json": QUESTION}, (400, "parameter_not_provided")),
        ("POST", CLASSIFY, {"json": QUESTION | {"video_ids": ["v0"], "x": 1}}, (400, "parameter_unknown")),
        ("POST", f"{CLASSIFY}/bulk", {"json": QUESTION}, (400, "parameter_not_provided")),
        ("GET", f"{CLASSIFY}/none", {}, (400, "parameter_invalid")),
        ("GET", "/indexes?page=0", {}, (400, "parameter_invalid")),
        ("GET", "/indexes?filename=x", {}, (400, "parameter_unknown")),
        ("GET", f"/indexes/{INDEX_ID}/videos?created_at=2024", {}, (400, "parameter_invalid")),
        ("GET", "/indexes", {"headers": {"x-api-key": "wrong"}}, (401, "api_key_invalid")),
        ("GET", "/indexes", {"headers": {"Origin": "https://evil.example"}}, (403, "unauthorized")),
        ("POST", CLASSIFY, {"json": QUESTION | {"video_ids": ["nope"]}}, (404, "resource_not_exist")),
        ("GET", "/indexes/nope", {}, (404, "resource_not_exist")),
        ("GET", f"/indexes/{INDEX_ID}/videos/nope", {}, (404, "resource_not_exist")),
        ("POST", CLASSIFY, {"data": BytesIO(bytes(2**20 + 1))}, (413, "request_too_large")),
        ("POST", CLASSIFY, {"data": b"{}", "headers": {"Content-Encoding": "br"}}, (415, "encoding_not_supported")),
    ],
)
async def test_refusals_are_as_they_are_described(
    store: Store, method: str, path: str, options: dict[str, Any], refusal: tuple[int, str]
) -> None:
    videos = [video(f"v{at}", 20_000, track("visual", (0, 20_000, [90]))) for at in range(2)]
    store.add_videos(videos, SPACE)
    async with serving(store, Settings(key=KEY), embedder=AxisEmbedder()) as url:
        assert await told(url, method, path, **options) == refusal


def closed(store: Store) -> None:
    store.close()


def filled_for_nobody(store: Store) -> None:
    store.add_videos([video("v", 10, track("visual", (0, 10, [90])))], "space-of-nobody")


@pytest.mark.parametrize(
    ("settings", "happens", "expected"),
    [
        (Settings(tariff="v1.2-free"), None, [(200, "")] * 20 + [(429, "")]),
        (Settings(), closed, [(500, "internal_server_error")]),
        (Settings(), filled_for_nobody, [(502, "embedder_failed")]),
    ],
    ids=["used-up", "index-gone", "no-embedder"],
)
async def test_failures_are_as_they_are_described(
    store: Store, settings: Settings, happens: Callable[[Store], None] | None, expected: list[tuple[int, str]]
) -> None:
    async with serving(store, settings) as url:
        if happens:
            happens(store)
        asked = QUESTION | {"index_id": INDEX_ID}
        assert [await told(url, "POST", "/classify/bulk", json=asked) for _ in expected] == expected
