"""Asking the platform, for whoever asks: what a request says, what became of it, and what its answer teaches the run.

A POST is intended in the ledger before it leaves, and its end is written down before anybody acts on it; so after any
stop it is known what may have been billed. How often a POST is sent again is decided here, from its failures; what its
last failure means for the videos is for whoever asked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline import wire
from pipeline.chunks import Chunk, PostState
from pipeline.client import Answer, Client
from pipeline.errors import (
    AnswerUnusable,
    Bisect,
    CannotConnect,
    Drained,
    GatewayFailed,
    JobRefused,
    Outgrown,
    Overbooked,
    Overloaded,
    RateLimited,
    RequestFailed,
    ResendCounted,
    ResendFree,
    RestartWalk,
    StopRun,
)
from pipeline.fitting import Fit
from pipeline.ledger import FIT, SCORE_SOURCE, TOTALS, Ledger
from pipeline.log import Log
from pipeline.metrics import Histogram
from pipeline.models import Job, JobClass, Result, Video, VideoAnswer
from pipeline.pacing import Gate
from pipeline.reaction import MAX_PAGE_RESENDS, Tries, budget_of, may_be_the_videos, page_resend_after, resend_after
from pipeline.rows import RowStyle
from pipeline.search import Search
from pipeline.sink import Sink
from pipeline.walk import merged


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every video: the job in its prompt groups, and how the answers are to be paged and written."""

    job: Job
    groups: tuple[tuple[JobClass, ...], ...]
    page_limit: int
    style: RowStyle

    def of_videos(self, prompt_group: int, video_ids: Sequence[str]) -> wire.ClassifyRequest:
        """The POST of one prompt group for some videos."""
        return self._request(prompt_group, tuple(video_ids), None)

    def of_index(self, prompt_group: int, index_id: str) -> wire.ClassifyRequest:
        """The POST of one prompt group for a whole index."""
        return self._request(prompt_group, (), index_id)

    def _request(self, prompt_group: int, video_ids: tuple[str, ...], index_id: str | None) -> wire.ClassifyRequest:
        job = self.job
        return wire.ClassifyRequest(
            self.groups[prompt_group],
            job.options,
            video_ids,
            index_id,
            conversation_option=job.conversation_option,
            include_clips=job.include_clips,
            show_detailed_score=job.show_detailed_score,
            page_limit=self.page_limit,
            threshold=job.threshold,
        )


@dataclass(slots=True)
class Experience:
    """What the chunks of a run have taught each other, over all its processes; ``bisect_posts`` is this one's alone."""

    score_source: str | None = None
    bisect_posts: int = 0
    proven_groups: set[int] = field(default_factory=set)
    refused: dict[int, tuple[str, frozenset[str]]] = field(default_factory=dict)
    whole_walks: int = 0
    short_walks: int = 0
    totals_trusted: bool = True
    fit: Fit = field(default_factory=Fit)

    @classmethod
    def of(cls, ledger: Ledger, *, max_videos: int = 0) -> Experience:
        """What the ledger remembers of it; ``max_videos`` is the user's limit for one POST, 0 for none."""
        totals = ledger.fact(TOTALS)
        return cls(
            score_source=ledger.fact(SCORE_SOURCE),
            proven_groups=ledger.answered_groups(),
            whole_walks=int(totals == "trusted"),
            totals_trusted=totals != "not trusted",
            fit=Fit.remembered(ledger.fact(FIT), max_videos),
        )


