"""Any life of a run, with crashes at every step: each video in exactly one state, its rows there once.

``python -m tests.test_durability 5000`` tries so many lives.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.chunks import Child, ChunkState, HeldPage, HeldWalk, PostState, VideoState
from pipeline.models import Failure, Video
from pipeline.rows import FAILURES, ROW_FILES, VIDEOS
from pipeline.verify import verify
from tests.builders import STYLE, End, OpenRun, end, opened, rows_in

outcomes = st.sampled_from(["matched", "matched", "silent", "busy", "refused", "child one", "child two", "loose"])
_STATE = {"matched": VideoState.SCORED, "silent": VideoState.NO_MATCH}
_RETRYABLE = {"busy": True, "refused": False}
AT_ONCE = -1
crashes = st.none() | st.just(AT_ONCE) | st.integers(0, 40)
"""After how many steps of a change the process ends (or as soon as the change counts); one of fewer is made whole."""
pages = st.builds(
    lambda group, body, stands: HeldWalk(group, (HeldPage(body, 1.5),), **stands),
    st.integers(0, 2),
    st.binary(max_size=5),
    st.sampled_from(
        [
            {"next_token": "token"},
            {"next_token": "token", "asked": ("v0", "v1")},
            {"complete": True},
            {"ended_short": True},
            {"failed": True},
            {"refused": True, "asked": ("v2",)},
        ]
    ),
)


@dataclass(slots=True)
class Expected:
    """What the run directory must hold."""

    states: dict[str, VideoState] = field(default_factory=dict)
    durations: dict[str, float | None] = field(default_factory=dict)
    chunk_of: dict[str, int | None] = field(default_factory=dict)
    chunks: dict[int, ChunkState] = field(default_factory=dict)
    held: dict[int, tuple[HeldWalk, ...]] = field(default_factory=dict)
    posts: dict[int, PostState] = field(default_factory=dict)
    posted: dict[int, int] = field(default_factory=dict)
    burnt: dict[int, Counter[tuple[int, str]]] = field(default_factory=dict)
    rows: dict[str, tuple[int, str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    listed: dict[str, tuple[str, int | None]] | None = None

    def open_videos(self, chunk: int) -> list[str]:
        return [one for one, state in self.states.items() if self.chunk_of[one] == chunk and state is VideoState.OPEN]

    def add_chunk(self, videos: list[str], held: tuple[HeldWalk, ...] = ()) -> None:
        number = len(self.chunks) + 1
        self.chunks[number] = ChunkState.PENDING
        self.held[number] = held
        self.chunk_of |= dict.fromkeys(videos, number)

    def add_chunks(self, videos: list[str], a_chunk: int) -> None:
        for start in range(0, len(videos), a_chunk):
            self.add_chunk(videos[start : start + a_chunk])

    def loose(self) -> list[str]:
        """The videos that wait for the packer, in input order."""
        return [one for one in self.states if self.chunk_of[one] is None]

    def failed(self) -> dict[str, tuple[str, int | None]]:
        """What the list of failures must say: for each video, in input order, the code and the chunk."""
        return {one: (self.failures[one], self.chunk_of[one]) for one in self.states if one in self.failures}


class Crash(Exception):
    """The process has ended."""


@dataclass(slots=True)
class Process:
    """A process that makes one change, and ends after so many steps of it; ``remains`` is what its folder held then.

    The change ``counts`` once the ledger's transaction has been committed, or the file has its name.
    """

    folder: Path
    remains: Path
    steps: int | None
    counts: bool = False
    has_ended: bool = False

    def step(self) -> None:
        """Before each step, and after those that count."""
        if (self.counts if self.steps == AT_ONCE else self.steps == 0) and not self.has_ended:
            shutil.copytree(self.folder, self.remains)
            self.has_ended = True
        if self.has_ended:
            raise Crash
        if self.steps is not None and self.steps > 0:
            self.steps -= 1

    @contextmanager
    def watched(self, run: OpenRun) -> Iterator[None]:
        """Every write, sync and rename, and every statement of the ledger, is a step.

        Writes are made in parts.
        """
        write, rename, connection = os.pwrite, os.replace, run.ledger._connection

        def pwrite(descriptor: int, content: bytes, offset: int) -> int:
            self.step()
            return write(descriptor, content[: max(200, len(content) // 2)], offset)

        def replace_name(source: Path, target: Path) -> None:
            self.step()
            rename(source, target)
            self.counts = True
            self.step()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "pwrite", pwrite)
            patched.setattr(os, "replace", replace_name)
            patched.setattr(os, "fdatasync", lambda _: self.step())
            patched.setattr(os, "fsync", lambda _: self.step())
            patched.setattr(run.ledger, "_connection", _Statements(self, connection))
            yield


@dataclass(slots=True)
class _Statements:
    """A ledger's connection, each statement of which is a step."""

    process: Process
    real: Any

    @property
    def in_transaction(self) -> bool:
        return bool(self.real.in_transaction)

    def execute(self, statement: str, *values: Any) -> Any:
        self.process.step()
        result = self.real.execute(statement, *values)
        if statement == "COMMIT":
            self.process.counts = True
            self.process.step()
        return result

    def executemany(self, statement: str, rows: Any) -> Any:
        self.process.step()
        return self.real.executemany(statement, rows)


