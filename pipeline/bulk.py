"""A whole index: one POST for each prompt group, however many videos there are.

The listing of the index is the input, and its videos are one chunk. The prompt groups are asked one after another, and
a group that has answered for every video is never posted again. A POST cannot ask for a part of an index: after a dead
token, or a walk that ended short, all of it is posted again, and what is answered already is passed over. With one
prompt group each page is a commit. With several the answers are held by the ledger, and merged a slice at a time when
all groups have answered; so memory does not grow with the index.

Silence is an answer under three conditions: the walk is complete, the video was known when its POST left, and the
index had it when it was listed last. A video that no listing had is the next run's: it is told, and not lost.

Nothing can be searched for or divided here. What the platform says of a request it says of the index, and it ends the
run; an overload is for the gate to give up on; what remains fails the videos that were not shown, as for any chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline import wire
from pipeline.chunks import Chunk, ChunkState, IndexWalk, Settlement, Standing, WalkState
from pipeline.client import Answer
from pipeline.errors import (
    AnswerUnusable,
    Bisect,
    Drained,
    JobRefused,
    Repack,
    RequestFailed,
    ResendCounted,
    ResendFree,
    RestartWalk,
    StopRun,
)
from pipeline.ledger import Ledger
from pipeline.log import utc
from pipeline.models import Failure, Page, Result, VideoAnswer
from pipeline.posting import Requests
from pipeline.reaction import MAX_RESTARTS, MAX_SHORTFALLS
from pipeline.rows import Origin
from pipeline.search import Search
from pipeline.walk import Course, failure_of, flaw_of, incomplete, unreadable

_SLICE = 200
"""Videos merged in one commit: with clips a video can have thousands of rows."""


@dataclass(slots=True)
class Entries:
    """What a page has shown for the first time in its walk, and what of it is news to the run."""

    shown: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    answers: list[VideoAnswer] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    flaw: str = ""


def entries_of(page: Page, standing: Standing) -> Entries:
    """Sort the entries of a page. A video that came before counts once; one whose answer nobody wants is only shown."""
    found = Entries()
    known = set(standing.shown)

    def is_wanted(video_id: str) -> bool:
        is_new = video_id not in known
        known.add(video_id)
        (found.shown if is_new else found.repeated).append(video_id)
        return is_new and video_id in standing.wanted

    for answer in page.videos:
        if is_wanted(answer.video_id):
            found.answers.append(answer)
    for entry in page.unreadable:
        if entry.video_id is None:
            found.flaw = flaw_of(entry)
        elif is_wanted(entry.video_id):
            found.failures.append(unreadable(entry.video_id, entry))
    return found


@dataclass(slots=True)
class _Walk:
    """A walk that goes on, and how."""

    stands: IndexWalk
    course: Course


class IndexWorker:
    """Answers the open chunks of a run over a whole index, one after another.

    ``told`` gets, at each commit, how many videos were scored, match nothing, and failed, by code. ``not_listed``
    counts videos that the platform has shown and no listing had.
    """

    def __init__(
        self, requests: Requests, index_id: str, *, told: Callable[[int, int, Mapping[str, int]], None]
    ) -> None:
        self._requests = requests
        self._question = requests.question
        self._sink = requests.sink
        self._log = requests.log
        self._index_id = index_id
        self._told = told
        self.not_listed = 0

    async def answer(self) -> None:
        """Bring every open chunk to its end. Raises ``Drained`` or a ``StopRun`` where the run stops before that."""
        while chunk := await self._sink.read(lambda ledger: ledger.first_open_chunk()):
            number = chunk.number
            try:
                for group in range(len(self._question.groups)):
                    await self._complete(chunk, group)
                await self._merge(chunk)
            except (Drained, StopRun):
                self._sink.later(lambda ledger, number=number: ledger.move(number, ChunkState.PENDING))  # type: ignore[misc]
                raise

    # ------------------------------------------------------------------------------------------- one prompt group

    async def _complete(self, chunk: Chunk, group: int) -> None:
        """Walk the index until this prompt group has answered for every open video of the chunk, or failed it."""
        reason = "incomplete" if await self._short_walks(chunk, group) else chunk.reason
        restarts = 0
        while walk := await self._walk_to_go_on(chunk, group):
            try:
                state = WalkState.GOES_ON
                while state is WalkState.GOES_ON:
                    state = await self._take(chunk, walk, await self._requested(chunk, walk, reason))
                reason = "incomplete" if state is WalkState.SHORT else chunk.reason
            except RestartWalk as error:
                reason = "expiry"
                restarts += 1
                self._log.event("walk_restarted", "warning", chunk=chunk.number, reason=str(error))
                await self._end_walk(walk)
                if restarts > MAX_RESTARTS:
                    await self._fail(chunk, walk, error)
            except (AnswerUnusable, ResendFree, ResendCounted) as error:
                await self._fail(chunk, walk, error)

    async def _walk_to_go_on(self, chunk: Chunk, group: int) -> _Walk | None:
        """The walk whose token is held, else one that has yet to be begun; None where nothing more is to be asked."""
        stands = await self._sink.read(lambda ledger: ledger.index_walk(chunk.number, group))
        return None if stands is None else _Walk(stands, Course(stands.shown, stands.flaw))

    async def _end_walk(self, walk: _Walk) -> None:
        await self._sink.record(lambda ledger: ledger.end_index_walk(walk.stands))

    async def _short_walks(self, chunk: Chunk, group: int) -> int:
        return await self._sink.read(lambda ledger: ledger.short_index_walks(chunk.number, group))

    async def _requested(self, chunk: Chunk, walk: _Walk, reason: str) -> Answer:
        """The next page of a walk, or the first one, for which the whole index is posted."""
        if walk.stands.next_token is not None:
            return await self._requests.page(walk.stands.next_token)
        group = walk.stands.prompt_group
        request = self._question.of_index(group, self._index_id)
        try:
            return await self._requests.post(request, chunk, group, reason=reason, search=Search())
        except (Bisect, Repack) as refusal:
            raise JobRefused(f"the platform refuses the index {self._index_id!r} (input.index_id): {refusal}") from None

    async def _take(self, chunk: Chunk, walk: _Walk, reply: Answer) -> WalkState:
        """Commit a page: its answers, whole or held, and how its walk stands then."""
        page, arrived_at = reply.page, self._requests.clock()
        video_ids = {one.video_id for one in page.videos} | {one.video_id for one in page.unreadable if one.video_id}
        standing = await self._sink.read(lambda ledger: ledger.standing(chunk.number, walk.stands, video_ids))
        found = entries_of(page, standing)
        if found.repeated:
            self._log.event("videos_repeated", "warning", chunk=chunk.number, video_ids=found.repeated[:20])
        problem = await self._follow(chunk, walk, page, found)
        is_whole = len(self._question.groups) == 1
        results = self._requests.results((one.video_id, [one]) for one in found.answers) if is_whole else []
        held = {} if is_whole else {one.video_id: wire.encode_answer(one) for one in found.answers}
        stands, failed_at = walk.stands, utc(arrived_at)

        def keep(ledger: Ledger) -> int:
            ledger.keep_index_page(chunk.number, stands, found.shown, held, arrived_at=arrived_at)
            if problem is None:
                return 0
            return ledger.fail_owed(chunk.number, stands, problem, failed_at=failed_at)

        failed = await self._commit(chunk, results, found.failures, settled_at=failed_at, also=keep)
        if problem is not None:
            self._gave_up(chunk, failed or 0, problem)
        return stands.state

    async def _follow(self, chunk: Chunk, walk: _Walk, page: Page, found: Entries) -> Failure | None:
        """Move a walk on by a page. Why it fails the videos that it owes, if it is over for good."""
        course, state, problem = walk.course, WalkState.GOES_ON, None
        course.shown += len(found.shown)
        course.flaw = course.flaw or found.flaw
        try:
            whole = course.follow(page)
        except AnswerUnusable as error:
            state, problem = WalkState.FAILED, failure_of("", error)
        else:
            if whole is not None:
                counts = self._requests.silence_counts(complete=whole, has_shown=course.shown > 0)
                state = WalkState.COMPLETE if counts else WalkState.SHORT
        if state is WalkState.SHORT and await self._short_walks(chunk, walk.stands.prompt_group) >= MAX_SHORTFALLS:
            problem = incomplete("")
        walk.stands = replace(walk.stands, next_token=page.next_token, state=state, flaw=course.flaw)
        return problem

    async def _fail(self, chunk: Chunk, walk: _Walk, error: RequestFailed) -> None:
        """Fail what a walk owes, and keep that, so that no stop makes us pay for it again."""
        failure, failed_at = failure_of("", error), utc(self._requests.clock())
        failed = await self._sink.record(
            lambda ledger: ledger.fail_owed(chunk.number, walk.stands, failure, failed_at=failed_at)
        )
        self._gave_up(chunk, failed, failure)

    def _gave_up(self, chunk: Chunk, videos: int, failure: Failure) -> None:
        self._log.event("answer_given_up", "warning", chunk=chunk.number, videos=videos, reason=failure.message)
        self._told(0, 0, {failure.code: videos})

    # -------------------------------------------------------------------------------------------------- the chunk

    async def _merge(self, chunk: Chunk) -> None:
        """Settle what is open, for every prompt group has answered for it; then the chunk is at its end."""
        groups = range(len(self._question.groups))
        last_page_at = await self._sink.read(lambda ledger: ledger.last_index_page_at(chunk.number))
        settled_at = utc(last_page_at or self._requests.clock())
        last = 0
        while held := await self._sink.read(lambda ledger: ledger.held_videos(chunk.number, last, _SLICE)):  # noqa: B023
            last = held[-1].number
            gone = [one.video_id for one in held if one.is_gone and len(one.answers) < len(groups)]
            results = self._requests.results(
                (one.video_id, [_decoded(one.answers.get(group)) for group in groups])
                for one in held
                if one.video_id not in gone
            )
            await self._commit(chunk, results, [_gone(one) for one in gone], settled_at=settled_at)
        not_listed = await self._sink.read(lambda ledger: ledger.not_listed(chunk.number))
        if not_listed:
            self.not_listed += len(not_listed)
            self._log.event("videos_not_listed", "warning", videos=len(not_listed), video_ids=not_listed[:20])
        end = Settlement(chunk.number, settled_at=settled_at)
        await self._sink.commit(end, [], Origin(self._question.style, chunk.number, settled_at))

    async def _commit(
        self,
        chunk: Chunk,
        results: list[Result],
        failures: Sequence[Failure],
        *,
        settled_at: str,
        also: Callable[[Ledger], int] | None = None,
    ) -> int | None:
        """Settle a part of the chunk."""
        settlement = Settlement(
            chunk.number,
            scored=tuple(result.video_id for result in results if result.classes),
            no_match=tuple(result.video_id for result in results if not result.classes),
            failures=tuple(failures),
            settled_at=settled_at,
            is_part=True,
        )
        origin = Origin(self._question.style, chunk.number, settled_at)
        outcome = await self._sink.commit(settlement, results, origin, also=also)
        self._told(len(settlement.scored), len(settlement.no_match), Counter(one.code for one in failures))
        return outcome


def _decoded(answer: bytes | None) -> VideoAnswer | None:
    return None if answer is None else wire.decode_answer(answer)


def _gone(video_id: str) -> Failure:
    """The failure of a video that was listed once, and not the last time: silence about it says nothing."""
    message = "the index did not have this video any more when it was listed last"
    return Failure(video_id, "resource_not_exist", message, retryable=False)
