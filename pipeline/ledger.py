"""The run's state, in one SQLite file: every video, every chunk's life, every POST, and what the row files hold.

The ledger is the judge: a row counts only once the ledger says so, and what it does not say did not happen. Rules:

- A chunk moves as ``chunks.MOVES`` says and no other way. Repacking, asking again for what a walk owed, and retrying do
  not change a chunk: in one transaction they replace it by children, which inherit the answers that are held, or give
  its videos back to the packer.
- Chunks are numbered upwards, and children come after their parents; so one pass over rising numbers meets every chunk.
- Every change happens inside ``atomic()``, so a kill or a power cut leaves the state before or the state after, never
  one between.

Not safe for threads by itself: one caller at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Protocol

from pipeline.chunks import (
    MOVES,
    Child,
    Chunk,
    ChunkState,
    Intake,
    PostState,
    Segment,
    Settlement,
    VideoState,
)
from pipeline.index_spool import IndexSpool
from pipeline.ledger_reports import LedgerReports
from pipeline.models import Video
from pipeline.quota import Window
from pipeline.spool import Spool

SCORE_SOURCE = "score_source"
"""The fact that says whose scale the run's scores are on."""
INPUT_FINGERPRINT = "input_fingerprint"
"""The fact that holds a hash of the input's ids, in their order."""
FIT = "fit"
"""The fact that holds what refusals have taught of how much fits into one POST."""
STOP_REASON = "stop_reason"
"""The fact that says why the run stopped; there only while it stands."""
STOP_CODE = "stop_code"
"""The fact that holds the ``code`` of what stopped it; there with the reason."""
RESUME_AFTER = "resume_after"
"""The fact that says when the quota starts anew for which the run stopped, as our files write moments."""
LAST_SUCCESS = "last_success"
"""The fact that says when the run last ended with every video answered, in seconds since the epoch."""
BEGAN_AT = "began_at"
"""The fact that says when the last process began to ask, in seconds since the epoch."""
TOTALS = "totals"
"""The fact that says whether ``total_results`` counts videos on the run's platform."""

_SLICE = 10_000  # rows held in memory while a million ids are taken in

# For each state the statement that moves a chunk there, from where it may come or is already.
_MOVE = {
    to: "UPDATE chunk SET state = ? WHERE chunk = ? AND state IN ({})".format(  # noqa: S608 - numbers of ours
        ", ".join(str(int(one)) for one in ChunkState if one == to or (one, to) in MOVES)
    )
    for to in ChunkState
}


class Packer(Protocol):
    """Whatever decides which chunk the next video goes to."""

    def place(self, duration_seconds: float | None) -> int:
        """The number of the chunk for a video of this duration."""


