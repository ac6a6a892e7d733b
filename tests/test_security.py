"""What a hostile platform, a careless environment and a crowded machine must not achieve, shown on whole runs.

Each promise has its tests beside its module too, case by case. Here it is looked at from outside: what other servers
were sent, what stands in every file, what a terminal gets, and who may read it.
"""

from __future__ import annotations

import json
import os
import ssl
import stat
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pipeline.client import Client
from pipeline.config import ApiSection, api_key, load
from pipeline.config_sources import PLATFORM_KEY
from pipeline.errors import AnswerUnusable, CannotConnect, ConfigError, InputError, PlatformDown, StorageError
from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.quota import retry_after_seconds
from pipeline.rows import FAILURES, ROW_FILES
from pipeline.run import run
from pipeline.rundir import LEDGER, LOG, METRICS, RUN_JSON
from pipeline.transport import Guard, open_transport
from tests.runs import KEY, Desk, Finished, faults, library
from tests.servers.contract import ContractServer, Fault, RequestSeen, Status
from tests.test_client import Told, answer
from tests.test_transport import HEADERS, chain, listening, served, whole

NOW = 1_700_000_000.0
DAY = 86_400.0
VIDEOS_ASKED = library(30)
SMALL: dict[str, object] = {"limits__max_videos_per_post": 10, "limits__concurrency": 1, "job__page_limit": 4}


def shown(finished: Finished) -> str:
    return finished.stdout + finished.stderr


def assert_harmless(text: str) -> None:
    """Nothing in it that a terminal obeys, or that reads otherwise than it is."""
    assert [letter for letter in text if not letter.isprintable() and letter != "\n"] == []


# ------------------------------------------------------------------------------------------- where the key may not go


