"""What is held of the walks over single videos: each page as it arrived, until the end of its chunk is durable.

So no answer that was paid for is lost with the process; and the walk goes on where it was, if its token still lives.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from pipeline.chunks import HeldPage, HeldWalk
from pipeline.ledger_file import LedgerFile


class Spool(LedgerFile):
    """The part of the ledger that holds answers of chunks that have not ended."""

    def spool(self, chunk: int, walk: HeldWalk, *, begins: bool) -> None:
        """Keep a page as it arrived (``walk.pages`` has just this one), and how its walk stands.

        ``begins``: the page is the first of a new walk; else it belongs to the newest walk of its chunk and group.
        """
        number = (
            self._insert_walk(chunk, walk)
            if begins
            else self._count(
                "SELECT max(walk) FROM walk WHERE chunk = ? AND prompt_group = ?", chunk, walk.prompt_group
            )
        )
        self._run(
            "UPDATE walk SET next_token = ?, ended = ? WHERE walk = ?",
            walk.next_token,
            _ended(walk),
            number,
        )
        self._insert_page(number, walk.pages[-1])

    def _inherit(self, chunk: int, walk: HeldWalk) -> None:
        """Keep a walk for a chunk that takes over a part of its answers."""
        number = self._insert_walk(chunk, walk)
        for page in walk.pages:
            self._insert_page(number, page)

    def _drop_walks(self, chunk: int) -> None:
        self._run("DELETE FROM page WHERE walk IN (SELECT walk FROM walk WHERE chunk = ?)", chunk)
        self._run("DELETE FROM walk WHERE chunk = ?", chunk)

    def _held(self, chunks: Sequence[int]) -> defaultdict[int, list[HeldWalk]]:
        held: defaultdict[int, list[HeldWalk]] = defaultdict(list)
        for chunk, walk, group, token, ended, asked in self._all(
            "SELECT chunk, walk, prompt_group, next_token, ended, asked FROM walk "
            "WHERE chunk IN (SELECT value FROM json_each(?)) ORDER BY walk",
            json.dumps(chunks),
        ):
            held[chunk].append(
                HeldWalk(
                    group,
                    self._pages(walk),
                    token,
                    complete=ended == 1,
                    ended_short=ended == 2,
                    failed=ended == 3,
                    refused=ended == 4,
                    asked=asked and tuple(json.loads(asked)),
                )
            )
        return held

    def _insert_walk(self, chunk: int, walk: HeldWalk) -> int:
        return self._insert(
            "INSERT INTO walk (chunk, prompt_group, next_token, ended, asked) VALUES (?, ?, ?, ?, ?)",
            chunk,
            walk.prompt_group,
            walk.next_token,
            _ended(walk),
            None if walk.asked is None else json.dumps(walk.asked),
        )

    def _insert_page(self, walk: int, page: HeldPage) -> None:
        self._run("INSERT INTO page (walk, arrived_at, body) VALUES (?, ?, ?)", walk, page.arrived_at, page.body)

    def _pages(self, walk: int) -> tuple[HeldPage, ...]:
        rows = self._all("SELECT body, arrived_at FROM page WHERE walk = ? ORDER BY page", walk)
        return tuple(HeldPage(body, arrived_at) for body, arrived_at in rows)


def _ended(walk: HeldWalk) -> int:
    return 1 if walk.complete else 2 if walk.ended_short else 3 if walk.failed else 4 if walk.refused else 0
