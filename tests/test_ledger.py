"""The ledger: what it takes in, how chunks and POSTs live in it, and what a settlement or a kill leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from pipeline.chunks import (
    MOVES,
    Child,
    Chunk,
    ChunkState,
    HeldPage,
    HeldWalk,
    Intake,
    PostState,
    Segment,
    Settlement,
    VideoState,
)
from pipeline.ledger import Ledger
from pipeline.models import Failure, Video
from pipeline.packing import Packer
from pipeline.quota import Window
from pipeline.rows import FailureRow
from tests.builders import by_hand, take_in

AT = "2026-01-02T03:04:05.678Z"
PENDING, IN_FLIGHT, DONE, REPLACED = ChunkState
OPEN, SCORED, NO_MATCH, FAILED = VideoState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened


def pending(ledger: Ledger) -> list[Chunk]:
    return ledger.pending_after(0, 1000)


def ids(chunk: Chunk) -> list[str]:
    return [video.video_id for video in chunk.videos]


# ------------------------------------------------------------------------------------------------------------- intake


def test_an_intake_counts_what_was_read_doubled_new_and_gone(ledger: Ledger) -> None:
    assert take_in(ledger, "b", "a", "b", "b", "c", a_chunk=2) == Intake(read=5, duplicates=2, added=3, gone=0)
    assert take_in(ledger, "c", "d", "d", a_chunk=2) == Intake(read=3, duplicates=1, added=1, gone=2)
    assert take_in(ledger) == Intake(read=0, duplicates=0, added=0, gone=4)
    assert [ids(chunk) for chunk in pending(ledger)] == [["b", "a"], ["c"], ["d"]]


def test_slices_of_an_intake_make_no_difference(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ledger._SLICE", 3)
    names = [f"v{number % 8}" for number in range(20)]
    assert take_in(ledger, *names, a_chunk=5) == Intake(20, 12, 8, 0)
    assert [ids(chunk) for chunk in pending(ledger)] == [["v0", "v1", "v2", "v3", "v4"], ["v5", "v6", "v7"]]


def test_ids_are_told_apart_by_case(ledger: Ledger) -> None:
    assert take_in(ledger, "a", "A", a_chunk=2).added == 2


def test_a_duration_is_learned_while_it_is_unknown_and_the_video_not_packed(ledger: Ledger) -> None:
    with ledger.atomic():
        ledger.take_in([Video("a"), Video("b", 20.0), Video("c"), Video("a", 10.5), Video("b", 99.0)])
        ledger.learn_durations([Video("a", 98.0), Video("c", 30.0), Video("unknown", 1.0)])
        ledger.pack(Packer())
        ledger.learn_durations([Video("d", 1.0)])
    take_in(ledger, Video("a", 97.0), Video("d"), a_chunk=2)
    with ledger.atomic():
        ledger.learn_durations([Video("d", 5.0)])
    assert [chunk.videos for chunk in pending(ledger)] == [
        (Video("a", 10.5), Video("b", 20.0), Video("c", 30.0)),
        (Video("d"),),
    ]
    counts = ledger.counts()
    assert (counts.seconds, counts.unknown_durations) == (60.5, 1)


def test_chunks_are_numbered_upwards_over_intakes_and_children(ledger: Ledger) -> None:
    assert ledger.next_chunk_number() == 1
    take_in(ledger, "a", "b", "c", a_chunk=2)
    assert [chunk.number for chunk in pending(ledger)] == [1, 2]
    with ledger.atomic():
        ledger.settle(Settlement(1, children=(Child(("a",), "bisect"), Child(("b",), "bisect"))), [])
    take_in(ledger, "d", a_chunk=2)
    assert [(chunk.number, ids(chunk), chunk.reason) for chunk in pending(ledger)] == [
        (2, ["c"], "first"),
        (3, ["a"], "bisect"),
        (4, ["b"], "bisect"),
        (5, ["d"], "first"),
    ]


def test_packing_with_nothing_to_pack_makes_no_chunk(ledger: Ledger) -> None:
    take_in(ledger)
    assert (pending(ledger), ledger.next_chunk_number()) == ([], 1)


# -------------------------------------------------------------------------------------------------------- transitions

WAYS = {
    PENDING: (),
    IN_FLIGHT: (IN_FLIGHT,),
    DONE: (IN_FLIGHT, DONE),
    REPLACED: (IN_FLIGHT, REPLACED),
}


@pytest.mark.parametrize(("present", "state"), list(product(ChunkState, ChunkState)))
def test_a_chunk_moves_as_the_table_says_and_no_other_way(
    ledger: Ledger, present: ChunkState, state: ChunkState
) -> None:
    take_in(ledger, "a", a_chunk=2)
    with ledger.atomic():
        for one in WAYS[present]:
            ledger.move(1, one)
    if present == state or (present, state) in MOVES:
        with ledger.atomic():
            ledger.move(1, state)
        assert ledger.counts().chunks == dict.fromkeys(ChunkState, 0) | {state: 1}
    else:
        with pytest.raises(ValueError, match=rf"^chunk 1 cannot go from {present!r} to {state!r}$"), ledger.atomic():
            ledger.move(1, state)
        assert ledger.counts().chunks[present] == 1


def test_the_table_is_the_documented_one() -> None:
    assert {
        (PENDING, IN_FLIGHT),
        (IN_FLIGHT, PENDING),
        (IN_FLIGHT, DONE),
        (IN_FLIGHT, REPLACED),
        (DONE, REPLACED),
    } == MOVES


def test_a_chunk_that_is_not_there_cannot_move(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="chunk 9 cannot go from None"), ledger.atomic():
        ledger.move(9, IN_FLIGHT)


@pytest.mark.parametrize("children", [(), (Child(("a",), "bisect"),)])
def test_a_chunk_ends_once(ledger: Ledger, children: tuple[Child, ...]) -> None:
    take_in(ledger, "a", a_chunk=2)
    ends = Settlement(1, scored=() if children else ("a",), children=children)
    with ledger.atomic():
        ledger.settle(ends, [Segment(0, 0, 5, 1)])
    before = (ledger.counts(), list(ledger.segments()), ledger.file_lengths())
    with pytest.raises(ValueError, match="cannot go from"), ledger.atomic():
        ledger.settle(ends, [Segment(0, 5, 5, 1)])
    assert (ledger.counts(), list(ledger.segments()), ledger.file_lengths()) == before


# --------------------------------------------------------------------------------------------------------------- posts


def test_posts_are_counted_by_reason_and_fate(ledger: Ledger) -> None:
    take_in(ledger, "a", "b", "c", a_chunk=2)
    with ledger.atomic():
        posts = [
            ledger.intend_post(
                1, group, "first", intended_at=7.5, window=Window(group, 86_400.0 + group, 20 + group, 90.0 + group)
            )
            for group in range(5)
        ]
        ledger.end_post(posts[0], PostState.ANSWERED, billed=True, http_status=200)
        ledger.end_post(posts[1], PostState.REFUSED, billed=False, http_status=400)
        ledger.end_post(posts[2], PostState.UNKNOWN, billed=None)
        ledger.end_post(posts[3], PostState.NOT_SENT, billed=False)
        ledger.intend_post(2, 0, "bisect", intended_at=8.5, window=None)
    assert posts == [1, 2, 3, 4, 5]
    assert ledger.counts().chunks == {PENDING: 0, IN_FLIGHT: 2, DONE: 0, REPLACED: 0}
    assert ledger.counts().posts == {
        ("first", PostState.ANSWERED): 1,
        ("first", PostState.REFUSED): 1,
        ("first", PostState.UNKNOWN): 1,
        ("first", PostState.NOT_SENT): 1,
        ("first", PostState.INTENDED): 1,
        ("bisect", PostState.INTENDED): 1,
    }
    assert ledger.posts_spent() == 5, "whatever was not surely held back counts"
    assert ledger.window() == Window(4, 86_404.0, 24, 94.0)


def test_no_post_leaves_for_a_chunk_that_has_ended(ledger: Ledger) -> None:
    take_in(ledger, "a", a_chunk=2)
    with ledger.atomic():
        ledger.settle(Settlement(1, scored=("a",)), [])
    with pytest.raises(ValueError, match="cannot go from"), ledger.atomic():
        ledger.intend_post(1, 0, "first", intended_at=1.0, window=Window(9, 9.0))
    assert (ledger.posts_spent(), ledger.window()) == (0, None)


def test_recovery_makes_chunks_pending_and_open_intents_unknown(ledger: Ledger) -> None:
    take_in(ledger, "a", "b", "c", "d", "e", a_chunk=2)
    with ledger.atomic():
        ledger.intend_post(1, 0, "first", intended_at=1.0, window=None)
        ended = ledger.intend_post(2, 0, "first", intended_at=1.0, window=None)
        ledger.end_post(ended, PostState.ANSWERED, billed=True, http_status=200)
        ledger.settle(Settlement(2, scored=("c", "d")), [])
    for _ in range(2):
        with ledger.atomic():
            ledger.recover()
        assert ledger.counts().chunks == {PENDING: 2, IN_FLIGHT: 0, DONE: 1, REPLACED: 0}
        assert ledger.counts().posts == {("first", PostState.UNKNOWN): 1, ("first", PostState.ANSWERED): 1}
        assert [chunk.number for chunk in pending(ledger)] == [1, 3]


def test_pending_chunks_come_in_order_after_a_number_and_no_more_than_asked_for(ledger: Ledger) -> None:
    take_in(ledger, *"abcdef", a_chunk=1)
    with ledger.atomic():
        ledger.move(3, IN_FLIGHT)
    assert [chunk.number for chunk in ledger.pending_after(1, 3)] == [2, 4, 5]
    assert ledger.pending_after(6, 3) == []


# --------------------------------------------------------------------------------------------------------------- spool


def walk(group: int, *bodies: bytes, token: str | None = None, complete: bool = False, short: bool = False) -> HeldWalk:
    pages = tuple(HeldPage(body, float(number)) for number, body in enumerate(bodies, 1))
    return HeldWalk(group, pages, token, complete, short)


def test_spooled_pages_come_back_with_their_chunk(ledger: Ledger) -> None:
    take_in(ledger, "a", "b", "c", a_chunk=2)
    with ledger.atomic():
        ledger.spool(1, walk(0, b"one", token="t1"), begins=True)
        ledger.spool(1, walk(1, b"\x00\xff", complete=True), begins=True)
        ledger.spool(2, walk(0, b"other", token="u1"), begins=True)
        ledger.spool(1, HeldWalk(0, (HeldPage(b"two", 2.0),), "t2"), begins=False)
        ledger.spool(1, walk(0, b"anew", short=True), begins=True)
    assert [chunk.held for chunk in pending(ledger)] == [
        (walk(0, b"one", b"two", token="t2"), walk(1, b"\x00\xff", complete=True), walk(0, b"anew", short=True)),
        (walk(0, b"other", token="u1"),),
    ]


def test_a_settled_chunks_spool_is_gone_and_its_children_have_what_they_inherit(path: Path, ledger: Ledger) -> None:
    take_in(ledger, *"abcd", a_chunk=4)
    with ledger.atomic():
        ledger.spool(1, walk(0, b"page", token="t1"), begins=True)
        ledger.settle(
            Settlement(
                1,
                scored=("a",),
                no_match=("b",),
                children=(
                    Child(("c",), "bisect", (walk(0, b"x", b"y", complete=True), walk(1, b"z", short=True))),
                    Child(("d",), "incomplete", shortfalls=2),
                ),
            ),
            [],
        )
    assert pending(ledger) == [
        Chunk(2, (Video("c"),), "bisect", 0, (walk(0, b"x", b"y", complete=True), walk(1, b"z", short=True))),
        Chunk(3, (Video("d"),), "incomplete", 2),
    ]
    assert ledger.counts().chunks == {PENDING: 2, IN_FLIGHT: 0, DONE: 0, REPLACED: 1}
    assert ledger.settled_by(1) == {"a": SCORED, "b": NO_MATCH}
    with ledger.atomic():
        ledger.settle(Settlement(2, scored=("c",)), [])
        ledger.settle(Settlement(3, no_match=("d",)), [])
    ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM walk), (SELECT count(*) FROM page)").fetchone() == (
            0,
            0,
        )


# -------------------------------------------------------------------------------------------------------------- commit


def test_a_settlement_sets_states_segments_lengths_and_failures(ledger: Ledger) -> None:
    take_in(ledger, *"abcd", a_chunk=4)
    take_in(ledger, "e", a_chunk=2)
    refused = Failure("c", "video_refused", "no such video", 404, retryable=False)
    lost = Failure("d", "timed_out", "it took too long")
    segments = [Segment(0, 0, 10, 2**32 - 1), Segment(2, 0, 7, 0)]
    with ledger.atomic():
        for _ in range(2):
            ledger.intend_post(1, 0, "first", intended_at=1.0, window=None)
        ledger.settle(Settlement(1, ("a",), ("b",), (refused, lost), settled_at=AT), segments)
    assert ledger.file_lengths() == [10, 0, 7]
    assert list(ledger.segments()) == [(1, segments[0]), (1, segments[1])]
    assert list(ledger.failure_rows("r1")) == [
        FailureRow("c", "video_refused", "no such video", 404, False, 2, 1, "r1", AT),
        FailureRow("d", "timed_out", "it took too long", None, True, 2, 1, "r1", AT),
    ]
    counts = ledger.counts()
    assert counts.videos == {OPEN: 1, SCORED: 1, NO_MATCH: 1, FAILED: 2}
    assert counts.chunks == {PENDING: 1, IN_FLIGHT: 0, DONE: 1, REPLACED: 0}
    assert counts.failures == {"video_refused": 1, "timed_out": 1}
    assert counts.open_chunks == 1
    assert ledger.contradictions() == []


def settle_together(ledger: Ledger, *chunks: int) -> None:
    with ledger.atomic():
        for chunk in chunks:
            ledger.settle(Settlement(chunk, scored=("a", "b")), [Segment(0, 0, 10, 1)])


def test_a_settlement_that_fails_halfway_changes_nothing(ledger: Ledger) -> None:
    take_in(ledger, "a", "b", a_chunk=2)
    with ledger.atomic():
        ledger.spool(1, walk(0, b"page"), begins=True)
    before = (pending(ledger), ledger.counts(), ledger.file_lengths())
    with pytest.raises(ValueError, match=r"^chunk 7 cannot go from None"):
        settle_together(ledger, 1, 7)
    assert (pending(ledger), ledger.counts(), ledger.file_lengths()) == before


def test_an_empty_ledger_has_nothing_and_no_contradictions(ledger: Ledger) -> None:
    counts = ledger.counts()
    assert counts.videos == dict.fromkeys(VideoState, 0)
    assert counts.chunks == dict.fromkeys(ChunkState, 0)
    assert (counts.posts, counts.failures, counts.seconds, counts.unknown_durations) == ({}, {}, 0, 0)
    assert (ledger.contradictions(), ledger.window(), ledger.posts_spent()) == ([], None, 0)


@pytest.mark.parametrize(
    ("statement", "contradiction"),
    [
        ("UPDATE video SET chunk = NULL WHERE id = 'a'", "1 video in no chunk"),
        ("UPDATE video SET chunk = 9 WHERE id IN ('a', 'b')", "2 videos in no chunk"),
        ("UPDATE video SET state = 0 WHERE id = 'a'", "1 open video of chunks that have ended"),
        ("UPDATE video SET state = 1 WHERE id = 'c'", "1 settled video of chunks that have not ended"),
        ("DELETE FROM failure", "1 failed video without a reason"),
        ("UPDATE video SET state = 1 WHERE id = 'b'", "1 reason without a failed video"),
    ],
)
def test_contradictions_are_found(path: Path, ledger: Ledger, statement: str, contradiction: str) -> None:
    take_in(ledger, "a", "b", "c", a_chunk=2)
    with ledger.atomic():
        ledger.settle(Settlement(1, ("a",), (), (Failure("b", "x", "y"),), settled_at=AT), [])
    by_hand(path, statement)
    assert ledger.contradictions() == [contradiction]
