"""A recorded run, and whether what its user relies on holds wherever the power is cut.

- The run can be gone on with: nothing of it is refused.
- Input, ledger and rows agree, and what a sync has made durable is still there.
- The ledger came first: every POST that had left is in it.
- Once the command has ended, all of its work is there.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from pipeline import rundir
from pipeline.chunks import VideoState
from pipeline.config import job_of, load
from pipeline.errors import StopRun
from pipeline.ledger import Ledger
from pipeline.manifest import read_manifest
from pipeline.packing import prompt_groups
from pipeline.rows import FAILURES, ROW_FILES
from pipeline.verify import verify
from tests.power.disk import Cut, Disk, Operation, Sent, Synced, Written, fates
from tests.power.trace import read_trace, strace_command
from tests.runs import KEY, Desk, faults, library
from tests.servers.contract import ContractServer, ExpireToken, JsonObject, MissingVideos, Reset

CLASSES: tuple[JsonObject, ...] = tuple(
    {"name": f"class {number}", "prompts": [f"prompt {number}.{one}" for one in range(30)]} for number in range(4)
)
"""In two prompt groups."""
VIDEOS = library(24)
ALIEN = "video-that-the-platform-does-not-have"
_PADDING = "x" * 40_000
_BEHIND = "bytes stand behind the committed end at"
_WRITTEN_AT_THE_END = (
    f"{FAILURES}: ",
    f"{rundir.LEDGER}: the score source is ",
    f"{rundir.LEDGER}: the input's fingerprint is not ",
)
"""Differences that stand between the last commit and the end of a command, as after a kill."""


def _is_mended(difference: str) -> bool:
    """Whether the next command puts this difference right, and nothing is lost by it."""
    return difference.startswith(_WRITTEN_AT_THE_END) or _BEHIND in difference


def padded(video_id: str, asked: JsonObject) -> JsonObject | None:
    """An answer with a field that nobody reads, so that the ledger's log is long enough to be begun anew."""
    if video_id.endswith("7"):
        return None
    clip = {"start": 0, "end": 1.5, "score": 50, "option": "visual", "prompt": asked["prompts"][0]}
    return {"score": 50, "duration_ratio": 0.5, "clips": [clip], "padding": _PADDING}


@dataclass(frozen=True, slots=True)
class PostLeft:
    """A POST whose first byte left with operation number ``at``."""

    at: int
    prompt_group: int
    video_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Recording:
    """What commands did, operation by operation; ``ends`` are the numbers of operations after which each had ended."""

    operations: list[Operation]
    posts: list[PostLeft]
    ends: list[int]

    def turning_points(self) -> list[int]:
        """Where a cut is worth most: just before something becomes durable or another name, and at every end."""
        plain = (Written, Cut, Sent)
        return [at for at, one in enumerate(self.operations) if not isinstance(one, plain) or at in self.ends] + [
            len(self.operations)
        ]


def write_order(desk: Desk, url: str) -> None:
    """The user's files for the recorded run, and for going on with it."""
    desk.write_ids({**VIDEOS, ALIEN: 600})
    settings = {"job.page_limit": 1, "limits.max_videos_per_post": 3, "limits.concurrency": 3}
    desk.write_config(url, CLASSES, **settings)


async def record(desk: Desk, strace: str) -> Recording:
    """Record a run that meets every trouble, is stopped by its budget, goes on, and takes its failed video again."""
    trouble = faults(("page", 6, ExpireToken()), ("post", 8, Reset(executed=True)), ("page", 9, MissingVideos()))
    operations: list[Operation] = []
    ends: list[int] = []
    async with ContractServer(VIDEOS, key=KEY, answer=padded, faults=trouble) as server:
        write_order(desk, server.url)
        commands: list[tuple[int, list[str | Path]]] = [
            (75, ["run", desk.config, "--set", "limits.max_posts=5"]),
            (3, ["resume", desk.out, "--set", "limits.max_posts=0"]),
            (3, ["retry", desk.out, "--all"]),
        ]
        for exit_code, arguments in commands:
            operations += await _recorded(desk, strace, exit_code, arguments, len(operations))
            ends.append(len(operations))
    desk.check(server, VIDEOS, CLASSES, answers_lost=True)
    assert desk.failures() == {ALIEN: "resource_not_exist"}
    groups = prompt_groups(job_of(load(desk.config, flags={}, environment={}).config).classes)
    group_of = {frozenset(one.name for one in group): number for number, group in enumerate(groups)}
    return Recording(operations, list(_posts(operations, group_of)), ends)


async def _recorded(
    desk: Desk, strace: str, exit_code: int, arguments: Sequence[str | Path], before: int
) -> list[Operation]:
    """What one command did, as the operations behind so many others."""
    output = desk.folder / "trace"
    finished = await anyio.run_process(
        [*strace_command(strace, output), sys.executable, "-m", "pipeline", *map(str, arguments)],
        check=False,
        cwd=desk.folder,
        env=desk._environment({}),
    )
    assert finished.returncode == exit_code, finished.stderr.decode()
    with output.open("rb") as lines:
        operations = read_trace(lines, desk.folder)
    output.unlink()
    return [replace(one, began=one.began + before) if isinstance(one, Synced) else one for one in operations]


def _posts(operations: Sequence[Operation], group_of: Mapping[frozenset[str], int]) -> Iterator[PostLeft]:
    """Every POST; a request may have left in several pieces."""
    for at, operation in enumerate(operations):
        if isinstance(operation, Sent) and operation.content.startswith(b"POST "):
            body = b""
            for piece in operations[at:]:
                if isinstance(piece, Sent) and piece.socket == operation.socket:
                    body += piece.content
                    try:
                        asked = json.loads(body.partition(b"\r\n\r\n")[2])
                        break
                    except ValueError:
                        continue
            names = frozenset(one["name"] for one in asked["classes"])
            yield PostLeft(at, group_of[names], frozenset(asked["video_ids"]))


