"""One chunk: ask every prompt group, walk every page, merge, and settle each of its videos.

For each prompt group the worker asks for the videos that it holds no answer for yet: with a POST, or from a page token
that is held (only the platform can say that it is dead, for our clock may be wrong, and asking is free). So asking for
the first time, and going on after a kill, after a dead token, or within a search for refused videos, are one loop.
Failures name their reaction. What concerns the request is met here (wait, send again, start the walk anew), and so is a
video that is refused. Videos that are too long together, or that a walk owed, go on in children of the chunk; what
concerns the run stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.chunks import Child, Chunk, ChunkState, Settlement
from pipeline.client import Answer
from pipeline.errors import (
    AnswerUnusable,
    Bisect,
    Drained,
    GatewayFailed,
    JobRefused,
    Outgrown,
    Overloaded,
    Repack,
    RequestFailed,
    RequestRefused,
    ResendCounted,
    ResendFree,
    RestartWalk,
    StopRun,
)
from pipeline.ledger import FIT
from pipeline.log import utc
from pipeline.models import MAX_SECONDS, Result, Video
from pipeline.posting import Requests
from pipeline.reaction import MAX_RESTARTS, MAX_SHORTFALLS
from pipeline.rows import Origin
from pipeline.search import Search
from pipeline.walk import GroupAnswer, incomplete


class Worker:
    """Answers chunks, one at a time for each task that calls ``answer``.

    ``told`` gets the end of each chunk when it is durable.
    """

    def __init__(self, requests: Requests, *, max_bisect_posts: int, told: Callable[[Settlement], None]) -> None:
        self._requests = requests
        self._question = requests.question
        self._gate = requests.gate
        self._sink = requests.sink
        self._log = requests.log
        self._clock = requests.clock
        self._max_bisect_posts = max_bisect_posts
        self._told = told
        self.experience = requests.experience

    async def answer(self, chunk: Chunk) -> None:
        """Bring one chunk to its end, and queue that. Raises ``Drained`` or a ``StopRun`` where the run stops before.

        The end is not waited for: it is durable before the intent of the next POST is, and so before that leaves.
        """
        if not chunk.held and not self.experience.fit.fits(chunk.videos):
            self._shorten(chunk)
            return
        video_ids = [video.video_id for video in chunk.videos]
        answers = [
            GroupAnswer(group, video_ids, [walk for walk in chunk.held if walk.prompt_group == group])
            for group in range(len(self._question.groups))
        ]
        children: tuple[Child, ...] = ()
        loose: tuple[str, ...] = ()
        asked = answers[0]
        try:
            for asked in answers:
                for other in answers:
                    asked.failures.update(other.failures)  # nothing that comes now could help these videos
                await self._complete(chunk, asked, is_last=asked is answers[-1])
        except Outgrown:
            self._shorten(chunk)
            return
        except Repack as refusal:
            children, loose = self._repacked(chunk, answers, asked, refusal)
        except (Drained, StopRun):
            self._sink.later(lambda ledger: ledger.move(chunk.number, ChunkState.PENDING))
            raise
        self._settle(chunk, answers, children, loose)

    # ------------------------------------------------------------------------------------------- one prompt group

    async def _complete(self, chunk: Chunk, answer: GroupAnswer, *, is_last: bool) -> None:
        """Walk until every video of the chunk has its answer from this prompt group, or a failure."""
        search = Search(answer.refused)
        reason = chunk.reason if not answer.seen else "resend"
        if answer.owing:  # inherited from the walk of the parent, or of an earlier process
            if self.experience.totals_trusted:
                answer.forgive()
            else:
                answer.accept_owing()
        while not answer.settled:
            if search.suspects and answer.next_token is None and self.experience.bisect_posts >= self._max_bisect_posts:
                self._fail_suspects(chunk, answer, search, is_last=is_last)
                continue
            begins = answer.next_token is None
            try:
                if begins:
                    answer.begin_walk(search.next(answer.missing))
                    reply = await self._post(chunk, answer, reason, search)
                    search.answered(answer.asked)
                else:
                    reply = await self._requests.page(answer.next_token or "")
                self._take(chunk, answer, reply, begins=begins, is_last=is_last)
            except RestartWalk as error:
                reason = "expiry"
                self._restart(chunk, answer, error, is_last=is_last)
            except (Bisect, Overloaded, GatewayFailed) as refusal:
                # What is refused with a status to the end, while others are answered, lies in one of these videos.
                reason = "resend"
                self._search_on(chunk, answer, search, refusal, is_last=is_last)
            except (AnswerUnusable, ResendFree, ResendCounted) as error:
                self._fail(chunk, answer, error, is_last=is_last)

    def _restart(self, chunk: Chunk, answer: GroupAnswer, error: RestartWalk, *, is_last: bool) -> None:
        """Let the next walk ask for what this one has not shown; a few times in a row."""
        answer.restarts += 1
        answer.next_token = None
        self._log.event("walk_restarted", "warning", chunk=chunk.number, reason=str(error))
        if answer.restarts > MAX_RESTARTS:
            self._fail(chunk, answer, error, is_last=is_last)

    def _search_on(
        self, chunk: Chunk, answer: GroupAnswer, search: Search, refusal: RequestFailed, *, is_last: bool
    ) -> None:
        """Narrow down which of the posted videos is refused; the one that stands alone fails, as the platform said it.

        Raises ``JobRefused`` where it must be the job that is refused: a reason that says nothing known, twice, for
        videos of which none is the same, in a prompt group that was never answered.
        """
        asked, group = answer.asked, answer.prompt_group
        unknown = isinstance(refusal, RequestRefused) and group not in self.experience.proven_groups
        if unknown:
            self._doubt_the_job(group, refusal, frozenset(asked))
        if search.answers_before is None:
            search.answers_before = self._gate.answers
        # While nothing else was answered, it may be none of the videos, but the platform.
        may_be_all = not isinstance(refusal, Bisect) and self._gate.answers == search.answers_before
        if len(asked) > 1:
            self._log.event("search", chunk=chunk.number, videos=len(asked), reason=str(refusal))
            search.refused(asked, refusal, other_half_next=unknown or may_be_all)
            mark = answer.refused_now(self._clock())
            self._sink.later(lambda ledger: ledger.spool(chunk.number, mark, begins=True))
        elif may_be_all and self._gate.broken:
            search.put_aside(asked)
        else:
            search.found()
            self._fail(chunk, answer, refusal, is_last=is_last)

    def _fail_suspects(self, chunk: Chunk, answer: GroupAnswer, search: Search, *, is_last: bool) -> None:
        """The budget for searching is spent: all of them fail, and can be taken again, for most are innocent."""
        answer.begin_walk(search.suspects)
        refusal = search.refusal or Bisect("refused by the platform before the last stop")
        said = (
            f"{refusal}. It is one of {len(search.suspects)} videos, of which one at least is refused: "
            "limits.max_bisect_posts is spent"
        )
        search.found()
        error = Bisect(said, code=refusal.code, http_status=refusal.http_status)
        self._fail(chunk, answer, error, is_last=is_last, retryable=True)

    def _doubt_the_job(self, prompt_group: int, refusal: RequestFailed, asked: frozenset[str]) -> None:
        message, refused_first = self.experience.refused.setdefault(prompt_group, (str(refusal), asked))
        if message == str(refusal) and refused_first.isdisjoint(asked):
            raise JobRefused(f"the platform refuses this job: {refusal}. Correct [job] in the config")
        if refused_first.issuperset(asked):  # a half of it: the other half shares no video with this one
            self.experience.refused[prompt_group] = (str(refusal), asked)

    def _fail(
        self,
        chunk: Chunk,
        answer: GroupAnswer,
        error: RequestFailed,
        *,
        is_last: bool,
        retryable: bool | None = None,
    ) -> None:
        """Fail what the present walk owes, and keep that, so that no stop makes us pay for it again."""
        self._log.event("answer_given_up", "warning", chunk=chunk.number, videos=len(answer.owed), reason=str(error))
        failed = answer.fail_owed(error, retryable=retryable)
        answer.next_token = None
        if not (is_last and answer.settled):
            self._sink.later(lambda ledger: ledger.spool(chunk.number, failed, begins=True))

    def _take(self, chunk: Chunk, answer: GroupAnswer, reply: Answer, *, begins: bool, is_last: bool) -> None:
        """Add a page to the answer, and spool it unless the chunk's commit is its first durable write."""
        try:
            answer.take(reply.page, self._clock())
        except AnswerUnusable:
            valid = answer.newest(reply.body)
            self._sink.later(lambda ledger: ledger.spool(chunk.number, valid, begins=begins))
            raise
        if answer.repeated:
            self._log.event("videos_repeated", "warning", chunk=chunk.number, video_ids=answer.repeated[:20])
            answer.repeated.clear()
        is_over = answer.ended_short or answer.complete
        if is_over and self._requests.silence_counts(complete=answer.complete, has_shown=answer.has_shown):
            answer.accept_silence()
        if not (is_last and answer.settled):
            held = answer.newest(reply.body)
            self._sink.later(lambda ledger: ledger.spool(chunk.number, held, begins=begins))

    async def _post(self, chunk: Chunk, answer: GroupAnswer, reason: str, search: Search) -> Answer:
        """POST for what the walk asks. Of a chunk that nobody has posted yet it is looked at whether it still fits."""
        is_new = answer.prompt_group == 0 and not chunk.held and reason == chunk.reason and not search.suspects
        return await self._requests.post(
            self._question.of_videos(answer.prompt_group, answer.asked),
            chunk,
            answer.prompt_group,
            reason=reason,
            search=search,
            fitting=chunk.videos if is_new else (),
        )

    # -------------------------------------------------------------------------------------------------- the chunk

    def _shorten(self, chunk: Chunk) -> None:
        """Take videos out of a chunk that is too long, as others have taught, before it is posted."""
        ids = tuple(video.video_id for video in self.experience.fit.kept(chunk.videos))
        rest = tuple(video.video_id for video in chunk.videos if video.video_id not in ids)
        settlement = Settlement(chunk.number, children=(Child(ids, chunk.reason),) if ids else (), loose=rest)
        self._commit(settlement, [])

    def _repacked(
        self, chunk: Chunk, answers: Sequence[GroupAnswer], refused: GroupAnswer, refusal: Repack
    ) -> tuple[tuple[Child, ...], tuple[str, ...]]:
        """What becomes of videos that are too long together: children, and videos for the packer to pack again.

        Where the platform has told their length, just enough of them are taken out. Else they are halved. One that is
        too long alone fails.
        """
        asked = frozenset(refused.asked)
        self._log.event("chunk_split", chunk=chunk.number, videos=len(asked), reason=str(refusal))
        if len(asked) == 1:
            refused.fail_owed(refusal)
        open_ids = _open_ids(answers)
        too_long = [video for video in chunk.videos if video.video_id in asked.intersection(open_ids)]
        others = [one for one in open_ids if one not in asked]
        # A part of what was refused before may hold the one video whose duration is wrong.
        kept = too_long if chunk.reason == "repack" else self._learned(too_long, refusal.total_seconds)
        if 0 < len(kept) < len(too_long):
            ids = [video.video_id for video in kept]
            rest = [video.video_id for video in too_long if video.video_id not in ids]
            if not any(one in answer.seen for one in rest for answer in answers):
                return _children([ids, others], answers, "repack", chunk.shortfalls), tuple(rest)
        half = len(too_long) // 2
        halves = [[video.video_id for video in part] for part in (too_long[:half], too_long[half:])]
        return _children([*halves, others], answers, "repack", chunk.shortfalls), ()

    def _learned(self, refused: Sequence[Video], total_seconds: float | None) -> Sequence[Video]:
        """Learn from a refusal; the part of the refused videos that fits, as far as is known."""
        fit = self.experience.fit
        if refused and total_seconds is not None and total_seconds > MAX_SECONDS:
            fit.learn(refused, total_seconds)
            fact = fit.text()
            self._sink.later(lambda ledger: ledger.remember(FIT, fact))
        return fit.kept(refused)

    def _settle(
        self, chunk: Chunk, answers: Sequence[GroupAnswer], children: tuple[Child, ...], loose: tuple[str, ...]
    ) -> None:
        """Merge what came, and have it committed."""
        owed = {video_id for child in children for video_id in child.video_ids}.union(loose)
        failures = [failure for answer in answers for failure in answer.failures.values()]
        if not owed:
            owing = frozenset[str]().union(*(answer.owing for answer in answers))
            short = [one for one in _open_ids(answers) if one in owing] if owing else []
            if short and chunk.shortfalls < MAX_SHORTFALLS:
                children = _children([short], answers, "incomplete", chunk.shortfalls + 1)
            else:
                failures += [incomplete(one) for one in short]
            owed.update(short)
        settled_at = utc(max((answer.arrived_at for answer in answers), default=0.0) or self._clock())
        answered = [one for one in _open_ids(answers) if one not in owed]
        results = self._requests.results((one, [answer.seen.get(one) for answer in answers]) for one in answered)
        settlement = Settlement(
            chunk.number,
            scored=tuple(result.video_id for result in results if result.classes),
            no_match=tuple(result.video_id for result in results if not result.classes),
            failures=tuple({failure.video_id: failure for failure in reversed(failures)}.values()),
            children=children,
            loose=loose,
            settled_at=settled_at,
        )
        self._commit(settlement, results)

    def _commit(self, settlement: Settlement, results: list[Result]) -> None:
        origin = Origin(self._question.style, settlement.chunk, settlement.settled_at)
        self._sink.commit_later(settlement, results, origin, told=partial(self._told, settlement))


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
