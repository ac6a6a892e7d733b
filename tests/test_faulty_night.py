"""A night in which two requests in a hundred go wrong, in every way that a plan knows: what it costs, and what is lost.

Left out are only the answers that end a run by right: a refused key, an endpoint that is gone, a redirect.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from pipeline.order import Retry
from pipeline.platform.faults import FAULTS, Fault, Seen, chosen, read_plan
from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.run import Outcome, run
from pipeline.verify import verify
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video
from tests.runs import Desk

IDS = tuple(f"video{number:04}" for number in range(5000))
POSTS = 500
"""Of ten videos each; with two videos to a page, three or four GETs follow."""
REQUESTS = 2200
"""Fewer than the POSTs and GETs together."""
SHARE = 0.02
SEEDS = (30,)
"""Of those under which every kind of fault is met."""
WAYS = (
    'fault = "status", status = 408',
    'fault = "status", status = 425',
    'fault = "status", status = 429, body = "", headers = {Retry-After = "0"}',
    'fault = "status", status = 500',
    'fault = "status", status = 502, executed = true',
    'fault = "status", status = 503, headers = {Retry-After = "0"}',
    'fault = "status", status = 504',
    'fault = "status", status = 413',
    """fault = "status", status = 400, body = '{"code": "odd", "message": "The moon is not right."}'""",
    """fault = "status", status = 404, body = '{"code": "resource_not_exist", "message": "A video is not here."}'""",
    'fault = "status", status = 200, body = "<html>"',
    'fault = "status", status = 200',
    'fault = "reset"',
    'fault = "reset", executed = true',
    'fault = "reset", after_headers = true',
    'fault = "hang", executed = true',
    'fault = "cut"',
    'fault = "slow", bytes_per_second = 20',
    'fault = "huge", bytes = 20_000_000',
    'fault = "bomb", bytes = 20_000_000',
    'fault = "wrong_types"',
    'fault = "missing_videos"',
    'fault = "duplicate_video"',
    'fault = "alien_video"',
    'fault = "token_cycle"',
    'fault = "token_expired"',
)
SPOILT = {"unusable_answer", "answer_too_large"}
"""Why videos may fail: they were answered, and paid for, in a form that cannot be used."""
REFUSED = {"odd", "resource_not_exist", "planned_fault"}
"""Or a search had come to one video alone when chance refused that one, too: which it meets depends on who is first."""


def plan_of(folder: Path, seed: int) -> tuple[Fault, ...]:
    """A plan file in which the ways to fail have equal parts in ``SHARE``."""
    path = folder / "plan.toml"
    rules = [f"{{share = {SHARE / len(WAYS)}, seed = {seed}, {way}}}" for way in WAYS]
    path.write_text(f"rules = [{', '.join(rules)}]\n")
    return read_plan(path)


def kinds_met(plan: tuple[Fault, ...]) -> set[type[Fault]]:
    """The kinds of fault that so many requests meet, whatever they ask."""
    places = [chosen(plan, Seen("post", number, number), [0] * len(plan)) for number in range(1, REQUESTS + 1)]
    return {type(plan[place]) for place in places if place is not None}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Videos of ten minutes with scores from 20 to 89; each seventh matches nothing."""
    videos = [
        video(one, 600, track("visual", (0, 600, [0 if at % 7 == 0 else 20 + at % 70]))) for at, one in enumerate(IDS)
    ]
    with Store.create(tmp_path_factory.mktemp("index") / "index.sqlite", "64428d88456b2dab381e7000", "Test") as store:
        store.calibrate({"visual": CURVE})
        store.add_videos(videos, SPACE)
        yield store


@pytest.fixture(scope="module")
def quiet(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The same night without faults, and with larger pages, which the rows do not show."""
    desk = Desk(tmp_path_factory.mktemp("quiet"))
    assert anyio.run(night, desk, store, (), 50).exit_code == 0
    assert desk.status().posts_by_reason == {"first": POSTS}
    return desk


async def night(
    desk: Desk, store: Store, plan: tuple[Fault, ...], page_limit: int = 2, retry: Retry | None = None
) -> Outcome:
    desk.write_ids(dict.fromkeys(IDS, 600.0))
    async with serving(store, Settings(faults=plan), embedder=AxisEmbedder()) as url:
        desk.write_config(
            url,
            [{"name": "A", "prompts": ["alpha"]}],
            job__page_limit=page_limit,
            api__request_timeout_seconds=3,
            limits__max_videos_per_post=10,
            limits__max_response_bytes=2**20,
        )
        return await run(desk.order(retry=retry))


@pytest.mark.parametrize("seed", SEEDS)
async def test_faults_of_all_kinds_lose_nothing_and_cost_little(
    seed: int, tmp_path: Path, store: Store, quiet: Desk
) -> None:
    """What fails is what an answer has spoilt, or a refusal of a lone video; on a quiet night it is answered too."""
    plan = plan_of(tmp_path, seed)
    assert kinds_met(plan) == set(FAULTS.values())
    desk = Desk(tmp_path)
    outcome = await night(desk, store, plan)
    failed = desk.failures()
    assert (outcome.exit_code, outcome.stopped) == (3 if failed else 0, None)
    assert set(failed.values()) <= SPOILT | REFUSED
    assert sum(code in REFUSED for code in failed.values()) <= 5
    assert len(failed) <= SHARE * len(IDS)
    assert verify(desk.out).differences == []
    undisturbed = quiet.content()
    assert desk.content() == {
        name: [row for row in rows if row["video_id"] not in failed] for name, rows in undisturbed.items()
    }
    posts = sum(desk.status().posts_by_reason.values())
    assert POSTS < posts <= 1.15 * POSTS

    assert (await night(desk, store, (), retry=Retry(every=True))).exit_code == 0
    assert verify(desk.out).differences == []
    assert desk.content() == undisturbed
