"""What the ledger says of the run as a whole: how much stands where, what failed and why, what contradicts itself.

Nothing is changed here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from pipeline.chunks import ChunkState, Counts, OpenVideos, PostState, Segment, VideoState
from pipeline.ledger_file import LedgerFile
from pipeline.models import Video
from pipeline.rows import FailureRow
from pipeline.wording import counted

_SLICE = 10_000
# One pass without a sort: grouping a million videos by state takes twice as long.
_VIDEOS_BY_STATE = ", ".join(f"count(*) FILTER (WHERE state = {state:d})" for state in VideoState)


class LedgerReports(LedgerFile):
    """The part of the ledger that counts and lists."""

    def file_lengths(self) -> list[int]:
        """The committed length of each of ``ROW_FILES``, in bytes."""
        return [length for (length,) in self._all("SELECT length FROM file ORDER BY file")]

    def segments(self) -> Iterator[tuple[int, Segment]]:
        """Every segment with its chunk, in the order in which they were committed."""
        for chunk, *segment in self._each("SELECT chunk, file, offset, length, crc FROM segment ORDER BY segment"):
            yield chunk, Segment(*segment)

    def posts_spent(self) -> int:
        """POSTs that left in all the life of this run, but for those that an overloaded platform turned away."""
        return self._count(
            "SELECT count(*) FROM post WHERE state <> ? AND NOT (state = ? AND "
            "(http_status IN (408, 425, 429) OR http_status >= 500))",
            PostState.NOT_SENT,
            PostState.REFUSED,
        )

    def posts_made(self) -> Iterator[tuple[float, PostState, int | None]]:
        """Every POST in the order of time: when it was intended (seconds since the epoch), state, HTTP status."""
        for moment, state, status in self._each("SELECT intended_at, state, http_status FROM post ORDER BY 1, post"):
            yield moment, PostState(state), status

    def posts_since(self, moment: float) -> int:
        """POSTs that were about to leave at that moment or later (seconds since the epoch)."""
        return self._count(
            "SELECT count(*) FROM post WHERE intended_at >= ? AND state <> ?", moment, PostState.NOT_SENT
        )

    def answered_groups(self) -> set[int]:
        """The prompt groups that were ever answered."""
        return {group for (group,) in self._each("SELECT DISTINCT prompt_group FROM post WHERE state = 1")}

    def counts(self) -> Counts:
        """How many videos, chunks and POSTs stand where."""
        *videos, seconds, unknown = self._all(
            f"SELECT {_VIDEOS_BY_STATE}, coalesce(sum(duration), 0), count(*) - count(duration) FROM video"  # noqa: S608
        )[0]
        chunks = dict.fromkeys(ChunkState, 0) | {
            ChunkState(state): n for state, n in self._each("SELECT state, count(*) FROM chunk GROUP BY state")
        }
        packed_chunks = self._count("SELECT count(*) FROM chunk WHERE parent IS NULL")
        posts = {
            (reason, PostState(state)): n
            for reason, state, n in self._each("SELECT reason, state, count(*) FROM post GROUP BY reason, state")
        }
        failures = dict(self._each("SELECT code, count(*) FROM failure GROUP BY code ORDER BY count(*) DESC"))
        retryable = self._count("SELECT count(*) FROM failure WHERE retryable")
        by_state = dict(zip(VideoState, videos, strict=True))
        return Counts(by_state, chunks, packed_chunks, posts, failures, retryable, seconds, unknown)

    def open_videos(self, longest_seconds: float) -> OpenVideos:
        """The videos that are still to be asked for, and how long they are."""
        videos, seconds, cut_off, known, too_long = self._all(
            "SELECT count(*), coalesce(sum(duration), 0), coalesce(sum(min(duration, ?)), 0), count(duration), "
            "coalesce(sum(duration > ?), 0) FROM video WHERE state = 0",
            longest_seconds,
            longest_seconds,
        )[0]
        first = too_long and self._one(
            "SELECT id FROM video WHERE state = 0 AND duration > ? ORDER BY video", longest_seconds
        )
        return OpenVideos(videos, seconds, cut_off, videos - known, too_long, first[0] if first else None)

    def video_ids(self) -> Iterator[list[str]]:
        """The id of every video, a slice at a time, in input order."""
        last = 0
        while some := self._all("SELECT video, id FROM video WHERE video > ? ORDER BY video LIMIT ?", last, _SLICE):
            last = some[-1][0]
            yield [video_id for _, video_id in some]

    def videos_named(self, video_ids: Collection[str]) -> dict[str, tuple[VideoState, float | None]]:
        """Of these videos those that the run has: their state, and their duration in seconds where it is known."""
        rows = self._each(
            "SELECT id, state, duration FROM video WHERE id IN (SELECT value FROM json_each(?))",
            json.dumps(list(video_ids)),
        )
        return {video_id: (VideoState(state), duration) for video_id, state, duration in rows}

    def first_videos(self, state: VideoState, limit: int) -> list[str]:
        """The ids of the first videos in this state, in input order."""
        rows = self._all("SELECT id FROM video WHERE state = ? ORDER BY video LIMIT ?", state, limit)
        return [video_id for (video_id,) in rows]

    def seconds_answered(self) -> float:
        """The known duration of the answered videos, all together."""
        return float(self._all("SELECT coalesce(sum(duration), 0) FROM video WHERE state IN (1, 2)")[0][0])

    def in_no_chunk(self, others: Collection[str]) -> list[Video]:
        """The videos that wait to be packed, and these others with them, in input order."""
        rows = self._all(
            "SELECT id, duration FROM video WHERE chunk IS NULL OR id IN (SELECT value FROM json_each(?)) "
            "ORDER BY video",
            json.dumps(list(others)),
        )
        return [Video(video_id, duration) for video_id, duration in rows]

    def failure_rows(self, run_id: str) -> Iterator[FailureRow]:
        """Every failed video, in input order; ``attempts`` are the POSTs that left for its last chunk."""
        for video_id, code, message, http_status, retryable, attempts, chunk, failed_at in self._each(
            "SELECT id, code, message, http_status, retryable, coalesce(attempts, 0), chunk, failed_at "
            "FROM failure JOIN video USING (video) "
            "LEFT JOIN (SELECT chunk, count(*) AS attempts FROM post WHERE state <> 4 GROUP BY chunk) USING (chunk) "
            "ORDER BY video"
        ):
            yield FailureRow(video_id, code, message, http_status, bool(retryable), attempts, chunk, run_id, failed_at)

    def settled_by(self, chunk: int) -> dict[str, VideoState]:
        """The videos whose rows this chunk wrote, and their states."""
        rows = self._each("SELECT id, state FROM video WHERE chunk = ? AND state IN (1, 2)", chunk)
        return {video_id: VideoState(state) for video_id, state in rows}

    def contradictions(self, *, settled_in_parts: bool = False) -> list[str]:
        """What the ledger itself has wrong: videos in no chunk, open in an ended one, failed without a reason.

        Where chunks are ``settled_in_parts`` they may have settled videos before they end.
        """
        checks = {
            ("video", "in no chunk"): "SELECT count(*) FROM video LEFT JOIN chunk USING (chunk) "
            "WHERE chunk.state IS NULL AND (video.chunk IS NOT NULL OR video.state > 0)",
            ("open video", "of chunks that have ended"): "SELECT count(*) FROM video JOIN chunk USING (chunk) "
            "WHERE video.state = 0 AND chunk.state > 1",
            ("settled video", "of chunks that have not ended"): "SELECT count(*) FROM video JOIN chunk USING (chunk) "
            "WHERE video.state > 0 AND chunk.state < 2",
            ("failed video", "without a reason"): "SELECT count(*) FROM video LEFT JOIN failure USING (video) "
            "WHERE state = 3 AND code IS NULL",
            ("reason", "without a failed video"): "SELECT count(*) FROM failure LEFT JOIN video USING (video) "
            "WHERE state IS NOT 3",
        }
        if settled_in_parts:
            del checks["settled video", "of chunks that have not ended"]
        return [f"{counted(n, one)} {rest}" for (one, rest), query in checks.items() if (n := self._count(query))]
