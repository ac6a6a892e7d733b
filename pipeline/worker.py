"""One chunk: ask every prompt group, walk every page, merge, and settle each of its videos.

For each prompt group the worker asks for the videos that it holds no answer for yet: with a POST, or from a page token
that is held (only the platform can say that it is dead, for our clock may be wrong, and asking is free). So asking for
the first time, and going on after a kill, after a dead token, or after a walk that owed videos, are one loop. Failures
name their reaction. What concerns the request is met here (wait, send again, start the walk anew); what concerns the
videos ends the chunk, with children that go on by themselves; what concerns the run stops it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline import wire
from pipeline.chunks import Child, Chunk, ChunkState, PostState, Settlement
from pipeline.client import Answer, Client
from pipeline.errors import (
    AnswerUnusable,
    Bisect,
    Drained,
    JobRefused,
    Overbooked,
    Overloaded,
    Repack,
    RequestFailed,
    RequestRefused,
    ResendCounted,
    ResendFree,
    RestartWalk,
    StopRun,
)
from pipeline.ledger import SCORE_SOURCE, TOTALS, Ledger
from pipeline.log import Log, utc
from pipeline.models import Failure, Job, JobClass, Result
from pipeline.pacing import Gate
from pipeline.reaction import (
    MAX_OVERLOADED_RESENDS,
    MAX_PAGE_RESENDS,
    MAX_RESTARTS,
    MAX_SHORTFALLS,
    Tries,
    may_be_the_videos,
    resend_after,
)
from pipeline.rows import Origin, RowStyle
from pipeline.sink import Sink
from pipeline.walk import GroupAnswer, failure_of, merged


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every chunk: the job in its prompt groups, and how the answers are to be paged and written."""

    job: Job
    groups: tuple[tuple[JobClass, ...], ...]
    page_limit: int
    style: RowStyle

    def request(self, prompt_group: int, video_ids: Sequence[str]) -> wire.ClassifyRequest:
        """The POST of one prompt group for some videos."""
        job = self.job
        return wire.ClassifyRequest(
            self.groups[prompt_group],
            job.options,
            tuple(video_ids),
            conversation_option=job.conversation_option,
            include_clips=job.include_clips,
            show_detailed_score=job.show_detailed_score,
            page_limit=self.page_limit,
            threshold=job.threshold,
        )


@dataclass(slots=True)
class Experience:
    """What the chunks of a run have taught each other, over all its processes."""

    score_source: str | None = None
    bisect_posts: int = 0
    proven_groups: set[int] = field(default_factory=set)
    refused: dict[int, tuple[str, frozenset[str]]] = field(default_factory=dict)
    whole_walks: int = 0
    short_walks: int = 0
    totals_trusted: bool = True

    @classmethod
    def of(cls, ledger: Ledger) -> Experience:
        """What the ledger remembers of it."""
        totals = ledger.fact(TOTALS)
        return cls(
            score_source=ledger.fact(SCORE_SOURCE),
            bisect_posts=ledger.posts_for("bisect"),
            proven_groups=ledger.answered_groups(),
            whole_walks=int(totals == "trusted"),
            totals_trusted=totals != "not trusted",
        )