class Requests:
    """The requests of one run. What it is given is public, for whoever makes them.

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
        log: Log,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.question = question
        self.gate = gate
        self.sink = sink
        self.experience = experience
        self.log = log
        self.clock = clock
        self.ended: Counter[PostState] = Counter()
        """What became of the POSTs of this process."""
        self._client = client
        self._jitter = jitter
        self._order = {one.name: place for place, one in enumerate(question.job.classes)}

    @property
    def durations(self) -> Mapping[str, Histogram]:
        """How long answered requests took, by method."""
        return self._client.durations

    async def post(
        self,
        request: wire.ClassifyRequest,
        chunk: Chunk,
        prompt_group: int,
        *,
        reason: str,
        search: Search,
        fitting: Sequence[Video] = (),
    ) -> Answer:
        """POST for some videos of a chunk, or for a whole index, until an answer came.

        Raises what ends the attempts: ``Drained``, a ``StopRun``, or a ``RequestFailed`` for whoever asked; and
        ``Outgrown`` where ``fitting`` are too long together, as others have taught by the time that the POST may go.
        """
        tries = _tries_left(chunk, prompt_group, search)
        while True:
            is_search = bool(search.suspects)
            self.experience.bisect_posts += is_search
            post = await self._intend(chunk.number, prompt_group, "bisect" if is_search else reason)
            try:
                reply = await self._send(post, request, fitting)
            except RequestFailed as error:
                self.experience.bisect_posts -= is_search and self._found_nothing_out(error)
                is_counted = self._is_counted(error, request)
                self._record_failure(post, error, is_counted=is_counted)
                if is_counted:
                    tries = tries.after(error)
                if not isinstance(error, ResendFree | ResendCounted) or tries.used_up:
                    raise
                if is_search and _is_refusal(error):  # one send for each part
                    raise
                if not self.gate.broken:  # else all wait together, at the gate
                    await self.gate.pause(resend_after(error, tries, jitter=self._jitter()))
                reason, fitting = "resend", ()
            except Overbooked:
                self.experience.bisect_posts -= is_search
            else:
                self.experience.proven_groups.add(prompt_group)
                self._check_score_source(reply)
                return reply

    async def page(self, token: str) -> Answer:
        """GET the next page of a walk. Raises ``RestartWalk`` where that does not succeed."""
        tries = waits = 0
        while True:
            try:
                async with self.gate.page_turn() as sent:
                    return await self._client.page(token, sent)
            except (ResendFree, ResendCounted) as error:
                waits += 1
                # A 429 is no fault of the walk's; if nothing else ends it, the token's end does.
                is_refused = isinstance(error, RateLimited)
                tries += not is_refused
                if tries > MAX_PAGE_RESENDS:
                    raise RestartWalk(f"a page did not come: {error}", code=error.code) from None
                await self.gate.pause(page_resend_after(error, waits, jitter=1.0 if is_refused else self._jitter()))

    def silence_counts(self, *, complete: bool, has_shown: bool) -> bool:
        """Whether what a walk did not show to its end matched nothing: as many videos came as it announced.

        Where the first two walks of a run both end with fewer, ``total_results`` counts something else on this
        platform: then the empty token alone says that a walk is complete, and nothing is paid again for it. A walk that
        announced nothing and showed nothing says nothing of that.
        """
        known = self.experience
        if complete:
            known.whole_walks += has_shown
            if has_shown and known.whole_walks == 1:
                self.sink.later(lambda ledger: ledger.remember(TOTALS, "trusted"))
            return True
        known.short_walks += 1
        if known.totals_trusted and known.short_walks >= 2 and not known.whole_walks:
            known.totals_trusted = False
            self.sink.later(lambda ledger: ledger.remember(TOTALS, "not trusted"))
            self.log.event("totals_not_trusted", "warning", reason="total_results does not count videos here")
        return not known.totals_trusted

    def results(self, answered: Iterable[tuple[str, Sequence[VideoAnswer | None]]]) -> list[Result]:
        """What videos have come to, each with its answers from all prompt groups."""
        detailed = self.question.job.show_detailed_score
        results = [merged(video_id, answers, self._order, detailed=detailed) for video_id, answers in answered]
        strange = {one.name for result in results for one in result.classes[-1:] if one.name not in self._order}
        if strange:
            self.log.event("classes_not_asked_for", "warning", classes=sorted(strange))
        return results

    # ------------------------------------------------------------------------------------------------- underneath

    def _check_score_source(self, reply: Answer) -> None:
        source = reply.score_source
        if source == self.experience.score_source:
            return
        if self.experience.score_source is not None:
            raise JobRefused(
                f"the scores now come from {source}, those of this run from {self.experience.score_source}; "
                "two scales never mix in one directory: use another --out"
            )
        self.experience.score_source = source
        self.sink.later(lambda ledger: ledger.remember(SCORE_SOURCE, source))

    async def _send(self, post: int, request: wire.ClassifyRequest, videos: Sequence[Video]) -> Answer:
        """Send one POST that was intended, and write down whether it left and was answered.

        Raises ``Outgrown`` where these videos are too long together, as others have taught by the time that it may go.
        """
        try:
            async with self.gate.post_turn() as sent:
                self._check_length(videos)
                reply = await self._client.classify(request, sent)
                self.gate.answered(reply.quota)
        except (Drained, Overbooked, Outgrown):
            self.gate.give_back()
            self._end_post(post, PostState.NOT_SENT, billed=False)
            raise
        except StopRun as error:
            cause = error.__cause__
            self._record_failure(post, cause if isinstance(cause, RequestFailed) else error, is_counted=True)
            raise
        self._end_post(post, PostState.ANSWERED, billed=True, http_status=200)
        return reply

    def _check_length(self, videos: Sequence[Video]) -> None:
        if not self.experience.fit.fits(videos):
            raise Outgrown

    def _found_nothing_out(self, error: RequestFailed) -> bool:
        """Whether a failure says nothing of the videos, and cost nothing: the budget of a search is not for that."""
        return isinstance(error, CannotConnect | RateLimited) or (isinstance(error, ResendFree) and self.gate.broken)

    def _is_counted(self, error: RequestFailed, request: wire.ClassifyRequest) -> bool:
        """Whether a failure burns one of the chunk's attempts: while nothing is answered, only what may be the videos'.

        Nobody can search a whole index for them, so there an overload is the platform's, and the gate gives up on it.
        """
        if request.index_id is not None and isinstance(error, Overloaded):
            return False
        return not self.gate.broken or may_be_the_videos(error)

    async def _intend(self, chunk: int, prompt_group: int, reason: str) -> int:
        """Reserve a place for a POST, and make it durable that it is about to leave; its number."""
        await self.gate.reserve()
        moment, window = self.clock(), self.gate.window
        return await self.sink.record(
            lambda ledger: ledger.intend_post(chunk, prompt_group, reason, intended_at=moment, window=window)
        )

    def _end_post(
        self,
        post: int,
        state: PostState,
        *,
        billed: bool | None,
        http_status: int | None = None,
        burnt: str | None = None,
    ) -> None:
        window = self.gate.window
        self.ended[state] += 1
        self.sink.later(
            lambda ledger: ledger.end_post(
                post, state, billed=billed, http_status=http_status, burnt=burnt, window=window
            )
        )

    def _record_failure(self, post: int, error: RequestFailed | StopRun, *, is_counted: bool) -> None:
        """Write down what a failed POST may have cost."""
        status = error.http_status if isinstance(error, RequestFailed) else None
        burnt = budget_of(error) if is_counted and isinstance(error, RequestFailed) else None
        self.log.event("post_failed", "warning", post=post, code=error.code, reason=str(error))
        if isinstance(error, CannotConnect):
            self._end_post(post, PostState.NOT_SENT, billed=False)
        elif isinstance(error, ResendCounted):
            self._end_post(post, PostState.UNKNOWN, billed=None, http_status=status, burnt=burnt)
        elif isinstance(error, AnswerUnusable):
            self._end_post(post, PostState.ANSWERED, billed=True, http_status=status)
        else:
            self._end_post(post, PostState.REFUSED, billed=False, http_status=status, burnt=burnt)


def _tries_left(chunk: Chunk, prompt_group: int, search: Search) -> Tries:
    """The attempts for one request, less what is burnt of them: that was for the whole, not for a part."""
    if search.suspects:
        return Tries()
    burnt = {kind: number for (group, kind), number in chunk.burnt.items() if group == prompt_group}
    return Tries(**burnt).with_one_left()


def _is_refusal(error: RequestFailed) -> bool:
    """Whether a failure is the platform's own answer, and no accident on the way."""
    return isinstance(error, Bisect | Overloaded | GatewayFailed)