class Ledger(Spool, IndexSpool, LedgerReports):
    """The open ledger of one run directory. Raises ``StorageError`` for whatever SQLite cannot do."""

    # ------------------------------------------------------------------------------------------------------ intake

    def take_in(self, videos: Iterable[Video], *, are_an_index: Callable[[], bool] = lambda: False) -> Intake:
        """Add the videos that are new, in input order. A known one keeps all but learns a duration that was unknown.

        Where they turn out to be a whole index (``are_an_index``), it is kept which of the others are gone from it.
        """
        self._run("CREATE TEMP TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._run("DELETE FROM seen")
        read = 0
        before = self._count("SELECT count(*) FROM video")
        remaining = iter(videos)
        while some := [(one.video_id, one.duration_seconds) for one in islice(remaining, _SLICE)]:
            read += len(some)
            if before:  # else what the table holds in the end is what was seen
                self._many("INSERT OR IGNORE INTO temp.seen VALUES (?)", ((video_id,) for video_id, _ in some))
            self._many(
                "INSERT INTO video (id, duration) VALUES (?, ?) ON CONFLICT DO UPDATE "
                "SET duration = excluded.duration WHERE video.duration IS NULL AND video.chunk IS NULL",
                some,
            )
        total = self._count("SELECT count(*) FROM video")
        distinct = self._count("SELECT count(*) FROM temp.seen") if before else total
        if before and are_an_index():
            self._run("UPDATE video SET gone = id NOT IN (SELECT id FROM temp.seen) WHERE state IN (0, 3)")
        self._run("DELETE FROM seen")
        return Intake(read, read - distinct, total - before, total - distinct)

    def learn_durations(self, videos: Iterable[Video]) -> None:
        """Fill in the durations of videos that have none and are not packed yet; others are left as they are."""
        self._many(
            "UPDATE video SET duration = ? WHERE id = ? AND duration IS NULL AND chunk IS NULL",
            ((one.duration_seconds, one.video_id) for one in videos),
        )

    def pack(self, packer: Packer, reason: str = "first") -> int:
        """Give every video that has no chunk one, as the packer says, and make those chunks; how many."""
        last = 0
        first_chunk = self.next_chunk_number()
        highest = first_chunk - 1
        while some := self._all(
            "SELECT video, duration FROM video WHERE chunk IS NULL AND video > ? ORDER BY video LIMIT ?", last, _SLICE
        ):
            last = some[-1][0]
            placed = [(packer.place(duration), video) for video, duration in some]
            highest = max(highest, *(chunk for chunk, _ in placed))
            self._many("UPDATE video SET chunk = ? WHERE video = ?", placed)
        self._many(
            "INSERT INTO chunk (chunk, reason) VALUES (?, ?)", ((n, reason) for n in range(first_chunk, highest + 1))
        )
        return highest + 1 - first_chunk

    def take_again(self, codes: Collection[str], packer: Packer, *, every: bool = False) -> int:
        """Open failed videos again, in new chunks, as the packer says; how many.

        Of the given codes, or of all codes where there are none; only those that can succeed, unless ``every``.
        """
        again = self._all(
            "SELECT video, duration, CASE WHEN chunk.state > 1 THEN chunk END "
            "FROM failure JOIN video USING (video) JOIN chunk USING (chunk) "
            "WHERE (? OR retryable) AND (? OR code IN (SELECT value FROM json_each(?))) ORDER BY video",
            every or bool(codes),
            not codes,
            json.dumps(list(codes)),
        )
        first_chunk = self.next_chunk_number()
        placed = [(packer.place(duration), video) for video, duration, _ in again]
        self._many("DELETE FROM failure WHERE video = ?", ((video,) for video, _, _ in again))
        self._many("UPDATE video SET state = 0, chunk = ? WHERE video = ?", placed)
        self._many(
            "INSERT INTO chunk (chunk, reason) VALUES (?, 'retry')",
            ((number,) for number in range(first_chunk, max((one for one, _ in placed), default=0) + 1)),
        )
        for parent in {ended for _, _, ended in again if ended}:
            self.move(parent, ChunkState.REPLACED)
        return len(again)

    def next_chunk_number(self) -> int:
        """The number that the next chunk will have; from 1 upwards."""
        return self._count("SELECT coalesce(max(chunk), 0) + 1 FROM chunk")

    # ------------------------------------------------------------------------------------------------------ chunks

    def recover(self) -> None:
        """After any stop: chunks in flight are pending again, and POSTs whose fate nobody wrote down are unknown."""
        self._run("UPDATE chunk SET state = ? WHERE state = ?", ChunkState.PENDING, ChunkState.IN_FLIGHT)
        self._run("UPDATE post SET state = ? WHERE state = ?", PostState.UNKNOWN, PostState.INTENDED)

    def pending_after(self, number: int, limit: int) -> list[Chunk]:
        """The next pending chunks, whole, in the order of their numbers."""
        rows = self._all(  # "state < 2" is what makes SQLite use the small index of open chunks
            "SELECT chunk, reason, shortfalls FROM chunk WHERE state = 0 AND state < 2 AND chunk > ? "
            "ORDER BY chunk LIMIT ?",
            number,
            limit,
        )
        chunks = [chunk for chunk, _, _ in rows]
        videos, held, burnt = self._open_videos(chunks), self._held(chunks), self._burnt(chunks)
        return [
            Chunk(chunk, tuple(videos[chunk]), reason, shortfalls, tuple(held[chunk]), burnt[chunk])
            for chunk, reason, shortfalls in rows
        ]

    def chunks_with_answers(self) -> list[Chunk]:
        """The pending chunks that hold a part of their answers, whole; few of them, for the others were cut off."""
        numbers = self._all("SELECT DISTINCT chunk FROM walk ORDER BY chunk")
        return [chunk for (number,) in numbers for chunk in self.pending_after(number - 1, 1)]

    def first_open_chunk(self) -> Chunk | None:
        """The first chunk that has not ended, without its videos: it may be a whole index."""
        row = self._one("SELECT chunk, reason FROM chunk WHERE state < 2 ORDER BY chunk LIMIT 1")
        return None if row is None else Chunk(row[0], (), row[1], burnt=self._burnt([row[0]])[row[0]])

    def open_chunks(self) -> list[int]:
        """The numbers of the chunks that have not ended."""
        return [number for (number,) in self._all("SELECT chunk FROM chunk WHERE state < 2 ORDER BY chunk")]

    def _open_videos(self, chunks: Sequence[int]) -> defaultdict[int, list[Video]]:
        videos: defaultdict[int, list[Video]] = defaultdict(list)
        for chunk, video_id, duration in self._all(
            "SELECT chunk, id, duration FROM video WHERE chunk IN (SELECT value FROM json_each(?)) AND state = 0 "
            "ORDER BY video",
            json.dumps(chunks),
        ):
            videos[chunk].append(Video(video_id, duration))
        return videos

    def _burnt(self, chunks: Sequence[int]) -> defaultdict[int, dict[tuple[int, str], int]]:
        burnt: defaultdict[int, dict[tuple[int, str], int]] = defaultdict(dict)
        for chunk, group, kind, count in self._all(
            "SELECT chunk, prompt_group, burnt, count(*) FROM post "
            "WHERE chunk IN (SELECT value FROM json_each(?)) AND burnt IS NOT NULL GROUP BY 1, 2, 3",
            json.dumps(chunks),
        ):
            burnt[chunk][group, kind] = count
        return burnt

    def move(self, chunk: int, state: ChunkState) -> None:
        """Move a chunk on. Raises ``ValueError`` for a move that its life does not allow: a bug."""
        if not self._change(_MOVE[state], state, chunk):
            row = self._one("SELECT state FROM chunk WHERE chunk = ?", chunk)
            present = ChunkState(row[0]) if row else None
            raise ValueError(f"chunk {chunk} cannot go from {present!r} to {state!r}")

    # ------------------------------------------------------------------------------------------------------- posts

    def intend_post(
        self, chunk: int, prompt_group: int, reason: str, *, intended_at: float, window: Window | None
    ) -> int:
        """Write down that a POST is about to leave; its number."""
        self.move(chunk, ChunkState.IN_FLIGHT)
        if window is not None:
            self.remember_window(window)
        return self._insert(
            "INSERT INTO post (chunk, prompt_group, reason, intended_at) VALUES (?, ?, ?, ?)",
            chunk,
            prompt_group,
            reason,
            intended_at,
        )

    def end_post(
        self,
        post: int,
        state: PostState,
        *,
        billed: bool | None,
        http_status: int | None = None,
        burnt: str | None = None,
        window: Window | None = None,
    ) -> None:
        """Write down what became of a POST, and of the quota.

        ``billed`` is None where nobody knows, ``burnt`` the budget of the chunk's that its failure was counted in.
        """
        if window is not None:
            self.remember_window(window)
        self._run(
            "UPDATE post SET state = ?, billed = ?, http_status = ?, burnt = ? WHERE post = ?",
            state,
            billed,
            http_status,
            burnt,
            post,
        )

    def remember_window(self, window: Window) -> None:
        """Keep what is used of the quota's window."""
        self._run(
            "INSERT OR REPLACE INTO window VALUES (1, ?, ?, ?, ?)",
            window.used,
            window.resets_at,
            window.limit,
            window.closed_until,
        )

    def window(self) -> Window | None:
        """What was used of the quota's window when it was last written down."""
        row = self._one("SELECT used, resets_at, most, closed_until FROM window")
        return None if row is None else Window(*row)

    # ------------------------------------------------------------------------------------------------------ commit

    def settle(self, settlement: Settlement, segments: Sequence[Segment]) -> None:
        """End a chunk: its videos' states, its segments and the files' new lengths, its children, its spool gone.

        Or settle a part of it, and leave the rest as it is.
        """
        chunk = settlement.chunk
        self.move(chunk, ChunkState.IN_FLIGHT)
        self._set_states(chunk, VideoState.SCORED, settlement.scored)
        self._set_states(chunk, VideoState.NO_MATCH, settlement.no_match)
        if settlement.failures:
            self._set_failures(settlement)
        self._many(
            "INSERT INTO segment (file, chunk, offset, length, crc) VALUES (?, ?, ?, ?, ?)",
            ((one.file, chunk, one.offset, one.length, one.crc) for one in segments),
        )
        self._many(
            "UPDATE file SET length = ? WHERE file = ?", ((one.offset + one.length, one.file) for one in segments)
        )
        if settlement.is_part:
            return
        if self._one(
            "SELECT 1 FROM walk WHERE chunk = ? UNION ALL SELECT 1 FROM index_walk WHERE chunk = ?", chunk, chunk
        ):  # not so for most chunks: they were answered by one page
            self._drop_walks(chunk)
            self.drop_index_walks(chunk)
        for child in settlement.children:
            self._add_child(chunk, child)
        if settlement.loose:
            self._many(
                "UPDATE video SET chunk = NULL WHERE id = ? AND chunk = ?", ((one, chunk) for one in settlement.loose)
            )
        self.move(chunk, ChunkState.REPLACED if settlement.children or settlement.loose else ChunkState.DONE)

    def _set_states(self, chunk: int, state: VideoState, video_ids: Sequence[str]) -> None:
        if not video_ids:
            return
        changed = self._change(  # "+chunk", or SQLite would look at every video of the chunk, which may be an index
            "UPDATE video SET state = ? WHERE id IN (SELECT value FROM json_each(?)) AND +chunk = ? AND state = 0",
            state,
            json.dumps(video_ids),
            chunk,
        )
        if changed != len(video_ids):
            raise ValueError(f"chunk {chunk} settles {len(video_ids)} videos, but has only {changed} of them open")

    def _set_failures(self, settlement: Settlement) -> None:
        self._set_states(settlement.chunk, VideoState.FAILED, [failure.video_id for failure in settlement.failures])
        self._many(
            "INSERT OR REPLACE INTO failure SELECT video, ?, ?, ?, ?, ? FROM video WHERE id = ?",
            (
                (
                    failure.code,
                    failure.message,
                    failure.http_status,
                    failure.retryable,
                    settlement.settled_at,
                    failure.video_id,
                )
                for failure in settlement.failures
            ),
        )

    def _add_child(self, parent: int, child: Child) -> None:
        number = self.next_chunk_number()
        self._run(
            "INSERT INTO chunk (chunk, parent, reason, shortfalls) VALUES (?, ?, ?, ?)",
            number,
            parent,
            child.reason,
            child.shortfalls,
        )
        self._many(
            "UPDATE video SET chunk = ? WHERE id = ? AND chunk = ?",
            ((number, one, parent) for one in child.video_ids),
        )
        for walk in child.held:
            self._inherit(number, walk)
