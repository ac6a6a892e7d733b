"""Reading the input into the ledger: what is new, what is packed, what a bad list leaves behind, and index listings."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pipeline.chunks import Intake
from pipeline.config import ApiKey, load
from pipeline.connection import connected
from pipeline.errors import InputError, JobRefused, KeyRefused
from pipeline.intake import Input, take_in
from pipeline.ledger import INPUT_FINGERPRINT, Ledger
from pipeline.models import Video
from pipeline.pacing import Gate, Pace
from tests.runs import KEY, Desk, MovedClock, library


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@asynccontextmanager
async def index_of(pages: Sequence[dict[str, float]], *faults: int) -> AsyncIterator[tuple[str, list[str]]]:
    """A platform with one index of these pages; its first answers have the statuses of ``faults``. URL, requests."""
    asked: list[str] = []
    refusals = list(faults)

    async def listing(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        if refusals:
            return web.Response(status=refusals.pop(0), headers={"Retry-After": "0"})
        page = int(request.query["page"])
        videos = [{"_id": one, "metadata": {"duration": seconds}} for one, seconds in pages[page - 1].items()]
        return web.json_response({"data": videos, "page_info": {"page": page, "total_page": len(pages)}})

    application = web.Application()
    application.router.add_get("/v1.2/indexes/{index}/videos", listing)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1.2", asked
    finally:
        await runner.cleanup()


async def read(desk: Desk, ledger: Ledger, *, stdin: bytes = b"", skipped: list[str] | None = None) -> Intake:
    config = load(desk.config, flags={}, environment={}).config
    given = Input(config, io.BytesIO(stdin), (skipped if skipped is not None else []).append, lambda: 0.0)
    async with connected(config, ApiKey(KEY), cache=desk.folder, clock=lambda: 0.0) as connection:
        gate = Gate(Pace(), window=None, posts_spent=0, clock=lambda: 0.0, timer=MovedClock().timer)
        return await take_in(given, ledger, connection.client, gate)


def chunks(ledger: Ledger) -> list[list[Video]]:
    return [list(chunk.videos) for chunk in ledger.pending_after(0, 1000)]


NOWHERE = "http://127.0.0.1:1/v1.2"


async def test_a_list_is_read_whole_and_packed(desk: Desk, ledger: Ledger) -> None:
    desk.write_ids({"a": 20_000, "b": 20_000, "c": 16_000, "d": None})
    desk.write_config(NOWHERE)
    assert await read(desk, ledger) == Intake(read=4, duplicates=0, added=4, gone=0)
    assert chunks(ledger) == [[Video("a", 20_000.0), Video("c", 16_000.0)], [Video("b", 20_000.0)], [Video("d")]]


async def test_read_again_only_what_is_new_is_packed(desk: Desk, ledger: Ledger) -> None:
    desk.write_config(NOWHERE)
    desk.write_ids({"a": 10, "b": 10})
    await read(desk, ledger)
    before = ledger.fact(INPUT_FINGERPRINT)
    desk.write_ids({"b": 10, "c": 10})
    assert await read(desk, ledger) == Intake(read=2, duplicates=0, added=1, gone=1)
    assert [[one.video_id for one in chunk] for chunk in chunks(ledger)] == [["a", "b"], ["c"]]
    assert before != ledger.fact(INPUT_FINGERPRINT)


async def test_an_id_from_standard_input_and_twice_in_it_counts_once(desk: Desk, ledger: Ledger) -> None:
    desk.write_config(NOWHERE, input__ids=["-"])
    assert await read(desk, ledger, stdin=b"a\nb\na\n") == Intake(read=3, duplicates=1, added=2, gone=0)


async def test_a_bad_list_leaves_the_ledger_as_it_was(desk: Desk, ledger: Ledger) -> None:
    desk.write_config(NOWHERE)
    (desk.folder / "ids.csv").write_text("video_id\ngood\nb@d\n\nwor se\n")
    with pytest.raises(InputError) as caught:
        await read(desk, ledger)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        f"{desk.folder}/ids.csv:3",
        f"{desk.folder}/ids.csv:5",
    ]
    assert (ledger.counts().videos, ledger.next_chunk_number(), ledger.fact(INPUT_FINGERPRINT)) == (
        dict.fromkeys(ledger.counts().videos, 0),
        1,
        None,
    )


async def test_bad_lines_may_be_skipped_and_are_told(desk: Desk, ledger: Ledger) -> None:
    desk.write_config(NOWHERE, input__on_bad_line="skip")
    (desk.folder / "ids.csv").write_text("video_id\ngood\nb@d\n")
    skipped: list[str] = []
    assert await read(desk, ledger, skipped=skipped) == Intake(read=1, duplicates=0, added=1, gone=0)
    assert len(skipped) == 1
    assert skipped[0].startswith(f"{desk.folder}/ids.csv:3: ")


async def test_an_input_without_a_single_id_is_refused(desk: Desk, ledger: Ledger) -> None:
    desk.write_config(NOWHERE)
    desk.write_ids({})
    with pytest.raises(InputError, match=r"^the input holds no video id: check input.ids, or input.index_id$"):
        await read(desk, ledger)


async def test_an_index_alone_is_the_input_page_by_page(desk: Desk, ledger: Ledger) -> None:
    async with index_of([library(2), library(2, first=2), library(1, first=4)]) as (url, asked):
        desk.write_config(url, input__ids=[], input__index_id="index1")
        assert await read(desk, ledger) == Intake(read=5, duplicates=0, added=5, gone=0)
    assert asked == [f"/v1.2/indexes/index1/videos?page={page}&page_limit=50" for page in (1, 2, 3)]
    assert chunks(ledger) == [[Video(one, 600.5) for one in library(5)]]


async def test_an_index_beside_a_list_gives_durations_and_no_videos(desk: Desk, ledger: Ledger) -> None:
    desk.write_ids({"video0001": None, "video0002": 5.5, "elsewhere": None})
    async with index_of([library(2), library(2, first=2)]) as (url, _):
        desk.write_config(url, input__index_id="index1")
        assert await read(desk, ledger) == Intake(read=3, duplicates=0, added=3, gone=0)
    assert chunks(ledger) == [[Video("video0001", 600.5), Video("video0002", 5.5)], [Video("elsewhere")]]


async def test_a_listing_that_stumbles_is_asked_again(desk: Desk, ledger: Ledger) -> None:
    async with index_of([library(2)], 503, 429, 502) as (url, asked):
        desk.write_config(url, input__ids=[], input__index_id="index1")
        assert (await read(desk, ledger)).added == 2
    assert len(asked) == 4


@pytest.mark.parametrize(("status", "expected"), [(401, KeyRefused), (400, JobRefused)])
async def test_an_index_that_may_not_be_listed_ends_the_run_and_leaves_the_ledger_as_it_was(
    desk: Desk, ledger: Ledger, status: int, expected: type[Exception]
) -> None:
    async with index_of([library(2)], status) as (url, asked):
        desk.write_config(url, input__ids=[], input__index_id="index1")
        with pytest.raises(expected):
            await read(desk, ledger)
    assert (len(asked), sum(ledger.counts().videos.values())) == (1, 0)
