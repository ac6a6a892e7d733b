"""What the platform was asked, held against what the run directory held each time that a process had ended.

The ledger is looked at in a copy, so that looking does not help it to recover.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from pipeline.chunks import Chunk, HeldWalk, VideoState
from pipeline.config import job_of, load
from pipeline.ledger import Ledger
from pipeline.packing import prompt_groups
from pipeline.rows import FAILURES
from pipeline.rundir import LEDGER, RUN_JSON
from pipeline.verify import verify
from tests.runs import Desk, expected_content
from tests.servers.contract import ContractServer, JsonObject, Served

Pair = tuple[str, tuple[str, ...]]
"""A video, and the class names of a prompt group."""
_REPAIRED_AT_THE_NEXT_START = ("bytes stand behind the committed end", FAILURES, RUN_JSON)


class BrokenPromise(AssertionError):
    """Something was lost, doubled, torn, paid for twice, or claimed too early."""


@dataclass(slots=True)
class Ending:
    """What was held when a process had ended, and how much the platform had seen by then.

    ``resumable`` are pairs behind a held page token, ``owed`` those that a finished walk announced and did not show.
    """

    posts_seen: int
    pages_seen: int
    held: set[Pair] = field(default_factory=set)
    resumable: set[Pair] = field(default_factory=set)
    owed: set[Pair] = field(default_factory=set)
    answered_videos: int = 0
    repeated: set[int] = field(default_factory=set)


class Witness:
    """Follows one run directory through the lives of its processes, from the POSTs on that are still to come.

    ``concurrency`` is its number of workers.
    """

    def __init__(self, desk: Desk, server: ContractServer, concurrency: int) -> None:
        self._desk = desk
        self._server = server
        self._concurrency = concurrency
        self._first_post = len(server.posts)
        self.endings: list[Ending] = []
        job = job_of(load(desk.config, flags={}, environment={}).config)
        self._groups = [tuple(one.name for one in group) for group in prompt_groups(job.classes)]

    @property
    def posts(self) -> list[Served]:
        """The POSTs of this run, in their order."""
        return self._server.posts[self._first_post :]

    async def note_ending(self) -> Ending:
        """Look at what a process has left. Raises ``BrokenPromise`` where committed rows are not sound."""
        await _has_read_all(self._server)
        ending = Ending(len(self.posts), len(self._server.pages))
        with _copy(self._desk.out) as folder:
            if (folder / LEDGER).exists():
                self._look_into(folder, ending)
        self.endings.append(ending)
        return ending

    def _look_into(self, folder: Path, ending: Ending) -> None:
        with Ledger(folder / LEDGER) as ledger:
            with ledger.atomic():
                ledger.recover()
            videos = ledger.counts().videos
            chunks = ledger.pending_after(0, 1_000_000)
        ending.answered_videos = videos[VideoState.SCORED] + videos[VideoState.NO_MATCH]
        if not sum(videos.values()):
            return
        with closing(sqlite3.connect(folder / LEDGER)) as database:
            settled = [video_id for (video_id,) in database.execute("SELECT id FROM video WHERE state > 0")]
        ending.held.update((one, group) for one in settled for group in self._groups)
        for chunk in chunks:
            self._note_walks(chunk, ending)
        ending.owed -= ending.held
        ending.resumable -= ending.held
        if ending.answered_videos:
            differences = verify(folder).differences
            unsound = [one for one in differences if not any(some in one for some in _REPAIRED_AT_THE_NEXT_START)]
            require(not unsound, f"after an end the committed rows are not sound: {unsound[:3]}")

    def _note_walks(self, chunk: Chunk, ending: Ending) -> None:
        """Add what a chunk has spooled. Only the newest walk of a prompt group can be gone on with."""
        owed: set[Pair] = set()
        resumable: dict[int, set[Pair]] = {}
        for walk in chunk.held:
            group = self._groups[walk.prompt_group]
            asked = [video.video_id for video in chunk.videos] if walk.asked is None else walk.asked
            pairs = {(video_id, group) for video_id in asked}
            shown = {(video_id, group) for video_id in _video_ids(walk)}
            ending.held |= shown
            if walk.complete:
                ending.held |= pairs - owed  # silence of a later walk need not be about what an earlier one owes
            owed |= pairs - shown if walk.ended_short else set()
            resumable[walk.prompt_group] = pairs if walk.next_token else set()
        ending.owed |= owed
        ending.resumable.update(*resumable.values())

    def check_posts(self) -> int:
        """Check every POST against all endings before it; how many were repeated.

        Raises ``BrokenPromise`` where one asks for what was held, or for what a live page token leads to, and where
        an ending made more of them repeated than there are workers.
        """
        executed_last: dict[Pair, int] = {}
        for place, post in enumerate(self.posts):
            pairs = [(video_id, post.class_names) for video_id in post.video_ids]
            before = [one for one in self.endings if one.posts_seen <= place]
            for pair in pairs:
                require(
                    not any(pair in one.held for one in before), f"POST {place + 1} asks for {pair[0]}, which is held"
                )
                if before and pair in before[-1].resumable:
                    self._require_tried_token(pair, before[-1], post)
                self._note_repetition(pair, executed_last.get(pair), place)
            if post.executed:
                executed_last |= dict.fromkeys(pairs, place)
        most = max((len(one.repeated) for one in self.endings), default=0)
        require(most <= self._concurrency, f"one end of a process made {most} POSTs repeated")
        return sum(len(one.repeated) for one in self.endings)

    def _require_tried_token(self, pair: Pair, ending: Ending, post: Served) -> None:
        video_id, group = pair
        # Or the walk went on with it, and ended short: then it owed the video.
        tried = any(
            page.status in {200, 400} and page.class_names == group and video_id in page.video_ids
            for page in self._server.pages[ending.pages_seen :]
            if page.arrived <= post.arrived
        )
        require(tried, f"{video_id} is posted again, although its walk's token was held and not tried")

    def _note_repetition(self, pair: Pair, executed: int | None, place: int) -> None:
        if executed is None:
            return
        ended_between = next((one for one in self.endings if executed < one.posts_seen <= place), None)
        if ended_between and pair not in ended_between.owed:
            ended_between.repeated.add(executed)


def _video_ids(walk: HeldWalk) -> Iterator[str]:
    """The videos of a spooled walk: those of its pages, or of the failures that stand in their place."""
    for page in walk.pages:
        content = json.loads(page.body)
        for entry in content if walk.failed else content["data"]:
            yield entry["video_id"]


async def _has_read_all(server: ContractServer) -> None:
    """Wait until the platform has read what a dead process had still sent: it belongs to that process's life."""
    assert server._runner.server is not None
    while server._runner.server.connections:  # noqa: ASYNC110 - no event tells of the last one's end
        await anyio.sleep(0.005)
    await anyio.wait_all_tasks_blocked()