# ------------------------------------------------------------------------------------------------------ after a cut


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a disk may hold where the power was cut before operation number ``cut``, and what is wrong with it."""

    cut: int
    found: Mapping[str, bytes | None]
    answered: set[str]
    problems: list[str]


def aftermaths(
    recording: Recording, cuts: Iterable[int], chance: random.Random, *, outcomes: int
) -> Iterator[Aftermath]:
    """What may be left for each of these cuts, in their order: both extremes, and so many outcomes between."""
    disk = Disk()
    carried_out = 0
    for cut in cuts:
        for operation in recording.operations[carried_out:cut]:
            disk.carry_out(operation)
        carried_out = cut
        durable: set[str] | None = None
        for fate in fates(chance, outcomes):
            found = disk.after_power_cut(fate)
            with TemporaryDirectory() as scratch:
                put_down({path: found[path] for path in found if path.startswith("out")}, Path(scratch))
                look = _Look(Path(scratch) / "out", recording, cut)
                problems = look.problems()
            durable = look.answered if durable is None else durable  # that of the first, where nothing else lasted
            problems += [f"no longer answered: {one}" for one in sorted(durable - look.answered)]
            yield Aftermath(cut, found, look.answered, problems)


async def gone_on_with(one: Aftermath, desk: Desk) -> None:
    """Check that the same command again, at this desk, brings the run to the end that it has without a power cut."""
    put_down(one.found, desk.folder)
    async with ContractServer(VIDEOS, key=KEY, answer=padded) as server:
        write_order(desk, server.url)
        finished = await desk.command("run", desk.config)
        assert finished.exit_code == 3, finished.stderr
        desk.check(server, VIDEOS, CLASSES)
        assert desk.failures() == {ALIEN: "resource_not_exist"}
        assert not [post.video_ids for post in server.posts if one.answered.intersection(post.video_ids)]


def put_down(found: Mapping[str, bytes | None], folder: Path) -> None:
    """Make a folder hold what was found."""
    for path, content in found.items():
        if content is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(content)


@dataclass(slots=True)
class _Look:
    """A look at the run directory that a cut left."""

    folder: Path
    recording: Recording
    cut: int
    answered: set[str] = field(default_factory=set)

    def problems(self) -> list[str]:
        """What breaks a promise."""
        is_over = self.cut in self.recording.ends
        try:
            found = verify(self.folder).differences if is_over else []
            rundir.prepare(self.folder)
            with rundir.held(self.folder), Ledger(self.folder / rundir.LEDGER) as ledger:
                ledger._connection.execute("PRAGMA synchronous = OFF")  # for speed: this copy has no power to lose
                has_begun = ledger.next_chunk_number() > 1
                found += self._begun(ledger) if has_begun else self._not_begun(ledger)
            if has_begun:
                found += [one for one in verify(self.folder).differences if not _is_mended(one)]
        except StopRun as refusal:
            return [f"refused: {refusal}"]
        return found

    def _not_begun(self, ledger: Ledger) -> Iterator[str]:
        """No input was taken in, so no POST may have left, and no row can be there."""
        yield from (f"{name} has rows, the ledger no chunk" for name in ROW_FILES if self._size(name))
        yield from self._unknown_posts(ledger)

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def _begun(self, ledger: Ledger) -> Iterator[str]:
        """The run goes on: with this manifest, and these files, of which those that no row is in yet are made."""
        read_manifest(self.folder)
        for name in (name for name, length in zip(ROW_FILES, ledger.file_lengths(), strict=True) if not length):
            (self.folder / name).touch()
        yield from self._unknown_posts(ledger)
        states = dict(ledger._all("SELECT id, state FROM video"))
        if states.keys() != {*VIDEOS, ALIEN}:
            yield f"only {len(states)} videos were taken in"
        answered = (VideoState.SCORED, VideoState.NO_MATCH)
        self.answered.update(video_id for video_id, state in states.items() if state in answered)

    def _unknown_posts(self, ledger: Ledger) -> Iterator[str]:
        """POSTs that had left, and that the ledger does not know of, or thinks not sent.

        A POST belongs to the youngest chunk that began with all its videos. Whose a POST was before its videos were
        taken again, the ledger no longer tells: of those only the number is checked.
        """
        known = Counter(ledger._all("SELECT chunk, prompt_group FROM post WHERE state <> 4"))
        left = [post for post in self.recording.posts if post.at < self.cut]
        if known.total() < len(left):
            yield f"the ledger has {known.total()} POSTs, but {len(left)} have left"
        videos = _videos_of_chunks(ledger)
        begins_at = self.recording.ends[-2] if self.cut > self.recording.ends[-2] else 0
        for post in left:
            if post.at >= begins_at:
                chunk = max((one for one, mine in videos.items() if mine >= post.video_ids), default=0)
                known[chunk, post.prompt_group] -= 1
                if known[chunk, post.prompt_group] < 0:
                    yield f"the ledger does not know of a POST of chunk {chunk}, group {post.prompt_group}"


def _videos_of_chunks(ledger: Ledger) -> dict[int, set[str]]:
    """The videos that each chunk began with: those that it still has, and those of its children."""
    videos: dict[int, set[str]] = {}
    for chunk, video_id in ledger._all("SELECT chunk, id FROM video"):
        videos.setdefault(chunk, set()).add(video_id)
    for chunk, parent in ledger._all("SELECT chunk, parent FROM chunk ORDER BY chunk DESC"):
        if parent is not None:
            videos.setdefault(parent, set()).update(videos.get(chunk, ()))
    return videos