@pytest.mark.parametrize("kind", ["post", "page"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_ends_the_run_and_the_other_origin_hears_nothing(desk: Desk, kind: str, status: int) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as elsewhere:
        moved = Status(status, headers={"Location": f"{elsewhere.url}/classify"})
        async with ContractServer(VIDEOS_ASKED, key=KEY, faults=faults((kind, 2, moved))) as server:
            desk.write_ids(VIDEOS_ASKED)
            desk.write_config(server.url, **SMALL)
            outcome = await desk.run()
            assert type(outcome.stopped) is PlatformDown
            assert str(outcome.stopped) == (
                f"the platform redirects (HTTP {status}), and a key is never sent on: check api.url"
            )
            assert (await desk.run()).exit_code == 0
            desk.check(server, VIDEOS_ASKED)
    assert (elsewhere.posts, elsewhere.pages, elsewhere.violations) == ([], [], [])


IN_THE_CLEAR = [
    "http://192.0.2.1",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example/v1.2",
    "http://127.0.0.1@evil.example",
    "http://127.0.0.1:80@evil.example/v1.2",
    "http://127.0.0.1#@evil.example",
    "http://127.0.0.1\\@evil.example",
    "http://127.0.0.1%2eevil.example",
    "http://evil.example/127.0.0.1",
    "http://0.0.0.0",
    "http://127.1",
    "http://2130706433",
    "http://[::ffff:192.0.2.1]",
    "http://localhost。evil.example",
    "http://ⓛocalhost",
    "http:/\t/127.0.0.1",
    "https://me:secret@example.com",
    "HTTP://EXAMPLE.COM",
    "http+unix://127.0.0.1",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("url", IN_THE_CLEAR)
def test_no_source_may_name_a_platform_in_the_clear_but_on_loopback(desk: Desk, url: str) -> None:
    desk.write_config(url)
    sources: list[tuple[dict[str, object], dict[str, str]]] = [
        ({}, {}),
        ({"--api-url": url}, {}),
        ({"api.url": url}, {}),
        ({}, {"BULK_CLASSIFY_API__URL": url}),
    ]
    for flags, environment in sources:
        with pytest.raises(ConfigError) as caught:
            load(desk.config, flags=flags, environment=environment)
        assert all(": api.url: " in line for line in caught.value.problems)
        assert "secret" not in str(caught.value)
    desk.config.write_text(desk.config.read_text().replace("api.url", "# api.url"))
    with pytest.raises(ConfigError, match=r"TWELVELABS_BASE_URL: api\.url: "):
        load(desk.config, flags={}, environment={"TWELVELABS_BASE_URL": url})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_proxy_of_the_environment_sees_a_run_against_loopback(desk: Desk, host: str) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server, listening(whole(b"")) as proxy:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url.replace("127.0.0.1", host))
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
        proxied: dict[str, Any] = dict.fromkeys(names, proxy.url)
        finished = await desk.command("run", desk.config, **proxied)
        desk.check(server, VIDEOS_ASKED)
    assert (finished.exit_code, proxy.requests) == (0, [])


# Made for this test, for elsewhere.example, trusted by nobody, valid from 2020 to 2120.
OF_ANOTHER_HOST = """\
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIBATAKBggqhkjOPQQDAjAcMRowGAYDVQQDDBFlbHNld2hl
cmUuZXhhbXBsZTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowHDEa
MBgGA1UEAwwRZWxzZXdoZXJlLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMB
BwNCAATEHEl8CyggxlSTlCOJN2s0d7HA9/xIr8u1h7nW5Uu33roQzmnEjnvcNORG
bmoG5osjkf5szjUXJOANBpyQDid4o1AwTjAPBgNVHRMBAf8EBTADAQH/MBwGA1Ud
EQQVMBOCEWVsc2V3aGVyZS5leGFtcGxlMB0GA1UdDgQWBBRkxi710Uy5yLzia5Qt
4pRwt2CFqjAKBggqhkjOPQQDAgNIADBFAiEAvWELsdL5FkkkPH5flAlw+bP0RXQJ
6Iy5srmKUCAIGwgCIDfmRPhjbCU5JuanHV5Ncu6rZW4Olr2TXNZb8U5JCnlO
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtbzd1LMQJNY3po9F
pyrOcQYDwsHh4O0P0yiWEmgxGQahRANCAATEHEl8CyggxlSTlCOJN2s0d7HA9/xI
r8u1h7nW5Uu33roQzmnEjnvcNORGbmoG5osjkf5szjUXJOANBpyQDid4
-----END PRIVATE KEY-----
"""


async def test_a_trusted_certificate_of_another_host_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    certificate = tmp_path / "elsewhere.pem"
    certificate.write_text(OF_ANOTHER_HOST)
    async with (
        listening(whole(b"{}"), trusted=served(certificate)) as server,
        open_transport(f"https://localhost:{server.port}/v1.2", HEADERS, Guard(ca_file=str(certificate))) as transport,
    ):
        with pytest.raises(CannotConnect, match="Hostname mismatch"):
            await transport.exchange("GET", "/one")
    assert server.requests == []


async def test_nothing_in_the_environment_or_the_configuration_turns_verification_off(tmp_path: Path) -> None:
    """A context that verifies names and chains is what aiohttp uses where none is given."""
    certificate = tmp_path / "elsewhere.pem"
    certificate.write_text(OF_ANOTHER_HOST)
    for guard in (Guard(), Guard(ca_file=str(certificate))):
        async with open_transport("https://localhost/v1.2", HEADERS, guard) as transport:
            connector = transport._session.connector
            assert isinstance(connector, aiohttp.TCPConnector)
            assert connector._ssl is True or (
                isinstance(connector._ssl, ssl.SSLContext)
                and connector._ssl.check_hostname
                and connector._ssl.verify_mode is ssl.CERT_REQUIRED
            )


# --------------------------------------------------------------------------------------------------------- page tokens


@given(st.text(max_size=5000) | st.text(alphabet="./\\%?#&=:@2eEfF \n\r\0é", min_size=1, max_size=20))
async def test_any_page_token_is_one_segment_of_the_path_or_is_never_sent(token: str) -> None:
    told = Told(answer())
    sendable = True
    try:
        await Client(told, score_source="", secret=KEY, clock=lambda: NOW).page(token)
    except AnswerUnusable:
        sendable = False
    assert len(told.asked) == sendable
    for asked in told.asked:
        url = URL("https://platform.example/v1.2" + asked.removeprefix("GET "), encoded=True)
        assert (url.host, url.raw_query_string, url.raw_fragment) == ("platform.example", "", "")
        root, version, classify, segment = url.raw_path.split("/")
        assert (root, version, classify, unquote(segment)) == ("", "v1.2", "classify", token)
        assert segment not in {".", ".."}


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("../../admin?x=y#z", "GET /v1.2/classify/..%2F..%2Fadmin%3Fx%3Dy%23z HTTP/1.1"),
        ("%2e%2e%2fadmin", "GET /v1.2/classify/%252e%252e%252fadmin HTTP/1.1"),
        ("//evil.example/", "GET /v1.2/classify/%2F%2Fevil.example%2F HTTP/1.1"),
    ],
)
async def test_a_token_reaches_the_wire_as_one_segment(desk: Desk, token: str, line: str) -> None:
    page = json.dumps({"data": [], "page_info": {"total_results": 0, "next_page_token": token}}).encode()
    last = b'{"data": [], "page_info": {"total_results": 0, "next_page_token": ""}}'
    close = "Connection: close"
    async with listening(whole(page, close), whole(last, close)) as server:
        desk.write_ids(library(1))
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 0
    assert [request.splitlines()[0] for request in server.requests] == ["POST /v1.2/classify HTTP/1.1", line]


