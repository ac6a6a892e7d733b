"""One request after the other over real HTTP, each answer compared with the slow scorer's or the contract's refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pipeline.platform.server import Settings
from pipeline.platform.store import Store
from tests.fidelity.described import check_answer, response_of
from tests.fidelity.drawn import bodies
from tests.fidelity.library import INDEX_ID, SPACE, EighthsEmbedder, PlainVideo, calibrations, indexed
from tests.fidelity.rules import refusals
from tests.fidelity.served import served
from tests.fidelity.slow_scorer import answers

KEY = "sesame"
PATHS = {False: "/classify", True: "/classify/bulk"}


@dataclass(slots=True)
class Tally:
    """What came of the requests so far: with videos, with none, refused."""

    answered: int = 0
    empty: int = 0
    refused: int = 0

    @property
    def requests(self) -> int:
        return self.answered + self.empty + self.refused

    def add(self, other: Tally) -> None:
        """Count what another one counted."""
        self.answered += other.answered
        self.empty += other.empty
        self.refused += other.refused


@dataclass(frozen=True, slots=True)
class Asker:
    """One connection to the server at ``url``, which serves ``videos``."""

    url: str
    connection: HTTPConnection
    videos: tuple[PlainVideo, ...]
    tally: Tally = field(default_factory=Tally)

    def check(self, body: object, *, of_index: bool) -> None:
        """Ask, and raise ``AssertionError`` where the answer is not what it must be."""
        seconds_of = {video.video_id: video.seconds for video in self.videos}
        allowed = refusals(body, of_index=of_index, index_id=INDEX_ID, seconds_of=seconds_of)
        status, told = self._told("POST", PATHS[of_index], json.dumps(body).encode())
        if allowed:
            assert (status, told["code"]) in allowed, (status, told)
            self.tally.refused += 1
            return
        assert status == 200, (status, told)
        assert isinstance(body, dict)
        named = body.get("video_ids") or []
        named = {*named, body["video_id"]} if body.get("video_id") else {*named}
        asked = [video for video in self.videos if of_index or video.video_id in named]
        expected = answers(asked, body)
        self._check_pages(told, expected, int(body.get("page_limit") or 10))
        self.tally.answered += bool(expected)
        self.tally.empty += not expected

    def _check_pages(self, page: Any, expected: dict[str, list[dict[str, Any]]], page_limit: int) -> None:
        found: list[Any] = []
        while True:
            info = page["page_info"]
            found += page["data"]
            assert (info["total_results"], info["limit_per_page"]) == (len(expected), min(page_limit, len(expected)))
            assert len(found) % page_limit == 0 or not info["next_page_token"]
            if not info["next_page_token"]:
                break
            status, page = self._told("GET", f"/classify/{info['next_page_token']}")
            assert status == 200, page
        # Best first, and of equals by their ids.
        order = sorted(expected, key=lambda one: (-max(each["score"] for each in expected[one]), one))
        assert [one["video_id"] for one in found] == order
        for one in found:
            assert one["classes"] == expected[one["video_id"]]

    def _told(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        self.connection.request(method, f"/v1.2{path}", body, {"x-api-key": KEY})
        response = self.connection.getresponse()
        content = response.read()
        check_answer(response_of(method, path, response.status), dict(response.headers), content)
        return response.status, json.loads(content)


@contextmanager
def asker(videos: Sequence[PlainVideo], *, thumbnails: bool = False) -> Iterator[Asker]:
    """A server with these videos, and one who asks it."""
    with TemporaryDirectory() as folder, Store.create(Path(folder, "index.sqlite"), INDEX_ID, "Library") as store:
        for option, curve in calibrations().items():
            store.calibrate({option: curve})
        store.add_videos(map(indexed, videos), SPACE)
        with (
            served(store, Settings(key=KEY, thumbnails=thumbnails), EighthsEmbedder()) as url,
            closing(HTTPConnection(urlsplit(url).netloc)) as connection,
        ):
            yield Asker(url, connection, tuple(videos))


def ask(one: Asker, requests: int, seed_number: int) -> None:
    """So many random requests; the same for the same seed. Raises at the first that is answered wrong, made small."""

    @seed(seed_number)
    @settings(
        max_examples=requests,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.booleans(), st.data())
    def every_answer_is_right(of_index: bool, draw: st.DataObject) -> None:
        one.check(draw.draw(bodies(one.videos, of_index=of_index)), of_index=of_index)

    every_answer_is_right()
