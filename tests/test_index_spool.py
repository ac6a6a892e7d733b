"""What the ledger holds of walks over a whole index: whose silence is about which videos, and what is held of whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.chunks import HeldVideo, IndexWalk, Standing, VideoState, WalkState
from pipeline.ledger import Ledger
from pipeline.models import Failure, Video
from pipeline.packing import OneChunk

AT = "2026-01-02T03:04:05.678Z"
CHUNK = 1


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Videos a, b and c, in one chunk."""
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        listed(opened, "a", "b", "c")
        yield opened


def listed(ledger: Ledger, *video_ids: str) -> None:
    with ledger.atomic():
        ledger.take_in((Video(one) for one in video_ids), are_an_index=lambda: True)
        ledger.pack(OneChunk(CHUNK))


def begun(ledger: Ledger, prompt_group: int = 0) -> IndexWalk:
    walk = ledger.index_walk(CHUNK, prompt_group)
    assert walk is not None
    assert (walk.next_token, walk.shown) == (None, 0), "it goes on already"
    return walk


def show(ledger: Ledger, walk: IndexWalk, *video_ids: str, state: WalkState, token: str | None = None) -> None:
    """A page that shows these videos for the first time, and their answers held."""
    answers = {one: one.encode() for one in video_ids if one.islower()}
    with ledger.atomic():
        ledger.keep_index_page(
            CHUNK, replace(walk, next_token=token, state=state), video_ids, answers, arrived_at=5.0 + walk.number
        )


def held(ledger: Ledger) -> dict[str, dict[int, bytes]]:
    return {one.video_id: dict(one.answers) for one in ledger.held_videos(CHUNK, 0, 100)}


def test_a_complete_walk_answers_for_every_video_that_was_known_then(ledger: Ledger) -> None:
    show(ledger, begun(ledger), "a", state=WalkState.COMPLETE)
    assert ledger.index_walk(CHUNK, 0) is None
    assert begun(ledger, 1).last_video == 3, "the other group has yet to be asked"


def test_its_silence_says_nothing_of_a_video_that_came_later(ledger: Ledger) -> None:
    show(ledger, begun(ledger), "a", "d", state=WalkState.COMPLETE)
    listed(ledger, "a", "b", "c", "d", "e")
    assert begun(ledger) == IndexWalk(2, 0, 5)
    show(ledger, begun(ledger), "e", state=WalkState.COMPLETE)
    assert ledger.index_walk(CHUNK, 0) is None, "d was shown before it was listed, and its answer is held"
    assert held(ledger) == {"a": {0: b"a"}, "b": {}, "c": {}, "d": {0: b"d"}, "e": {0: b"e"}}


@pytest.mark.parametrize("state", [WalkState.SHORT, WalkState.FAILED])
def test_the_silence_of_a_walk_that_is_not_complete_says_nothing(ledger: Ledger, state: WalkState) -> None:
    show(ledger, begun(ledger), "a", "b", state=state)
    walk = begun(ledger)
    assert ledger.standing(CHUNK, walk, "abcX") == Standing(frozenset(), frozenset("c"))
    assert ledger.short_index_walks(CHUNK, 0) == (state is WalkState.SHORT)


def test_a_walk_goes_on_with_what_it_has_shown_ours_or_not(ledger: Ledger) -> None:
    show(ledger, begun(ledger), "a", "X", state=WalkState.GOES_ON, token="t1")
    walk = ledger.index_walk(CHUNK, 0)
    assert walk == IndexWalk(1, 0, 3, "t1", shown=2)
    assert ledger.standing(CHUNK, walk, "abX") == Standing(frozenset("aX"), frozenset("b"))
    show(ledger, walk, "b", state=WalkState.GOES_ON, token="t2")
    assert ledger.index_walk(CHUNK, 0) == IndexWalk(1, 0, 3, "t2", shown=3)
    assert ledger.not_listed(CHUNK) == ["X"]
    assert ledger.last_index_page_at(CHUNK) == 6.0


def test_a_walk_that_cannot_go_on_is_begun_anew(ledger: Ledger) -> None:
    show(ledger, begun(ledger), "a", state=WalkState.GOES_ON, token="t1")
    going = ledger.index_walk(CHUNK, 0)
    assert going is not None
    with ledger.atomic():
        ledger.end_index_walk(going)
    assert begun(ledger).number == 2


def test_what_a_walk_owes_fails_and_nothing_else(ledger: Ledger) -> None:
    first = begun(ledger)
    show(ledger, first, "a", state=WalkState.FAILED)
    listed(ledger, "a", "b", "c", "d")
    with ledger.atomic():
        failed = ledger.fail_owed(CHUNK, first, Failure("", "unusable_answer", "why", 200, False), failed_at=AT)
    assert failed == 2
    assert [row.video_id for row in ledger.failure_rows("run")] == ["b", "c"]
    assert held(ledger) == {"a": {0: b"a"}, "d": {}}
    assert ledger.counts().videos[VideoState.OPEN] == 2


def test_a_video_that_the_last_listing_had_not_is_gone_until_it_is_listed_again(ledger: Ledger) -> None:
    listed(ledger, "a", "c")
    assert ledger.held_videos(CHUNK, 1, 1) == [HeldVideo(2, "b", {}, is_gone=True)]
    listed(ledger, "a", "b", "c")
    assert not any(one.is_gone for one in ledger.held_videos(CHUNK, 0, 100))


def test_nothing_of_an_ended_chunk_is_held(ledger: Ledger) -> None:
    show(ledger, begun(ledger), "a", "X", state=WalkState.COMPLETE)
    with ledger.atomic():
        ledger.drop_index_walks(CHUNK)
    assert (held(ledger), ledger.not_listed(CHUNK)) == ({"a": {}, "b": {}, "c": {}}, [])
    assert ledger.last_index_page_at(CHUNK) is None