# ------------------------------------------------------------------------------------------------- what never shows


SPELLED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
"""The key as JSON may write it."""


def said(code: str, message: str) -> bytes:
    return json.dumps({"code": code, "message": message}).encode()


REPEATING: dict[str, Status] = {
    "a refusal": Status(400, said(f"bad_{KEY}", f"A video of {KEY} is bad.")),
    "a refusal of the job": Status(422, said("bad", f"{KEY} {KEY}")),
    "a refusal of the key": Status(401, said("api_key_invalid", f"Who is {KEY}?")),
    "an escaped text": Status(400, f'{{"code": "bad", "message": "A video of {SPELLED}"}}'.encode()),
    "where a message is cut": Status(400, said("bad", "video " + "x" * 485 + KEY)),
    "the end of the endpoint": Status(410, said("gone", KEY)),
    "a redirect": Status(302, KEY.encode(), {"Location": f"https://elsewhere.example/?key={KEY}"}),
    "a proxy's page": Status(502, f"<html>x-api-key: {KEY}</html>".encode()),
    "headers": Status(503, b"", {"Retry-After": KEY, "X-Ratelimit-Reset": KEY, "X-Echo": KEY}),
    "a page of no use": Status(200, f'{{"data": "{KEY}"}}'.encode()),
    "no page": Status(200, f"x-api-key: {KEY}".encode()),
}


@pytest.mark.parametrize("kind", ["post", "page"])
@pytest.mark.parametrize("repeating", REPEATING.values(), ids=REPEATING)
async def test_a_key_that_the_platform_repeats_reaches_no_file_and_no_message(
    desk: Desk, kind: str, repeating: Status
) -> None:
    """With every event logged. Whatever is repeated on a page costs no more than a new walk."""

    def always(seen: RequestSeen) -> Fault | None:
        return repeating if seen.kind == kind else None

    async with ContractServer(VIDEOS_ASKED, key=KEY, faults=always) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, limits__give_up_after_seconds=1, limits__max_unknown_posts=1, **SMALL)
        outcome = await run(desk.order(log_level="debug"))
    assert (server.pages != []) is (kind == "page")
    assert desk.files_with(KEY) == []
    assert desk.files_with(SPELLED) == []
    assert KEY not in f"{outcome!r} {outcome.stopped} {outcome.stopped!r}"