@dataclass(slots=True)
class InOrder:
    """Packs so many videos into each chunk, whatever their durations."""

    chunk: int
    a_chunk: int
    placed: int = 0

    def place(self, duration_seconds: float | None) -> int:  # noqa: ARG002 - packers are called with it
        self.placed += 1
        return self.chunk + (self.placed - 1) // self.a_chunk


class Life(RuleBasedStateMachine):
    """Ledger, row files and sink of one run directory, beside what they must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.processes = 0
        self.folder = Path(self.temporary.name) / "0"
        self.expected = Expected()
        self.opened = ExitStack()
        self.begin()

    def begin(self) -> None:
        """Open the run; without syncs, which take most of the time, and which no kill shows."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fdatasync", lambda _: None)
            patched.setattr(os, "fsync", lambda _: None)
            self.run: OpenRun = self.opened.enter_context(opened(self.folder))
        self.run.ledger._connection.execute("PRAGMA synchronous = OFF")

    def teardown(self) -> None:
        with self.temporary:
            self.opened.close()
            assert verify(self.folder).differences == self.stale_list()

    def stale_list(self) -> list[str]:
        """The list of failures is written at the end of a run, and must be right once nothing is open."""
        states = self.expected.states.values()
        if not states or VideoState.OPEN in states or self.expected.listed == self.expected.failed():
            return []
        if self.expected.listed is None:
            return [f"{FAILURES}: No such file or directory"]
        return [f"{FAILURES}: not what the ledger says; `resume` writes it anew"]

    def some_chunk(self, choice: int) -> int:
        return (waiting := self.living())[choice % len(waiting)]

    def living(self) -> list[int]:
        return [chunk for chunk, state in self.expected.chunks.items() if state < ChunkState.DONE]

    def carry_out(self, change: Callable[[], object], note: Callable[[], object], crash: int | None) -> None:
        """Make a change, or as much of it as the process lives for, and note it if it counts."""
        self.processes += 1
        process = Process(self.folder, Path(self.temporary.name) / str(self.processes), crash)
        try:
            with process.watched(self.run):
                change()
        except* Crash:
            assert process.has_ended
        if process.counts or not process.has_ended:
            note()
        if process.has_ended:
            self.opened.close()
            self.folder = process.remains
            self.recover()

    # ------------------------------------------------------------------------------------------------- what happens

    @initialize(count=st.integers(1, 12), a_chunk=st.integers(1, 5))
    def take_in_first(self, count: int, a_chunk: int) -> None:
        self.take_in(0, count, a_chunk, (None, None), None)

    @rule(
        first=st.integers(0, 30),
        count=st.integers(0, 6),
        a_chunk=st.integers(1, 4),
        durations=st.tuples(st.none() | st.integers(1, 9), st.none() | st.integers(1, 9)),
        crash=crashes,
    )
    def take_in(
        self, first: int, count: int, a_chunk: int, durations: tuple[float | None, float | None], crash: int | None
    ) -> None:
        """Some ids, the first of them twice and perhaps then with a duration; the others' may be learnt elsewhere."""
        told, learnt = durations
        names = [f"v{number}" for number in range(first, first + count)]
        fresh = [name for name in names if name not in self.expected.states]

        def change() -> None:
            ledger = self.run.ledger
            with ledger.atomic():
                ledger.take_in([*map(Video, names), *(Video(name, told) for name in names[:1])])
                if learnt is not None:
                    ledger.learn_durations(Video(name, learnt) for name in ("unknown", *names))
                ledger.pack(InOrder(ledger.next_chunk_number(), a_chunk))

        def note() -> None:
            expected = self.expected
            expected.states |= dict.fromkeys(fresh, VideoState.OPEN)
            expected.durations |= dict.fromkeys(fresh)
            expected.chunk_of |= dict.fromkeys(fresh)
            for name in [*names[:1], *names]:
                if expected.chunk_of[name] is None and expected.durations[name] is None:
                    expected.durations[name] = told if name == names[0] and told is not None else learnt
            expected.add_chunks(expected.loose(), a_chunk)

        self.carry_out(change, note, crash)

    @precondition(lambda life: bool(life.expected.loose()))
    @rule(a_chunk=st.integers(1, 4), crash=crashes)
    def pack_again(self, a_chunk: int, crash: int | None) -> None:
        """What was taken out of chunks goes into others."""

        def change() -> None:
            ledger = self.run.ledger
            with ledger.atomic():
                ledger.pack(InOrder(ledger.next_chunk_number(), a_chunk), "repack")

        self.carry_out(change, lambda: self.expected.add_chunks(self.expected.loose(), a_chunk), crash)

    @precondition(lambda life: bool(life.living()))
    @rule(choice=st.integers(0), crash=crashes)
    def intend_a_post(self, choice: int, crash: int | None) -> None:
        chunk, post = self.some_chunk(choice), len(self.expected.posts) + 1

        def change() -> None:
            with self.run.ledger.atomic():
                assert self.run.ledger.intend_post(chunk, 0, "first", intended_at=1.0, window=None) == post

        def note() -> None:
            self.expected.posts[post] = PostState.INTENDED
            self.expected.posted[post] = chunk
            self.expected.chunks[chunk] = ChunkState.IN_FLIGHT

        self.carry_out(change, note, crash)

    @precondition(lambda life: PostState.INTENDED in life.expected.posts.values())
    @rule(
        choice=st.integers(0),
        fate=st.sampled_from(list(PostState)[1:]),
        burnt=st.sampled_from([None, "counted", "overloaded"]),
        crash=crashes,
    )
    def end_a_post(self, choice: int, fate: PostState, burnt: str | None, crash: int | None) -> None:
        intended = [post for post, state in self.expected.posts.items() if state is PostState.INTENDED]
        post = intended[choice % len(intended)]

        def change() -> None:
            with self.run.ledger.atomic():
                self.run.ledger.end_post(post, fate, billed=None, burnt=burnt)

        def note() -> None:
            self.expected.posts[post] = fate
            if burnt is not None:
                self.expected.burnt.setdefault(self.expected.posted[post], Counter())[0, burnt] += 1

        self.carry_out(change, note, crash)

    @precondition(lambda life: bool(life.living()))
    @rule(choice=st.integers(0), page=pages, begins=st.booleans(), crash=crashes)
    def spool_a_page(self, choice: int, page: HeldWalk, begins: bool, crash: int | None) -> None:
        chunk = self.some_chunk(choice)
        held = list(self.expected.held[chunk])
        mine = [place for place, walk in enumerate(held) if walk.prompt_group == page.prompt_group]
        begins = begins or not mine
        if begins:
            held.append(page)
        else:
            begun = held[mine[-1]]
            held[mine[-1]] = replace(page, pages=(*begun.pages, *page.pages), asked=begun.asked)

        def change() -> None:
            with self.run.ledger.atomic():
                self.run.ledger.spool(chunk, page, begins=begins)

        self.carry_out(change, lambda: self.expected.held.update({chunk: tuple(held)}), crash)

    @precondition(lambda life: bool(life.living()))
    @rule(
        choices=st.lists(st.integers(0), min_size=1, max_size=4),
        fates=st.lists(outcomes, min_size=5, max_size=5),
        crash=crashes,
    )
    def settle(self, choices: list[int], fates: list[str], crash: int | None) -> None:
        """Several chunks at once: one group commit. Those that split are halved with what is held of them."""
        chunks = dict.fromkeys(self.some_chunk(choice) for choice in choices)
        ends = [self.end_of(chunk, fates) for chunk in chunks]

        def note() -> None:
            for one in ends:
                self.note_end(one)

        # In the order in which they were queued, whatever task comes first.
        self.carry_out(lambda: self.run.commit(*ends), note, crash)

    def end_of(self, chunk: int, fates: list[str]) -> End:
        parts: dict[str, list[str]] = {}
        for place, video_id in enumerate(self.expected.open_videos(chunk)):
            parts.setdefault(fates[place % len(fates)], []).append(video_id)
        inherited = tuple(
            replace(walk, next_token=None, complete=not (walk.ended_short or walk.failed or walk.refused))
            for walk in self.expected.held[chunk]
        )
        children = [Child(tuple(parts[name]), name, inherited) for name in ("child one", "child two") if name in parts]
        failures = tuple(
            Failure(video_id, code, "", None, retryable)
            for code, retryable in _RETRYABLE.items()
            for video_id in parts.get(code, [])
        )
        one = end(chunk, children=children, **{name: parts.get(name, []) for name in _STATE})
        loose = tuple(parts.get("loose", ()))
        return replace(one, settlement=replace(one.settlement, failures=failures, loose=loose))

    def note_end(self, one: End) -> None:
        settlement, expected = one.settlement, self.expected
        expected.failures |= {failure.video_id: failure.code for failure in settlement.failures}
        expected.states |= dict.fromkeys((failure.video_id for failure in settlement.failures), VideoState.FAILED)
        for name, videos in (("matched", settlement.scored), ("silent", settlement.no_match)):
            expected.states |= dict.fromkeys(videos, _STATE[name])
        for result in one.results:
            expected.rows[result.video_id] = (settlement.chunk, "scored" if result.classes else "no_match")
        goes_on = settlement.children or settlement.loose
        expected.chunks[settlement.chunk] = ChunkState.REPLACED if goes_on else ChunkState.DONE
        expected.chunk_of |= dict.fromkeys(settlement.loose)
        expected.held[settlement.chunk] = ()
        for child in settlement.children:
            expected.add_chunk(list(child.video_ids), child.held)

    @precondition(lambda life: bool(life.expected.failures))
    @rule(codes=st.sets(st.sampled_from(["busy", "refused", "never seen"])), every=st.booleans(), crash=crashes)
    def take_again(self, codes: set[str], every: bool, crash: int | None) -> None:
        """Failed videos of some codes; or of all, where they can succeed or ``every`` one is wanted."""
        expected = self.expected
        again = [
            video_id
            for video_id, (code, _) in expected.failed().items()
            if (code in codes if codes else every or _RETRYABLE[code])
        ]

        def change() -> None:
            ledger = self.run.ledger
            with ledger.atomic():
                packer = InOrder(ledger.next_chunk_number(), 2)
                assert ledger.take_again(codes, packer, every=every) == len(again)

        def note() -> None:
            for video_id in again:
                chunk = expected.chunk_of[video_id]
                assert chunk is not None
                expected.chunks[chunk] = ChunkState.REPLACED
                del expected.failures[video_id]
            expected.states |= dict.fromkeys(again, VideoState.OPEN)
            expected.add_chunks(again, 2)

        self.carry_out(change, note, crash)

    @rule(crash=crashes)
    def write_the_list_of_failures(self, crash: int | None) -> None:
        failed = self.expected.failed()
        self.carry_out(self.run.finish, lambda: setattr(self.expected, "listed", failed), crash)
        if self.expected.listed == failed:
            listed = [(row["video_id"], (row["code"], row["chunk_id"])) for row in rows_in(self.folder / FAILURES)]
            assert listed == list(failed.items())

    # --------------------------------------------------------------------------------------------------- what crashes

    @rule(stray=st.lists(st.sampled_from([b"", b"{", b'{"video_id":"v0"}\n']), min_size=3, max_size=3))
    def crash(self, stray: list[bytes]) -> None:
        """The process ends between two commits; torn bytes may stand behind the committed ends."""
        self.opened.close()
        for name, piece in zip(ROW_FILES, stray, strict=True):
            with (self.folder / name).open("ab") as file:
                file.write(piece)
        self.recover()

    def recover(self) -> None:
        self.begin()
        expected = self.expected
        for chunk in self.living():
            expected.chunks[chunk] = ChunkState.PENDING
        for post, state in expected.posts.items():
            if state is PostState.INTENDED:
                expected.posts[post] = PostState.UNKNOWN

    # --------------------------------------------------------------------------------------------------- what is true

    @invariant()
    def every_video_is_in_exactly_one_state(self) -> None:
        states = list(self.expected.states.values())
        counts = self.run.ledger.counts()
        assert counts.videos == {state: states.count(state) for state in VideoState}
        chunks = list(self.expected.chunks.values())
        assert counts.chunks == {state: chunks.count(state) for state in ChunkState}
        assert sum(counts.posts.values()) == len(self.expected.posts)
        assert {state for _, state in counts.posts} == set(self.expected.posts.values())

    @invariant()
    def what_waits_is_whole(self) -> None:
        waiting = [chunk for chunk, state in self.expected.chunks.items() if state is ChunkState.PENDING]
        expected = self.expected
        assert [(one.number, list(one.videos), one.held, one.burnt) for one in self.run.pending()] == [
            (
                chunk,
                [Video(one, expected.durations[one]) for one in expected.open_videos(chunk)],
                expected.held[chunk],
                expected.burnt.get(chunk, {}),
            )
            for chunk in waiting
        ]

    @invariant()
    def every_answered_video_has_its_rows_once(self) -> None:
        rows = rows_in(self.folder / VIDEOS)
        assert len(rows) == len(self.expected.rows)
        assert {row["video_id"]: (row["chunk_id"], row["status"]) for row in rows} == self.expected.rows
        assert all(row["run_id"] == STYLE.run_id for row in rows)

    @invariant()
    def the_proof_holds(self) -> None:
        assert verify(self.folder).differences == self.stale_list()


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase

if __name__ == "__main__":
    run_state_machine_as_test(Life, settings=settings(Life.TestCase.settings, max_examples=int(sys.argv[1])))
