"""What is held of one prompt group's answer for one chunk, and how the groups' answers become results. Pure.

A walk is a POST and the pages behind it. It is complete when its last token is empty and as many distinct videos came
as it announced itself (``total_results``); only then does silence about a video mean that nothing matched, and it is
noted as an answer without classes. A walk that was cut off, by a dead token or a kill, keeps what it has shown, and the
next walk asks only for what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from pipeline import wire
from pipeline.chunks import HeldPage, HeldWalk
from pipeline.errors import AnswerUnusable, Bisect, Repack, RequestFailed
from pipeline.models import (
    ClassScore,
    DetailedScores,
    Failure,
    Page,
    Result,
    Unreadable,
    VideoAnswer,
    normalized_scores,
)
from pipeline.reaction import MAX_SHORTFALLS

_FAILURES = msgspec.json.Decoder(list[Failure])


@dataclass(slots=True)
class Course:
    """How a walk goes, whatever it was begun for: distinct videos ``shown``, a ``flaw`` in its entries, its tokens."""

    shown: int = 0
    flaw: str = ""
    _tokens: set[str] = field(default_factory=set)

    def follow(self, page: Page) -> bool | None:
        """Go on by a page that was counted: None, or at the end of the walk whether all came that were announced.

        Raises ``AnswerUnusable`` where the page contradicts the walk, or where it ends with a flaw.
        """
        if page.total_results is not None and self.shown > page.total_results:
            raise AnswerUnusable(f"{self.shown} videos came where {page.total_results} were announced")
        if page.next_token is None:
            if self.flaw:
                raise AnswerUnusable(self.flaw)
            if page.total_results is None:
                raise AnswerUnusable("the answer does not say how many videos it has (total_results)")
            return self.shown == page.total_results
        if page.next_token in self._tokens:
            raise AnswerUnusable("a page token came twice in one walk: the pages go round in a circle")
        self._tokens.add(page.next_token)
        return None


class GroupAnswer:
    """The answer of one prompt group for the videos of one chunk, as far as it has come.

    ``asked`` are the videos that the present walk was begun for, ``seen`` holds the answers, ``failures`` the videos
    that cannot be answered any more, ``refused`` those that a POST was last refused with. ``restarts`` counts walks in
    a row that a dead token ended. ``complete`` says that the present walk came to its end, ``ended_short`` that it came
    there with fewer videos than it announced: what it was asked for and did not show is ``owing``.
    """

    next_token: str | None

    def __init__(self, prompt_group: int, video_ids: Iterable[str], held: Sequence[HeldWalk] = ()) -> None:
        self.prompt_group = prompt_group
        self.video_ids = tuple(video_ids)
        self.seen: dict[str, VideoAnswer] = {}
        self.failures: dict[str, Failure] = {}
        self.owing: set[str] = set()
        self.arrived_at = 0.0
        self.repeated: list[str] = []
        self.restarts = 0
        self.refused: tuple[str, ...] = ()
        self.begin_walk(self.video_ids)
        for walk in held:
            self._replay(walk)

    def _replay(self, walk: HeldWalk) -> None:
        if walk.failed:
            for failure in _FAILURES.decode(walk.pages[0].body):
                self.failures.setdefault(failure.video_id, failure)
            self.next_token, self.refused = None, ()
            return
        if walk.refused:
            self.refused = walk.asked or ()
            self.next_token = None
            return
        self.begin_walk(self._without_answer(self.video_ids) if walk.asked is None else walk.asked)
        for page in walk.pages:
            self._take_entries(wire.decode_page(page.body))
            self.arrived_at = page.arrived_at
        self.next_token, self.ended_short = walk.next_token, walk.ended_short
        if walk.complete:
            self.accept_silence()
        elif walk.ended_short:
            self.owing.update(self.owed)

    @property
    def missing(self) -> tuple[str, ...]:
        """The videos to ask for: no answer, no failure, and no walk that owes them. In the chunk's order."""
        return tuple(one for one in self._without_answer(self.video_ids) if one not in self.owing)

    @property
    def owed(self) -> tuple[str, ...]:
        """The videos that the present walk was begun for and has not shown."""
        return self._without_answer(self.asked)

    def _without_answer(self, video_ids: Iterable[str]) -> tuple[str, ...]:
        if not self.seen and not self.failures:
            return tuple(video_ids)
        if len(self.seen) == len(self.video_ids):
            return ()
        return tuple(one for one in video_ids if one not in self.seen and one not in self.failures)

    @property
    def has_shown(self) -> bool:
        """Whether the present walk has shown any video."""
        return self._course.shown > 0

    @property
    def to_post(self) -> tuple[str, ...]:
        """The videos that a POST is still to be sent for while nothing fails: a walk that has a token goes on alone."""
        left = self._without_answer(self.video_ids)
        return left if self.next_token is None else tuple(one for one in left if one not in self._asked_now)

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be asked."""
        return not self.missing

    def begin_walk(self, asked: Sequence[str]) -> None:
        """Forget the walk that is over, but for what it has shown, and begin one for some of the videos."""
        self.asked = tuple(asked)
        self.next_token = None
        self.complete = self.ended_short = False
        self.owing.difference_update(asked)
        self._asked_all = len(asked) == len(self._without_answer(self.video_ids))
        self._asked_now = frozenset(asked)
        self._course = Course()

    def take(self, page: Page, arrived_at: float) -> None:
        """Add a page. Raises ``AnswerUnusable``, after taking what is valid, where it contradicts the walk."""
        self.arrived_at = arrived_at
        aliens = self._take_entries(page)
        self.next_token = page.next_token
        if aliens:
            raise AnswerUnusable(f"the answer has videos that were not asked for, such as {aliens[0][:100]!r}")
        match self._course.follow(page):
            case True:
                self.accept_silence()
            case False:
                self.ended_short = True
                self.owing.update(self.owed)

    def _take_entries(self, page: Page) -> list[str]:
        """Keep the valid entries of a page; the ids of those that nobody asked for."""
        aliens = []
        for answer in page.videos:
            video_id = answer.video_id
            if video_id in self.seen or video_id in self.failures:
                self.repeated.append(video_id)
            elif video_id not in self._asked_now:
                aliens.append(video_id)
            else:
                self.seen[video_id] = answer
                self._course.shown += 1
        for entry in page.unreadable:
            if entry.video_id in self.seen or entry.video_id in self.failures:
                self.repeated.append(entry.video_id)
            elif entry.video_id not in self._asked_now:
                self._course.flaw = flaw_of(entry)
            else:
                self.failures[entry.video_id] = unreadable(entry.video_id, entry)
                self._course.shown += 1
        return aliens

    def forgive(self) -> None:
        """Let nothing be owing any more: it is missing again."""
        self.owing.clear()

    def accept_owing(self) -> None:
        """What ended walks owe matched nothing: on this platform an empty token alone ends a walk."""
        self.seen |= {one: VideoAnswer(one, ()) for one in self.owing}
        self.owing.clear()

    def accept_silence(self) -> None:
        """The present walk is at its end: whatever of it was not shown matched nothing."""
        self.complete, self.ended_short = True, False
        self.restarts = 0
        self.owing.difference_update(self.owed)
        for video_id in self.owed:
            self.seen[video_id] = VideoAnswer(video_id, ())

    def fail_owed(self, error: RequestFailed, *, retryable: bool | None = None) -> HeldWalk:
        """Give up on what the present walk owes; what the spool keeps of that.

        ``retryable`` is for callers who know better than the error.
        """
        self.owing.difference_update(self.owed)
        failures = [failure_of(video_id, error) for video_id in self.owed]
        if retryable is not None:
            failures = [replace(failure, retryable=retryable) for failure in failures]
        self.failures |= {failure.video_id: failure for failure in failures}
        page = HeldPage(msgspec.json.encode(failures), self.arrived_at)
        return HeldWalk(self.prompt_group, (page,), failed=True)

    def refused_now(self, moment: float) -> HeldWalk:
        """What the spool keeps where one of the videos that the present walk was begun for is refused."""
        return HeldWalk(self.prompt_group, (HeldPage(wire.encode_held([]), moment),), refused=True, asked=self.asked)

    def newest(self, body: bytes) -> HeldWalk:
        """This walk as the spool keeps it, with its newest page."""
        page = HeldPage(body, self.arrived_at)
        asked = None if self._asked_all else self.asked
        return HeldWalk(self.prompt_group, (page,), self.next_token, self.complete, self.ended_short, asked=asked)

    def inherited(self, video_ids: Collection[str]) -> HeldWalk | None:
        """What a child chunk of these videos takes over; None where nothing is held for it."""
        answers = [wire.encode_answer(self.seen[one]) for one in video_ids if one in self.seen]
        asked = tuple(one for one in video_ids if one in self.seen or one in self.owing)
        if not asked:
            return None
        page = HeldPage(wire.encode_held(answers), self.arrived_at)
        is_owing = len(asked) > len(answers)
        return HeldWalk(self.prompt_group, (page,), ended_short=is_owing, asked=asked if is_owing else None)


def flaw_of(entry: Unreadable) -> str:
    """What is wrong with a walk that has an entry of which nobody knows the video."""
    return f"the answer has an entry that cannot be read: {entry.seen}"


def unreadable(video_id: str, entry: Unreadable) -> Failure:
    """The failure of a video whose answer came, and cannot be read."""
    return failure_of(video_id, AnswerUnusable(f"its answer cannot be read: {entry.seen}", http_status=200))


def incomplete(video_id: str) -> Failure:
    """The failure of a video that was owed to the end."""
    error = RequestFailed(
        f"the platform announced more videos than it showed, {MAX_SHORTFALLS + 1} times", code="incomplete_answer"
    )
    return failure_of(video_id, error)


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
    found: dict[str, ClassScore] = {}
    for answer in answers:
        if answer is not None:
            for one in answer.classes:
                found.setdefault(one.name, one)
    names = sorted(found, key=lambda name: order.get(name, len(order))) if len(found) > 1 else found
    classes = [found[name] for name in names]
    if detailed and (len(answers) > 1 or any(map(_lacks_share, classes))):
        classes = _with_shares(classes)
    return Result(video_id, tuple(classes))


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
