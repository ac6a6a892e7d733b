"""What is held of one prompt group's answer for one chunk, and how the groups' answers become results. Pure.

A walk is a POST and the pages behind it. It is complete when its last token is empty and as many distinct videos came
as it announced itself (``total_results``); only then does silence about a video mean that nothing matched. A walk that
was cut off, by a dead token or a kill, keeps what it has shown, and the next walk asks only for what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from pipeline import wire
from pipeline.chunks import HeldPage, HeldWalk
from pipeline.errors import AnswerUnusable, Bisect, Repack, RequestFailed
from pipeline.models import ClassScore, DetailedScores, Failure, Page, Result, VideoAnswer, normalized_scores


class GroupAnswer:
    """The answer of one prompt group for the videos of one chunk, as far as it has come.

    ``seen`` holds the answers, ``failures`` the videos that cannot be answered any more. ``ended_short`` says that the
    last walk ended with fewer videos than it announced: it owes the missing ones.
    """

    def __init__(self, prompt_group: int, video_ids: Iterable[str], held: Sequence[HeldWalk] = ()) -> None:
        self.prompt_group = prompt_group
        self.video_ids = tuple(video_ids)
        self.seen: dict[str, VideoAnswer] = {}
        self.failures: dict[str, Failure] = {}
        self.complete = False
        self.ended_short = False
        self.next_token: str | None = None
        self.arrived_at = 0.0
        self.repeated: list[str] = []
        self._asked = frozenset(self.video_ids)
        self._tokens: set[str] = set()
        self._in_walk = 0
        self._flaw = ""
        for walk in held:
            self._replay(walk)

    def _replay(self, walk: HeldWalk) -> None:
        self.begin_walk()
        for page in walk.pages:
            self._take_entries(wire.decode_page(page.body))
            self.arrived_at = page.arrived_at
        self.complete, self.ended_short = walk.complete, walk.ended_short
        self.next_token = walk.next_token
        if walk.given_up:
            self.fail_missing(AnswerUnusable("its answer, which was billed, could not be used", http_status=200))

    @property
    def missing(self) -> tuple[str, ...]:
        """The videos that have neither an answer nor a failure yet, in the chunk's order."""
        if self.complete:
            return ()
        return tuple(one for one in self.video_ids if one not in self.seen and one not in self.failures)

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be asked."""
        return self.complete or not self.missing

    def begin_walk(self) -> None:
        """Forget the walk that is over; what it has shown stays."""
        self.next_token = None
        self.ended_short = False
        self._tokens.clear()
        self._in_walk = 0
        self._flaw = ""

    def take(self, page: Page, arrived_at: float) -> None:
        """Add a page. Raises ``AnswerUnusable``, after taking what is valid, where it contradicts the walk."""
        self.arrived_at = arrived_at
        aliens = self._take_entries(page)
        self.next_token = page.next_token
        if aliens:
            raise AnswerUnusable(f"the answer has videos that were not asked for, such as {aliens[0]!r}")
        if page.total_results is not None and self._in_walk > page.total_results:
            raise AnswerUnusable(f"{self._in_walk} videos came where {page.total_results} were announced")
        if page.next_token is None:
            self._end(page)
        elif page.next_token in self._tokens:
            raise AnswerUnusable("a page token came twice in one walk: the pages go round in a circle")
        else:
            self._tokens.add(page.next_token)

    def _take_entries(self, page: Page) -> list[str]:
        """Keep the valid entries of a page; the ids of those that nobody asked for."""
        aliens = []
        for answer in page.videos:
            video_id = answer.video_id
            if video_id not in self._asked:
                aliens.append(video_id)
            elif video_id in self.seen or video_id in self.failures:
                self.repeated.append(video_id)
            else:
                self.seen[video_id] = answer
                self._in_walk += 1
        for entry in page.unreadable:
            if entry.video_id not in self._asked:
                self._flaw = f"the answer has an entry that cannot be read: {entry.seen}"
            elif entry.video_id in self.seen or entry.video_id in self.failures:
                self.repeated.append(entry.video_id)
            else:
                error = AnswerUnusable(f"its answer cannot be read: {entry.seen}", http_status=200)
                self.failures[entry.video_id] = failure_of(entry.video_id, error)
                self._in_walk += 1
        return aliens

    def _end(self, page: Page) -> None:
        if self._flaw:
            raise AnswerUnusable(self._flaw)
        if page.total_results is None:
            raise AnswerUnusable("the answer does not say how many videos it has (total_results)")
        self.complete = self._in_walk == page.total_results
        self.ended_short = not self.complete

    def fail_missing(self, error: RequestFailed, *, retryable: bool | None = None) -> None:
        """Give up on whatever has no answer; ``retryable`` is for callers who know better than the error."""
        for video_id in self.missing:
            failure = failure_of(video_id, error)
            self.failures[video_id] = failure if retryable is None else replace(failure, retryable=retryable)

    def newest(self, body: bytes) -> HeldWalk:
        """This walk as the spool keeps it, with its newest page."""
        page = HeldPage(body, self.arrived_at)
        return HeldWalk(self.prompt_group, (page,), self.next_token, self.complete, self.ended_short)

    def given_up(self, moment: float) -> HeldWalk:
        """The mark, without an answer, that what is missing now was answered and cannot be used."""
        return HeldWalk(self.prompt_group, (HeldPage(wire.encode_held([]), moment),), given_up=True)

    def inherited(self, video_ids: Collection[str]) -> HeldWalk | None:
        """What a child chunk of these videos takes over; None where nothing is held for it."""
        if not self.seen and not self.complete and not self.ended_short:
            return None
        answers = [wire.encode_answer(self.seen[one]) for one in video_ids if one in self.seen]
        page = HeldPage(wire.encode_held(answers), self.arrived_at)
        return HeldWalk(self.prompt_group, (page,), complete=self.complete, ended_short=self.ended_short)


def failure_of(video_id: str, error: RequestFailed) -> Failure:
    """A request's failure as that of one of its videos.

    What was answered and paid for is not worth asking again, nor what the platform refuses by itself.
    """
    retryable = not isinstance(error, AnswerUnusable | Bisect | Repack)
    return Failure(video_id, error.code, str(error), error.http_status, retryable)


def merged(video_id: str, answers: Sequence[VideoAnswer | None], order: Mapping[str, int], *, detailed: bool) -> Result:
    """One video's result from the answers of all prompt groups, classes in the order of the config.

    None stands for a group in which nothing matched. A class that comes twice counts once, the first time; one that
    nobody asked for comes last. Over several groups ``normalized_score`` is computed anew.
    """
    classes: dict[str, ClassScore] = {}
    for answer in answers:
        for one in answer.classes if answer else ():
            classes.setdefault(one.name, one)
    ordered = sorted(classes.values(), key=lambda one: order.get(one.name, len(order)))
    if detailed and (len(answers) > 1 or any(_lacks_share(one) for one in ordered)):
        ordered = _with_shares(ordered)
    return Result(video_id, tuple(ordered))


def _lacks_share(one: ClassScore) -> bool:
    return one.detailed_scores is None or one.detailed_scores.normalized_score is None


def _with_shares(classes: Sequence[ClassScore]) -> list[ClassScore]:
    shares = normalized_scores([one.score for one in classes])
    return [
        msgspec.structs.replace(
            one,
            detailed_scores=msgspec.structs.replace(one.detailed_scores or DetailedScores(), normalized_score=share),
        )
        for one, share in zip(classes, shares, strict=True)
    ]
