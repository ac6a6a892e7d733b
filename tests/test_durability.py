"""Any life of a run, with crashes at every moment: each video in exactly one state, its rows there once."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.chunks import Child, Chunk, ChunkState, HeldPage, HeldWalk, PostState, VideoState
from pipeline.rows import ROW_FILES, VIDEOS, lines_of
from pipeline.verify import verify
from tests.builders import STYLE, End, OpenRun, end, opened, origin, rows_in

outcomes = st.sampled_from(["matched", "matched", "silent", "failed", "child one", "child two"])
_STATE = {"matched": VideoState.SCORED, "silent": VideoState.NO_MATCH, "failed": VideoState.FAILED}


@dataclass(slots=True)
class Expected:
    """What the run directory must hold."""

    states: dict[str, VideoState] = field(default_factory=dict)
    chunk_of: dict[str, int] = field(default_factory=dict)
    chunks: dict[int, ChunkState] = field(default_factory=dict)
    held: dict[int, tuple[HeldWalk, ...]] = field(default_factory=dict)
    posts: dict[int, PostState] = field(default_factory=dict)
    rows: dict[str, tuple[int, str]] = field(default_factory=dict)
    gone: int = 0

    def open_videos(self, chunk: int) -> list[str]:
        mine = (one for one, number in self.chunk_of.items() if number == chunk)
        return [one for one in mine if self.states[one] is VideoState.OPEN]

    def add_chunk(self, videos: list[str], held: tuple[HeldWalk, ...] = ()) -> None:
        number = len(self.chunks) + 1
        self.chunks[number] = ChunkState.PENDING
        self.held[number] = held
        self.chunk_of |= dict.fromkeys(videos, number)


class Life(RuleBasedStateMachine):
    """Ledger, row files and sink of one run directory, beside what they must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.expected = Expected()
        self.opened = ExitStack()
        self.begin()

    def begin(self) -> None:
        self.run: OpenRun = self.opened.enter_context(opened(self.folder))

    def teardown(self) -> None:
        with self.temporary:
            self.opened.close()
            assert verify(self.folder).differences == self.unwritten_failures()

    def unwritten_failures(self) -> list[str]:
        """The list of failures is written at the end of a run, and missed once nothing is open."""
        is_missed = VideoState.OPEN not in self.expected.states.values()
        return ["failures.ndjson: No such file or directory"] if is_missed else []

    def some_chunk(self, choice: int) -> int:
        return (waiting := self.living())[choice % len(waiting)]

    def living(self) -> list[int]:
        return [chunk for chunk, state in self.expected.chunks.items() if state < ChunkState.DONE]

    # ------------------------------------------------------------------------------------------------- what happens

    @initialize(count=st.integers(1, 12), a_chunk=st.integers(1, 5))
    def take_in_first(self, count: int, a_chunk: int) -> None:
        self.take_in(0, count, a_chunk)

    @rule(first=st.integers(0, 30), count=st.integers(0, 6), a_chunk=st.integers(1, 4))
    def take_in(self, first: int, count: int, a_chunk: int) -> None:
        names = [f"v{number}" for number in range(first, first + count)]
        fresh = [name for name in names if name not in self.expected.states]
        self.run.take_in(*names, *names[:1], a_chunk=a_chunk)
        self.expected.states |= dict.fromkeys(fresh, VideoState.OPEN)
        for start in range(0, len(fresh), a_chunk):
            self.expected.add_chunk(fresh[start : start + a_chunk])

    @precondition(lambda life: bool(life.living()))
    @rule(choice=st.integers(0), fate=st.sampled_from([None, *list(PostState)[1:]]))
    def intend_a_post(self, choice: int, fate: PostState | None) -> None:
        chunk = self.some_chunk(choice)
        with self.run.ledger.atomic():
            post = self.run.ledger.intend_post(chunk, 0, "first", intended_at=1.0, window=None)
        assert post == len(self.expected.posts) + 1
        self.expected.posts[post] = PostState.INTENDED
        self.expected.chunks[chunk] = ChunkState.IN_FLIGHT
        if fate is not None:
            with self.run.ledger.atomic():
                self.run.ledger.end_post(post, fate, billed=None)
            self.expected.posts[post] = fate

    @precondition(lambda life: bool(life.living()))
    @rule(choice=st.integers(0), group=st.integers(0, 2), body=st.binary(max_size=5), begins=st.booleans())
    def spool_a_page(self, choice: int, group: int, body: bytes, begins: bool) -> None:
        chunk = self.some_chunk(choice)
        held = list(self.expected.held[chunk])
        mine = [place for place, walk in enumerate(held) if walk.prompt_group == group]
        page = HeldWalk(group, (HeldPage(body, 1.5),), "token")
        begins = begins or not mine
        with self.run.ledger.atomic():
            self.run.ledger.spool(chunk, page, begins=begins)
        if begins:
            held.append(page)
        else:
            held[mine[-1]] = replace(page, pages=held[mine[-1]].pages + page.pages)
        self.expected.held[chunk] = tuple(held)

    @precondition(lambda life: bool(life.living()))
    @rule(choices=st.lists(st.integers(0), min_size=1, max_size=4), fates=st.lists(outcomes, min_size=5, max_size=5))
    def settle(self, choices: list[int], fates: list[str]) -> None:
        """Several chunks at once: one group commit."""
        chunks = dict.fromkeys(self.some_chunk(choice) for choice in choices)
        ends = [self.end_of(chunk, fates) for chunk in chunks]
        self.run.commit(*ends)
        for one in ends:
            self.note_end(one)

    def end_of(self, chunk: int, fates: list[str]) -> End:
        parts: dict[str, list[str]] = {}
        for place, video_id in enumerate(self.expected.open_videos(chunk)):
            parts.setdefault(fates[place % len(fates)], []).append(video_id)
        inherited = tuple(replace(walk, next_token=None, complete=True) for walk in self.expected.held[chunk])
        children = [Child(tuple(parts[name]), name, inherited) for name in ("child one", "child two") if name in parts]
        settled = {name: parts.get(name, []) for name in _STATE}
        return end(chunk, children=children, **settled)

    def note_end(self, one: End) -> None:
        settlement, expected = one.settlement, self.expected
        failed = tuple(failure.video_id for failure in settlement.failures)
        for name, videos in (("matched", settlement.scored), ("silent", settlement.no_match), ("failed", failed)):
            expected.states |= dict.fromkeys(videos, _STATE[name])
        for result in one.results:
            expected.rows[result.video_id] = (settlement.chunk, "scored" if result.classes else "no_match")
        expected.chunks[settlement.chunk] = ChunkState.REPLACED if settlement.children else ChunkState.DONE
        expected.held[settlement.chunk] = ()
        for child in settlement.children:
            expected.add_chunk(list(child.video_ids), child.held)

    # --------------------------------------------------------------------------------------------------- what crashes

    @rule(stray=st.lists(st.sampled_from([b"", b"{", b'{"video_id":"v0"}\n']), min_size=3, max_size=3))
    def crash(self, stray: list[bytes]) -> None:
        """The process ends between two commits; torn bytes may stand behind the committed ends."""
        self.opened.close()
        for name, piece in zip(ROW_FILES, stray, strict=True):
            with (self.folder / name).open("ab") as file:
                file.write(piece)
        self.recover()

    @precondition(lambda life: bool(life.living()))
    @rule(choice=st.integers(0), fates=st.lists(outcomes, min_size=5, max_size=5), settles=st.booleans())
    def crash_in_a_commit(self, choice: int, fates: list[str], settles: bool) -> None:
        """The rows are written, and perhaps the ledger's changes made, but its transaction never commits."""
        one = self.end_of(self.some_chunk(choice), fates)
        self.run.files.append(lines_of(one.results, origin(one.settlement.chunk)))
        ledger = self.run.ledger
        ledger._connection.execute("BEGIN IMMEDIATE")
        if settles:
            ledger.settle(one.settlement, [])
        self.opened.close()
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
        assert [(one.number, ids(one), one.held) for one in self.run.pending()] == [
            (chunk, self.expected.open_videos(chunk), self.expected.held[chunk]) for chunk in waiting
        ]

    @invariant()
    def every_answered_video_has_its_rows_once(self) -> None:
        rows = rows_in(self.folder / VIDEOS)
        assert len(rows) == len(self.expected.rows)
        assert {row["video_id"]: (row["chunk_id"], row["status"]) for row in rows} == self.expected.rows
        assert all(row["run_id"] == STYLE.run_id for row in rows)

    @invariant()
    def the_proof_holds(self) -> None:
        assert verify(self.folder).differences == self.unwritten_failures()


def ids(chunk: Chunk) -> list[str]:
    return [video.video_id for video in chunk.videos]


Life.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
