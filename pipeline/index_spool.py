"""What is held of the walks over a whole index: by video, because nobody could hold their pages.

A walk answers for a video by showing it, or, when it is complete, by its silence: but only for videos that were known
when its POST left. An answer is kept once, however many walks show it, and until its chunk ends. What a walk has shown
is kept too, answer or not, for ``total_results`` counts distinct videos, and a walk may go on after a kill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.chunks import HeldVideo, IndexWalk, Standing, WalkState
from pipeline.ledger_file import LedgerFile
from pipeline.models import Failure

# The open videos of a chunk that a prompt group owes an answer: chunk, group, group.
_OWED = """chunk = ? AND state = 0
    AND video > (SELECT coalesce(max(last_video), 0) FROM index_walk AS walks
        WHERE walks.chunk = video.chunk AND walks.prompt_group = ? AND walks.state = 1)
    AND NOT EXISTS (SELECT 1 FROM index_walk AS walks JOIN shown USING (walk)
        WHERE walks.chunk = video.chunk AND walks.prompt_group = ? AND shown.id = video.id AND answer IS NOT NULL)"""


class IndexSpool(LedgerFile):
    """The part of the ledger that is about whole indexes."""

    def index_walk(self, chunk: int, prompt_group: int) -> IndexWalk | None:
        """The walk that brings a prompt group on: one that goes on, or else one that has yet to be begun.

        None where no open video of the chunk lacks an answer of this group.
        """
        going = self._walk_that_goes_on(chunk, prompt_group)
        if going is not None or not self._owes(chunk, prompt_group):
            return going
        number = self._count("SELECT coalesce(max(walk), 0) + 1 FROM index_walk")
        return IndexWalk(number, prompt_group, self._count("SELECT max(video) FROM video"))

    def open_index_posts(self, chunk: int, prompt_group: int) -> tuple[int, int]:
        """The POSTs that a prompt group still takes, and those that a page token spares as long as it is alive."""
        going = self._walk_that_goes_on(chunk, prompt_group)
        owes = self._owes(chunk, prompt_group, going.last_video if going else 0)
        return int(owes), int(going is not None and not owes)

    def _walk_that_goes_on(self, chunk: int, prompt_group: int) -> IndexWalk | None:
        row = self._one(
            "SELECT walk, last_video, next_token, flaw FROM index_walk "
            "WHERE chunk = ? AND prompt_group = ? AND state = ?",
            chunk,
            prompt_group,
            WalkState.GOES_ON,
        )
        if row is None:
            return None
        number, last_video, next_token, flaw = row
        shown = self._count("SELECT count(*) FROM shown WHERE walk = ?", number)
        return IndexWalk(number, prompt_group, last_video, next_token, shown=shown, flaw=flaw)

    def _owes(self, chunk: int, prompt_group: int, after: int = 0) -> bool:
        """Whether a prompt group owes an answer for one of the videos behind a number."""
        owed = f"SELECT count(*) FROM (SELECT 1 FROM video WHERE {_OWED} AND video > ? LIMIT 1)"  # noqa: S608
        return bool(self._count(owed, chunk, prompt_group, prompt_group, after))

    def end_index_walk(self, walk: IndexWalk) -> None:
        """A walk cannot be gone on with."""
        self._run("UPDATE index_walk SET state = ? WHERE walk = ?", WalkState.FAILED, walk.number)

    def short_index_walks(self, chunk: int, prompt_group: int) -> int:
        """How many walks of a prompt group ended with fewer videos than they announced."""
        return self._count(
            "SELECT count(*) FROM index_walk WHERE chunk = ? AND prompt_group = ? AND state = ?",
            chunk,
            prompt_group,
            WalkState.SHORT,
        )

    def standing(self, chunk: int, walk: IndexWalk, video_ids: Iterable[str]) -> Standing:
        """How these videos stand in a walk."""
        shown, wanted = set(), set()
        for one in video_ids:
            if self._count("SELECT count(*) FROM shown WHERE walk = ? AND id = ?", walk.number, one):
                shown.add(one)
            elif self._count(
                f"SELECT count(*) FROM video WHERE id = ? AND {_OWED}",  # noqa: S608
                one,
                chunk,
                walk.prompt_group,
                walk.prompt_group,
            ):
                wanted.add(one)
        return Standing(frozenset(shown), frozenset(wanted))

    def keep_index_page(
        self, chunk: int, walk: IndexWalk, shown: Sequence[str], answers: Mapping[str, bytes], *, arrived_at: float
    ) -> None:
        """Keep what a page has shown for the first time in its walk, with the answers to hold, and how that stands."""
        self._run(
            "INSERT INTO index_walk VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET next_token = "
            "excluded.next_token, state = excluded.state, flaw = excluded.flaw, arrived_at = excluded.arrived_at",
            walk.number,
            chunk,
            walk.prompt_group,
            walk.last_video,
            walk.next_token,
            walk.state,
            walk.flaw,
            arrived_at,
        )
        self._many("INSERT INTO shown VALUES (?, ?, ?)", ((walk.number, one, answers.get(one)) for one in shown))

    def fail_owed(self, chunk: int, walk: IndexWalk, failure: Failure, *, failed_at: str) -> int:
        """Fail every video that a walk should have answered for and did not; how many. The walk is over."""
        self.end_index_walk(walk)
        self._run(
            "INSERT OR REPLACE INTO failure SELECT video, ?, ?, ?, ?, ? "  # noqa: S608
            f"FROM video WHERE {_OWED} AND video <= ?",
            failure.code,
            failure.message,
            failure.http_status,
            failure.retryable,
            failed_at,
            chunk,
            walk.prompt_group,
            walk.prompt_group,
            walk.last_video,
        )
        return self._many(
            "UPDATE video SET state = 3 WHERE chunk = ? AND state = 0 AND video IN (SELECT video FROM failure)",
            [(chunk,)],
        )

    def held_videos(self, chunk: int, after: int, limit: int) -> list[HeldVideo]:
        """The next open videos of a chunk in the order of their numbers, with the answers that are held of them."""
        rows = self._all(
            "SELECT video, id, gone FROM video WHERE chunk = ? AND state = 0 AND video > ? ORDER BY video LIMIT ?",
            chunk,
            after,
            limit,
        )
        return [
            HeldVideo(number, video_id, self._answers(chunk, video_id), bool(gone)) for number, video_id, gone in rows
        ]

    def _answers(self, chunk: int, video_id: str) -> dict[int, bytes]:
        return dict(
            self._all(
                "SELECT prompt_group, answer FROM index_walk JOIN shown USING (walk) "
                "WHERE chunk = ? AND id = ? AND answer IS NOT NULL",
                chunk,
                video_id,
            )
        )

    def last_index_page_at(self, chunk: int) -> float | None:
        """When the last page of a chunk's walks arrived, in seconds since the epoch."""
        row = self._one("SELECT max(arrived_at) FROM index_walk WHERE chunk = ?", chunk)
        return row[0] if row else None

    def not_listed(self, chunk: int) -> list[str]:
        """What a chunk's walks have shown although no listing had it."""
        rows = self._all(
            "SELECT DISTINCT id FROM index_walk JOIN shown USING (walk) LEFT JOIN video USING (id) "
            "WHERE index_walk.chunk = ? AND video IS NULL",
            chunk,
        )
        return [video_id for (video_id,) in rows]

    def drop_index_walks(self, chunk: int) -> None:
        """Forget what is held of a chunk."""
        self._run("DELETE FROM shown WHERE walk IN (SELECT walk FROM index_walk WHERE chunk = ?)", chunk)
        self._run("DELETE FROM index_walk WHERE chunk = ?", chunk)