CRASH = """
from pipeline.worker import Worker

async def answer(worker, chunk):
    raise RuntimeError(f"a bug with {chunk.number}")

Worker.answer = answer
from pipeline.cli import main
main()
"""


async def test_a_bug_ends_a_run_loudly_and_without_the_key(desk: Desk) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url)
        ended = await anyio.run_process(
            [sys.executable, "-c", CRASH, "run", str(desk.config), "--log-level", "debug"],
            check=False,
            cwd=desk.folder,
            env=desk._environment({}),
        )
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert b"RuntimeError: a bug with 1" in ended.stderr
    assert KEY.encode() not in ended.stderr
    assert desk.files_with(KEY) == []


async def test_a_traceback_with_the_values_of_all_variables_has_no_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As error trackers collect them."""

    async def crash(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("pipeline.worker.Worker.answer", crash)
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url)
        with pytest.raises(BaseExceptionGroup) as caught:
            await desk.run()
    for error in chain(caught.value):
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "a bug" in told
        assert KEY not in told


@pytest.mark.parametrize("content", [b"  secret", b"\n\tsecret\r\n", b"secret   "])
def test_blanks_around_a_key_in_a_file_are_no_part_of_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    assert api_key(ApiSection(url="https://x.example/v1.2", key_file=str(path)), {}).reveal() == "secret"


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two\nlines", b"\xef\xbb\xbfsecret", b"secret\0", b"s" * 10_000_000, b"secr\xc3\xa9t"]
)
def test_what_no_header_can_carry_is_no_key_and_is_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        api_key(ApiSection(url="https://x.example/v1.2", key_file=str(path)), {})
    assert str(caught.value) == (f"{path}: not an API key: expected 1 to 512 printable ASCII characters without blanks")


async def test_the_command_that_is_told_of_the_end_has_no_key_in_its_environment(desk: Desk) -> None:
    """Wherever the key came from, and also not the keys that were not used."""
    told = desk.folder / "told.json"
    write = f"import json, os; json.dump(dict(os.environ), open({str(told)!r}, 'w'))"
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, api__key_env="MINE", notify__command=[sys.executable, "-c", write])
        unused = ("TWELVE_LABS_API_KEY", "TL_API_KEY", PLATFORM_KEY)
        keys: dict[str, Any] = dict.fromkeys(unused, "another-secret")
        assert (await desk.command("run", desk.config, MINE=KEY, **keys)).exit_code == 0
    environment: dict[str, Any] = json.loads(told.read_bytes())
    assert environment["NOTIFY_EXIT_CODE"] == "0"
    assert {"MINE", "TWELVELABS_API_KEY", *keys}.isdisjoint(environment)
    assert KEY not in told.read_text()
    assert "another-secret" not in told.read_text()


# -------------------------------------------------------------------------------------------------------- the terminal


ESCAPES = "a\x1b[2J\x1b]0;gone\x07b\rc\u202ed\x9b31me\x00\u2028f"


@pytest.mark.parametrize("status", [301, 400, 401, 410, 422])
async def test_nothing_that_a_terminal_obeys_comes_through(desk: Desk, status: int) -> None:
    refusal = Status(status, said(ESCAPES, f"The video is {ESCAPES}."))
    async with ContractServer(VIDEOS_ASKED, key=KEY, faults=lambda _: refusal) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, limits__max_bisect_posts=0)
        finished = await desk.command("run", desk.config, "--json", "--log-level", "debug")
        assert_harmless(shown(finished))
        assert_harmless(shown(await desk.command("status", desk.out)))
    assert finished.exit_code in {2, 3, 4, 69}
    for name in (LOG, FAILURES):
        assert_harmless((desk.out / name).read_text())


FORMULAS = [
    "=1+1",
    "+1",
    "@SUM(A1)",
    "=HYPERLINK(x)",
    "a=b",
    "a b",
    "é",
    "a\x1b[2J",
    "\u202ea",
    "../a",
    "a;b",
    "a'b",
    "\uff41",
]


async def test_ids_that_a_spreadsheet_or_a_terminal_would_obey_are_bad_lines_and_shown_harmlessly(desk: Desk) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        (desk.folder / "ids.txt").write_text("\n".join(FORMULAS))
        desk.write_config(server.url, input__ids=["ids.txt"])
        with pytest.raises(InputError) as caught:
            await desk.run()
    assert len(caught.value.problems) == len(FORMULAS)
    assert_harmless(str(caught.value))
    assert server.posts == []


# ------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("ordered", "seconds"),
    [
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        ("Fri, 31 Dec 9999 23:59:59 -2359", DAY),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Thu, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("999999999999", DAY),
        ("1e308", None),
        ("-1e308", None),
        ("-inf", None),
        ("NaN", None),
        ("9" * 10_000, None),
    ],
)
def test_whatever_the_platform_orders_no_wait_is_longer_than_a_day(ordered: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": ordered}, NOW) == seconds


# ------------------------------------------------------------------------------------------------------ who may read it


@pytest.fixture
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_to_all")
async def test_whatever_the_umask_all_that_a_run_makes_is_its_owners_alone(desk: Desk) -> None:
    """Also while it goes on, when the ledger has its side files and a file that is replaced its draft."""
    modes: set[tuple[str, int]] = set()

    def looked_at(_: RequestSeen) -> None:
        for path in (desk.out, *desk.out.rglob("*"), desk.folder / "cache", *(desk.folder / "cache").rglob("*")):
            with suppress(FileNotFoundError):  # a draft that takes its name just now
                mode = path.lstat().st_mode
                modes.add(("folder" if stat.S_ISDIR(mode) else "file", stat.S_IMODE(mode)))

    async with ContractServer(VIDEOS_ASKED, key=KEY, faults=looked_at) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, **SMALL)
        assert (await desk.run()).exit_code == 0
        looked_at(RequestSeen("post", 0, ()))
    assert {path.name for path in desk.out.iterdir()} == {*ROW_FILES, FAILURES, RUN_JSON, LEDGER, LOG, METRICS}
    assert modes == {("folder", 0o700), ("file", 0o600)}


@pytest.mark.parametrize(
    "name", [*ROW_FILES, FAILURES, RUN_JSON, LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", LOG, METRICS]
)
async def test_a_link_to_nowhere_in_the_place_of_a_file_is_refused_and_nothing_is_made_there(
    desk: Desk, name: str
) -> None:
    target = desk.folder / "target"
    desk.out.mkdir()
    (desk.out / name).symlink_to(target)
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url)
        with pytest.raises(StorageError) as caught:
            await desk.run()
    assert str(caught.value) == f"{desk.out / name}: not a regular file; a run directory holds no links"
    assert (server.posts, target.exists()) == ([], False)


async def test_a_run_directory_that_is_a_link_is_refused_and_its_target_left_alone(desk: Desk) -> None:
    target = desk.folder / "target"
    target.mkdir()
    desk.out.symlink_to(target)
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url)
        finished = await desk.command("run", desk.config)
    assert finished.exit_code == 74
    assert finished.stderr == f"error: {desk.out}: not a directory, or a symbolic link; give the directory itself\n"
    assert (server.posts, list(target.iterdir())) == ([], [])


# ---------------------------------------------------------------------------------------------------- the own platform


REBOUND: list[dict[str, str]] = [
    {"Host": "evil.example"},
    {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1.evil.example:{port}"},
    {"Host": "localhost.evil.example:{port}"},
    {"Host": "127.0.0.1@evil.example:{port}"},
    {"Host": "[::ffff:192.0.2.1]:{port}"},
    {"Host": "192.0.2.1:{port}"},
    {"Host": ""},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://evil.example:{port}"},
    {"Origin": "http://127.0.0.1.evil.example:{port}"},
    {"Origin": "http://127.0.0.1@evil.example:{port}"},
    {"Origin": "file://"},
]
AT_HOME: list[dict[str, str]] = [
    {"Host": "localhost:{port}"},
    {"Host": "LOCALHOST"},
    {"Host": "[::1]:{port}"},
    {"Origin": "http://localhost:{port}"},
    {"Origin": "http://[::1]:1"},
]


@pytest.mark.parametrize(
    ("header", "status"), [*((one, 403) for one in REBOUND), *((one, 200) for one in AT_HOME)], ids=str
)
async def test_a_page_of_another_site_cannot_use_the_local_platform(
    tmp_path: Path, header: dict[str, str], status: int
) -> None:
    with Store.create(tmp_path / "index.sqlite", "0" * 24, "Test") as store:
        async with serving(store, Settings()) as url, aiohttp.ClientSession() as session:
            port = url.removesuffix("/v1.2").rpartition(":")[2]
            assert url == f"http://127.0.0.1:{port}/v1.2"
            headers = {"x-api-key": "any"} | {name: value.format(port=port) for name, value in header.items()}
            async with session.get(f"{url}/indexes", headers=headers) as answered:
                assert answered.status == status
                assert not [name for name in answered.headers if name.lower().startswith("access-control")]


async def test_a_short_key_changes_nothing_of_what_the_platform_means(desk: Desk) -> None:
    async with ContractServer(library(3), key="x") as server:
        desk.write_ids({**library(3), "stranger": 60.0})
        desk.write_config(server.url)
        finished = await desk.command("run", desk.config, TWELVELABS_API_KEY="x")
    assert (finished.exit_code, desk.failures()) == (3, {"stranger": "resource_not_exist"})


@pytest.mark.parametrize("source", [b"a\xff", b"a\xc2\x9b2J", b"a\xe2\x80\xae", b"s" * 5000, KEY.encode()])
async def test_a_score_source_is_harmless_text_or_none(desk: Desk, source: bytes) -> None:
    body = b'{"data": [], "page_info": {"total_results": 0}}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\nX-Score-Source: ".encode()
    async with listening(head + source + b"\r\n\r\n" + body) as server:
        desk.write_ids(library(1))
        desk.write_config(server.url)
        finished = await desk.command("run", desk.config, "--json")
    told = json.loads(finished.stdout)["score_source"]
    assert (finished.exit_code, told.isprintable(), len(told) <= 500) == (0, True, True)
    assert desk.files_with(KEY) == []


@pytest.mark.parametrize("place", ["name", "prompt", "option", "thumbnail_url", "alien"])
async def test_a_key_that_the_platform_repeats_in_an_answer_reaches_no_file(desk: Desk, place: str) -> None:
    clip: dict[str, Any] = {"start": 0, "end": 1, "score": 50, "option": "visual", "prompt": "Dance group"}
    one: dict[str, Any] = {"name": "DanceTok", "score": 50, "duration_ratio": 0.5, "clips": [clip]}
    (one if place == "name" else clip)[place] = f"https://t.example/{KEY}"
    entry = {"video_id": KEY if place == "alien" else "video0000", "classes": [one]}
    body = json.dumps({"data": [entry], "page_info": {"total_results": 1}}).encode()

    def repeat(_: RequestSeen) -> Fault:
        return Status(200, body, {"Content-Type": "application/json"})

    async with ContractServer(library(1), key=KEY, faults=repeat) as server:
        desk.write_ids(library(1))
        desk.write_config(server.url, job__show_detailed_score=False)
        await desk.run()
    assert desk.files_with(KEY) == []