@contextmanager
def _copy(run: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / run.name
        if run.exists():
            # The index of the write-ahead log is made anew from it, as after a reboot.
            shutil.copytree(run, folder, ignore=shutil.ignore_patterns(f"{LEDGER}-shm"))
        yield folder


def require(holds: bool, promise: str) -> None:
    """Raise ``BrokenPromise`` unless it holds."""
    if not holds:
        raise BrokenPromise(promise)


def require_whole(
    desk: Desk,
    server: ContractServer,
    video_ids: Iterable[str],
    classes: Sequence[JsonObject],
    failures: Mapping[str, str],
) -> int:
    """The run has the rows of an undisturbed one, and is proven sound; how many rows.

    Raises ``BrokenPromise`` where a row is lost, double or different, or where others failed than ``failures``.
    """
    differences = verify(desk.out).differences
    require(not differences, f"verify: {differences[:3]}")
    rows = 0
    present = desk.content()
    for name, expected in expected_content(server, video_ids, classes).items():
        wanted, found = (Counter(json.dumps(row, sort_keys=True) for row in some) for some in (expected, present[name]))
        require(not wanted - found, f"{name}: lost {list(wanted - found)[:1]}")
        require(not found - wanted, f"{name}: double or not expected {list(found - wanted)[:1]}")
        rows += len(expected)
    require(desk.failures() == failures, f"other videos failed than those that must: {desk.failures()}")
    strange = [one for one in server.violations if "belongs to a walk that was finished" not in one]
    require(not strange, f"the platform saw what it must not see: {strange[:3]}")
    return rows
