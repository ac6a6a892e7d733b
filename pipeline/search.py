"""The search for the videos that the platform refuses, among those of one POST. Pure.

A refusal names no video. So the refused videos are halved: while the first half is refused, it is halved in its turn;
once it is answered, the refused one is among the others, which are halved without being posted first. When one stands
alone and is refused, it fails, and whatever has no answer by then is posted together again. That takes about the
logarithm of their number for each refused video, and one POST more. It goes on within the chunk, because parts of it
that went on by themselves would each pay for all the other prompt groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import RequestFailed


@dataclass(slots=True)
class Search:
    """Which videos of one prompt group to ask for next.

    At least one of the ``suspects`` is refused, as ``refusal`` says; none are known while it is empty.
    ``answers_before`` is the number of POSTs that the run had answered when the search began; None before that.
    """

    suspects: tuple[str, ...] = ()
    refusal: RequestFailed | None = None
    answers_before: int | None = None
    _other_half: tuple[str, ...] = ()
    _put_aside: frozenset[str] = frozenset()

    def next(self, missing: Sequence[str]) -> tuple[str, ...]:
        """The videos for the next POST, of those that have no answer; there is at least one."""
        others = tuple(one for one in missing if one not in self._put_aside)
        if not others:
            self._put_aside = frozenset()
        missing = others or missing
        open_ids = frozenset(missing)
        other_half = tuple(one for one in self._other_half if one in open_ids)
        if other_half:
            return other_half
        self.suspects = tuple(one for one in self.suspects if one in open_ids)
        return self.suspects[: (len(self.suspects) + 1) // 2] or tuple(missing)

    def refused(self, asked: Sequence[str], refusal: RequestFailed, *, other_half_next: bool) -> None:
        """One of these is refused.

        ``other_half_next``: look at the others first, for it may be none of the videos, but the job or the platform.
        """
        others = tuple(one for one in self.suspects if one not in asked)
        self._other_half = others if other_half_next and not self._other_half else ()
        self.suspects = tuple(asked)
        self.refusal = refusal

    def answered(self, asked: Sequence[str]) -> None:
        """None of these is refused."""
        self._other_half = ()
        self.suspects = tuple(one for one in self.suspects if one not in asked)

    def put_aside(self, asked: Sequence[str]) -> None:
        """Nothing can be said of these before something else was answered: look at all others first."""
        self._put_aside = self._put_aside.union(asked)
        self.found()

    def found(self) -> None:
        """The one that stood alone has failed: nothing is known of the others."""
        self.suspects = self._other_half = ()