class Worker:
    """Answers chunks, one at a time for each task that calls ``answer``.

    ``clock`` gives seconds since the epoch, ``jitter`` numbers from 0 to 1 that spread the resends.
    """

    def __init__(
        self,
        question: Question,
        client: Client,
        gate: Gate,
        sink: Sink,
        *,
        experience: Experience,
        max_bisect_posts: int,
        log: Log,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._question = question
        self._client = client
        self._gate = gate
        self._sink = sink
        self._max_bisect_posts = max_bisect_posts
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._order = {one.name: place for place, one in enumerate(question.job.classes)}
        self.experience = experience

    async def answer(self, chunk: Chunk) -> Settlement:
        """Bring one chunk to its end. Raises ``Drained`` or a ``StopRun`` where the run stops before that."""
        video_ids = [video.video_id for video in chunk.videos]
        answers = [
            GroupAnswer(group, video_ids, [walk for walk in chunk.held if walk.prompt_group == group])
            for group in range(len(self._question.groups))
        ]
        children: tuple[Child, ...] = ()
        asked = answers[0]
        try:
            for asked in answers:
                for other in answers:
                    asked.failures.update(other.failures)  # nothing that comes now could help these videos
                await self._complete(chunk, asked, is_last=asked is answers[-1])
        except (Repack, Bisect) as refusal:
            children = await self._split(chunk, answers, asked, refusal)
        except (Drained, StopRun):
            await self._sink.later(lambda ledger: ledger.move(chunk.number, ChunkState.PENDING))
            raise
        return await self._settle(chunk, answers, children)

    # ------------------------------------------------------------------------------------------- one prompt group

    async def _complete(self, chunk: Chunk, answer: GroupAnswer, *, is_last: bool) -> None:
        """Walk until every video of the chunk has its answer from this prompt group, or a failure."""
        reason = chunk.reason if not answer.seen else "resend"
        restarts = 0
        if answer.ended_short:  # inherited: this chunk is made of the videos that its parent's walk owed
            answer.complete = not self.experience.totals_trusted
            answer.ended_short = False
        while not answer.settled and not answer.ended_short:
            begins = answer.next_token is None
            try:
                if begins:
                    answer.begin_walk()
                    reply = await self._post(chunk, answer, reason)
                else:
                    reply = await self._page(answer)
                await self._take(chunk, answer, reply, begins=begins, is_last=is_last)
            except RestartWalk as error:
                restarts += 1
                reason = "expiry"
                answer.begin_walk()
                self._log.event("walk_restarted", "warning", chunk=chunk.number, reason=str(error))
                if restarts > MAX_RESTARTS:
                    answer.fail_missing(error)
            except (AnswerUnusable, ResendFree, ResendCounted) as error:
                if may_be_the_videos(error) or (isinstance(error, Overloaded) and not self._gate.broken):
                    # Or others are answered meanwhile: then too it is something among these videos.
                    raise Bisect(str(error), code=error.code, http_status=error.http_status) from None
                await self._give_up(chunk, answer, error, is_last=is_last)

    async def _give_up(self, chunk: Chunk, answer: GroupAnswer, error: RequestFailed, *, is_last: bool) -> None:
        """Fail what has no answer. What was billed for it is marked, so that no stop makes us pay for it again."""
        self._log.event("answer_given_up", "warning", chunk=chunk.number, reason=str(error))
        answer.fail_missing(error)
        if isinstance(error, AnswerUnusable) and not is_last:
            mark = answer.given_up(self._clock())
            await self._sink.later(lambda ledger: ledger.spool(chunk.number, mark, begins=True))

    async def _take(self, chunk: Chunk, answer: GroupAnswer, reply: Answer, *, begins: bool, is_last: bool) -> None:
        """Add a page to the answer, and spool it unless the chunk's commit is its first durable write."""
        await self._check_score_source(reply)
        try:
            answer.take(reply.page, self._clock())
        except AnswerUnusable:
            if not is_last:
                valid = answer.newest(reply.body)
                await self._sink.later(lambda ledger: ledger.spool(chunk.number, valid, begins=begins))
            raise
        if answer.repeated:
            self._log.event("videos_repeated", "warning", chunk=chunk.number, video_ids=answer.repeated[:20])
            answer.repeated.clear()
        if answer.ended_short or answer.complete:
            await self._judge(answer)
        if not (is_last and (answer.settled or answer.ended_short)):
            held = answer.newest(reply.body)
            await self._sink.later(lambda ledger: ledger.spool(chunk.number, held, begins=begins))

    async def _judge(self, answer: GroupAnswer) -> None:
        """Learn whether ``total_results`` counts videos on this platform.

        Where the first two walks of a run both end with fewer videos than announced it counts something else: then an
        empty token alone says that a walk is complete, and nothing is paid again for it.
        """
        known = self.experience
        if answer.complete:
            known.whole_walks += 1
            if known.whole_walks == 1:
                await self._sink.later(lambda ledger: ledger.remember(TOTALS, "trusted"))
            return
        known.short_walks += 1
        if known.totals_trusted and known.short_walks >= 2 and not known.whole_walks:
            known.totals_trusted = False
            await self._sink.later(lambda ledger: ledger.remember(TOTALS, "not trusted"))
            self._log.event("totals_not_trusted", "warning", reason="total_results does not count videos here")
        if not known.totals_trusted:
            answer.complete, answer.ended_short = True, False

    async def _check_score_source(self, reply: Answer) -> None:
        source = reply.page.score_source
        if source is None or source == self.experience.score_source:
            return
        if self.experience.score_source is not None:
            raise JobRefused(
                f"the scores now come from {source}, those of this run from {self.experience.score_source}; "
                "two scales never mix in one directory: use another --out"
            )
        self.experience.score_source = source
        await self._sink.later(lambda ledger: ledger.remember(SCORE_SOURCE, source))

    # --------------------------------------------------------------------------------------------------- requests

    async def _post(self, chunk: Chunk, answer: GroupAnswer, reason: str) -> Answer:
        """POST for whatever is missing, until an answer came. Raises what ends the attempts."""
        request = self._question.request(answer.prompt_group, answer.missing)
        # Parts of a chunk that was overloaded to its end get one send each, while others are answered.
        tries = Tries(overloaded=MAX_OVERLOADED_RESENDS if chunk.reason == "bisect" else 0)
        while True:
            await self._gate.reserve()
            post = await self._intend(chunk.number, answer.prompt_group, reason)
            try:
                async with self._gate.post_turn():
                    reply = await self._client.classify(request)
                    self._gate.answered(reply.quota)
            except (Drained, Overbooked) as error:
                self._gate.give_back()
                await self._end_post(post, PostState.NOT_SENT, billed=False)
                if isinstance(error, Drained):
                    raise
            except StopRun as error:
                await self._record_failure(post, error.__cause__ or error)
                raise
            except RequestFailed as error:
                await self._record_failure(post, error)
                if may_be_the_videos(error) or not self._gate.broken:
                    tries = tries.after(error)
                if not isinstance(error, ResendFree | ResendCounted) or tries.used_up:
                    raise
                reason = "resend"
                await self._gate.pause(resend_after(error, tries, jitter=self._jitter()))
            else:
                self.experience.proven_groups.add(answer.prompt_group)
                await self._end_post(post, PostState.ANSWERED, billed=True, http_status=200)
                return reply

    async def _intend(self, chunk: int, prompt_group: int, reason: str) -> int:
        """Make it durable that a POST is about to leave; its number."""
        moment, window = self._clock(), self._gate.window
        self.experience.bisect_posts += reason == "bisect"
        return await self._sink.record(
            lambda ledger: ledger.intend_post(chunk, prompt_group, reason, intended_at=moment, window=window)
        )

    async def _end_post(
        self, post: int, state: PostState, *, billed: bool | None, http_status: int | None = None
    ) -> None:
        window = self._gate.window
        await self._sink.later(
            lambda ledger: ledger.end_post(post, state, billed=billed, http_status=http_status, window=window)
        )

    async def _record_failure(self, post: int, error: BaseException) -> None:
        """Write down what a failed POST may have cost."""
        code = error.code if isinstance(error, RequestFailed) else type(error).__name__
        status = error.http_status if isinstance(error, RequestFailed) else None
        self._log.event("post_failed", "warning", post=post, code=code, reason=str(error))
        if isinstance(error, ResendCounted):
            await self._end_post(post, PostState.UNKNOWN, billed=None, http_status=status)
        elif isinstance(error, AnswerUnusable):
            await self._end_post(post, PostState.ANSWERED, billed=True, http_status=status)
        else:
            await self._end_post(post, PostState.REFUSED, billed=False, http_status=status)

    async def _page(self, answer: GroupAnswer) -> Answer:
        """GET the next page of a walk. Raises ``RestartWalk`` where that does not succeed."""
        tries = 0
        while True:
            await self._gate.page_turn()
            try:
                return await self._client.page(answer.next_token or "")
            except (ResendFree, ResendCounted) as error:
                tries += 1
                if tries > MAX_PAGE_RESENDS:
                    raise RestartWalk(f"a page did not come: {error}", code=error.code) from None
                wait = max(error.retry_after_seconds or 0.0, self._jitter() * 2.0 ** (tries - 1))
                await self._gate.pause(wait)

    # -------------------------------------------------------------------------------------------------- the chunk

    async def _split(
        self, chunk: Chunk, answers: Sequence[GroupAnswer], refused: GroupAnswer, refusal: Repack | Bisect
    ) -> tuple[Child, ...]:
        """Two halves of a chunk that the platform refuses as it is; of one video, or where the budget for searching is
        spent, none: then the refused videos fail.

        Raises ``JobRefused`` where it must be the job that is refused: a reason that says nothing known, twice, for
        two chunks that share no video, in a prompt group that was never answered.
        """
        group, video_ids = refused.prompt_group, refused.missing
        if isinstance(refusal, RequestRefused) and group not in self.experience.proven_groups:
            message, refused_first = self.experience.refused.setdefault(group, (str(refusal), frozenset(video_ids)))
            if message == str(refusal) and refused_first.isdisjoint(video_ids):
                await self._sink.later(lambda ledger: ledger.move(chunk.number, ChunkState.PENDING))
                raise JobRefused(f"the platform refuses this job: {refusal}")
            if refused_first.issuperset(video_ids):  # a half of it: the other half shares no video with this one
                self.experience.refused[group] = (str(refusal), frozenset(video_ids))
        reason = "repack" if isinstance(refusal, Repack) else "bisect"
        ends_here = len(video_ids) == 1 or (
            reason == "bisect" and self.experience.bisect_posts >= self._max_bisect_posts
        )
        if ends_here:
            # Of several, where the budget for searching is spent, most are innocent.
            refused.fail_missing(refusal, retryable=len(video_ids) > 1)
        open_ids = _open_ids(answers)
        self._log.event("chunk_split", chunk=chunk.number, videos=len(open_ids), reason=str(refusal))
        if ends_here:
            return _children([open_ids], answers, reason)
        suspects = [one for one in open_ids if one in video_ids]
        half = len(suspects) // 2
        others = [one for one in open_ids if one not in video_ids]
        return _children([suspects[:half], suspects[half:], others], answers, reason)

    async def _settle(self, chunk: Chunk, answers: Sequence[GroupAnswer], children: tuple[Child, ...]) -> Settlement:
        """Merge what came, and commit it."""
        owed = {video_id for child in children for video_id in child.video_ids}
        failures = [failure for answer in answers for failure in answer.failures.values()]
        if not children:
            short = [one for one in _open_ids(answers) if any(one in answer.missing for answer in answers)]
            if short and chunk.shortfalls < MAX_SHORTFALLS:
                children = _children([short], answers, "incomplete", chunk.shortfalls + 1)
            else:
                failures += [_incomplete(one) for one in short]
            owed.update(short)
        settled_at = utc(max((answer.arrived_at for answer in answers), default=0.0) or self._clock())
        results = self._results([one for one in _open_ids(answers) if one not in owed], answers)
        settlement = Settlement(
            chunk.number,
            scored=tuple(result.video_id for result in results if result.classes),
            no_match=tuple(result.video_id for result in results if not result.classes),
            failures=tuple({failure.video_id: failure for failure in reversed(failures)}.values()),
            children=children,
            attempts=chunk.attempts + 1,
            settled_at=settled_at,
        )
        await self._sink.commit(settlement, results, Origin(self._question.style, chunk.number, settled_at))
        return settlement

    def _results(self, video_ids: Sequence[str], answers: Sequence[GroupAnswer]) -> list[Result]:
        detailed = self._question.job.show_detailed_score
        results = [
            merged(video_id, [answer.seen.get(video_id) for answer in answers], self._order, detailed=detailed)
            for video_id in video_ids
        ]
        strange = {one.name for result in results for one in result.classes[-1:] if one.name not in self._order}
        if strange:
            self._log.event("classes_not_asked_for", "warning", classes=sorted(strange))
        return results


def _open_ids(answers: Sequence[GroupAnswer]) -> list[str]:
    """The videos that no prompt group has failed."""
    failed = {video_id for answer in answers for video_id in answer.failures}
    return [one for one in answers[0].video_ids if one not in failed]


def _children(
    parts: Sequence[Sequence[str]], answers: Sequence[GroupAnswer], reason: str, shortfalls: int = 0
) -> tuple[Child, ...]:
    """A child for each part that is not empty, with what is held of its answers."""
    return tuple(
        Child(
            tuple(part),
            reason,
            tuple(held for answer in answers if (held := answer.inherited(part)) is not None),
            shortfalls,
        )
        for part in parts
        if part
    )


def _incomplete(video_id: str) -> Failure:
    error = RequestFailed(
        f"the platform announced more videos than it showed, {MAX_SHORTFALLS + 1} times", code="incomplete_answer"
    )
    return failure_of(video_id, error)
